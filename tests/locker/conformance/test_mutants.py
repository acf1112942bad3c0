"""The suite is no test if a bad driver passes it: each of these has one thing wrong, and must be caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec
import pytest

from locker import joined_asyncio
from locker.board import Event, Latches, Query
from locker.boards import kerong
from locker.latch import Hook, Latch, Reading
from tests.locker.conformance import rigs
from tests.locker.conformance.operations import Misdeed, operate


class NextLock(kerong.Codec):
    """Counts from 1 where the board counts from 0."""

    def unlock(self, latch: Latch) -> bytes:
        return kerong.unlock(self._wirings[latch.board].address, (latch.lock + 1) % 8)


class NextBoard(kerong.Codec):
    """Takes the cabinet's first number for the first address, whatever was configured."""

    def unlock(self, latch: Latch) -> bytes:
        return kerong.unlock(0, latch.lock)


class Inverted(kerong.Codec):
    """Was never calibrated."""

    def __init__(self, wirings: Mapping[int, kerong.Wiring]) -> None:
        super().__init__({n: kerong.Wiring(w.address, w.locks, closed_bit=0) for n, w in wirings.items()})


class Trusting(kerong.Codec):
    """Believes that a door is open because it was unlocked."""

    def __init__(self, wirings: Mapping[int, kerong.Wiring]) -> None:
        super().__init__(wirings)
        self._unlocked: Latch | None = None

    def unlock(self, latch: Latch) -> bytes:
        self._unlocked = latch
        return super().unlock(latch)

    def feed(self, data: bytes) -> list[Event]:
        return [self._wished(event) for event in super().feed(data)]

    def _wished(self, event: Event) -> Event:
        if not isinstance(event, Latches) or self._unlocked is None or self._unlocked.board != event.board:
            return event
        readings = list(event.readings)
        readings[self._unlocked.lock] = Reading(Hook.OPEN)
        return Latches(event.board, event.first, tuple(readings))


class Repeating(kerong.Codec):
    """Sends an unlock with every query, to be sure."""

    def __init__(self, wirings: Mapping[int, kerong.Wiring]) -> None:
        super().__init__(wirings)
        self._again = b""

    def unlock(self, latch: Latch) -> bytes:
        self._again = super().unlock(latch)
        return self._again

    def queries(self, board: int) -> tuple[Query, ...]:
        return tuple(msgspec.structs.replace(each, frame=self._again + each.frame) for each in super().queries(board))


async def tried(monkeypatch: pytest.MonkeyPatch, codec: type[kerong.Codec]) -> None:
    monkeypatch.setattr(kerong, "DRIVER", dataclasses.replace(kerong.DRIVER, codec=codec))
    await operate(rigs.kerong_rig(5), 5, 400)


@pytest.mark.parametrize(
    ("codec", "told"),
    [
        (NextLock, "another door"),
        (NextBoard, "another door"),
        (Inverted, "not one of"),
        (Trusting, "a jam was told as an opening"),
        (Repeating, "too many pulses"),
    ],
)
async def test_a_bad_driver_is_caught(monkeypatch: pytest.MonkeyPatch, codec: type[kerong.Codec], told: str) -> None:
    with pytest.raises(Misdeed, match=told):
        await tried(monkeypatch, codec)


async def test_the_true_driver_passes_what_catches_them(monkeypatch: pytest.MonkeyPatch) -> None:
    await tried(monkeypatch, kerong.Codec)


async def test_two_coils_at_once_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wait for the coil before: of all calls only two at the same time show it."""
    rig = rigs.kerong_rig(6)
    monkeypatch.setattr(joined_asyncio.JoinedBoards, "_driven", lambda boards, part: None)
    await rig.boards.pulse(rig.latches[0])
    await rig.boards.pulse(rig.latches[-1])
    assert [each.what for each in rig.seen()].count("double_coil") == 1
