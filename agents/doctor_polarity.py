"""Which way a board's switches read: one empty door is opened before a person's eyes, and what they see decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from agents.doctor_bus import Calibration, DoctorBus
from agents.doctor_report import Finding, fault, good, note
from locker.compartment import Compartment
from locker.latch import Hook, Reading

OPENS_S: Final = 1.5
"""From a pulse until a door that moves has moved and its coil is off (``locker.door_times.DoorTimes.no_change``)."""

Ask = Callable[[str], Awaitable[bool]]
"""A question to the person before the cabinet, answered by yes or no."""

Readings = Mapping[Calibration, tuple[Reading, ...]]


class Found(msgspec.Struct, frozen=True):
    """What has to be changed in the configuration: an option of a board, and the door that showed it."""

    board: int
    option: str
    value: int | str
    door: str


Judged = tuple[Finding, Found | None]
"""What was found out, and what has to be changed for it."""


def choose_door(
    doors: Sequence[Compartment], empty: Collection[str] | None, named: str | None, board: int
) -> Compartment | Finding:
    """The door of ``board`` that may be opened. Only one that the ledger proves to be empty, whoever names it.

    ``empty`` is None where there has never been a ledger: the locker is being installed, and the person must name one.
    """
    here = [each for each in doors if each.latch.board == board and named in {None, each.door}]
    where = f"board {board}"
    if empty is None:
        if named is None or not here:
            return note(where, "there is no ledger yet", "name an empty door of it with --door, and stand before it")
        return here[0]
    free = [each for each in here if each.door in empty]
    if free:
        return min(free, key=lambda each: (not each.low, each.door))
    if named is not None and here:
        return fault(where, f"door {named} is not proven to be empty, so it is not opened", "name another, or clear it")
    return note(where, "no compartment of it is proven to be empty", "come back when one is, or name another door")


class Polarity:
    """One board. ``ask`` speaks to the person, ``sleep`` waits."""

    def __init__(self, bus: DoctorBus, ask: Ask, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._bus = bus
        self._ask = ask
        self._sleep = sleep

    async def examine(self, door: Compartment, doors: Sequence[Compartment]) -> list[Judged]:
        """Open ``door``, look, have it shut. Opens nothing else, and nothing twice. Raises ``DeviceError``.

        ``doors`` are all of its board: how the others read tells whether it can speak for them.
        """
        where = f"door {door.door}"
        board = door.latch.board
        if not await self._ask(f"Is door {door.door} shut, and its compartment empty?"):
            return [(note(where, "was not opened", "shut it when it is empty, and begin again"), None)]
        before = await self._read(board)
        flaw = _unfit(before, door)
        if flaw is not None:
            return [(flaw, None)]
        await self._bus.pulse(door.latch)
        await self._sleep(OPENS_S)
        after = await self._read(board)
        if not await self._ask(f"Did door {door.door} open, and no other?"):
            what = "did not open, or another did"
            return [(fault(where, what, "look at its latch, its wire to the board and its line in the plan"), None)]
        judged = _judged(before, after, door, [each.latch.lock for each in doors if each.door != door.door])
        if not await self._ask(f"Shut door {door.door}. Is it shut?"):
            judged.append((note(where, "was left open", "shut it"), None))
        return judged

    async def _read(self, board: int) -> dict[Calibration, tuple[Reading, ...]]:
        return {each: await self._bus.read(board, each) for each in self._bus.calibrations(board)}


def _unfit(before: Readings, door: Compartment) -> Finding | None:
    """Why the door must not be opened after all."""
    mine = [readings[door.latch.lock] for readings in before.values()]
    if any(reading.hook is Hook.UNKNOWN for reading in mine):
        return fault(f"door {door.door}", "its board does not answer", "see what is said of the board")
    if any(reading.item for reading in mine):
        return fault(f"door {door.door}", "its sensor sees something inside", "look, and name another door")
    return None


def _judged(before: Readings, after: Readings, door: Compartment, others: Sequence[int]) -> list[Judged]:
    where, lock = f"door {door.door}", door.latch.lock
    some = next(iter(before))
    moved = [n for n, (one, two) in enumerate(zip(before[some], after[some], strict=True)) if one.hook is not two.hook]
    if moved != [lock]:
        seen = ", ".join(map(str, moved)) or "none"
        what = f"lock {lock} was to move and these did: {seen}"
        return [(fault(where, what, "correct the latch or its sensor"), None)]
    judged: list[Judged] = []
    for each in before:
        if (before[each][lock].hook, after[each][lock].hook) != (Hook.CLOSED, Hook.OPEN):
            continue
        if _odd(before[each], others):
            what = "its switch is the other way round than those of its board, or their doors stand open"
            judged.append((fault(where, what, "shut every door and begin again; else turn this switch round"), None))
            continue
        if each.configured == each.value:
            judged.append((good(where, f"{each.option} = {each.value} is right"), None))
            continue
        remedy = f"set {each.option} = {each.value} for board {door.latch.board}"
        if each.configured is None:
            told = note(where, f"{each.option} was not known", remedy)
        else:
            told = fault(where, f"{each.option} is the wrong way round", remedy)
        judged.append((told, Found(door.latch.board, each.option, each.value, door.door)))
    return judged


def _odd(readings: Sequence[Reading], others: Sequence[int]) -> bool:
    """Whether most of the other doors read as open where this one's switch decides: a board's option is for all."""
    hooks = [readings[lock].hook for lock in others]
    return hooks.count(Hook.OPEN) > hooks.count(Hook.CLOSED)
