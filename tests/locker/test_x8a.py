"""The "0x8A" codec against frames as literals: whole, in pieces, glued, damaged; and its boards by raw bytes."""

from __future__ import annotations

import ast
import itertools

import msgspec
import pytest

from edge.errors import ConfigError
from locker.board import Event, Latches, Malformed, Stranger, Word
from locker.boards import x8a
from locker.boards.x8a import Codec, Wiring
from locker.latch import Hook, Latch, Reading
from locker.x8a_sim import Ear
from tests.locker.boards_rig import ROOT
from tests.locker.lines import damages, lossy

COMMANDS = {
    "8A 01 01 11 9B": x8a.unlock(1, 1),
    "8A 01 02 11 98": x8a.unlock(1, 2),
    "80 01 01 33 B3": x8a.ask_lock(1, 1),
    "80 01 00 33 B2": x8a.ask_board(1),
}

OPEN, CLOSED = Reading(Hook.OPEN), Reading(Hook.CLOSED)


def whole(*open_locks: int, locks: int = 24) -> tuple[Reading, ...]:
    return tuple(OPEN if lock in open_locks else CLOSED for lock in range(locks))


BOARDS = {
    4: Wiring(1, closed_bit=0),
    5: Wiring(2, locks=32, status_bytes=4, closed_bit=1),
    6: Wiring(3, locks=8, asked="lock", closed_single="11"),
    7: Wiring(4, locks=8, asked="lock", closed_single="00"),
}
"""By the cabinet's numbers, on one bus: asked as a whole and by lock, and each calibrated its own way."""

FRAMES: dict[str, Event] = {
    "80 01 00 00 05 33 B7": Latches(4, 0, whole(0, 2)),
    "80 01 80 01 00 33 33": Latches(4, 0, whole(8, 23)),
    "80 02 7F FF FF FE 33 30": Latches(5, 0, whole(0, 31, locks=32)),
    "80 03 01 00 82": Latches(6, 0, (OPEN,)),
    "80 03 08 11 9A": Latches(6, 7, (CLOSED,)),
    "80 04 01 00 85": Latches(7, 0, (CLOSED,)),
    "80 04 01 11 94": Latches(7, 0, (OPEN,)),
    "8A 01 01 00 8A": Word(bytes.fromhex("8A0101008A")),
    "8A 01 01 11 9B": Word(bytes.fromhex("8A0101119B")),
    "80 03 01 33 B1": Word(bytes.fromhex("80030133B1")),
    "80 03 09 11 9B": Stranger(3),
    "80 08 01 11 98": Stranger(8),
}
"""Every frame of the family that can be on the bus, as the field notes have them or by their XOR."""

family = pytest.mark.parametrize(("text", "event"), FRAMES.items(), ids=FRAMES)


def fed(data: bytes) -> list[Event]:
    return list(Codec(BOARDS).feed(data))


@pytest.mark.parametrize(("text", "frame"), COMMANDS.items(), ids=COMMANDS)
def test_commands_are_the_bytes_of_the_notes(text: str, frame: bytes) -> None:
    assert frame.hex(" ").upper() == text


@family
def test_a_whole_frame_is_its_event(text: str, event: Event) -> None:
    assert fed(bytes.fromhex(text)) == [event]


@family
def test_a_frame_may_come_byte_by_byte(text: str, event: Event) -> None:
    codec, frame = Codec(BOARDS), bytes.fromhex(text)
    for byte in frame[:-1]:
        assert codec.feed(bytes([byte])) == []
    assert codec.feed(frame[-1:]) == [event]


@family
def test_trailing_bytes_wait_for_the_rest_of_their_frame(text: str, event: Event) -> None:
    codec, frame = Codec(BOARDS), bytes.fromhex(text)
    assert codec.feed(frame + frame[:4]) == [event]
    assert codec.feed(frame[4:]) == [event]


@family
def test_any_other_frame_may_be_glued_to_it(text: str, event: Event) -> None:
    for other, following in FRAMES.items():
        assert fed(bytes.fromhex(text + other)) == [event, following]


@family
def test_over_a_lossy_line_only_whole_frames_are_answers(text: str, event: Event) -> None:
    """A tenth of the bytes is lost. A frame that lost none is found; one that lost any never gives an answer."""
    frame, codec = bytes.fromhex(text), Codec(BOARDS)
    whole_ones, found = 0, 0
    for arrived in lossy(text, frame, 2000):
        whole_ones += arrived == frame
        codec.reset()
        told = codec.feed(arrived)
        found += told.count(event)
        assert all(one == event or not isinstance(one, Latches) for one in told)
    assert 400 < whole_ones == found


def test_an_answer_that_begins_like_its_own_query_is_not_cut_short() -> None:
    """An adapter that echoes sends ``80 01 00 33 B2`` first; so begins the answer of a board with these doors open."""
    answer = bytes.fromhex("80 01 00 33 B2 33 33")
    assert answer[:5] == x8a.ask_board(1)
    assert fed(answer) == [Latches(4, 0, whole(1, 4, 5, 7, 8, 9, 12, 13))]
    assert fed(x8a.ask_board(1) + answer) == [
        Word(x8a.ask_board(1)),
        Latches(4, 0, whole(1, 4, 5, 7, 8, 9, 12, 13)),
    ]


def test_a_board_that_is_asked_as_a_whole_is_never_read_by_one_lock() -> None:
    """``80 01 01 00 80`` is one lock's status, and also how the status of all begins where locks 8 and 17 differ."""
    assert fed(bytes.fromhex("80 01 01 00 80 33 33")) == [Latches(4, 0, whole(7, 16))]
    assert not [one for one in fed(bytes.fromhex("80 01 01 00 80") + bytes(8)) if isinstance(one, Latches)]


@pytest.mark.parametrize(
    ("text", "checksum"), [("80 03 01 00 83", True), ("80 03 01 22 A0", False), ("80 03 00 11 92", False)]
)
def test_a_frame_that_is_none_is_refused_and_one_byte_given_up(text: str, checksum: bool) -> None:
    assert fed(bytes.fromhex(text))[0] == Malformed(checksum)


def test_all_locks_at_once_cannot_be_said() -> None:
    """Nor can "open several", "hold" or a timed unlock: no frame but a query has a LOCK of 00."""
    codec = Codec(BOARDS)
    for number, wiring in BOARDS.items():
        frames = [codec.unlock(Latch(number, lock)) for lock in range(wiring.locks)]
        assert {(frame[0], frame[1], frame[3], len(frame)) for frame in frames} == {(0x8A, wiring.address, 0x11, 5)}
        assert [frame[2] for frame in frames] == list(range(1, wiring.locks + 1))
        assert {query.frame[0] for query in codec.queries(number)} == {0x80}
    for latch in (Latch(4, -1), Latch(4, 24), Latch(1, 0)):
        with pytest.raises(ConfigError):
            codec.unlock(latch)


@pytest.mark.parametrize("number", [-1, 0, 100, True, 1.0, "1", None])
def test_no_other_board_or_lock_can_be_said(number: object) -> None:
    for say in (
        x8a.ask_board,
        lambda n: x8a.unlock(n, 1),
        lambda n: x8a.unlock(1, n),
        lambda n: x8a.ask_lock(1, n),
    ):
        with pytest.raises(ConfigError, match=r"integer 1\.\."):
            say(number)  # type: ignore[arg-type] # what a wrong configuration would hand in


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"address": 0, "closed_bit": 0}, "address"),
        ({"address": 1}, "needs closed_bit"),
        ({"address": 1, "closed_single": "00"}, "needs closed_bit"),
        ({"address": 1, "asked": "lock", "closed_bit": 0}, "needs closed_single"),
        ({"address": 1, "asked": "lock", "closed_single": "22"}, "closed_single"),
        ({"address": 1, "closed_bit": 0, "locks": 25}, "more than 3 status_bytes"),
        ({"address": 1, "closed_bit": 0, "closed_byte": 0}, "unknown field"),
    ],
)
def test_a_board_that_was_not_calibrated_is_refused(options: dict[str, object], told: str) -> None:
    """There is no default: public drivers hold the two opposite meanings for certain."""
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(options, Wiring)


def test_no_damage_to_one_byte_makes_a_board_open_anything_else() -> None:
    """Every unlock and query with every byte replaced by any other, lost or doubled, into the simulated boards' ear."""
    wrong = []
    unlocks = {x8a.unlock(board, lock): (board, lock) for board, lock in itertools.product((1, 2, 17), range(1, 25))}
    queries = [x8a.ask_board(board) for board in (1, 2, 17)]
    queries += [x8a.ask_lock(1, lock) for lock in range(1, 25)]
    for frame in (*unlocks, *queries):
        for damaged in damages(frame):
            moves = [(one.to, one.lock) for one in Ear().hear(damaged, 0.0) if one.raw[0] != 0x80]
            wrong += [(frame, damaged) for one in moves if one != unlocks.get(frame)]
    assert wrong == []


def test_the_simulated_boards_share_nothing_with_the_driver() -> None:
    tree = ast.parse((ROOT / "locker/x8a_sim.py").read_text())
    ours = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in ours if name.startswith(("edge", "locker"))} == {
        "locker.bench_sim",
        "locker.cabinet_sim",
        "locker.hands_sim",
    }
    assert "_sim" not in (ROOT / "locker/boards/x8a.py").read_text()
