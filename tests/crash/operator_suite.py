"""Kills among the processes an operator starts: locker agent, cloud-sync, collector, broker. All times are real."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from agents.demo_broker import choose_broker
from agents.demo_world import SealedCode, World
from agents.site import Site
from edge.errors import LastmileError
from edge.keys_file import read_opening_key
from locker.witness_file import read_witness
from tests.crash.fork_suite import Toll
from tests.crash.history import COMMIT_TO_PULSE, Call, History, lock_of
from tests.crash.journal_file import Letters, chain_faults, read_journal

PATIENCE_S = 60.0
QUIET_S = 0.05
"""From a kill to the end of what was on the wire and in the springs: a door opens 25 ms after its pulse."""
LOOK_S = 0.01
SLOW_ANSWER_MS = 140
"""A board that takes almost all the 150 ms it is given."""
MORE = 8
"""Each comes before the pulse in about every second case."""
WAITING = 2
"""Parcels that should lie in the locker; with fewer, the next visitor brings one."""

T = TypeVar("T")


class PatientWorld(World):
    """A demonstration's world on a machine that is busy with two more of them."""

    def until(self, what: str, true: Callable[[], T | None], patience: float = PATIENCE_S) -> T:
        return super().until(what, true, patience)


@dataclasses.dataclass
class Visit:
    """One person at the kiosk, seen from outside while a process is to be killed."""

    call: Call
    frames: int
    """On the wire before it."""
    answered: threading.Event = dataclasses.field(default_factory=threading.Event)


class Operator:
    """One world, from its first deposit to its last event held."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        (directory / "logs").mkdir(parents=True)
        self._world = PatientWorld(Site(directory), choose_broker("auto", directory), close_after_ms=None)
        self._lives: list[float] = []
        self._calls: list[Call] = []
        self._booked = 0
        self.toll = Toll()
        self.killed: Counter[str] = Counter()

    def run(self, rounds: list[str]) -> None:
        """One kill for each word of ``rounds``: a moment of the locker agent, or the name of another process."""
        world = self._world
        try:
            self._lives.append(time.monotonic())
            world.start()
            self._letters = Letters(read_opening_key(world.site.key("hub.pem")))
            self._people([self._next_booking() for _ in range(WAITING)])
            for kill in itertools.chain(rounds, self._more()):
                if kill in MOMENTS:
                    self._kill_locker(kill)
                else:
                    self._kill_beside(kill)
                self.killed["locker" if kill in MOMENTS else kill] += 1
                if self.toll.faults:
                    return
            self._finish()
        except LastmileError as error:
            self.toll.faults.append(f"{error} in {world.site.directory}")
        finally:
            world.stop()

    def _more(self) -> Iterator[str]:
        """More kills after the commit, until one came before the pulse: whether it does is up to the bus."""
        for _ in range(MORE):
            if self.toll.windows[COMMIT_TO_PULSE]:
                return
            yield "commit"

    # -- kills ---------------------------------------------------------------------------------------------------------

    def _kill_locker(self, moment: str) -> None:
        world = self._world
        self._tidy()
        before = self._history().requested()
        if moment == "commit":
            # A pulse waits for an answer that is under way: slow ones widen the window that it spends committed.
            world.board.call("fault", kind="late_reply", amount=SLOW_ANSWER_MS)
            time.sleep(self._chance.uniform(0.2, 0.4))
        with self._held_disk() if moment == "asked" else contextlib.nullcontext():
            visit = self._visitor(self._next_visitor())
            person = threading.Thread(target=self._visit, args=(visit,))
            person.start()
            MOMENTS[moment](self, visit)
            asked = not visit.answered.is_set() or visit.call.status == 202
            world.kill("locker")
        person.join()
        self._quiet()
        window = self._history().window(asked=asked, requests_before=before, acknowledged=len(world.held()))
        self.toll.windows[window] += 1
        if self._chance.random() < 0.5:
            for lock in self._open_locks():
                self._shut(lock)
        world.board.call("heal")
        self._lives.append(time.monotonic())
        world.run("locker")
        self._settle()

    def _kill_beside(self, name: str) -> None:
        """Kill another process while somebody is served; it comes back a moment later."""
        world = self._world
        again = threading.Timer(self._chance.uniform(0.0, 0.3), self._kill_and_restart, (name,))
        again.start()
        self._people([self._next_visitor()])
        again.join()
        world.until_serving()

    def _kill_and_restart(self, name: str) -> None:
        world = self._world
        if name == "broker":
            world.broker.stop()
            world.broker.start()
        else:
            world.kill(name)
            world.run(name)

    @contextlib.contextmanager
    def _held_disk(self) -> Iterator[None]:
        """A disk that takes its time: nothing can be committed meanwhile."""
        connection = sqlite3.connect(self._world.site.database, isolation_level=None, timeout=PATIENCE_S)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def at_once(self, _: Visit) -> None:
        time.sleep(self._chance.uniform(0.0, 0.1))

    def at_the_answer(self, visit: Visit) -> None:
        visit.answered.wait(PATIENCE_S)

    def at_the_frame(self, visit: Visit) -> None:
        def on_the_wire() -> bool:
            refused = visit.answered.is_set() and visit.call.status != 202
            return refused or len(self._frames()) > visit.frames

        self._world.until("the frame", on_the_wire)
        time.sleep(self._chance.uniform(0.0, 0.05))

    def at_the_opening(self, visit: Visit) -> None:
        self.at_the_answer(visit)
        if visit.call.status == 202:
            session = visit.call.answer["session"]
            self._world.until("the opening", lambda: self._state(session) != "unlocking")
            time.sleep(self._chance.uniform(0.0, 0.3))

    def at_any_time(self, _: Visit) -> None:
        time.sleep(self._chance.uniform(0.0, 0.6))

    # -- people --------------------------------------------------------------------------------------------------------

    def _next_booking(self) -> str:
        self._booked += 1
        return f"parcel-{self._booked}"

    def _next_visitor(self) -> str:
        waiting = self._waiting()
        return self._next_booking() if len(waiting) < WAITING else self._chance.choice(waiting)

    def _waiting(self) -> list[str]:
        used = self._history().used()
        return [parcel for parcel in self._codes() if parcel not in used]

    def _codes(self) -> dict[str, SealedCode]:
        return self._letters.read(read_journal(self._world.site.database))

    def _visitor(self, parcel: str) -> Visit:
        known = parcel in self._codes()
        call = Call("collect" if known else "deposit", parcel, known and self._history().doubted(parcel))
        self._calls.append(call)
        return Visit(call, len(self._frames()))

    def _visit(self, visit: Visit) -> None:
        call, world = visit.call, self._world
        if call.what == "collect":
            path, body = "/api/collect", {"code": self._letters.codes[call.parcel].code, "confirm": call.confirm}
        else:
            courier = world.courier
            body = {"badge": courier.badge, "pin": courier.pin, "booking": call.parcel, "size": "S"}
            path = "/api/deposit"
        with contextlib.suppress(LastmileError, http.client.HTTPException, ValueError):
            call.status, call.answer = world.kiosk.call("POST", path, body)
        visit.answered.set()

    def _people(self, parcels: list[str]) -> None:
        """Undisturbed visits, each served to its end."""
        for parcel in parcels:
            visit = self._visitor(parcel)
            self._visit(visit)
            if visit.call.status != 202:
                self.toll.faults.append(
                    f"{visit.call.what} of {parcel} answered {visit.call.status} {visit.call.answer}"
                )
                return
            session, lock = visit.call.answer["session"], lock_of(visit.call.answer["door"])
            self._world.until("the opening", lambda session=session: self._state(session) != "unlocking")  # type: ignore[misc]
            if lock in self._open_locks():
                self._world.board.call("put_item" if visit.call.what == "deposit" else "take_item", board=0, lock=lock)
                self._tidy()

    def _state(self, session: str) -> str:
        time.sleep(LOOK_S)
        return str(self._world.kiosk.call("GET", f"/api/sessions/{session}")[1].get("state"))

    def _open_locks(self) -> list[int]:
        doors: Any = self._world.board.call("doors")["doors"]
        return [door["lock"] for door in doors if door["open"]]

    def _shut(self, lock: int) -> None:
        def shut() -> bool:
            self._world.board.call("close_door", board=0, lock=lock)
            return lock not in self._open_locks()

        self._world.until("the door to stay shut", shut)

    def _tidy(self) -> None:
        """Shut every door, and wait until the locker has seen it and kept what follows from it."""
        for lock in self._open_locks():
            self._shut(lock)

        def seen() -> bool:
            time.sleep(LOOK_S)
            _, answer = self._world.kiosk.call("GET", "/api/doors")
            return all(door["state"] != "open" for door in answer["doors"])

        self._world.until("the doors to be seen shut", seen)

    # -- the count -----------------------------------------------------------------------------------------------------

    def _frames(self) -> list[dict[str, Any]]:
        return [line for line in read_witness(self._world.site.witness) if line["what"] == "frame"]

    def _history(self) -> History:
        """All that is known. Journal first: what happens meanwhile may be witnessed and not yet be told."""
        database = self._world.site.database
        events = [entry.event for entry in read_journal(database)]
        return History(read_witness(self._world.site.witness), events, self._lives, self._calls)

    def _quiet(self) -> None:
        for _ in range(2):
            time.sleep(QUIET_S)
            self._world.board.call("doors")

    def _settle(self) -> None:
        world = self._world
        world.until_serving()
        world.until("the outcomes", lambda: not self._history().untold())
        self.toll.faults += self._history().faults()

    def _finish(self) -> None:
        """All parcels are collected, no used code works, the collector holds the journal and nothing else."""
        world = self._world
        self._tidy()
        while not self.toll.faults and (waiting := self._waiting()):
            self._people(waiting[:1])
        for parcel in sorted(self._history().used()):
            visit = self._visitor(parcel)
            call = visit.call
            call.confirm = True
            self._visit(visit)
            if (call.status, call.answer.get("reason")) != (410, "used"):
                self.toll.faults.append(f"the used code of {parcel} answered {call.status} {call.answer}")
        world.until("all to be held", lambda: len(world.held()) == len(read_journal(world.site.database)))
        entries = read_journal(world.site.database)
        self.toll.faults += self._history().faults() + chain_faults(entries)
        if world.held() != [entry.event for entry in entries]:
            self.toll.faults.append("the collector does not hold exactly the node's journal")


MOMENTS: dict[str, Callable[[Operator, Visit], None]] = {
    "asked": Operator.at_once,
    "commit": Operator.at_the_answer,
    "frame": Operator.at_the_frame,
    "opening": Operator.at_the_opening,
    "any": Operator.at_any_time,
}
"""When the locker agent is killed, as seen from outside: the person has asked, was answered, ..."""

ROUND = ("asked", "commit", "frame", "opening", "commit", "any")
"""About every second kill at "commit" meets no answer under way, and comes after the pulse."""
BESIDE = ("cloud-sync", "collector", "broker")
LAST = 5
"""Kills of the locker agent that follow all kills beside it."""


AT_ONCE = 3
"""Worlds beside each other: two cores start processes while others wait for doors."""


def run_suite(directory: Path, *, worlds: int, locker: int, beside: int) -> tuple[Toll, Counter[str]]:
    """``locker`` kills of the agent and ``beside`` of other processes in each of the ``worlds``.

    Returns the toll, and how often each process was killed.
    """

    def one(seed: int) -> Operator:
        moments = [ROUND[at % len(ROUND)] for at in range(locker)]
        others = [BESIDE[at % len(BESIDE)] for at in range(beside)]
        # What a dead collector had been sent goes again when a later event shows the hole, or else after 30 s.
        rounds = [*moments[LAST:], *others]
        random.Random(seed).shuffle(rounds)
        rounds += moments[:LAST]
        operator = Operator(directory / f"world-{seed}", seed)
        operator.run(rounds)
        return operator

    toll, killed = Toll(), Counter[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for operator in pool.map(one, range(worlds)):
            toll.add(operator.toll)
            killed += operator.killed
    return toll, killed
