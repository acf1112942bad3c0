"""The Modbus relay codec against frames as literals: whole, in pieces, glued, damaged, and much rubbish."""

from __future__ import annotations

import itertools

import pytest

from edge.errors import ConfigError
from locker.boards import modbus_relay
from locker.boards.modbus_relay import Decoder, Event, Flaw, Inputs, Malformed, Modes, Refused, Relays, Request, Written
from locker.modbus_relay_sim import Ear, sealed
from tests.locker.lines import damages, lossy, rubbish, with_losses

COMMANDS = {
    "01 05 02 00 00 04 CD B1": modbus_relay.flash(1, 0, 0.4),
    "01 05 02 00 00 05 0C 71": modbus_relay.flash(1, 0, 0.5),
    "01 05 02 00 00 07 8D B0": modbus_relay.flash(1, 0, 0.7),
    "01 05 02 01 00 08 9C 74": modbus_relay.flash(1, 1, 0.8),
    "01 05 00 FF 00 00 FD FA": modbus_relay.all_off(1),
    "01 01 00 00 00 08 3D CC": modbus_relay.ask_relays(1, 8),
    "01 02 00 00 00 08 79 CC": modbus_relay.ask_inputs(1, 8),
    "01 03 10 00 00 08 40 CC": modbus_relay.ask_modes(1, 8),
    "01 06 10 00 00 00 8D 0A": modbus_relay.set_normal(1, 0),
}

FRAMES: dict[str, Event] = {
    "01 02 01 05 61 8B": Inputs(1, 0b101, 8),
    "01 02 01 00 A1 88": Inputs(1, 0, 8),
    "01 02 02 01 80 B9 88": Inputs(1, 0x8001, 16),
    "F7 02 04 FF FF FF 7F 6D D9": Inputs(247, 0x7FFFFFFF, 32),
    "01 01 01 00 51 88": Relays(1, 0, 8),
    "01 01 01 80 50 28": Relays(1, 0x80, 8),
    "01 85 03 02 91": Refused(1, 5, 3),
    "01 82 02 C1 61": Refused(1, 2, 2),
    "01 05 02 00 00 05 0C 71": Written(bytes.fromhex("0105020000050C71")),
    "01 05 00 FF 00 00 FD FA": Written(bytes.fromhex("010500FF0000FDFA")),
    "01 06 40 00 00 02 1D CB": Written(bytes.fromhex("0106400000021DCB")),
    "01 02 00 00 00 08 79 CC": Request(bytes.fromhex("01020000000879CC")),
    "01 01 00 00 00 08 3D CC": Request(bytes.fromhex("0101000000083DCC")),
    "01 03 10 00 00 08 40 CC": Request(bytes.fromhex("01031000000840CC")),
    "01 03 10 00 00 00 01 00 00 00 00 00 00 00 00 00 02 00 03 07 19": Modes(1, (0, 1, 0, 0, 0, 0, 2, 3)),
}
"""Every frame of the family that can be on the bus, as the field notes have them or by their CRC."""

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
    frame = bytes.fromhex(text)
    for size in range(1, len(frame)):
        decoder = Decoder()
        assert decoder.feed(frame + frame[:size]) == [event]
        assert decoder.feed(frame[size:]) == [event]


@family
def test_any_other_frame_may_be_glued_to_it(text: str, event: Event) -> None:
    for other, following in FRAMES.items():
        assert Decoder().feed(bytes.fromhex(text + other)) == [event, following]


@family
def test_a_frame_is_found_behind_the_beginning_of_another(text: str, event: Event) -> None:
    """The first half of an answer, cut by a loose plug, does not swallow the next whole one for good."""
    frame = bytes.fromhex(text)
    for size in range(1, len(frame)):
        assert event in Decoder().feed(frame[:size] + frame + bytes(modbus_relay.FRAME_MOST))


@family
def test_stray_bytes_cost_nothing_once_their_frame_could_have_ended(text: str, event: Event) -> None:
    frame = bytes.fromhex(text)
    for stray in (b"\x01", b"\x01\x02", b"\x01\x02\x01", b"\x01\x03\x10", b"\xff\xff", b"\x05\x85"):
        told = Decoder().feed(stray + frame + bytes(modbus_relay.FRAME_MOST))
        assert [one for one in told if not isinstance(one, Malformed)] == [event]


@family
def test_over_a_lossy_line_only_whole_frames_count(text: str, event: Event) -> None:
    """A tenth of the bytes is lost. A frame that lost none is found; one that lost any never gives an answer."""
    frame, decoder = bytes.fromhex(text), Decoder()
    whole, found = 0, 0
    for arrived in lossy(text, frame, 2000):
        whole += arrived == frame
        decoder.reset()
        told = decoder.feed(arrived)
        found += told.count(event)
        assert all(one == event or isinstance(one, Malformed) for one in told)
    assert 50 < whole == found


def test_no_pattern_of_modes_looks_like_our_own_query() -> None:
    """A query and its answer begin with the same three bytes; eight of the answer must not be taken for the query."""
    for modes in itertools.product(range(4), repeat=3):
        body = bytes([1, 3, 16]) + b"".join(bytes([0, mode]) for mode in (*modes, 0, 0, 0, 0, 0))
        told = Decoder().feed(sealed(body))
        assert told == [Modes(1, (*modes, 0, 0, 0, 0, 0))]


def test_every_lock_of_every_board_has_a_frame_of_its_own() -> None:
    frames = {modbus_relay.flash(board, relay, 0.3) for board in range(1, 248) for relay in range(32)}
    assert len(frames) == 247 * 32


@pytest.mark.parametrize("number", [-1, 0, 248, 255, True, False, 1.0, "1", None])
def test_no_other_board_can_be_said_least_of_all_all_of_them(number: object) -> None:
    for say in (
        lambda n: modbus_relay.flash(n, 0, 0.3),
        lambda n: modbus_relay.ask_inputs(n, 8),
        lambda n: modbus_relay.ask_relays(n, 8),
        lambda n: modbus_relay.ask_modes(n, 8),
        lambda n: modbus_relay.set_normal(n, 0),
        lambda n: modbus_relay.all_off(n),  # noqa: PLW0108 - typed like its neighbours
    ):
        with pytest.raises(ConfigError, match=r"integer 1\.\.247"):
            say(number)


@pytest.mark.parametrize("number", [-1, 32, 255, 256, True, 1.0, "1", None])
def test_no_other_relay_can_be_said(number: object) -> None:
    for say in (lambda n: modbus_relay.flash(1, n, 0.3), lambda n: modbus_relay.set_normal(1, n)):
        with pytest.raises(ConfigError, match=r"integer 0\.\.31"):
            say(number)


@pytest.mark.parametrize("size", [0, 1, 9, 24, 33, -8])
def test_no_other_size_of_board_can_be_asked(size: int) -> None:
    for say in (modbus_relay.ask_inputs, modbus_relay.ask_relays, modbus_relay.ask_modes):
        with pytest.raises(ConfigError, match=f"{size} relays"):
            say(1, size)


@pytest.mark.parametrize("seconds", [0, 0.04, 1.05, 60, -1, float("nan"), float("inf")])
def test_a_coil_is_never_told_to_burn(seconds: float) -> None:
    with pytest.raises(ConfigError, match="burns the coil"):
        modbus_relay.flash(1, 0, seconds)


def test_on_all_on_and_the_address_register_cannot_be_said() -> None:
    """Of all bytes this module can produce, none switches a relay on but a flash of one, of a second at most."""
    boards = (1, 2, 128, 247)
    said = [modbus_relay.flash(b, k, s / 10) for b in boards for k in range(32) for s in range(1, 11)]
    said += [modbus_relay.all_off(b) for b in boards]
    said += [modbus_relay.set_normal(b, k) for b in boards for k in range(32)]
    queries = (modbus_relay.ask_inputs, modbus_relay.ask_relays, modbus_relay.ask_modes)
    said += [ask(b, size) for ask in queries for b in boards for size in (8, 16, 32)]
    for frame in said:
        function, where, value = frame[1], int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        match function:
            case 5:
                assert (where in range(0x200, 0x220) and 1 <= value <= 10) or (where, value) == (0xFF, 0)
            case 6:
                assert where in range(0x1000, 0x1020)
                assert value == 0
            case _:
                assert function in {1, 2, 3}
    makers = {name for name in vars(modbus_relay) if name.islower() and not name.startswith("_")}
    ours = {name for name in makers if getattr(vars(modbus_relay)[name], "__module__", "") == modbus_relay.__name__}
    assert ours == {"all_off", "ask_inputs", "ask_modes", "ask_relays", "flash", "set_normal"}


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("01 02 01 05 61 8C", Flaw.CHECKSUM),
        ("01 85 03 02 90", Flaw.CHECKSUM),
        ("01 05 02 00 00 05 71 0C", Flaw.CHECKSUM),
        ("01 02 03 00 00 00", Flaw.COUNT),
        ("01 03 02 00 00 00", Flaw.COUNT),
    ],
)
def test_each_flaw_is_told_apart(text: str, flaw: Flaw) -> None:
    assert Decoder().feed(bytes.fromhex(text))[0] == Malformed(flaw)


def test_reset_forgets_half_a_frame() -> None:
    decoder = Decoder()
    decoder.feed(bytes.fromhex("01 02 01 05 61"))
    decoder.reset()
    assert decoder.feed(bytes.fromhex("8B")) == []


def test_rubbish_ends_in_events_that_were_on_the_line() -> None:
    """Accepted or a protocol error: no exception, no memory, and nothing accepted that was not there as a frame."""
    decoder, line, accepted, refused = Decoder(), bytearray(), 0, 0
    for portion in rubbish(1, 250_000, [bytes.fromhex(text) for text in FRAMES]):
        line = line[-100:] + portion
        for event in decoder.feed(portion):
            refused += isinstance(event, Malformed)
            accepted += not isinstance(event, Malformed)
            assert isinstance(event, Malformed) or spelt(event) in line
        assert len(decoder._pending) < modbus_relay.FRAME_MOST
    assert accepted > 1000
    assert refused > 1000


def spelt(event: Event) -> bytes:
    """The frame of ``event``, put together here by hand and sealed by the simulator's arithmetic."""
    match event:
        case Request(raw) | Written(raw):
            return raw
        case Inputs(board, bits, width):
            return sealed(bytes([board, 2, width // 8]) + bits.to_bytes(width // 8, "little"))
        case Relays(board, bits, width):
            return sealed(bytes([board, 1, width // 8]) + bits.to_bytes(width // 8, "little"))
        case Modes(board, modes):
            return sealed(bytes([board, 3, 16]) + b"".join(mode.to_bytes(2, "big") for mode in modes))
        case Refused(board, function, code):
            return sealed(bytes([board, function | 0x80, code]))
        case _:
            raise AssertionError(event)


def test_no_damage_to_one_byte_makes_a_board_do_anything_at_all() -> None:
    """A CRC notices any one byte: nothing but the frame itself is heard, not even behind a doubled byte of it."""
    wrong = []
    for board, relay in ((1, 0), (2, 7), (247, 31)):
        frame = modbus_relay.flash(board, relay, 0.3)
        wrong += [damaged for damaged in damages(frame) for one in Ear().hear(damaged, 0.0) if one.raw != frame]
    assert wrong == []


def test_no_lost_bytes_make_any_command_of_ours_switch_a_relay() -> None:
    """Up to three bytes of a command are lost, and the next follows at once: the first may not borrow from it."""
    wrong = []
    for board, relay in itertools.product((1, 2, 5, 247), (0, 1, 7, 31)):
        frame, query = modbus_relay.flash(board, relay, 0.3), modbus_relay.ask_inputs(board, 8)
        for first, second in itertools.product((frame, query), repeat=2):
            for damaged in with_losses(first, 3):
                heard = Ear().hear(damaged + second, 0.0)
                wrong += [damaged for one in heard if one.verb == 5 and one.raw != frame]
                assert Ear().hear(damaged, 0.0) == []
    assert wrong == []
