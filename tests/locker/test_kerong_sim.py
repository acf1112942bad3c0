"""The simulated boards against the field notes' frames, by raw bytes on the pty: no driver has a hand in it."""

from __future__ import annotations

import ast
import math
import os
import select
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import ConfigError, DeviceError
from locker.cabinet_sim import Cabinet, Mechanics, Spot
from locker.kerong_board_sim import PATIENCE, Ear, coil_time_reply, status_reply
from locker.witness_file import read_witness
from tests.locker.boards_rig import ROOT, Rig, simulated_boards

SIMULATOR = (
    "bench_sim",
    "cabinet_sim",
    "kerong_board_sim",
    "line_faults_sim",
    "kerong_sim",
    "hands_sim",
    "pty_sim",
    "sim_control_socket",
    "witness_file",
)

ALL_SHUT = bytes.fromhex("02 00 35 FF FF 00 00 03 38")
FIRST_OPEN = bytes.fromhex("02 00 35 FE FF 00 00 03 37")
ASK = bytes.fromhex("02 00 30 03 35")
UNLOCK_FIRST = bytes.fromhex("02 00 31 03 36")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with simulated_boards(boards=2) as rig:
        yield rig


@pytest.fixture
def wire(rig: Rig) -> Iterator[int]:
    descriptor = opened(rig.link)
    yield descriptor
    os.close(descriptor)


def opened(path: Path, baud: int = 19200) -> int:
    """The port raw and at ``baud``, without any library of the driver's."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    attributes = termios.tcgetattr(descriptor)
    attributes[4] = attributes[5] = getattr(termios, f"B{baud}")
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    return descriptor


def asked(wire: int, frame: str | bytes, size: int = 9, seconds: float = 5.0) -> bytes:
    """What comes back for ``frame``: ``size`` bytes, or fewer at the end of ``seconds``."""
    os.write(wire, bytes.fromhex(frame) if isinstance(frame, str) else frame)
    got, end = b"", time.monotonic() + seconds
    while len(got) < size and select.select([wire], [], [], max(0, end - time.monotonic()))[0]:
        got += os.read(wire, 100)
    return got


def test_it_shares_nothing_with_the_driver() -> None:
    """No codec, no constant, no import but its own files and the tree of errors, which holds no figure."""
    for name in SIMULATOR:
        tree = ast.parse((ROOT / "locker" / f"{name}.py").read_text())
        ours = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        ours = {module for module in ours if module.split(".")[0] in {"edge", "locker", "serial"}}
        assert ours <= {"edge.errors", *(f"locker.{other}" for other in SIMULATOR)}
    for name in ("board_serial", "boards/kerong"):
        assert "_sim" not in (ROOT / "locker" / f"{name}.py").read_text()


def test_status_and_unlock_are_the_bytes_of_the_notes(rig: Rig, wire: int) -> None:
    assert asked(wire, ASK) == ALL_SHUT
    os.write(wire, UNLOCK_FIRST)
    rig.control.wait("opened", 0, 0)
    assert asked(wire, ASK) == FIRST_OPEN
    assert asked(wire, "02 10 30 03 45") == bytes.fromhex("02 10 35 FF FF 00 00 03 48")


def test_all_boards_answer_a_broadcast(rig: Rig, wire: int) -> None:
    both = bytes.fromhex("02 00 36 FF FF 00 00 03 39 02 10 36 FF FF 00 00 03 49")
    assert asked(wire, "02 F0 32 03 27", size=18) == both
    assert asked(wire, "02 00 32 03 37") == both[:9]


def test_the_unlock_time_is_asked_and_set(rig: Rig, wire: int) -> None:
    assert asked(wire, "02 00 37 03 3C", size=7) == bytes.fromhex("02 00 38 00 02 03 3F")
    assert asked(wire, "02 00 37 00 32 03 6E", size=7) == bytes.fromhex("02 00 38 00 32 03 6F")
    assert asked(wire, "02 00 37 03 3C", size=7) == bytes.fromhex("02 00 38 00 32 03 6F")


def test_unlock_all_opens_all_and_the_witness_tells(rig: Rig, wire: int) -> None:
    """Nothing is prettified: what our driver cannot say, the simulated board still obeys."""
    os.write(wire, bytes.fromhex("02 10 33 03 48"))
    rig.control.wait("opened", 1, count=16)
    assert rig.witnessed("opened") == [(1, lock) for lock in range(16)]
    assert len(rig.witnessed("double_coil")) == 15


@pytest.mark.parametrize("frame", ["02 00 31 03 37", "03 00 31 03 37", "02 00 31 04 37", "02 20 31 03 56"])
def test_damaged_and_foreign_frames_open_nothing(rig: Rig, wire: int, frame: str) -> None:
    assert asked(wire, bytes.fromhex(frame) + ASK) == ALL_SHUT
    assert rig.witnessed("pulse") == []


def test_the_log_has_the_frame_before_the_board_can_answer() -> None:
    with simulated_boards(unlock_answer="echo", answer_ms=0) as rig:
        descriptor = opened(rig.link)
        assert asked(descriptor, UNLOCK_FIRST, size=5) == UNLOCK_FIRST
        frame, pulse = [line for line in read_witness(rig.log) if line["what"] in {"frame", "pulse"}]
        assert frame == {"t": frame["t"], "what": "frame", "board": 0, "lock": 0, "raw": "0200310336"}
        assert (pulse["board"], pulse["lock"]) == (0, 0)
        assert abs(time.monotonic() - float(str(frame["t"]))) < 10
        os.close(descriptor)


def test_queries_are_counted_and_not_written(rig: Rig, wire: int) -> None:
    for _ in range(3):
        asked(wire, ASK)
    assert rig.control.call("counts")["counts"]["query"] == 3  # type: ignore[index] # JSON
    assert rig.witnessed("query") == rig.witnessed("frame") == []


def test_people_open_doors_only_by_force_and_reach_in_only_where_it_is_open(rig: Rig) -> None:
    with pytest.raises(DeviceError, match="is shut"):
        rig.control.call("put_item", board=1, lock=2)
    rig.control.call("force_door", board=1, lock=2)
    rig.control.call("put_item", board=1, lock=2)
    rig.control.call("close_door", board=1, lock=2)
    assert rig.control.call("doors")["doors"][18] == {  # type: ignore[index] # JSON
        "board": 1,
        "lock": 2,
        "open": False,
        "latched": True,
        "item": True,
        "pulses": 0,
    }
    assert [line["what"] for line in read_witness(rig.log)][-3:] == ["opened", "item_in", "closed"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"do": "dance"}, "no simulator does 'dance'"),
        ({"do": "close_door", "board": 7, "lock": 0}, "no compartment 7/0"),
        ({"do": "close_door"}, "malformed request"),
        ({"do": "fault", "kind": "gremlin"}, "no compartment"),
        ({"do": "fault", "kind": "gremlin", "board": 0, "lock": 0}, "no cabinet has the fault"),
        ({"do": "fault", "kind": "noise", "p": 2}, "no line has the fault"),
    ],
)
def test_nonsense_is_refused_and_the_simulator_goes_on(rig: Rig, request_: dict[str, object], reason: str) -> None:
    do = str(request_.pop("do"))
    with pytest.raises(DeviceError, match=reason):
        rig.control.call(do, **request_)
    assert rig.control.call("doors")


# The cabinet alone, in time handed in.

SPOT = Spot(0, 3)


def cabinet(**mechanics: float | None) -> Cabinet:
    return Cabinet(1, 16, Mechanics(**mechanics))  # type: ignore[arg-type] # floats by name


def told(cabinet: Cabinet, until: float) -> list[tuple[float, str]]:
    return [(round(one.t, 3), one.what) for one in cabinet.advance(until)]


def test_a_latch_lets_go_then_the_door_opens_then_the_switch_knows() -> None:
    doors = cabinet(release=0.005, swing=0.02)
    assert [one.what for one in doors.drive(SPOT, 0.3, 10.0)] == ["pulse"]
    assert told(doors, 10.006) == [(10.005, "released")]
    assert doors.switches(0) == 0xFFFF
    assert told(doors, 10.1) == [(10.025, "opened")]
    assert doors.switches(0) == 0xFFFF - 8


def test_a_pulse_shorter_than_the_latch_needs_opens_nothing() -> None:
    doors = cabinet(release=0.05)
    doors.drive(SPOT, 0.04, 0.0)
    assert told(doors, 10.0) == []


def test_a_door_pushed_onto_a_driven_latch_bounces() -> None:
    doors = cabinet()
    doors.drive(SPOT, 0.3, 0.0)
    doors.advance(0.1)
    assert [one.what for one in doors.shut(SPOT, 0.2)] == ["bounced"]
    assert [one.what for one in doors.shut(SPOT, 0.4)] == ["closed"]
    assert doors.switches(0) == 0xFFFF


def test_a_person_shuts_the_door_after_a_while_and_only_the_last_opening_counts() -> None:
    doors = cabinet(close_after=1.0)
    doors.drive(SPOT, 0.1, 0.0)
    doors.advance(0.5)
    doors.shut(SPOT, 0.5)
    doors.drive(SPOT, 0.1, 0.6)
    assert told(doors, 1.6) == [(0.605, "released"), (0.625, "opened")]
    assert told(doors, 2.0) == [(1.625, "closed")]


def test_a_stuck_lock_takes_its_pulses_and_a_weak_one_needs_several() -> None:
    doors = cabinet()
    doors.ailment(SPOT).stuck = 2
    doors.ailment(Spot(0, 4)).weak = 3
    opened = []
    for second in range(6):
        happened = [*doors.drive(SPOT, 0.1, float(second)), *doors.drive(Spot(0, 4), 0.1, second + 0.5)]
        happened += doors.advance(second + 0.9)
        opened += [(one.spot.lock, second) for one in happened if one.what == "opened"]
    assert opened == [(3, 2), (4, 2)]


def test_two_driven_coils_and_a_coil_driven_too_long_are_told() -> None:
    doors = cabinet(hot_after=1.0)
    doors.drive(SPOT, 0.6, 0.0)
    assert [one.what for one in doors.drive(Spot(0, 4), 0.6, 0.3)] == ["released", "opened", "double_coil", "pulse"]
    assert [one.what for one in doors.drive(SPOT, 0.6, 1.0)][-2:] == ["pulse", "overheated"]


def test_a_coil_that_is_held_keeps_its_door_from_latching_until_it_is_let_go() -> None:
    doors = cabinet(hot_after=3.0)
    doors.drive(SPOT, math.inf, 0.0)
    assert told(doors, 1.0) == [(0.005, "released"), (0.025, "opened")]
    assert [one.what for one in doors.shut(SPOT, 2.0)] == ["bounced"]
    assert told(doors, 10.0) == [(3.0, "overheated")]
    doors.let_go(SPOT, 10.0)
    assert [one.what for one in doors.shut(SPOT, 10.1)] == ["closed"]


def test_a_coil_that_is_let_go_in_time_neither_releases_nor_overheats() -> None:
    doors = cabinet(release=0.05, hot_after=3.0)
    doors.drive(SPOT, math.inf, 0.0)
    doors.let_go(SPOT, 0.04)
    assert told(doors, 10.0) == []
    doors.drive(SPOT, math.inf, 10.0)
    assert [one.what for one in doors.let_go(SPOT, 12.0)] == ["released", "opened"]
    doors.drive(SPOT, math.inf, 12.0)  # it was driven for 2 s before and has not cooled
    assert told(doors, 12.9) == []
    assert told(doors, 13.1) == [(13.0, "overheated")]


def test_a_cut_cable_reads_the_same_whatever_the_door_does() -> None:
    doors = cabinet()
    for reads, bit in (("open", 0), ("closed", 8)):
        doors.ailment(SPOT).cut = reads  # type: ignore[assignment] # one of the two literals
        for act in (doors.force, doors.shut):
            act(SPOT, 0.0)
            assert doors.switches(0) & 8 == bit


def test_the_ear_forgets_half_a_command_after_a_silence() -> None:
    ear = Ear()
    assert ear.hear(UNLOCK_FIRST[:3], 0.0) == []
    assert ear.hear(UNLOCK_FIRST[3:], PATIENCE + 0.01) == []
    assert [one.lock for one in ear.hear(UNLOCK_FIRST, 1.0)] == [0]


def test_the_mouth_speaks_the_notes() -> None:
    assert status_reply(0, 0xFFFF, 0) == ALL_SHUT
    assert status_reply(0, 0xFFFE, 0) == FIRST_OPEN
    assert coil_time_reply(0, 50) == bytes.fromhex("02 00 38 00 32 03 6F")


@pytest.mark.parametrize("wrong", [{"boards": 0}, {"boards": 17}, {"locks": 17}, {"baud": 1200}])
async def test_boards_that_cannot_be_are_not_simulated(tmp_path: Path, wrong: dict[str, int]) -> None:
    from locker.kerong_sim import SimConfig, run_board_simulator

    with pytest.raises(ConfigError):
        await run_board_simulator(SimConfig(tmp_path / "l", tmp_path / "c", tmp_path / "w", **wrong))  # type: ignore[arg-type]
