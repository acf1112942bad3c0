"""Doors opened by the thousand under drawn troubles, each judged by what physically happened."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Final

from edge.errors import DeviceError, DeviceSilent
from locker.door import Done, DoorWatch, Outcome, Pulse
from locker.door_times import DoorTimes
from locker.latch import Latch
from tests.locker.conformance.rig import Rig, Seen, Trouble

POLL_S: Final = 0.3
"""Between two readings. The product asks ten times as often; a door that is read seldom is harder to follow."""

OPENED, JAMMED, UNKNOWN = frozenset({Outcome.OPENED}), frozenset({Outcome.JAMMED}), frozenset({Outcome.UNKNOWN})
UNSENT: Final = frozenset({Outcome.UNSENT})

LINE: Final = (
    Trouble("lost_reply", {"p": 0.2}, OPENED | UNKNOWN),
    Trouble("half_frame", {"p": 0.2}, OPENED | UNKNOWN),
    Trouble("bad_sum", {"p": 0.2}, OPENED | UNKNOWN),
    Trouble("noise", {"p": 0.3, "amount": 12}, OPENED | UNKNOWN),
    Trouble("late_reply", {"p": 0.2}, OPENED | UNKNOWN),
    Trouble("echo"),
)
"""Of a serial line: what boards say is lost, cut, changed, late, or mixed with other bytes."""

DOORS: Final = (
    Trouble("stuck", {}, JAMMED, opens=False),
    Trouble("deaf", {}, JAMMED, opens=False),
    Trouble("weak", {"pulses": 2}),
    Trouble("weak", {"pulses": 3}),
    Trouble("slow_door", {"ms": 900}),
    Trouble("cut", {"reads": "open"}, UNKNOWN, blind=True),
    # Nobody can see it open: the three pulses end as a jam, and the compartment is looked at.
    Trouble("cut", {"reads": "closed"}, JAMMED, blind=True),
)
"""Of a lock, its door or its switch."""

BUS: Final = (
    Trouble("dead", {}, UNKNOWN, opens=False),
    Trouble("unplug", {}, UNSENT, opens=False),
    Trouble("garbled_baud", {}, UNKNOWN, opens=False),
)
"""Of a board or of the whole line."""

TWINS: Final = Trouble("duplicate_address", {}, frozenset(), opens=False)
"""Two boards with one address: found out by asking, and then not opened at all."""

COOL_S: Final = 20.0
"""After an attempt, until its coil is cool: three pulses of half a second, and cooling takes ten times as long."""

PULSES: Final = 3
"""Most that one attempt may give."""


class Misdeed(AssertionError):
    """A promise that was broken, with what was done and seen."""


@dataclasses.dataclass
class Tally:
    """What came of so many operations."""

    operations: int = 0
    opened: int = 0
    """Doors that opened, by the simulator's log."""
    jams: int = 0
    """Doors that did not open whatever they were given, by the simulator's log; all were reported."""
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    troubles: Counter[str] = dataclasses.field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.operations + other.operations,
            self.opened + other.opened,
            self.jams + other.jams,
            self.outcomes + other.outcomes,
            self.troubles + other.troubles,
        )


async def operate(rig: Rig, seed: int, count: int) -> Tally:
    """Try to open ``count`` doors. Raises ``Misdeed`` at the first that goes otherwise than it may."""
    chance, tally = random.Random(seed), Tally()
    rig.seen()
    for _ in range(count):
        latch = chance.choice(rig.latches)
        troubles = drawn(rig, chance)
        if troubles == [TWINS]:
            await _twins(rig, latch)
        else:
            await _one(rig, latch, troubles, tally)
        tally.operations += 1
        tally.troubles.update(each.kind for each in troubles)
    return tally


def drawn(rig: Rig, chance: random.Random) -> list[Trouble]:
    """None in a quarter of all cases; else one of the doors, the bus or the hardware, of the line, or both."""
    if chance.random() < 0.25:
        return []
    found: list[Trouble] = []
    line = [each for each in LINE if each.kind in rig.kinds]
    if not line or chance.random() < 0.7:
        found.append(chance.choice([*rig.own, *(each for each in (*DOORS, *BUS, TWINS) if each.kind in rig.kinds)]))
    if line and (not found or (found != [TWINS] and chance.random() < 0.3)):
        found.append(chance.choice(line))
    return found


async def attempt(rig: Rig, latch: Latch) -> Done:
    """As ``locker.cabinet_asyncio`` does it, without a task that polls: pulse, read and wait as ``DoorWatch`` says."""
    watch = DoorWatch(DoorTimes(coil=max(0.5, rig.coil)))
    for _ in range(2):
        await _read(rig, latch, watch)
    watch.begin(rig.clock.mono())
    while not isinstance(step := watch.next_step(rig.clock.mono()), Done):
        if isinstance(step, Pulse):
            watch.pulsed(rig.clock.mono())
            try:
                await rig.boards.pulse(latch)
            except DeviceSilent:
                continue
            except DeviceError:
                if watch.attempting:
                    watch.unsent()
        else:
            await _read(rig, latch, watch)
    return step


async def _read(rig: Rig, latch: Latch, watch: DoorWatch) -> None:
    readings = await rig.boards.readings(latch.board)
    watch.observe(readings[latch.lock].hook, rig.clock.mono())
    await rig.clock.sleep(POLL_S)


async def _one(rig: Rig, latch: Latch, troubles: list[Trouble], tally: Tally) -> None:
    for each in troubles:
        rig.inflict(each, latch)
    done = await attempt(rig, latch)
    seen = rig.seen()
    judge(latch, troubles, done, seen)
    tally.outcomes[done.outcome.value] += 1
    tally.opened += any(each.what == "opened" for each in seen)
    tally.jams += done.outcome is Outcome.JAMMED
    rig.heal()
    await rig.clock.sleep(max(0.5, rig.coil))
    rig.shut(latch)
    await rig.clock.sleep(COOL_S)
    after = [each for each in rig.seen() if each.what != "closed"]
    if rig.is_open(latch) or any(each.latch != latch or each.what == "pulse" for each in after):
        raise Misdeed(f"{latch} was to be shut, and this happened: {after}")


def judge(latch: Latch, troubles: list[Trouble], done: Done, seen: list[Seen]) -> None:
    """Raises ``Misdeed`` for a wrong door, two coils, a pulse too many, or an outcome that is not true."""
    told = f"{latch} with {[(each.kind, dict(each.how)) for each in troubles]}: {done}, and this happened: {seen}"
    counts = Counter(each.what for each in seen)
    if any(each.latch != latch for each in seen):
        raise Misdeed(f"another door: {told}")
    if counts["double_coil"] or counts["overheated"] or counts["pulse"] > PULSES:
        raise Misdeed(f"too many pulses: {told}")
    if counts["opened"] > 1:
        raise Misdeed(f"opened twice: {told}")
    opened, blind = bool(counts["opened"]), any(each.blind for each in troubles)
    if done.outcome is Outcome.OPENED and not opened:
        raise Misdeed(f"a jam was told as an opening: {told}")
    if done.outcome is Outcome.JAMMED and opened and not blind:
        raise Misdeed(f"an open door was told as jammed: {told}")
    allowed, opens = expected(troubles)
    if done.outcome not in allowed or opens not in {None, opened}:
        raise Misdeed(f"not one of {sorted(each.value for each in allowed)}: {told}")


def expected(troubles: list[Trouble]) -> tuple[frozenset[Outcome], bool | None]:
    """What may come of it, and whether the door opens. Two troubles at once can hide what each alone would show."""
    if not troubles:
        return OPENED, True
    first, *more = troubles
    if not more:
        return first.outcomes, first.opens
    # A second pulse needs a reading that a bad line may keep back: a door that opens at the second may then stay shut.
    allowed = first.outcomes.union(UNKNOWN, *(each.outcomes for each in more if first.opens is not False))
    return allowed, first.opens if first.opens is False else None


async def _twins(rig: Rig, latch: Latch) -> None:
    rig.inflict(TWINS, latch)
    answers = await rig.answers(latch.board)
    rig.heal()
    await rig.clock.sleep(1.0)
    if answers == 1 or rig.seen():
        raise Misdeed(f"two boards share the address of {latch}, and one query got {answers} answer(s)")
