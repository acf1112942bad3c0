"""What a configuration says of its lock boards, read strictly, by the driver of each kind."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import msgspec
import pytest

from agents import lock_boards
from agents.cabinet_check import check_cabinet
from agents.lock_boards import connect, load_driver, plan_boards
from agents.settings import Locker
from edge.clock import Clock
from edge.clock_sim import ManualClock
from edge.errors import ConfigError
from edge.settings import Settings
from locker.board import DirectDriver, SerialDriver
from locker.latch import Hook, Latch, Reading

HEAD = '[kiosk]\ntoken_file = "t"\n[[buses]]\nname = "main"\nport = "main.tty"\n'
BOARD = '[[boards]]\nboard = 3\nkind = "kerong"\nbus = "main"\naddress = 0\n'
DOOR = (
    "[cabinet]\nbase_mm = 800\ncolumn_mm = 450\ndoor_mm = { S = 200, M = 300, L = 400 }\n"
    'columns = [{ name = "A", rows = "S", latches = "3:15" }]\n'
)


def read(text: str) -> Locker:
    return msgspec.toml.decode(text, type=Locker)


def wrong(text: str) -> str:
    """What is told of a configuration. Its tables stand below ``locker``, which is not there in these few lines."""
    whole = re.sub(r"\[(\[?)(\w+)", r"[\1locker.\2", text)
    with pytest.raises(ConfigError) as caught:
        check_cabinet(read(text), source="node.toml", text=whole)
    return str(caught.value)


def test_a_board_goes_by_the_number_that_compartments_call_it() -> None:
    plan = plan_boards(read(HEAD + BOARD + "locks = 12\n" + DOOR), source="node.toml")
    assert plan.locks == {3: 12}
    (bus,) = plan.buses
    assert bus.baud == 19200
    assert bus.codec.unlock(Latch(3, 0)) == bytes.fromhex("02 00 31 03 36")


def test_baud_rate_and_the_time_for_an_answer_can_be_set_for_a_bus() -> None:
    (bus,) = plan_boards(read(HEAD + "baud = 9600\nanswer_ms = 400\n" + BOARD + DOOR), source="node.toml").buses
    assert (bus.baud, bus.timing.answer, bus.timing.late) == (9600, 0.4, 0.4)


def test_an_option_that_the_driver_does_not_know_is_an_error_with_its_line() -> None:
    told = wrong(HEAD + BOARD + "closed_bti = 0\n" + DOOR)
    assert told == "node.toml:11: locker.boards[0].closed_bti: unknown key; did you mean closed_bit?"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + BOARD + "locks = 17\n" + DOOR, "locker.boards[0].locks: expected `int` <= 16"),
        (HEAD + BOARD.replace("address = 0\n", "") + DOOR, "locker.boards[0].address: missing"),
        (HEAD + BOARD.replace("board = 3\n", "") + DOOR, "locker.boards[0].board: missing"),
        (
            HEAD + BOARD.replace("kerong", "karong") + DOOR,
            "no installed package drives lock boards of the kind",
        ),
        (HEAD + BOARD.replace('"main"', '"side"') + DOOR, "board 3 is on bus 'side', which is not there"),
        (HEAD + BOARD.replace('bus = "main"\n', "") + DOOR, "board 3 is on bus '', which is not there"),
        (HEAD + BOARD + BOARD + DOOR, "locker.boards.board: 3 stands twice"),
        (
            HEAD + BOARD + BOARD.replace("board = 3", "board = 4") + DOOR,
            "boards 3 and 4 have one address, 0",
        ),
        (HEAD + HEAD[HEAD.index("[[buses") :] + BOARD + DOOR, "locker.buses.name: 'main' stands twice"),
        (
            HEAD + '[[buses]]\nname = "b"\nport = "main.tty"\n' + BOARD + DOOR,
            "locker.buses.port: 'main.tty' stands",
        ),
        (HEAD + '[[buses]]\nname = "b"\nport = "b.tty"\n' + BOARD + DOOR, "bus 'b' has no boards"),
        (HEAD + BOARD + "locks = 12\n" + DOOR, "door 'A1' is wired to board 3 lock 15, which is not there"),
    ],
)
def test_a_cabinet_that_cannot_be_is_refused_with_what_is_wrong(text: str, told: str) -> None:
    assert told in wrong(text)


class Glue(Settings, frozen=True):
    """Options of a driver that another package brings."""

    pots: int


class Pots:
    """Its boards: every door is stuck."""

    async def readings(self, board: int) -> tuple[Reading, ...]:
        return (Reading(Hook.CLOSED),) * 2

    async def pulse(self, latch: Latch) -> None:
        """Nothing moves."""


def _pots(options: object, clock: Clock) -> Pots:
    return Pots()


GLUE = DirectDriver(options=Glue, boards=_pots, locks=lambda options: options.pots, coil=lambda options: 0.2)
NO_DRIVER = "something else"


@pytest.fixture
def another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entry points more, as an installed package would have them."""
    builtin = entry_points(group="lastmile.lock_board")
    theirs = [EntryPoint(name, f"{__name__}:{what}", "lastmile.lock_board") for name, what in (("glue", "GLUE"),)]
    theirs += [EntryPoint("broken", f"{__name__}:NOWHERE", "lastmile.lock_board")]
    theirs += [EntryPoint("other", f"{__name__}:NO_DRIVER", "lastmile.lock_board")]
    monkeypatch.setattr(lock_boards, "entry_points", lambda group: EntryPoints([*builtin, *theirs]))


@pytest.mark.usefixtures("another_package")
async def test_a_driver_of_another_package_is_as_good_as_ours(tmp_path: Path) -> None:
    """Beside a bus: the cabinet has both, and each kind's own options."""
    theirs = '[[boards]]\nboard = 9\nkind = "glue"\npots = 2\n'
    plan = plan_boards(read(HEAD + BOARD + theirs + DOOR), source="node.toml")
    assert plan.locks == {3: 16, 9: 2}
    boards, buses = connect(plan, ManualClock(), tmp_path)
    assert [bus.boards for bus in buses] == [(3,)]
    assert await boards.readings(9) == (Reading(Hook.CLOSED),) * 2
    assert boards.coil >= 0.5, "the longest of all"


@pytest.mark.usefixtures("another_package")
@pytest.mark.parametrize(
    ("board", "told"),
    [
        ('kind = "glue"\npots = 2\nbus = "main"\n', "board 9 needs no bus"),
        ('kind = "glue"\n', "locker.boards[1].pots: missing"),
        ('kind = "broken"\n', "the driver of 'broken' cannot be loaded"),
        ('kind = "other"\n', "is no driver of lock boards"),
        ('kind = "none"\n', "choose among"),
    ],
)
def test_what_is_wrong_with_another_packages_board_is_told(board: str, told: str) -> None:
    assert told in wrong(HEAD + BOARD + f"[[boards]]\nboard = 9\n{board}" + DOOR)


def test_every_kind_of_ours_can_be_loaded() -> None:
    for point in entry_points(group="lastmile.lock_board"):
        assert isinstance(load_driver(point.name), SerialDriver | DirectDriver)
