"""A codec fed with rubbish: random bytes, its own bytes out of order, and frames with holes."""

from __future__ import annotations

from collections import Counter

from locker.board import CoilTime, Latches, Malformed, Pushed, SetUp, Stranger, Word
from locker.latch import Reading
from tests.locker.conformance.operations import Misdeed, operate
from tests.locker.conformance.rig import SerialRig
from tests.locker.lines import rubbish

MOST_KEPT = 4096
"""Bytes of silence that free every codec of what it kept: no frame of a lock board is nearly as long."""


async def fuzz(rig: SerialRig, seed: int, size: int) -> Counter[str]:
    """Feed about ``size`` bytes to a fresh codec of the rig's. Counts events by kind.

    Raises ``Misdeed`` for an event that no board of the rig can have meant, and for a codec that no longer understands
    a true answer afterwards; any other exception is the codec's own.
    """
    await operate(rig, seed, 40)  # so that the line has carried frames of every kind
    codec = rig.driver.codec(rig.wirings)
    told: Counter[str] = Counter()
    for portion in rubbish(seed, size, sorted(rig.wire.overheard)):
        for event in codec.feed(portion):
            told[type(event).__name__] += 1
            _require_possible(rig, event)
    codec.reset()
    await _require_sane(rig)
    return told


def _require_possible(rig: SerialRig, event: object) -> None:
    match event:
        case Latches(board, first, readings):
            locks = rig.bus_locks.get(board, 0)
            possible = 0 <= first < first + len(readings) <= locks and all(isinstance(one, Reading) for one in readings)
        case CoilTime(board) | SetUp(board) | Pushed(board):
            possible = board in rig.bus_locks
        case Stranger() | Word() | Malformed():
            possible = True
        case _:
            possible = False
    if not possible:
        raise Misdeed(f"no board here can have meant {event}")


async def _require_sane(rig: SerialRig) -> None:
    """The rig's own codec, fed with rubbish through the line, still reads every door."""
    for portion in rubbish(1, MOST_KEPT, sorted(rig.wire.overheard)):
        rig.wire.send(portion)
    board = rig.latches[0].board
    truth = [rig.is_open(latch) for latch in rig.latches if latch.board == board]
    readings = await rig.boards.readings(board)
    if [one.hook.value == "open" for one in readings] != truth:
        raise Misdeed(f"after rubbish {readings} are read where {truth} are open")
