"""The bus owner on a scripted line and a clock moved by hand: who goes first, who waits, what is believed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from edge.clock_sim import ManualClock
from edge.errors import ConfigError, DeviceError, DeviceMissing
from locker.board import BusTiming
from locker.board_serial import SerialBoards
from locker.boards import modbus_relay
from locker.boards.kerong import Codec, Wiring
from locker.latch import Hook, Latch, LockBoards, Reading
from tests.locker.boards_rig import QUICK, SHUT, UNKNOWN


class ScriptedLine:
    """Bytes written are kept with their time; ``answer`` says what comes back, at once or (None) never."""

    def __init__(self, clock: ManualClock, answer: Callable[[bytes], bytes | None]) -> None:
        self.written: list[tuple[float, bytes]] = []
        self.broken: DeviceError | None = None
        self._clock = clock
        self._answer = answer
        self._arrived = b""

    def drain(self) -> bytes:
        data, self._arrived = self._arrived, b""
        return data

    async def read(self, seconds: float) -> bytes:
        if not self._arrived:
            await self._clock.sleep(seconds)
        return self.drain()

    async def write(self, data: bytes) -> None:
        if self.broken:
            raise self.broken
        self.written.append((round(self._clock.mono(), 3), data))
        self._arrived += self._answer(data) or b""


ALL_SHUT = bytes.fromhex("02 00 35 FF FF 00 00 03 38")
ASK = bytes.fromhex("02 00 30 03 35")


def silent_bus(clock: ManualClock, timing: BusTiming = QUICK) -> tuple[SerialBoards, ScriptedLine]:
    line = ScriptedLine(clock, lambda _: None)
    return SerialBoards(line, clock, Codec({0: Wiring(0)}), timing), line


async def test_a_pulse_on_an_idle_bus_is_written_before_anything_else_runs() -> None:
    """No query before it, no turn of the event loop, no timer."""
    boards, line = silent_bus(ManualClock())
    with pytest.raises(StopIteration):
        boards.pulse(Latch(0, 3)).send(None)
    assert line.written == [(0.0, bytes.fromhex("02 03 31 03 39"))]


async def test_a_waiting_pulse_goes_before_all_waiting_queries() -> None:
    clock = ManualClock()
    boards, line = silent_bus(clock, BusTiming(answer=0.1, late=0, settle=0.05, tries=1))
    queries = [asyncio.create_task(boards.readings(0)) for _ in range(5)]
    await clock.advance(0.05)
    pulse = asyncio.create_task(boards.pulse(Latch(0, 0)))
    await clock.advance(0.04)
    assert not pulse.done(), "an answer under way is let in"
    await clock.advance(0.011)
    assert pulse.done()
    await clock.advance(1)
    assert [data[2] for _, data in line.written] == [0x30, 0x31, 0x30, 0x30, 0x30, 0x30]
    assert [at for at, _ in line.written][1:3] == pytest.approx([0.1, 0.15], abs=0.002)
    await asyncio.gather(*queries, pulse)


async def test_the_silence_after_a_missing_answer_does_not_hold_up_a_pulse() -> None:
    clock = ManualClock()
    boards, line = silent_bus(clock, BusTiming(answer=0.1, late=10))
    query = asyncio.create_task(boards.readings(0))
    await clock.advance(0.2)
    await boards.pulse(Latch(0, 0))
    assert [at for at, _ in line.written] == [0.0, 0.2]
    await clock.advance(30)
    assert [at for at, _ in line.written] == [0.0, 0.2, 10.1, 20.2]
    assert await query == UNKNOWN


async def test_queries_wait_until_a_board_may_be_asked_after_an_unlock() -> None:
    clock = ManualClock()
    line = ScriptedLine(clock, lambda data: ALL_SHUT if data == ASK else None)
    boards = SerialBoards(line, clock, Codec({0: Wiring(0)}), BusTiming(settle=0.05))
    await boards.pulse(Latch(0, 0))
    reading = asyncio.create_task(boards.readings(0))
    await clock.advance(0.1)
    assert await reading == SHUT
    assert [(at, data[2]) for at, data in line.written] == [(0.0, 0x31), (0.05, 0x30)]


async def test_a_cancelled_caller_leaves_the_bus_usable() -> None:
    """Cancelled while it waits, while it holds the turn, and in the moment it is given the turn."""
    clock = ManualClock()
    boards, line = silent_bus(clock, BusTiming(answer=0.1, late=0, tries=1))
    first, second, third = (asyncio.create_task(boards.readings(0)) for _ in range(3))
    await clock.advance(0.01)
    second.cancel()
    first.cancel()
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    await boards.pulse(Latch(0, 0))
    assert line.written[-1][1] == bytes.fromhex("02 00 31 03 36")


async def test_a_pulse_that_did_not_go_out_says_so() -> None:
    boards, line = silent_bus(ManualClock())
    line.broken = DeviceMissing("gone", remedy="plug it in")
    with pytest.raises(DeviceMissing):
        await boards.pulse(Latch(0, 0))
    assert boards.counters.pulses == 0
    line.broken = None
    with pytest.raises(StopIteration):
        boards.pulse(Latch(0, 0)).send(None)
    assert len(line.written) == 1


@pytest.mark.parametrize("latch", [Latch(1, 0), Latch(0, 12), Latch(0, -1), Latch(16, 0), Latch(-1, 0)])
async def test_a_latch_that_is_not_wired_is_refused_and_nothing_is_sent(latch: Latch) -> None:
    clock = ManualClock()
    line = ScriptedLine(clock, lambda _: None)
    with pytest.raises(ConfigError):
        await SerialBoards(line, clock, Codec({0: Wiring(0, locks=12)}), QUICK).pulse(latch)
    assert line.written == []


async def test_two_different_answers_to_one_query_are_believed_neither() -> None:
    clock = ManualClock()
    line = ScriptedLine(clock, lambda _: ALL_SHUT + bytes.fromhex("02 00 35 FE FF 00 00 03 37"))
    boards = SerialBoards(line, clock, Codec({0: Wiring(0)}), QUICK)
    assert await boards.readings(0) == UNKNOWN
    assert boards.counters.contradictions == 3


async def test_another_boards_answer_is_not_taken() -> None:
    clock = ManualClock()
    line = ScriptedLine(clock, lambda _: bytes.fromhex("02 10 35 FF FF 00 00 03 48"))
    boards = SerialBoards(line, clock, Codec({0: Wiring(0)}), BusTiming(tries=1))
    reading = asyncio.create_task(boards.readings(0))
    await clock.advance(1)
    assert await reading == UNKNOWN
    assert boards.counters.strays == 1


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_the_line_does_a_reading_is_true_or_unknown(seed: int) -> None:
    """Ten thousand answers each with one damage that the sum can see, or rubbish around them; the doors move."""
    chance, clock = random.Random(seed), ManualClock()
    truth = 0

    def answer(request: bytes) -> bytes:
        nonlocal truth
        truth = chance.getrandbits(16)
        body = bytes([2, 0, 0x35, truth & 255, truth >> 8, 0, 0, 3])
        return damaged(body + bytes([sum(body) & 255]), chance)

    boards = SerialBoards(
        ScriptedLine(clock, answer), clock, Codec({0: Wiring(0)}), BusTiming(answer=1e-9, late=0, tries=1)
    )
    known = 0
    for _ in range(10_000):
        readings = await moved(clock, boards.readings(0))
        if readings != UNKNOWN:
            known += 1
            assert [one.hook is Hook.CLOSED for one in readings] == [bool(truth >> lock & 1) for lock in range(16)]
    assert 2000 < known < 9000


async def moved(clock: ManualClock, reading: object) -> tuple[Reading, ...]:
    task = asyncio.ensure_future(reading)  # type: ignore[call-overload]
    await asyncio.sleep(0)
    if not task.done():
        await clock.advance(1e-6)
    return await task  # type: ignore[no-any-return]


def damaged(frame: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(frame))
    return chance.choice(
        [
            frame,
            frame[:at],
            frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :],
            frame[:at] + chance.randbytes(1) + frame[at + 1 :],
            chance.randbytes(chance.randrange(20)) + frame,
            frame[:at] + frame,
            frame + chance.randbytes(chance.randrange(8)),
            ASK + frame,
        ]
    )


def test_the_bus_is_what_the_latch_port_asks_for() -> None:
    """Checked by the type checker, line by line of the protocol; here only that it can be built without a device."""
    bus: LockBoards = silent_bus(ManualClock())[0]
    assert bus is not None


async def test_a_pulse_between_two_questions_to_a_relay_board_is_not_cut_short() -> None:
    """The board comes back from a silence and is asked for its relays; meanwhile a customer's door is pulsed."""
    clock = ManualClock()
    asked = modbus_relay.ask_relays(1, 8)
    on = bytes.fromhex("01 01 01 01 90 48")

    def answer(frame: bytes) -> bytes | None:
        return on if frame == asked and any(each == flash for _, each in line.written) else None

    line = ScriptedLine(clock, answer)
    flash = modbus_relay.flash(1, 0, 0.3)
    codec = modbus_relay.Codec({0: modbus_relay.Wiring(1, closed_bit=1)})
    boards = SerialBoards(line, clock, codec, BusTiming(answer=0.05, late=0.02, settle=0.02))
    reading = asyncio.ensure_future(boards.readings(0))
    while asked not in [frame for _, frame in line.written]:  # silent as yet
        await clock.advance(0.01)
    await asyncio.gather(boards.pulse(Latch(0, 0)), clock.advance(0.2))
    for _ in range(100):
        await clock.advance(0.02)
    await reading
    after = [frame for _, frame in line.written][[frame for _, frame in line.written].index(flash) :]
    assert asked in after, "it is asked again, and says that a relay is on: ours"
    assert modbus_relay.all_off(1) not in after
