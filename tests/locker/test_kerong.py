"""The Kerong codec against frames as literals: whole, in pieces, glued, damaged, and a million bytes of rubbish."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import msgspec
import pytest

from edge.errors import ConfigError
from locker.board import Latches, Stranger
from locker.boards import kerong
from locker.boards.kerong import Codec, CoilTime, Decoder, Event, Flaw, Malformed, Request, Status, Wiring
from locker.kerong_board_sim import Ear, Heard
from locker.latch import Hook, Latch, Reading

COMMANDS = {
    "02 00 30 03 35": kerong.ask_status(0),
    "02 10 30 03 45": kerong.ask_status(1),
    "02 00 31 03 36": kerong.unlock(0, 0),
    "02 0F 31 03 45": kerong.unlock(0, 15),
    "02 10 31 03 46": kerong.unlock(1, 0),
    "02 13 31 03 49": kerong.unlock(1, 3),
    "02 00 37 00 32 03 6E": kerong.set_coil_time(0, 0.5),
    "02 00 37 03 3C": kerong.ask_coil_time(0),
}

FRAMES: dict[str, Event] = {
    "02 00 35 FF FF 00 00 03 38": Status(board=0, hooks=0xFFFF, items=0),
    "02 00 35 FE FF 00 00 03 37": Status(board=0, hooks=0xFFFE, items=0),
    "02 00 35 FF 7F 01 80 03 39": Status(board=0, hooks=0x7FFF, items=0x8001),
    "02 F0 35 02 03 02 03 03 34": Status(board=15, hooks=0x0302, items=0x0302),
    "02 10 36 FF FF 00 00 03 49": Status(board=1, hooks=0xFFFF, items=0),
    "02 00 38 00 32 03 6F": CoilTime(board=0, seconds=0.5),
    "02 20 38 17 70 03 E4": CoilTime(board=2, seconds=60.0),
    "02 00 30 03 35": Request(bytes.fromhex("0200300335")),
    "02 0F 31 03 45": Request(bytes.fromhex("020F310345")),
    "02 F0 32 03 27": Request(bytes.fromhex("02F0320327")),
    "02 00 33 03 38": Request(bytes.fromhex("0200330338")),
    "02 00 37 00 32 03 6E": Request(bytes.fromhex("0200370032036E")),
    "02 00 37 03 3C": Request(bytes.fromhex("020037033C")),
}
"""Every frame of the family that can be on the bus, as the field notes have them or by their sum."""

family = pytest.mark.parametrize(("text", "event"), FRAMES.items(), ids=FRAMES)


@pytest.mark.parametrize(("text", "frame"), COMMANDS.items(), ids=COMMANDS)
def test_commands_are_the_bytes_of_the_notes(text: str, frame: bytes) -> None:
    assert frame.hex(" ").upper() == text


@family
def test_a_whole_frame_is_its_event(text: str, event: Event) -> None:
    assert Decoder().feed(bytes.fromhex(text)) == [event]


@family
def test_a_frame_may_come_byte_by_byte(text: str, event: Event) -> None:
    decoder, frame = Decoder(), bytes.fromhex(text)
    for byte in frame[:-1]:
        assert decoder.feed(bytes([byte])) == []
    assert decoder.feed(frame[-1:]) == [event]


@family
def test_trailing_bytes_wait_for_the_rest_of_their_frame(text: str, event: Event) -> None:
    decoder, frame = Decoder(), bytes.fromhex(text)
    assert decoder.feed(frame + frame[:4]) == [event]
    assert decoder.feed(frame[4:]) == [event]


@family
def test_any_other_frame_may_be_glued_to_it(text: str, event: Event) -> None:
    for other, following in FRAMES.items():
        assert Decoder().feed(bytes.fromhex(text + other)) == [event, following]


@family
def test_a_frame_is_found_behind_the_beginning_of_another(text: str, event: Event) -> None:
    """The first half of an answer, cut by a loose plug, does not swallow the next whole one."""
    frame = bytes.fromhex(text)
    for size in range(1, len(frame)):
        assert event in Decoder().feed(frame[:size] + frame + frame)


@family
def test_a_stray_start_byte_costs_nothing(text: str, event: Event) -> None:
    """The true frame begins inside what was taken for one: only the start byte may be given up."""
    frame = bytes.fromhex(text)
    for stray in (b"\x02", b"\x02\x02", b"\x02\x00", b"\x02\x00\x99"):
        told = Decoder().feed(stray + frame + bytes(8))
        assert [one for one in told if not isinstance(one, Malformed)] == [event]


@family
def test_over_a_lossy_line_only_whole_frames_count(text: str, event: Event) -> None:
    """A fifth of the bytes is lost. A frame that lost none is found; one that lost any never gives an answer."""
    chance, frame, decoder = random.Random(text), bytes.fromhex(text), Decoder()
    whole, found = 0, 0
    for _ in range(2000):
        arrived = bytes(byte for byte in frame if chance.random() > 0.2)
        whole += arrived == frame
        decoder.reset()
        told = decoder.feed(arrived)
        found += told.count(event)
        assert all(one == event or isinstance(one, Malformed | Request) for one in told)
    assert 100 < whole == found


def test_every_lock_of_every_board_has_a_frame_of_its_own() -> None:
    frames = {kerong.unlock(board, lock) for board in range(16) for lock in range(16)}
    assert len(frames) == 256
    assert {frame[1] for frame in frames} == set(range(256))


@pytest.mark.parametrize("number", [-1, 16, 255, True, False, 1.0, "1", None])
def test_no_other_board_or_lock_can_be_said(number: object) -> None:
    for say in (
        lambda n: kerong.unlock(n, 0),
        lambda n: kerong.unlock(0, n),
        kerong.ask_status,
        kerong.ask_coil_time,
        lambda n: kerong.set_coil_time(n, 0.3),
    ):
        with pytest.raises(ConfigError, match=r"integer 0\.\.15"):
            say(number)  # type: ignore[arg-type] # what a wrong configuration would hand in


def test_unlock_all_and_the_broadcast_address_cannot_be_said() -> None:
    """Of all bytes this module can produce, no frame has the command 32 or 33."""
    numbers = range(16)
    said = [kerong.unlock(b, k) for b in numbers for k in numbers]
    said += [say(b) for say in (kerong.ask_status, kerong.ask_coil_time) for b in numbers]
    said += [kerong.set_coil_time(b, s / 100) for b in numbers for s in range(1, 49)]
    assert {frame[2] for frame in said} == {0x30, 0x31, 0x37}
    makers = {name for name in vars(kerong) if name.islower() and not name.startswith("_")}
    assert makers & {"ask_status", "unlock", "ask_coil_time", "set_coil_time"} == {
        name for name in makers if getattr(vars(kerong)[name], "__module__", "") == kerong.__name__
    }


@pytest.mark.parametrize("seconds", [0, 0.004, 1.001, 60, -1, float("nan")])
def test_a_coil_is_never_told_to_burn(seconds: float) -> None:
    with pytest.raises(ConfigError, match="burns the coil"):
        kerong.set_coil_time(0, seconds)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("02 00 35 FF FF 00 00 03 39", Flaw.CHECKSUM),
        ("02 00 35 FF FF 00 00 04 39", Flaw.END),
        ("02 00 34 03 39", Flaw.COMMAND),
        ("02 05 35 FF FF 00 00 03 3D", Flaw.LOCK),
        ("02 00 37 00 32 03 6F", Flaw.CHECKSUM),
    ],
)
def test_each_flaw_is_told_apart(text: str, flaw: Flaw) -> None:
    assert Decoder().feed(bytes.fromhex(text)) == [Malformed(flaw)]


def test_reset_forgets_half_a_frame() -> None:
    decoder = Decoder()
    decoder.feed(bytes.fromhex("02 00 35 FE FF 00 00 03"))
    decoder.reset()
    assert decoder.feed(bytes.fromhex("37")) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"address": 16},
        {"address": -1},
        {"address": 0, "locks": 17},
        {"address": 0, "locks": 0},
        {"address": 0, "closed_bit": 2},
        {"address": 0, "coil_ms": 1001},
        {"address": 0, "colour": "red"},
    ],
)
def test_a_board_that_cannot_be_is_refused_where_its_options_are_read(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, Wiring)


def test_two_boards_of_one_address_are_refused_before_they_open_two_doors() -> None:
    with pytest.raises(ConfigError, match="one address"):
        Codec({0: Wiring(1), 1: Wiring(1)})


def test_the_cabinets_numbers_are_not_the_addresses() -> None:
    codec = Codec({7: Wiring(1, locks=2, closed_bit=0, item_sensors=True)})
    assert codec.unlock(Latch(7, 1)) == kerong.unlock(1, 1)
    (query,) = codec.queries(7)
    assert query.frame == kerong.ask_status(1)
    (told,) = codec.feed(bytes.fromhex("02 10 35 02 00 01 00 03 4D"))
    assert told == Latches(7, 0, (Reading(Hook.CLOSED, item=True), Reading(Hook.OPEN, item=False)))
    assert query.answered_by(told)
    assert codec.feed(bytes.fromhex("02 00 35 FF FF 00 00 03 38")) == [Stranger(0)]
    for latch in (Latch(7, 2), Latch(7, -1), Latch(1, 0)):
        with pytest.raises(ConfigError):
            codec.unlock(latch)


def rubbish(seed: int, size: int) -> Iterator[bytes]:
    """Random bytes, bytes of the protocol's own values, and frames with holes, in portions of random size."""
    chance = random.Random(seed)
    values = bytes.fromhex("02 02 03 03 00 01 0F 10 30 31 32 33 35 36 37 38 F0 FF 6E 38")
    frames = [bytes.fromhex(text) for text in FRAMES]
    while size > 0:
        count = chance.randrange(1, 400)
        portion = chance.choice(
            [
                chance.randbytes(count),
                bytes(chance.choices(values, k=count)),
                bytes(byte for byte in b"".join(chance.choices(frames, k=count // 7)) if chance.random() > 0.1),
            ]
        )
        size -= len(portion)
        yield portion


@pytest.mark.parametrize("seed", [1, 2])
def test_a_million_bytes_of_rubbish_end_in_events_that_were_on_the_line(seed: int) -> None:
    """Accepted or a protocol error: no exception, no memory, and nothing accepted that was not there as a frame."""
    decoder, line, accepted, refused = Decoder(), bytearray(), 0, 0
    for portion in rubbish(seed, 600_000):
        line += portion
        for event in decoder.feed(portion):
            refused += isinstance(event, Malformed)
            accepted += not isinstance(event, Malformed)
            assert isinstance(event, Malformed) or spelt(event) in line[-1000:]
        assert len(decoder._pending) < kerong.FRAME_MOST
    assert accepted > 1000
    assert refused > 10_000


def spelt(event: Event) -> bytes:
    """The frame of ``event`` without command and sum, put together here by hand."""
    match event:
        case Request(raw):
            return raw
        case Status(board, hooks, items):
            return bytes([hooks & 255, hooks >> 8, items & 255, items >> 8, 3])
        case CoilTime(board, seconds):
            return bytes([2, board << 4, 0x38]) + round(seconds * 100).to_bytes(2, "big") + b"\x03"
        case _:
            raise AssertionError(event)


def test_no_lost_bytes_make_any_command_of_ours_open_a_door() -> None:
    """Lost zeros do not change a sum: an unlock time of 490 ms would become an unlock of board 3, lock 7."""
    commands = [say(b) for say in (kerong.ask_status, kerong.ask_coil_time) for b in range(16)]
    for board, steps in itertools.product(range(16), range(1, 101)):
        if steps in {49, 51, 57}:
            with pytest.raises(ConfigError, match="10 ms more or less"):
                kerong.set_coil_time(board, steps / 100)
        else:
            commands.append(kerong.set_coil_time(board, steps / 100))
    for frame in commands:
        for kept in itertools.product((0, 1), repeat=len(frame)):
            heard = Ear().hear(bytes(itertools.compress(frame, kept)), 0.0)
            assert not [one for one in heard if one.verb in {0x31, 0x33, 0x39}]
    assert [one.lock for one in Ear().hear(bytes.fromhex("02 37 31 03 6D"), 0.0)] == [7]


def test_no_damage_to_one_byte_makes_a_board_open_another_door() -> None:
    """Every unlock frame with every single bit turned, every byte replaced by any other, lost or doubled."""
    wrong = []
    for board, lock in itertools.product(range(16), repeat=2):
        frame = kerong.unlock(board, lock)
        for damaged in damages(frame):
            heard = [one for one in Ear().hear(damaged, 0.0) if one.verb in {0x31, 0x33}]
            wrong += [(frame, damaged) for one in heard if (one.to, one.lock, one.verb) != (board, lock, 0x31)]
    assert wrong == []


def damages(frame: bytes) -> Iterator[bytes]:
    for at, byte in enumerate(frame):
        yield frame[:at] + frame[at + 1 :]
        yield frame[:at] + bytes([byte]) + frame[at:]
        yield from (frame[:at] + bytes([other]) + frame[at + 1 :] for other in range(256) if other != byte)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_million_bytes_of_rubbish_on_the_bus_open_only_what_was_spelt_out(seed: int) -> None:
    """The simulated boards' own ear: what it takes for a command was on the line, byte for byte."""
    ear, line, heard = Ear(), bytearray(), 0
    for portion in rubbish(seed, 600_000):
        line += portion
        for command in ear.hear(portion, 0.0):
            heard += 1
            assert isinstance(command, Heard)
            assert command.raw in line[-1000:]
            assert sum(command.raw[:-1]) % 256 == command.raw[-1]
    assert heard > 1000
