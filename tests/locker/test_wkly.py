"""The WKLY codec against frames as literals: whole, in pieces, glued, damaged, and much rubbish."""

from __future__ import annotations

import itertools

import pytest

from edge.errors import ConfigError
from locker.boards import wkly
from locker.boards.wkly import Decoder, Event, Flaw, Malformed, Moved, Request, Said, Status
from locker.wkly_sim import Ear
from tests.locker.lines import damages, lossy, rubbish, with_losses

NO_LOCK = "00 " * 24

COMMANDS = {
    "57 4B 4C 59 09 00 82 01 83": wkly.unlock(0, 1),
    "57 4B 4C 59 09 1F 82 18 85": wkly.unlock(31, 24),
    "57 4B 4C 59 08 00 84 85": wkly.ask_status(0),
    "57 4B 4C 59 08 05 84 80": wkly.ask_status(5),
}

FRAMES: dict[str, Event] = {
    "57 4B 4C 59 0B 00 82 00 01 00 81": Said(bytes.fromhex("574B4C590B008200010081")),
    "57 4B 4C 59 0B 03 82 FF 18 01 65": Said(bytes.fromhex("574B4C590B0382FF180165")),
    "57 4B 4C 59 0B 00 83 00 01 00 80": Said(bytes.fromhex("574B4C590B008300010080")),
    "57 4B 4C 59 0B 00 83 FF 01 00 7F": Said(bytes.fromhex("574B4C590B0083FF01007F")),
    f"57 4B 4C 59 22 00 84 00 18 {NO_LOCK}B7": Status(0, bytes(24)),
    "57 4B 4C 59 11 02 84 00 07 00 01 00 00 57 4B 4C C8": Status(2, b"\x00\x01\x00\x00WKL"),
    "57 4B 4C 59 16 1F 84 00 0C 01 01 01 01 01 01 01 01 01 01 01 00 89": Status(31, b"\x01" * 11 + b"\x00"),
    "57 4B 4C 59 0A 00 85 01 01 86": Moved(0, 1, 1),
    "57 4B 4C 59 0C 00 87 03 01 02 03 81": Request(bytes.fromhex("574B4C590C00870301020381")),
    "57 4B 4C 59 0C 00 80 03 01 02 03 86": Request(bytes.fromhex("574B4C590C00800301020386")),
    "57 4B 4C 59 09 00 82 01 83": Request(bytes.fromhex("574B4C590900820183")),
    "57 4B 4C 59 09 00 83 01 82": Request(bytes.fromhex("574B4C590900830182")),
    "57 4B 4C 59 08 00 84 85": Request(bytes.fromhex("574B4C5908008485")),
    "57 4B 4C 59 08 00 86 87": Request(bytes.fromhex("574B4C5908008687")),
    "57 4B 4C 59 09 00 88 01 89": Request(bytes.fromhex("574B4C590900880189")),
}
"""Every frame of the family that can be on the bus, as the field notes have them or by their sum. One has the start's
own letters as its states, which a resynchronisation must not take for one."""

family = pytest.mark.parametrize(("text", "event"), FRAMES.items(), ids=[text[12:] for text in FRAMES])


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
def test_a_push_may_come_between_a_command_and_its_answer(text: str, event: Event) -> None:
    push = bytes.fromhex("57 4B 4C 59 0A 00 85 07 00 81")
    assert Decoder().feed(push + bytes.fromhex(text) + push) == [Moved(0, 7, 0), event, Moved(0, 7, 0)]


@family
def test_a_frame_is_found_behind_the_beginning_of_another(text: str, event: Event) -> None:
    """The first half of an answer, cut by a loose plug, does not swallow the next whole one for good."""
    frame = bytes.fromhex(text)
    for size in range(1, len(frame)):
        assert event in Decoder().feed(frame[:size] + frame + frame)


@family
def test_a_byte_that_breaks_off_a_start_may_begin_the_next(text: str, event: Event) -> None:
    for stray in (b"W", b"WW", b"WK", b"WKL", b"WKWKL", b"WKLW", b"\x00W\xff"):
        assert Decoder().feed(stray + bytes.fromhex(text)) == [event]


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
    assert 20 < whole == found


def test_every_lock_of_every_board_has_a_frame_of_its_own() -> None:
    frames = {wkly.unlock(board, lock) for board in range(32) for lock in range(1, 25)}
    assert len(frames) == 32 * 24


@pytest.mark.parametrize("number", [-1, 32, 255, True, False, 1.0, "1", None])
def test_no_other_board_can_be_said(number: object) -> None:
    for say in (lambda n: wkly.unlock(n, 1), wkly.ask_status):
        with pytest.raises(ConfigError, match=r"integer 0\.\.31"):
            say(number)  # type: ignore[arg-type] # what a wrong configuration would hand in


@pytest.mark.parametrize("number", [-1, 0, 25, 255, True, 1.0, "1", None])
def test_no_other_lock_can_be_said(number: object) -> None:
    with pytest.raises(ConfigError, match=r"integer 1\.\.24"):
        wkly.unlock(0, number)  # type: ignore[arg-type]


def test_open_all_lists_and_hold_cannot_be_said() -> None:
    """Of all bytes this module can produce, no frame has another command than "open one" and "status of all"."""
    said = [wkly.unlock(board, lock) for board in range(32) for lock in range(1, 25)]
    said += [wkly.ask_status(board) for board in range(32)]
    assert {frame[6] for frame in said} == {0x82, 0x84}
    assert {len(frame) for frame in said if frame[6] == 0x82} == {9}
    makers = {name for name in vars(wkly) if name.islower() and not name.startswith("_")}
    assert {name for name in makers if getattr(vars(wkly)[name], "__module__", "") == wkly.__name__} == {
        "ask_status",
        "unlock",
    }


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("57 4B 4C 59 0B 00 82 00 01 00 80", Flaw.CHECKSUM),
        ("57 4B 4C 59 0A 00 82 00 01 00", Flaw.LENGTH),
        ("57 4B 4C 59 FF 00 84", Flaw.LENGTH),
        ("57 4B 4C 59 00 00 84", Flaw.LENGTH),
        ("57 4B 4C 59 08 00 8A 8B", Flaw.COMMAND),
        ("57 4B 4C 59 0B 00 84 00 02 01 85", Flaw.COUNT),
    ],
)
def test_each_flaw_is_told_apart(text: str, flaw: Flaw) -> None:
    assert Decoder().feed(bytes.fromhex(text)) == [Malformed(flaw)]


def test_reset_forgets_half_a_frame() -> None:
    decoder = Decoder()
    decoder.feed(bytes.fromhex("57 4B 4C 59 0A 00 85 01 01"))
    decoder.reset()
    assert decoder.feed(bytes.fromhex("86")) == []


def test_rubbish_ends_in_events_that_were_on_the_line() -> None:
    """Accepted or a protocol error: no exception, no memory, and nothing accepted that was not there as a frame."""
    decoder, line, accepted, refused = Decoder(), bytearray(), 0, 0
    for portion in rubbish(1, 250_000, [bytes.fromhex(text) for text in FRAMES]):
        line = line[-100:] + portion
        for event in decoder.feed(portion):
            refused += isinstance(event, Malformed)
            accepted += not isinstance(event, Malformed)
            assert isinstance(event, Malformed) or spelt(event) in line
        assert len(decoder._pending) < wkly.FRAME_MOST
    assert accepted > 1000
    assert refused > 1000


def spelt(event: Event) -> bytes:
    """The frame of ``event`` without its sum, put together here by hand."""
    match event:
        case Request(raw) | Said(raw):
            return raw
        case Status(board, states):
            return b"WKLY" + bytes([len(states) + 10, board, 0x84, 0, len(states)]) + states
        case Moved(board, lock, state):
            return b"WKLY" + bytes([10, board, 0x85, lock, state])
        case _:
            raise AssertionError(event)


def test_no_damage_to_one_byte_makes_a_board_open_another_door() -> None:
    """Unlock frames of every lock, with each byte lost, doubled and replaced by any other, before a whole query."""
    wrong = []
    for board, lock in itertools.product((0, 31), range(1, 25)):
        for damaged in damages(wkly.unlock(board, lock)):
            wrong += [damaged for to, opened in opened_by(damaged) if (to, opened) != (board, lock)]
    assert wrong == []


def test_no_lost_bytes_make_any_command_of_ours_open_another_door() -> None:
    """Up to three bytes of a command are lost, and the next follows at once: the first may not borrow from it."""
    wrong = []
    for board, lock in itertools.product((0, 1, 9, 31), (1, 2, 8, 9, 24)):
        frame, query = wkly.unlock(board, lock), wkly.ask_status(board)
        for damaged in with_losses(frame, 3):
            wrong += [damaged for door in opened_by(damaged + query) if door != (board, lock)]
            wrong += [damaged for door in opened_by(damaged + frame) if door != (board, lock)]
        for damaged in with_losses(query, 3):
            wrong += [damaged for door in opened_by(damaged + frame) if door != (board, lock)]
    assert wrong == []


def opened_by(line: bytes) -> list[tuple[int, int]]:
    """Board and lock of everything that the simulated boards would open for these bytes; lock 0: by another command."""
    heard = [one for one in Ear().hear(line, 0.0) if one.verb not in {0x83, 0x84}]
    doors = [(one.to, one.data[0] if one.verb == 0x82 and len(one.data) == 1 else 0) for one in heard]
    return [(board, lock) for board, lock in doors if lock <= 24]


def test_what_a_xor_cannot_notice_is_known() -> None:
    """The same bit turned in two bytes. Of a query that leaves one frame that opens, which the module owns up to."""
    opens = set()
    for board, bit, (one, other) in itertools.product(range(32), range(8), itertools.combinations(range(8), 2)):
        turned = bytearray(wkly.ask_status(board))
        turned[one] ^= 1 << bit
        turned[other] ^= 1 << bit
        opens |= {(one.verb, bit) for one in Ear().hear(bytes(turned) + bytes(2), 0.0) if one.verb not in {0x83, 0x84}}
    assert opens == {(0x86, 1), (0x85, 0), (0x80, 2), (0x8C, 3), (0x94, 4), (0xA4, 5), (0xC4, 6), (0x04, 7)}
