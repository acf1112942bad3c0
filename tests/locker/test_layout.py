"""A cabinet is written down in a few lines, and every door gets its latch and its place from them."""

from __future__ import annotations

import re

import pytest

from edge.errors import ConfigError
from edge.settings import parse_settings
from locker.compartment import Climate, Place, Size
from locker.drawing import draw
from locker.latch import Latch
from locker.layout import Layout, lay_out, out_of_reach
from locker.plan import Plan

HEAD = """base_mm = 150
column_mm = 450
door_mm = { S = 100, M = 200, L = 400 }
"""

TWO = """rows_from = "top"
columns = [
    { name = "A", rows = "S M L", latches = "0:0..2" },
    { name = "B", rows = "screen:500 L:200", latches = "1:7", doors = "99", width_mm = 600 },
]
"""


def plan(text: str) -> Plan:
    return parse_settings(HEAD + text, Plan, source="node.toml")


def laid(text: str) -> Layout:
    return lay_out(plan(text))


def one(rows: str, latches: str, more: str = "") -> Layout:
    return laid(f'columns = [{{ name = "A", rows = "{rows}", latches = "{latches}" {more} }}]\n')


def test_every_door_has_its_latch_size_and_place() -> None:
    layout = laid(TWO)
    assert {each.door: (each.latch, each.size) for each in layout.compartments} == {
        "A1": (Latch(0, 0), Size.S),
        "A2": (Latch(0, 1), Size.M),
        "A3": (Latch(0, 2), Size.L),
        "99": (Latch(1, 7), Size.L),
    }
    assert [each.place for each in layout.compartments] == [
        Place(0, 0, 0, 750, 450, 100),
        Place(0, 1, 0, 550, 450, 200),
        Place(0, 2, 0, 150, 450, 400),
        Place(1, 1, 450, 150, 600, 200),
    ]
    assert layout.screen == Place(1, 0, 450, 350, 600, 500)
    assert (layout.width_mm, layout.height_mm) == (1050, 850)


def test_from_the_floor_the_first_row_is_the_lowest() -> None:
    layout = one("S M", "0:0..1")
    assert [(each.door, each.place.y_mm, each.height_mm) for each in layout.compartments] == [
        ("A1", 150, 200),
        ("A2", 250, 350),
    ]


def test_latches_count_up_and_down_over_boards() -> None:
    layout = one("S S S S S", "1:2..0 0:5 0:9")
    assert [each.latch for each in layout.compartments] == [
        Latch(1, 2),
        Latch(1, 1),
        Latch(1, 0),
        Latch(0, 5),
        Latch(0, 9),
    ]


def test_names_keep_their_digits() -> None:
    layout = one("S S S S", "0:0..3", ', doors = "0-08..0-10 X"')
    assert [each.door for each in layout.compartments] == ["0-08", "0-09", "0-10", "X"]


def test_one_door_may_differ() -> None:
    layout = laid(
        'columns = [{ name = "A", rows = "S S", latches = "0:0..1" }]\n[doors.A2]\nlatch = "0:7"\nhandle_mm = 800\n'
    )
    assert [(each.latch, each.height_mm) for each in layout.compartments] == [(Latch(0, 0), 200), (Latch(0, 7), 800)]


def test_a_zone_keeps_its_compartments_at_its_climate() -> None:
    layout = laid(
        'columns = [{ name = "A", rows = "S S", latches = "0:0..1", zone = "fridge" }]\n'
        'zones = [{ name = "fridge", climate = "cold", low_c = 2, high_c = 8, sensor = "fridge" }]\n'
        '[doors.A2]\nzone = ""\n'
    )
    assert [each.climate for each in layout.compartments] == [Climate.COLD, Climate.AMBIENT]
    assert layout.of_zone("fridge") == ["A1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('columns = [{ name = "A", rows = "S S", latches = "0:0" }]', "2 doors in its rows and 1 latches"),
        ('columns = [{ name = "A", rows = "S XL", latches = "0:0..1" }]', "'XL' is no row"),
        ('columns = [{ name = "A", rows = "S screen", latches = "0:0" }]', "'screen' needs its height"),
        ('columns = [{ name = "A", rows = "S", latches = "0-1" }]', "'0-1' names no latch"),
        ('columns = [{ name = "A", rows = "S", latches = "0:0", doors = "a/b" }]', "'a/b' names no door"),
        ('columns = [{ name = "A", rows = "S", latches = "0:0", doors = "1..9999999" }]', "longer than any cabinet"),
        ('columns = [{ name = "A", rows = "", latches = "" }]', "no rows"),
        ('columns = [{ name = "A", rows = "S", latches = "0:0", zone = "oven" }]', "zone 'oven', which is not there"),
        ('columns = [{ name = "A", rows = "S S", latches = "0:0 0:0" }]', "'board 0 lock 0' stands twice"),
        ('columns = [{ name = "A", rows = "S S", latches = "0:0..1", doors = "A A" }]', "door 'A' stands twice"),
        ('columns = [{ name = "A", rows = "S", latches = "0:0" }]\n[doors.B1]\nhandle_mm = 1', "'B1' is told about"),
        ('columns = [{ name = "A", rows = "S screen:9 screen:9", latches = "0:0" }]', "2 screens"),
        ('columns = [{ name = "A", rows = "blank:9", latches = "" }]', "0 doors"),
        (
            'zones = [{ name = "f", climate = "cold", low_c = 8, high_c = 2, sensor = "f" }]',
            "ends at 2.0 below its beginning",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        laid(text)


def test_a_cabinet_of_256_doors_takes_thirty_lines_and_one_more_door_is_refused() -> None:
    columns = [f'{{ name = "{n}-", rows = "{"S " * 16}", latches = "{n}:0..15" }},' for n in range(16)]
    text = "columns = [\n" + "\n".join(columns) + "\n]\n"
    assert len((HEAD + text).splitlines()) <= 30
    assert len(laid(text).compartments) == 256
    columns.append('{ name = "X", rows = "S", latches = "16:0" },')
    with pytest.raises(ConfigError, match="257 doors"):
        laid("columns = [\n" + "\n".join(columns) + "\n]\n")


def test_each_size_and_the_screen_should_be_in_reach() -> None:
    assert list(out_of_reach(one("S S S S", "0:0..3"))) == []
    assert [said[:9] for said in out_of_reach(one("L L:900 S screen:100", "0:0..2"))] == ["no S door", "the scree"]


def test_the_drawing_is_in_proportion_and_names_every_door() -> None:
    assert draw(laid(TWO)) == [
        "┌───────────┬───────────────┐",
        "│ A1 S~ 0:0 │               │",
        "├───────────┤               │",
        "│   A2 M~   │               │",
        "│    0:1    │               │",
        "│           │     screen    │",
        "├───────────┤               │",
        "│           │               │",
        "│           │               │",
        "│    A3 L   │               │",
        "│    0:2    ├───────────────┤",
        "│           │      99 L     │",
        "│           │      1:7      │",
        "│           │               │",
        "└───────────┴───────────────┘",
        "",
        "",
        "",
        "▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔",
        "1050 x 850 mm   door, size, board:lock   ~ in reach of a seated person (380 to 1220 mm)",
    ]
