"""A doctor names each fault of a bus, opens nothing that may hold a parcel, and writes down what a person has seen.

The simulated boards' own log says what moved.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.calibration_file import edited, write_option
from agents.demo_broker import free_port
from agents.doctor import Doctor
from agents.doctor_bus import Scan
from agents.doctor_ledger import proven_empty
from agents.doctor_polarity import Found
from agents.doctor_report import Finding, Level
from agents.settings import NodeSettings
from agents.site import Site, make_keys, write_settings
from edge.errors import ConfigError, StoreError
from edge.schema_sql import migrate
from edge.settings_file import read_settings
from edge.system_clock import SystemClock
from locker.board import BusTiming
from locker.ledger_file import Copy, copy_paths, read_ledger, write_copy
from locker.ledger_sql import LOCKER_STEPS
from tests.agents.people import typed
from tests.locker.boards_rig import Rig, simulated_boards

QUICK = Scan(BusTiming(answer=0.25, late=0.01, settle=0.02), asked=1, highest=2)


pytestmark = pytest.mark.xdist_group("doctor")


class Hurried(SystemClock):
    """Doors of the simulation open 25 ms after their pulse, so nobody has to wait for longer."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("doctor"))
    make_keys(site, wall=time.time())
    return site


@pytest.fixture(scope="module")
def boards() -> Iterator[Rig]:
    """Three boards, of which the first is configured."""
    with simulated_boards(boards=3) as rig:
        yield rig


@pytest.fixture
def here(made: Site, boards: Rig) -> Iterator[Patient]:
    yield Patient(made, boards)
    boards.control.call("heal")
    boards.control.call("plug")
    told: Any = boards.control.call("doors")["doors"]
    for door in told:
        if door["item"]:
            boards.control.call("force_door", board=door["board"], lock=door["lock"])
            boards.control.call("take_item", board=door["board"], lock=door["lock"])
        if door["open"] or door["item"]:
            boards.control.call("close_door", board=door["board"], lock=door["lock"])


class Patient:
    """A configured node before simulated boards, and the person who stands there."""

    def __init__(self, site: Site, rig: Rig) -> None:
        write_settings(
            site, broker_port=free_port(), kiosk_port=free_port(), protocol="5", subscribe="shared", uid=os.getuid()
        )
        self.site = site
        self.rig = rig
        self.change('port = "run/bus"', f'port = "{rig.link}"')
        site.database.unlink(missing_ok=True)
        self.before = len(rig.witnessed("pulse"))
        self.asked: list[str] = []
        self.answers: dict[str, bool] = {}

    def change(self, old: str, new: str) -> None:
        text = self.site.node_toml.read_text()
        assert old in text
        self.site.node_toml.write_text(text.replace(old, new))

    def ledger(self, **doors: str) -> None:
        """A ledger of these doors, by number, and their states; ``occupied`` has a parcel behind it."""
        sql = sqlite3.connect(self.site.database, isolation_level=None)
        migrate(sql, LOCKER_STEPS)
        for door, state in doors.items():
            sql.execute("INSERT INTO compartment (door, state, uses) VALUES (?, ?, 0)", (door.removeprefix("d"), state))
            if state == "occupied":
                sql.execute(
                    "INSERT INTO parcel (parcel, door, state, courier, run) VALUES ('p', ?, 'stored', 'c', 'r')",
                    (door.removeprefix("d"),),
                )
        sql.close()

    async def examined(self) -> tuple[Doctor, list[Finding]]:
        doctor = Doctor(self.site.node_toml, Hurried(), QUICK)
        return doctor, [finding async for finding in doctor.examine(lambda _: None)]

    async def calibrated(self, door: str | None = None) -> tuple[Doctor, list[Finding], list[Found]]:
        doctor = Doctor(self.site.node_toml, Hurried(), QUICK)
        doctor.alone.add(0)
        told = [each async for each in doctor.calibrate(self.ask, door)]
        return doctor, [finding for finding, _ in told], [found for _, found in told if found is not None]

    async def ask(self, question: str) -> bool:
        self.asked.append(question)
        return next((answer for words, answer in self.answers.items() if words in question), True)

    def pulses(self) -> list[tuple[object, object]]:
        return self.rig.witnessed("pulse")[self.before :]


@contextlib.contextmanager
def patient(site: Site, **boards: Any) -> Iterator[Patient]:
    with simulated_boards(**boards) as rig:
        yield Patient(site, rig)


def said(findings: list[Finding], words: str) -> list[tuple[Level, str]]:
    return [(each.level, each.where) for each in findings if words in each.what or words in each.remedy]


async def test_a_sound_bus_is_said_to_be_sound_and_nothing_moves(here: Patient) -> None:
    for board in (1, 2):
        here.rig.control.call("fault", kind="dead", board=board)
    _, found = await here.examined()
    assert said(found, "answers at 19200 baud, and alone") == [(Level.GOOD, "board 0")]
    assert [each.where for each in found if each.level is Level.FAULT] == [f"broker 127.0.0.1:{_port(here)}"]
    assert here.pulses() == []


async def test_two_boards_at_one_address_are_found_and_never_pulsed(here: Patient) -> None:
    here.rig.control.call("fault", kind="duplicate_address", board=1, address=0)
    here.ledger(d01="free")
    doctor, found = await here.examined()
    assert said(found, "boards answer to one address") == [(Level.FAULT, "board 0")]
    told = [finding async for finding, _ in doctor.calibrate(here.ask)]
    assert said(told, "nothing of it is opened") == [(Level.FAULT, "board 0")]
    assert here.pulses() == []


async def test_a_board_that_nobody_configured_and_one_that_is_dead_are_named(here: Patient) -> None:
    here.rig.control.call("fault", kind="dead", board=0)
    _, found = await here.examined()
    assert said(found, "is not configured") == [(Level.FAULT, "address 1"), (Level.FAULT, "address 2")]
    assert said(found, "does not answer") == [(Level.FAULT, "board 0")]


async def test_an_adapter_that_echoes_is_noted(here: Patient) -> None:
    here.rig.control.call("fault", kind="echo")
    _, found = await here.examined()
    assert said(found, "hands back what is sent") == [(Level.NOTE, f"bus {here.rig.link}")]
    assert said(found, "and alone") == [(Level.GOOD, "board 0")]


async def test_boards_at_another_speed_are_found_there(made: Site) -> None:
    with patient(made, baud=9600) as here:
        _, found = await here.examined()
        assert said(found, "set baud = 9600") == [(Level.FAULT, f"bus {here.rig.link}")]
        assert here.pulses() == []


async def test_damaged_answers_are_told_from_silence(here: Patient) -> None:
    for board in (1, 2):
        here.rig.control.call("fault", kind="dead", board=board)
    here.rig.control.call("fault", kind="bad_sum")
    _, found = await here.examined()
    assert said(found, "its answers are damaged") == [(Level.FAULT, "board 0")]


async def test_a_port_that_is_not_there_and_one_that_the_agent_holds_are_told(here: Patient) -> None:
    here.rig.control.call("unplug")
    _, found = await here.examined()
    assert said(found, "is not there") == [(Level.FAULT, f"bus {here.rig.link}")]
    here.rig.control.call("plug")
    async with here.rig.boards() as agent:
        await agent.readings(0)
        _, found = await here.examined()
        assert said(found, "in use by another process") == [(Level.FAULT, f"bus {here.rig.link}")]


async def test_a_polarity_that_is_right_is_proven_with_one_empty_door(here: Patient) -> None:
    here.ledger(d01="occupied", d02="blocked", d03="unknown", d04="free")
    _, told, found = await here.calibrated()
    assert here.pulses() == [(0, 3)]
    assert here.asked[0] == "Is door 04 shut, and its compartment empty?"
    assert said(told, "closed_bit = 1 is right") == [(Level.GOOD, "door 04")]
    assert found == []


async def test_a_reversed_polarity_is_found_and_written_down(made: Site) -> None:
    with patient(made, shut_bit=0) as here:
        here.ledger(d04="free")
        doctor, told, found = await here.calibrated()
        assert said(told, "is the wrong way round") == [(Level.FAULT, "door 04")]
        assert found == [Found(0, "closed_bit", 0, "04")]
        doctor.write(found[0])
        text = here.site.node_toml.read_text()
        assert "closed_bit = 0  # found by lastmile doctor with door 04\n" in text
        here.rig.control.call("close_door", board=0, lock=3)
        _, told, found = await here.calibrated()
        assert said(told, "closed_bit = 0 is right") == [(Level.GOOD, "door 04")]


async def test_one_switch_that_is_wired_the_other_way_does_not_turn_its_board_round(here: Patient) -> None:
    """Written down, it would have every other shut door read as open, and every open one as shut."""
    here.ledger(d04="free")
    here.rig.control.call("fault", kind="reversed", board=0, lock=3)
    _, told, found = await here.calibrated()
    assert found == []
    assert said(told, "its switch is the other way round than") == [(Level.FAULT, "door 04")]


async def test_single_and_whole_status_of_a_board_are_calibrated_separately(made: Site) -> None:
    """On such boards the two may contradict each other: here a shut door is 0 in the one and 11 in the other."""
    with patient(made, family="locker.x8a_sim", boards=1, locks=16, shut_bit=0, shut_single=0x11, baud=9600) as here:
        here.change('kind = "kerong"', 'kind = "0x8a"')
        here.change("address = 0", "address = 1\nlocks = 16\nclosed_bit = 1")
        here.change("item_sensors = true\n", "")
        here.ledger(d04="free")
        doctor, told, found = await here.calibrated()
        assert here.pulses() == [(1, 3)], "by the board's own number"
        assert said(told, "closed_bit is the wrong way round") == [(Level.FAULT, "door 04")]
        assert said(told, "closed_single was not known") == [(Level.NOTE, "door 04")]
        assert found == [Found(0, "closed_bit", 0, "04"), Found(0, "closed_single", "11", "04")]
        for each in found:
            doctor.write(each)
        (board,) = read_settings(here.site.node_toml, NodeSettings).locker.boards
        assert (board["closed_bit"], board["closed_single"]) == (0, "11")


@pytest.mark.parametrize("state", ["occupied", "blocked", "unknown"])
async def test_a_door_that_is_not_proven_empty_stays_shut_whoever_names_it(here: Patient, state: str) -> None:
    here.ledger(d01=state, d02="free")
    _, told, _ = await here.calibrated("01")
    assert said(told, "door 01 is not proven to be empty") == [(Level.FAULT, "board 0")]
    assert here.pulses() == []
    assert here.asked == []


async def test_without_a_ledger_a_person_has_to_name_the_door(here: Patient) -> None:
    _, told, _ = await here.calibrated()
    assert said(told, "there is no ledger yet") == [(Level.NOTE, "board 0")]
    assert here.pulses() == []
    await here.calibrated("07")
    assert here.pulses() == [(0, 6)]
    with pytest.raises(ConfigError, match="no door '99'"):
        await here.calibrated("99")


async def test_a_door_that_a_person_sees_shut_teaches_nothing(here: Patient) -> None:
    here.ledger(d04="free")
    here.answers = {"Did door 04 open": False}
    here.rig.control.call("fault", kind="stuck", board=0, lock=3)
    _, told, found = await here.calibrated()
    assert (said(told, "did not open, or another did"), found) == ([(Level.FAULT, "door 04")], [])
    assert here.pulses() == [(0, 3)], "once, and not again"


async def test_nothing_is_opened_before_a_person_says_that_it_is_empty(here: Patient) -> None:
    here.ledger(d04="free")
    here.answers = {"its compartment empty": False}
    _, told, _ = await here.calibrated()
    assert said(told, "was not opened") == [(Level.NOTE, "door 04")]
    assert here.pulses() == []


async def test_a_thing_that_the_sensor_sees_keeps_the_door_shut(here: Patient) -> None:
    here.ledger(d04="free")
    here.rig.control.call("force_door", board=0, lock=3)
    here.rig.control.call("put_item", board=0, lock=3)
    here.rig.control.call("close_door", board=0, lock=3)
    _, told, _ = await here.calibrated()
    assert said(told, "sees something inside") == [(Level.FAULT, "door 04")]
    assert here.pulses() == []


async def test_a_sensor_that_does_not_move_is_no_calibration(here: Patient) -> None:
    here.ledger(d04="free")
    here.rig.control.call("fault", kind="cut", board=0, lock=3, reads="closed")
    _, told, found = await here.calibrated()
    assert (said(told, "lock 3 was to move and these did: none"), found) == ([(Level.FAULT, "door 04")], [])


def test_both_the_ledger_and_its_copy_must_know_a_door_to_be_empty(here: Patient, made: Site) -> None:
    assert proven_empty(made.database) is None
    here.ledger(d01="occupied", d02="free")
    assert proven_empty(made.database) == frozenset({"02"})
    try:
        write_copy(made.database, _copy(made.database, {"02": "occupied"}))
        assert proven_empty(made.database) == frozenset()
    finally:
        for copy in copy_paths(made.database):
            copy.unlink(missing_ok=True)
    made.database.write_bytes(b"rubbish" * 1000)
    with pytest.raises(StoreError):
        proven_empty(made.database)


def _copy(database: Path, states: dict[str, str]) -> Copy:
    """A copy that knows of something newer than the database."""
    sql = sqlite3.connect(database, isolation_level=None)
    sql.execute("INSERT OR IGNORE INTO epoch VALUES (1, 'e', '', 'i')")
    kept = read_ledger(sql, 1)
    sql.close()
    compartments = kept.tables["compartment"]
    rows = [[door, states.get(door, state), *rest] for door, state, *rest in compartments.rows]
    kept.tables["compartment"] = msgspec.structs.replace(compartments, rows=rows)
    return kept


TWO = """# a cabinet
[[locker.boards]]   # left
address = 0
closed_bit = 1      # from the factory

[[locker.boards]]
address = 1
[locker.kiosk]
closed_bit = "not a board's"
"""


def test_a_calibration_changes_one_line_and_no_comment_elsewhere() -> None:
    first = edited(TWO, 0, "closed_bit", 0, "seen")
    assert first == TWO.replace("closed_bit = 1      # from the factory", "closed_bit = 0  # seen")
    second = edited(TWO, 1, "closed_bit", 0, "seen")
    assert second == TWO.replace("]]\naddress = 1", "]]\nclosed_bit = 0  # seen\naddress = 1")
    assert edited(TWO, 2, "closed_bit", 0, "seen") == TWO


def test_a_file_that_is_written_otherwise_is_left_to_a_person(made: Site) -> None:
    path = made.directory / "other.toml"
    path.write_text("[locker]\nboards = [{ address = 0 }]\n")
    with pytest.raises(ConfigError, match="write closed_bit = 0"):
        write_option(path, 0, "closed_bit", 0, "seen")
    assert path.read_text() == "[locker]\nboards = [{ address = 0 }]\n"


def test_a_person_reads_it_and_a_program_too(here: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.doctor.Doctor", functools.partial(Doctor, scan=QUICK))
    told = typed("doctor", here.site.node_toml, "--json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert {"level": "good", "where": "board 0", "what": "answers at 19200 baud, and alone", "remedy": ""} in lines
    assert told.returncode == 1, "no broker is there"
    assert "ok    board 0: answers at 19200 baud, and alone\n" in typed("doctor", here.site.node_toml).stdout
    assert typed("doctor", here.site.node_toml, "--json", "--polarity").returncode == 2


def _port(here: Patient) -> int:
    return read_settings(here.site.node_toml, NodeSettings).broker.port
