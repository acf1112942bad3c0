"""A vendor's list of doors becomes a cabinet; what is wrong with the list is said line by line."""

from __future__ import annotations

import random

import pytest

from agents.cabinet_table import Faults, as_toml, read_table
from agents.settings import Locker
from edge.errors import ConfigError
from edge.settings import parse_settings
from locker.layout import lay_out
from tests.agents.people import typed

LIST = """Door,Column,Size,Board,Lock,height_mm
01,A,S,0,1,
02,A,S,0,2,80
03,A,M,0,3,

04,A,L,0,4,500
10,B,L,1,8,
B-9,B,M,1,7,
"""


def test_the_cabinet_is_the_list() -> None:
    text = as_toml(read_table(LIST, source="list", first_lock=1), base_mm=150, column_mm=450)
    assert '{ name = "A", rows = "S S M L", latches = "0:0..3", doors = "01..04" }' in text
    assert '{ name = "B", rows = "L M", latches = "1:7..6", doors = "10 B-9" }' in text
    assert "door_mm = { S = 80, M = 200, L = 500 }" in text


def test_any_wiring_is_read_back_as_it_was_listed() -> None:
    """256 doors wired at random, by a spreadsheet that writes semicolons and a mark at the beginning."""
    draw = random.Random(7)
    latches = [(board, lock) for board in range(16) for lock in range(16)]
    draw.shuffle(latches)
    doors = [(f"{number:03}", f"c{number % 16}", draw.choice("SML"), *latch) for number, latch in enumerate(latches)]
    lines = "\r\n".join(";".join(map(str, door)) for door in doors)
    text = as_toml(
        read_table(f"\ufeffdoor;column;size;board;lock\r\n{lines}", source="list"), base_mm=100, column_mm=400
    )
    around = '[kiosk]\ntoken_file = "t"\n[[boards]]\nboard = 0\nkind = "kerong"\n'
    layout = lay_out(parse_settings(around + text.replace("[locker.", "["), Locker, source="imported").cabinet)
    assert {(each.door, each.size.value, *each.latch.__reduce__()[1]) for each in layout.compartments} == {
        (door, size, board, lock) for door, _, size, board, lock in doors
    }


def test_locks_that_may_count_from_1_are_not_guessed() -> None:
    """One less or one more, and every code opens the door beside its own."""
    with pytest.raises(Faults) as refused:
        read_table(LIST, source="list")
    assert ["--first-lock" in line for line in refused.value.lines] == [True]
    assert [read_table(LIST, source="list", first_lock=first)[0].latch.lock for first in (0, 1)] == [1, 0]
    assert read_table(LIST.replace("01,A,S,0,1", "01,A,S,0,0"), source="list")[0].latch.lock == 0


def test_every_wrong_line_is_named() -> None:
    wrong = (
        LIST.replace("02,A,S,0,2,80", "02,A,XL,0,2,80").replace("0,3,", "0,1,").replace("10,B,L,1,8,", "10,B,L,1,0,")
    )
    with pytest.raises(Faults) as refused:
        read_table(wrong, source="list.csv", first_lock=1)
    assert refused.value.lines == (
        "list.csv:3: size 'XL'; write S, M or L",
        "list.csv:4: board 0 lock 0 of door '03' stands in line 2 already",
        "list.csv:7: lock '0'; write a whole number from 1 on",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'door'"),
        ("door,column,size,board,lock,colour\n", "'colour' is none of"),
        ("door,column,size,board,lock\n", "no doors"),
        ("door,column,size,board,lock\nA 1,A,S,0,0\n", "door 'A 1'; write one word"),
        ("door,column,size,board,lock\nA1,A,S,0,0,1\n", "more cells"),
        ("door,column,size,board,lock\nA1,A,S,0\n", "lock ''"),
    ],
)
def test_a_list_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(Faults) as refused:
        read_table(text, source="list.csv")
    assert any(said in line for line in refused.value.lines), refused.value.lines


def test_a_name_that_no_door_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no door"):
        as_toml(read_table("door,column,size,board,lock\nÄ1,A,S,0,0\n", source="list"), base_mm=150, column_mm=450)


def test_a_person_imports_a_list(tmp_path) -> None:
    table = tmp_path / "doors.csv"
    table.write_text(LIST)
    told = typed("cabinet", "import", table, "--first-lock", "1")
    assert told.returncode == 0
    assert told.stdout.startswith("[locker.cabinet]\n")
    refused = typed("cabinet", "import", table)
    assert (refused.returncode, "--first-lock" in refused.stderr) == (1, True), "locks 1 to 8 are also locks from 0 on"
    assert typed("cabinet", "import", table, "--first-lock", "0").returncode == 0
    table.write_text(LIST.replace(",S,", ",s,"))
    refused = typed("cabinet", "import", table, "--first-lock", "1")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 2)
