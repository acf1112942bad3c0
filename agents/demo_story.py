"""The demonstration's story: deposits, pickups, an outage, a crash in the worst moment; then everything is counted."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import msgspec

from agents import processes
from agents.demo_world import SealedCode, World
from edge.errors import DeviceError
from locker.pickup_code import check_digit

Say = Callable[[str], None]

ACCEPTED = 202
PARCELS = 3


class Outcome(msgspec.Struct, frozen=True):
    """``faults`` is empty when every promise held."""

    counts: dict[str, int]
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults


class Story:
    """Plays the story once. Each step says what happened, and notes what should not have."""

    def __init__(self, world: World, say: Say) -> None:
        self._world = world
        self._say = say
        self.faults: list[str] = []
        self._opened: Counter[int] = Counter()

    def play(self) -> Outcome:
        """Every step in order, then the count."""
        world = self._world
        first = self._deposit("parcel-1", "S")
        self._wrong_codes(first)
        self._collect_offline(first)
        self._expect("the used code", self._type(first), 410, "used")
        second = self._deposit("parcel-2", "M")
        self._crash_between_commit_and_pulse(second)
        third = self._deposit("parcel-3", "L")
        self._jam_then_collect(third)
        self._open_by_command()
        world.until("the collector to hold the whole journal", self._all_held)
        return Outcome(self._count(), tuple(self.faults))

    # -- steps -----------------------------------------------------------------------------------------------------

    def _deposit(self, booking: str, size: str) -> SealedCode:
        world = self._world
        courier = world.courier
        body = {"badge": courier.badge, "pin": courier.pin, "booking": booking, "size": size}
        status, answer = world.kiosk.call("POST", "/api/deposit", body)
        if status != ACCEPTED:
            raise DeviceError(f"the deposit of {booking} answered {status} {answer}", remedy="read logs/locker.log")
        lock = self._lock(answer["door"])
        self._await_open(lock)
        world.board.call("put_item", board=0, lock=lock)
        self._shut(lock)
        self._await_end(answer["session"])
        self._say(f"courier   put {booking} behind door {answer['door']}")
        code = world.until(f"the code of {booking}", lambda: world.codes().get(booking))
        self._say(f"customer  got the code of {booking}, opened with the hub's key")
        return code

    def _wrong_codes(self, right: SealedCode) -> None:
        swapped = str((int(right.code[0]) + 1) % 10) + right.code[1:]
        self._expect("a mistyped code", self._type(right, code=swapped), 422, "typo")
        self._expect("a code of nobody", self._type(right, code=other_code(right.code)), 404, "no_such_code")

    def _collect_offline(self, code: SealedCode) -> None:
        world = self._world
        world.broker.stop()
        self._say("broker    is gone")
        self._collect(code, "with no network")
        world.broker.start()
        self._say("broker    is back")

    def _crash_between_commit_and_pulse(self, code: SealedCode) -> None:
        """The unlock frame is on the wire and the coil has not moved when the agent dies."""
        world = self._world
        lock = self._lock(self._door_of(code))
        frames = self._frames(lock)
        world.board.call("fault", kind="deaf", board=0, lock=lock)
        status, _ = self._type(code)
        self._check(status == ACCEPTED, "the code was not accepted before the crash")
        world.board.wait("frame", 0, lock, count=frames + 1)
        world.kill("locker")
        self._say("locker    killed (-9) between commit and pulse")
        world.board.call("heal")
        world.run("locker")
        world.until_serving()
        status, answer = world.until("the outcome of the cut-off attempt", lambda: self._settled(code))
        self._expect("the same code after the crash", (status, answer), 409, "confirm_needed")
        self._check(self._frames(lock) == frames + 1, "the restarted agent pulsed by itself")
        self._collect(code, "confirmed after the crash", confirm=True)

    def _settled(self, code: SealedCode) -> tuple[int, dict[str, Any]] | None:
        status, answer = self._type(code)
        return None if answer.get("reason") == "busy" else (status, answer)

    def _jam_then_collect(self, code: SealedCode) -> None:
        world = self._world
        lock = self._lock(self._door_of(code))
        world.board.call("fault", kind="stuck", board=0, lock=lock, pulses=3)
        status, answer = self._type(code)
        self._check(status == ACCEPTED, f"the code of a stuck door answered {status}")
        session = answer["session"]
        world.until("the jam", lambda: self._state(session) == "jammed")
        self._say(f"door {answer['door']}   jammed after three pulses; the code stays good")
        world.board.call("heal")
        self._collect(code, "after the jam")

    def _open_by_command(self) -> None:
        """Staff open an empty compartment; the node gives a nonce and signs what became of it."""
        site, door = self._world.site, "16"
        done = subprocess.run(  # noqa: S603  our own command line
            [*processes.COMMAND, "command", "open", site.node, door, "--as", str(site.issuer_toml)],
            capture_output=True,
            text=True,
            check=False,
        )
        self._check(done.returncode == 0, f"lastmile command open: {done.stdout.strip()} {done.stderr.strip()}")
        lock = self._lock(door)
        self._await_open(lock)
        self._shut(lock)
        self._say(f"staff     opened door {door} by a signed command: {done.stdout.strip()}")

    # -- small steps -----------------------------------------------------------------------------------------------

    def _collect(self, code: SealedCode, how: str, *, confirm: bool = False) -> None:
        world = self._world
        status, answer = self._type(code, confirm=confirm)
        self._check(status == ACCEPTED, f"collecting {code.parcel} {how} answered {status} {answer}")
        if status != ACCEPTED:
            return
        lock = self._lock(answer["door"])
        self._await_open(lock)
        world.board.call("take_item", board=0, lock=lock)
        self._shut(lock)
        self._await_end(answer["session"])
        self._say(f"customer  took {code.parcel} from door {answer['door']}, {how}")

    def _type(self, right: SealedCode, *, code: str = "", confirm: bool = False) -> tuple[int, dict[str, Any]]:
        return self._world.kiosk.call("POST", "/api/collect", {"code": code or right.code, "confirm": confirm})

    def _state(self, session: str) -> str:
        return str(self._world.kiosk.call("GET", f"/api/sessions/{session}")[1].get("state"))

    def _await_open(self, lock: int) -> None:
        self._opened[lock] += 1
        self._world.board.wait("opened", 0, lock, count=self._opened[lock])
        door = f"{lock + 1:02d}"
        self._world.until(f"door {door} to be seen open", lambda: self._door_state(door) == "open")

    def _shut(self, lock: int) -> None:
        """Push the door shut; while its coil is still driven it springs open again."""
        board = self._world.board

        def shut() -> bool:
            board.call("close_door", board=0, lock=lock)
            doors = cast("list[dict[str, object]]", board.call("doors")["doors"])
            return any(each["lock"] == lock and not each["open"] for each in doors)

        self._world.until("the door to stay shut", shut)

    def _door_state(self, door: str) -> str:
        _, answer = self._world.kiosk.call("GET", "/api/doors")
        return next(str(each["state"]) for each in answer["doors"] if each["door"] == door)

    def _await_end(self, session: str) -> None:
        self._world.until("the session to end", lambda: self._state(session) == "ended")

    def _door_of(self, code: SealedCode) -> str:
        stored = [event for event in self._world.held() if event["type"] == "parcel.deposited"]
        return next(str(event["data"]["door"]) for event in stored if event["data"]["parcel"] == code.parcel)

    @staticmethod
    def _lock(door: str) -> int:
        return int(door) - 1

    def _frames(self, lock: int) -> int:
        return sum(line["what"] == "frame" and line.get("lock") == lock for line in self._world.witness())

    def _expect(self, what: str, got: tuple[int, dict[str, Any]], status: int, reason: str) -> None:
        self._check(got == (status, got[1]) and got[1].get("reason") == reason, f"{what} answered {got}")
        self._say(f"kiosk     refused {what}: {got[1].get('reason')}")

    def _check(self, fine: bool, fault: str) -> None:  # noqa: FBT001  reads as a sentence at every call
        if not fine:
            self.faults.append(fault)
            self._say(f"FAULT     {fault}")

    # -- the count -------------------------------------------------------------------------------------------------

    def _all_held(self) -> bool:
        held, journalled = self._world.held(), self._world.journalled()
        return len(held) >= len(journalled) and journalled[-1]["type"] == "node.journal.sealed"

    def _count(self) -> dict[str, int]:
        """Hold what the collector has against the node's journal, and both against what physically happened."""
        world = self._world
        held, journalled, happened = world.held(), world.journalled(), world.witness()
        types = Counter(event["type"] for event in held)
        seen = Counter(line["what"] for line in happened)
        ids = Counter(event["id"] for event in held)
        self._check(max(ids.values()) == 1, "the collector holds an event twice")
        self._check(held == journalled, "the collector does not hold exactly the node's journal")
        self._check(
            types["locker.unlock.requested"] == seen["frame"],
            f"{seen['frame']} unlock frames on the wire, {types['locker.unlock.requested']} were committed",
        )
        self._check(
            types["locker.door.opened"] == seen["opened"],
            f"{seen['opened']} doors opened, {types['locker.door.opened']} were told",
        )
        self._check(types["parcel.collected"] == PARCELS, f"{types['parcel.collected']} of {PARCELS} parcels collected")
        return {
            "audit_events": len(journalled),
            "held": len(held),
            "twice": sum(count - 1 for count in ids.values()),
            "seals": types["node.journal.sealed"],
            "unlock_frames": seen["frame"],
            "unlocks_committed": types["locker.unlock.requested"],
            "doors_opened": seen["opened"],
            "openings_told": types["locker.door.opened"],
            "deposited": types["parcel.deposited"],
            "collected": types["parcel.collected"],
        }


def other_code(code: str) -> str:
    """Another well-formed code, as a person might guess it."""
    digits = f"{(int(code[:-1]) + 1) % 10 ** (len(code) - 1):0{len(code) - 1}d}"
    return digits + check_digit(digits)


def as_json(outcome: Outcome) -> str:
    return json.dumps({"ok": outcome.ok, "counts": outcome.counts, "faults": list(outcome.faults)})
