"""How every benchmark tells its figures: a table for people, and one line of JSON at the end for ``tools/bench.py``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured figure. ``ratio`` is ours to ``baseline``'s in the same run; ``goal`` is meant for the ratio.

    Where there is no baseline, it is meant for the value. ``at_least``: more is better. A figure without a goal is told
    for its own sake.
    """

    name: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    goal: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        reached = self.value if self.ratio is None else self.ratio
        return reached >= self.goal if self.at_least else reached <= self.goal

    def line(self) -> dict[str, object]:
        """As it stands in the JSON."""
        told = dataclasses.asdict(self)
        del told["at_least"]
        return {**told, "met": self.met}


def report(figures: Sequence[Figure], arguments: argparse.Namespace) -> None:
    """Print the figures; the table is left out with ``--json``."""
    if not arguments.json:
        table = Table("figure", "value", "baseline", "ratio", "goal", "met")
        for each in figures:
            baseline = "" if each.baseline is None else f"{each.baseline:.4g}"
            ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
            goal = "" if each.goal is None else f"{'>=' if each.at_least else '<='} {each.goal:g}"
            met = "" if each.goal is None else "yes" if each.met else "no"
            table.add_row(each.name, f"{each.value:.4g} {each.unit}", baseline, ratio, goal, met)
        Console().print(table)
    print(json.dumps({"figures": [each.line() for each in figures]}))
