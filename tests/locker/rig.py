"""A whole locker on a clock moved by hand: real journal files, and a physical cabinet instead of a bus.

The cabinet's own log and the database as another connection reads it are the witnesses; the service is asked nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from agents.locker_upkeep import LockerUpkeep
from edge import voucher as vouchers
from edge.clock_sim import ManualClock
from edge.errors import VerificationError
from edge.journal import Limits, Need
from edge.journal_open_sql import Place, open_journal
from edge.journal_sql import SqlJournal
from edge.voucher import Voucher
from locker import badge as badges
from locker.cabinet_asyncio import Cabinet
from locker.cabinet_sim import Spot
from locker.compartment import Compartment, Size
from locker.door import Done
from locker.door_times import DEFAULT_TIMES
from locker.issuing import IssuedCode
from locker.kiosk import Accepted, Refused, SessionView
from locker.latch import Latch, LockBoards
from locker.ledger import Ledger
from locker.ledger_file import overtake_ledger, rebuild_ledger
from locker.ledger_sql import LOCKER_STEPS, LedgerStore, RunningTime, SqlLedger
from locker.pickup_code import CodeHasher, PickupCode, issue
from locker.service import LockerService, Readers, Terms
from locker.sessions_asyncio import Sessions
from locker.shown import Shown
from tests.edge.trust import DAY, HUB, NODE, ROLE, entry, issuers
from tests.locker.bench import LOCKS, SIZES, Bench, door_at

T = TypeVar("T")

PIN = "31415926"


class _Store:
    """The real store, with a count of what is under way and a switch to lose power."""

    def __init__(self, inner: LedgerStore) -> None:
        self.inner = inner
        self.pending = 0
        self.idle = asyncio.Event()
        self.cut = False

    async def write(self, work: Callable[[Ledger], T], need: Need = Need.COLLECTION) -> T:
        return await self._counted(lambda: self.inner.write(work, need))

    async def copied(self) -> None:
        await self._counted(self.inner.copied)

    async def _counted(self, act: Callable[[], Awaitable[T]]) -> T:
        if self.cut:
            await asyncio.get_running_loop().create_future()
        self.pending += 1
        self.idle.clear()
        try:
            return await act()
        finally:
            self.pending -= 1
            if not self.pending:
                self.idle.set()


class LockerRig:
    """One locker: ``start``, use, ``crash`` and ``start`` again on the same files and before the same doors."""

    hasher = CodeHasher(b"k" * 32)

    def __init__(self, folder: Path, *, boards: int = 1, hold_s: float = 3 * 86_400.0, reserve: int = 0) -> None:
        self.folder = folder
        self.database = folder / "state.db"
        self.clock = ManualClock()
        self.bench = Bench(self.clock, boards)
        self.boards: LockBoards = self.bench
        self.times = DEFAULT_TIMES
        self.compartments = [
            Compartment(door_at(Spot(board, lock)), Latch(board, lock), Size(SIZES[lock]), 450 + 400 * lock)
            for board in range(boards)
            for lock in range(LOCKS)
        ]
        self.hold_s = hold_s
        self.limits = Limits(reserve_bytes=reserve)
        self.codes: dict[str, PickupCode] = {}
        self.offline = False
        self.scans: dict[str, str] = {}
        """What the scanner has read, by its reference."""
        self.step = 0.05
        """Seconds that pass before the disk is waited for."""
        self.died: list[BaseException] = []
        self.told: list[tuple[str, Done]] = []
        self.sent: Counter[str] = Counter()
        """Frames on the wire by attempt."""
        self.bench.on_pulse = self._committed_before
        self._tasks: set[asyncio.Task[None]] = set()
        self.journal: SqlJournal
        self.service: LockerService
        self.store: _Store

    async def start(self) -> list[str]:
        """Open, recover, read the doors. Returns the ids of commands that a crash cut short."""
        # One thread for all that blocks, so that ``halt`` can wait for what a killed process would not have finished.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="asyncio_")
        asyncio.get_running_loop().set_default_executor(self._pool)
        self.journal = open_journal(
            Place(self.database),
            steps=LOCKER_STEPS,
            rebuild=lambda connection: rebuild_ledger(connection, self.database),
            consumers=("hub",),
            source=NODE.source,
            clock=self.clock,
            random=os.urandom,
            sealer=ROLE,
            limits=self.limits,
        ).journal
        self.journal.start()
        stored = await self.journal.write(lambda t: t.sql.execute("SELECT running FROM budget").fetchone()[0])
        self.upkeep = LockerUpkeep(self.database, self.clock)
        self.ledger_store = LedgerStore(self.journal, RunningTime(stored, self.clock), self.upkeep)
        await self.ledger_store.keep(self._begin)
        self.store = _Store(self.ledger_store)
        self.service = self._service()
        self.cabinet = Cabinet(self.compartments, self.boards, self.clock, told=self.service.heard, times=self.times)
        self.service.attach(self.cabinet)
        commands = await self.service.recover(self._ended)
        self._spawn("copies", self.upkeep.write_copies)
        self._spawn("bus", lambda: self.cabinet.poll(lambda: None))
        await self.pass_time(0.5)
        return commands

    def _begin(self, ledger: SqlLedger) -> None:
        overtake_ledger(ledger.transaction.sql, self.database)
        ledger.add_compartments(each.door for each in self.compartments)

    def make_code(self, taken: Callable[[bytes], bool], parcel: str) -> IssuedCode:
        code = self.codes[parcel] = issue(os.urandom, self.hasher, taken)
        return IssuedCode(self.hasher.of(code), f"sealed:{parcel}", "hub-1")

    def _service(self) -> LockerService:
        return LockerService(
            terms=Terms(NODE.node, self.hold_s),
            store=self.store,
            sessions=Sessions(os.urandom),
            clock=self.clock,
            issue=self.make_code,
            offline=lambda: self.offline,
            readers=Readers(self.hasher, _read_badge, self.read_voucher, Shown(os.urandom), self._resolve),
            background=self._spawn,
        )

    def _resolve(self, shown: str) -> str:
        return self.scans.get(shown, shown)

    def read_voucher(self, token: str) -> Voucher:
        """As the agent reads them, with the hub's key listed."""
        wall = self.clock.wall() if self.clock.trusted() else None
        span = {"not_before": int(self.clock.wall()) - DAY, "not_after": int(self.clock.wall()) + 400 * DAY}
        listed = issuers(entry(**span))
        return vouchers.read_voucher(token.encode(), listed, NODE, highest_gen=lambda _: 0, wall=wall)

    def _spawn(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - shown by ``stop``
                self.died.append(error)

        task = asyncio.create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _committed_before(self, latch: Latch) -> None:
        """Every frame must stand in the database, as another connection reads it, before it goes out."""
        door = door_at(Spot(latch.board, latch.lock))
        ((attempt, pulses, ended),) = self.rows("SELECT attempt, pulses, ended FROM unlocking WHERE door = ?", door)
        self.sent[attempt] += 1
        announced = [each for each in self.events("locker.unlock.requested") if each["attempt"] == attempt]
        assert self.sent[attempt] == len(announced) == pulses <= 3
        assert not ended

    async def _ended(self, jti: str, done: Done) -> None:
        self.told.append((jti, done))

    async def crash(self) -> None:
        """The agent is gone from one moment to the next; what was committed is in the files."""
        self.store.cut = True
        await self.halt()

    async def halt(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(lambda: None)
        await self.journal.close()
        self._pool.shutdown()

    def destroy(self) -> None:
        """Nothing of the database can be read any more; the copies beside it can."""
        self.database.write_bytes(b"\0" * 65536)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)

    async def stop(self) -> None:
        await self.halt()
        assert not self.died, self.died

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in the steps in which anything happens, waiting for the disk at each."""
        end = self.clock.mono() + seconds
        await self.settle()
        while (left := end - self.clock.mono()) > 1e-9:
            await self.clock.advance(min(left, self.step))
            await self.settle()

    async def settle(self) -> None:
        """Return when nothing waits for the disk any more."""
        while self.store.pending and not self.store.cut:
            await asyncio.wait_for(self.store.idle.wait(), 10.0)
        for _ in range(10):
            await asyncio.sleep(0)

    async def eventually(self, true: Callable[[], bool]) -> None:
        """Wait for what a thread does beside the clock."""
        for _ in range(200):
            if true():
                return
            await self.pass_time(0.1)
            await asyncio.sleep(0.01)
        pytest.fail("it never happened")

    # -- people ----------------------------------------------------------------------------------------------------

    async def deposit(self, *parcels: str, size: str = "S", low: bool = False, pin: str = PIN, **who: Any) -> Any:
        return await self.service.deposit(badge(**who), pin, parcels, size, low)

    async def load(self, *parcels: str, size: str = "S") -> str:
        """A courier puts ``parcels`` into one compartment; returns the door."""
        accepted = await self.deposit(*parcels, size=size)
        assert isinstance(accepted, Accepted), accepted
        await self.pass_time(1.0)
        self.bench.put(accepted.door)
        self.bench.shut(accepted.door)
        await self.pass_time(1.0)
        assert set(parcels) <= set(self.codes)
        return accepted.door

    async def type(self, parcel: str, *, confirm: bool = False, extension: str | None = None) -> Accepted | Refused:
        """The customer types the parcel's code."""
        return await self.service.collect(self.codes[parcel].typed, extension, confirm)

    def voucher(self, booking: str, gen: int = 1, *, ends_s: int = 30 * DAY, **changed: Any) -> str:
        """What the customer's phone shows, valid until ``ends_s`` from now."""
        now = int(self.clock.wall())
        claims = {"iss": "hub", "aud": NODE.audience, "booking": booking, "gen": gen}
        members: dict[str, Any] = claims | {"nbf": now - DAY, "exp": now + ends_s} | changed
        return vouchers.sign_voucher(Voucher(**members), HUB).decode()

    async def show(self, token: str, *, confirm: bool = False) -> Accepted | str:
        """The customer holds a QR before the scanner: accepted, or the reason why not."""
        answer = await self.service.collect_by_voucher(token, confirm)
        return answer if isinstance(answer, Accepted) else answer.reason.value

    def badge_of_today(self, jti: str) -> str:
        """A courier's badge for the shift that has begun."""
        now = int(self.clock.wall())
        claims = badges.claims_for(
            jti=jti,
            courier="courier-1",
            nodes=(NODE.node,),
            run=jti,
            nbf=now - 3600,
            exp=now + 4 * 3600,
            pin=PIN,
            random=os.urandom,
        )
        return json.dumps(claims)

    async def accepted(self, parcel: str, *, confirm: bool = False) -> Accepted:
        answer = await self.type(parcel, confirm=confirm)
        assert isinstance(answer, Accepted), answer
        return answer

    async def refused(self, parcel: str, *, confirm: bool = False) -> str:
        answer = await self.type(parcel, confirm=confirm)
        assert isinstance(answer, Refused), answer
        return answer.reason.value

    def view(self, accepted: Accepted) -> SessionView:
        view = self.service.session(accepted.session)
        assert view is not None
        return view

    # -- the database as another connection reads it ----------------------------------------------------------------

    @contextlib.contextmanager
    def _read(self) -> Any:
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._read() as connection:
            return list(connection.execute(query, values))

    def events(self, *types: str) -> list[Mapping[str, Any]]:
        """Audit events of these types in order: their data, with ``type``. Without types: all but the journal's own."""
        bodies = self.rows("SELECT body FROM event WHERE hash IS NOT NULL ORDER BY place")
        decoded = [json.loads(body) for (body,) in bodies]
        return [
            {"type": each["type"], **each["data"]}
            for each in decoded
            if each["type"] in types or (not types and not each["type"].startswith("node."))
        ]

    def story(self) -> list[str]:
        return [each["type"] for each in self.events()]

    def parcel(self, parcel: str) -> str:
        found = self.rows("SELECT state FROM parcel WHERE parcel = ?", parcel)
        return str(found[0][0]) if found else "none"

    def compartment(self, door: str) -> str:
        return str(self.rows("SELECT state FROM compartment WHERE door = ?", door)[0][0])


def badge(
    courier: str = "courier-1",
    run: str = "run-1",
    jti: str = "badge-1",
    nodes: str = NODE.node,
    role: badges.Role = badges.Role.COURIER,
    recall: Any = (),
) -> str:
    """A badge as the fake reader takes it: its claims in clear. Signatures are told in the badge's own tests."""
    key = (courier, run, jti, nodes, role, recall, badges._SCRYPT_N)
    if key not in _BADGES:
        now = int(ManualClock().wall())
        claims = badges.claims_for(
            jti=jti,
            courier=courier,
            nodes=(nodes,),
            run=run,
            nbf=now - 3600,
            exp=now + 4 * 3600,
            pin=PIN,
            random=os.urandom,
            role=role,
            recall=recall,
        )
        _BADGES[key] = json.dumps(claims)
    return _BADGES[key]


_BADGES: dict[tuple[Any, ...], str] = {}


def _read_badge(token: str) -> Mapping[str, Any]:
    try:
        claims: Mapping[str, Any] = msgspec.json.decode(token)
    except msgspec.DecodeError as error:
        raise VerificationError("bad_signature", "not a badge", remedy="none") from error
    return claims


@contextlib.asynccontextmanager
async def running(folder: Path, **how: Any) -> AsyncIterator[LockerRig]:
    """A locker that has started; at the end no task of it may have died."""
    rig = LockerRig(folder, **how)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
