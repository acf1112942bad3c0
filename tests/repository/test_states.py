"""The diagrams of docs/states.md are the tables, all of them."""

from __future__ import annotations

import subprocess
import sys

from tests.repository.source import ROOT, name_of, product
from tools.states import MACHINES, diagram


def test_the_page_is_drawn_from_the_tables() -> None:
    drawn = subprocess.run([sys.executable, "-m", "tools.states"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert drawn.stdout == (ROOT / "docs/states.md").read_text(), "Run: python -m tools.states > docs/states.md"


def test_every_table_of_the_product_is_drawn() -> None:
    having = {name_of(path) for path in product() if "\nTRANSITIONS: " in path.read_text()}
    assert {machine.source for machine in MACHINES} == having


def test_a_changed_table_is_a_changed_picture() -> None:
    door = MACHINES[0]
    less = dict(door.table)
    less.popitem()
    assert diagram(door._replace(table=less)) != diagram(door)
