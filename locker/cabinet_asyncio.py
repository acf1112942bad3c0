"""All doors of one cabinet: reads the boards without end, and runs attempts to open a door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from edge.clock import Clock
from edge.errors import ConfigError, DeviceError, DeviceSilent
from locker.compartment import Candidate, Compartment
from locker.contract import DoorState
from locker.crowd import STANDS_OPEN
from locker.door import Done, DoorWatch, Happening, Pulse
from locker.door_times import DEFAULT_TIMES, DoorTimes
from locker.kiosk import FrontView
from locker.latch import Hook, LockBoards, Reading
from locker.ledger import CompartmentRow

IDLE_POLL_S = 0.1
"""In a round of all boards while nobody is served: tampering is noticed in time, and a CPU of a Pi sees 1 % of load."""
BUSY_POLL_S = 0.03
"""While a door is being opened: the customer's screen follows within 0.1 s of the moment a reading may be believed."""
ANSWERED_WITHIN_S = 5.0
"""A board that has been silent for longer cannot be asked to open anything; shorter gaps are noise on the line."""

NEVER = float("-inf")

Told = Callable[[str, Happening], Awaitable[None]]
Commit = Callable[[int], Awaitable[None]]


class Cabinet:
    """Every door by its name. ``told`` hears what readings show, in order, and is awaited before the next reading."""

    def __init__(
        self,
        compartments: Sequence[Compartment],
        boards: LockBoards,
        clock: Clock,
        *,
        told: Told,
        times: DoorTimes = DEFAULT_TIMES,
        front: FrontView = FrontView(0, 0),  # noqa: B008 - frozen
    ) -> None:
        self.front = front
        self.compartments = {each.door: each for each in compartments}
        self._boards = boards
        self._clock = clock
        self._told = told
        self._watches = {door: DoorWatch(times) for door in self.compartments}
        self._readings = dict.fromkeys(self.compartments, Reading(Hook.UNKNOWN))
        self._answered = dict.fromkeys(sorted({each.latch.board for each in compartments}), NEVER)
        self._rounds = 0
        self._read = asyncio.Event()
        self._reading = asyncio.Lock()
        self._distrusted: set[int] = set()

    def distrust(self, board: int) -> None:
        """Open nothing on ``board``: one pulse there might open two doors, or burn a coil."""
        self._distrusted.add(board)

    def trust(self, board: int) -> None:
        """``board`` was found to be sound."""
        self._distrusted.discard(board)

    def of(self, door: str) -> Compartment:
        """Raises ``ConfigError`` for a door that this cabinet does not have."""
        compartment = self.compartments.get(door)
        if compartment is None:
            raise ConfigError(f"no door {door!r}", remedy="name a door of this cabinet's configuration")
        return compartment

    def state(self, door: str) -> DoorState:
        return self._watches[door].state

    def standing(self, door: str) -> Hook:
        """How the door stands now; UNKNOWN when that is not surely known."""
        return self._watches[door].standing(self._clock.mono())

    def reading(self, door: str) -> Reading:
        """What the sensors say for choosing a compartment: the hook as it stands, and whether something lies inside."""
        return Reading(self.standing(door), self._readings[door].item)

    def serviceable(self, door: str) -> bool:
        """Whether the door's board answers, and alone, so that it makes sense to ask it to open anything.

        Of a door that the configuration has no more, the ledger may still hold a parcel: nothing opens it.
        """
        compartment = self.compartments.get(door)
        if compartment is None:
            return False
        board = compartment.latch.board
        return board not in self._distrusted and not self._silent(board)

    def answers(self, board: int) -> bool:
        """Whether ``board`` has told how its doors stand, lately."""
        return board in self._answered and not self._silent(board)

    def in_service(self) -> set[str]:
        """The doors that can be opened now, as far as their boards tell."""
        return {door for door in self.compartments if self.serviceable(door)}

    def candidate(self, row: CompartmentRow) -> Candidate | None:
        """A compartment with what its sensors say; None for one that is not wired, or whose board does not answer."""
        if row.door not in self.compartments or not self.serviceable(row.door):
            return None
        return Candidate(self.compartments[row.door], row.state, self.reading(row.door), row.uses)

    def opening(self) -> str | None:
        """The door that is being opened now."""
        return next((door for door, watch in self._watches.items() if watch.attempting), None)

    def standing_open(self) -> list[str]:
        """The doors that are open now, whoever opened them, in the order of their names."""
        return sorted(door for door, watch in self._watches.items() if watch.state in STANDS_OPEN)

    async def poll(self, progress: Callable[[], None]) -> None:
        """Read all boards in turn, for ever; while a door is being opened, its board before each other one."""
        idle = IDLE_POLL_S / len(self._answered)
        while True:
            for board in self._next_round():
                await self._attend_opening(board)
                await self._poll_board(board)
                progress()
                await self._clock.sleep(BUSY_POLL_S if self.opening() else idle)

    def _next_round(self) -> list[int]:
        """The boards that answer, and one of those that do not: asking such a one takes as long as many others."""
        self._rounds += 1
        silent = [board for board in self._answered if self._silent(board)]
        asked = silent[self._rounds % len(silent)] if silent else None
        return [board for board in self._answered if board not in silent or board == asked]

    async def _attend_opening(self, other: int) -> None:
        """Ask the board of the door that is being opened before ``other``; a silent ``other`` waits for its outcome."""
        while (door := self.opening()) is not None and (board := self.compartments[door].latch.board) != other:
            await self._poll_board(board)
            await self._clock.sleep(BUSY_POLL_S)
            if not self._silent(other):
                return

    def _silent(self, board: int) -> bool:
        return self._clock.mono() - self._answered[board] > ANSWERED_WITHIN_S

    async def attempt(self, door: str, commit: Commit) -> Done:
        """Open ``door``: its first pulse is committed already, ``commit(n)`` keeps each further one before it goes."""
        watch = self._watches[door]
        watch.begin(self._clock.mono())
        return await self._follow(door, watch, commit)

    def resume(self, door: str, before: Hook) -> Coroutine[Any, Any, Done]:
        """Find out what became of an attempt that a crash cut short. Never pulses; call it before the first reading."""
        watch = self._watches[door]
        watch.resume(before, self._clock.mono())
        return self._follow(door, watch, _no_pulse)

    async def _follow(self, door: str, watch: DoorWatch, commit: Commit) -> Done:
        while not isinstance(step := watch.next_step(self._clock.mono()), Done):
            if isinstance(step, Pulse):
                await self._pulse(door, watch, step.number, commit)
            else:
                await self._read.wait()
        return step

    async def _pulse(self, door: str, watch: DoorWatch, number: int, commit: Commit) -> None:
        if number == 1:
            await self._send(door, watch)
            return
        await commit(number)
        async with self._reading:  # so that no answer is under way that might tell of an opening
            if isinstance(watch.next_step(self._clock.mono()), Pulse):
                await self._send(door, watch)

    async def _send(self, door: str, watch: DoorWatch) -> None:
        watch.pulsed(self._clock.mono())
        latch = self.compartments[door].latch
        if latch.board in self._distrusted:  # whoever asks, a command too
            watch.unsent()
            return
        try:
            await self._boards.pulse(latch)
        except DeviceSilent:
            pass  # nobody knows whether it was given: what is read from now on tells, as after any other pulse
        except DeviceError:
            if watch.attempting:
                watch.unsent()
            return
        watch.sent(self._clock.mono())

    async def _poll_board(self, board: int) -> None:
        async with self._reading:
            readings = await self._boards.readings(board)
            now = self._clock.mono()
            if any(reading.hook is not Hook.UNKNOWN for reading in readings):
                self._answered[board] = now
            happened = [each for door in self._doors_of(board) for each in self._observe(door, readings, now)]
        for door, happening in happened:
            await self._told(door, happening)
        self._read.set()
        self._read = asyncio.Event()

    def _doors_of(self, board: int) -> list[str]:
        return [door for door, each in self.compartments.items() if each.latch.board == board]

    def _observe(self, door: str, readings: Sequence[Reading], now: float) -> list[tuple[str, Happening]]:
        lock = self.compartments[door].latch.lock
        if lock >= len(readings):
            return []
        self._readings[door] = readings[lock]
        return [(door, happening) for happening in self._watches[door].observe(readings[lock].hook, now)]


async def _no_pulse(_: int) -> None:
    """Stands where a resumed attempt has nothing to commit, because it never pulses."""
