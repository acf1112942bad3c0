"""Progress and the report: faults by kind, acts, openings, events, failures, time."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.plan import Kind, Powers
from tests.faults.run import Outcome

ENOUGH = 0.99
"""Of the honest acts that no fault has hit."""


class Report:
    """Tells as it goes: a bar on a terminal, else a line for each run."""

    def __init__(self, runs: int, powers: Powers, *, tell: bool = True) -> None:
        self.outcomes: list[Outcome] = []
        self._runs = runs
        self._powers = powers
        self._tell = tell
        self._began = time.monotonic()
        self._console = Console(file=sys.stdout)
        self._bar: Progress | None = None
        if tell and self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            # Drawn when a run ends: a thread of its own would be lost in the next fork.
            self._bar = Progress(*columns, console=self._console, auto_refresh=False)
            self._bar.start()
            self._task = self._bar.add_task("runs", total=runs)

    @property
    def failures(self) -> list[Outcome]:
        """Runs that broke a promise; also one with an honest act that failed, when too many of these did."""
        broken = [outcome for outcome in self.outcomes if outcome.faults]
        if self.honest_share < ENOUGH:
            broken += [outcome for outcome in self.outcomes if outcome.failed and not outcome.faults]
        return broken

    @property
    def honest_share(self) -> float:
        honest = sum(outcome.honest for outcome in self.outcomes)
        failed = sum(len(outcome.failed) for outcome in self.outcomes)
        return 1.0 - failed / honest if honest else 1.0

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if not self._tell:
            return
        bad = [*outcome.faults, *(f"an honest act failed: {act}" for act in outcome.failed)]
        if self._bar is not None:
            self._bar.advance(self._task)
            self._bar.refresh()
        line = (
            f"seed {outcome.seed}: {'FAILED' if outcome.faults else 'ok'}  {outcome.seconds:5.1f} s  "
            f"{sum(outcome.struck.values())} faults, {outcome.acts} acts, {outcome.count.produced} events"
        )
        if self._bar is None or bad:
            self._console.print(line, highlight=False, markup=False)
        for each in bad:
            self._console.print(f"    {each}", highlight=False, markup=False, soft_wrap=True)
        if outcome.faults:
            again = f"    again: python -m tests.faults --only {outcome.seed}"
            self._console.print(again, highlight=False, markup=False)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        if not self._tell:
            return
        table = Table("fault", "made", box=None)
        struck = self._total("struck")
        for kind in Kind:
            table.add_row(kind.value, str(struck[kind.value]))
        self._console.print(table)
        told = self.summary()
        for name in ("runs", "failed", "acts", "honest_share", "pulses", "openings", "unknown", "seconds"):
            self._console.print(f"{name:>14}  {told[name]}", highlight=False)
        self._console.print(f"{'events':>14}  {told['events']}", highlight=False)
        if told["left_out"]:
            self._console.print(f"not possible here, left out: {told['left_out']}", highlight=False)

    def summary(self) -> dict[str, Any]:
        counts = [outcome.count for outcome in self.outcomes]
        events = {
            name: sum(getattr(count, name) for count in counts)
            for name in ("produced", "held", "pending", "dropped", "disputed")
        }
        return {
            "runs": len(self.outcomes),
            "failed": [outcome.seed for outcome in self.failures],
            "faults": dict(self._total("struck")),
            "left_out": dict(self._total("left_out")),
            "powers": msgspec.to_builtins(self._powers),
            "acts": sum(outcome.acts for outcome in self.outcomes),
            "honest": sum(outcome.honest for outcome in self.outcomes),
            "honest_share": round(self.honest_share, 5),
            "openings": sum(count.openings for count in counts),
            "pulses": sum(count.pulses for count in counts),
            "unknown": sum(outcome.unknown for outcome in self.outcomes),
            "events": events,
            "healed_s": max((outcome.healed_s for outcome in self.outcomes), default=0.0),
            "seconds": round(time.monotonic() - self._began, 1),
            "outcomes": [msgspec.to_builtins(outcome) for outcome in self.outcomes],
        }

    def _total(self, what: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for outcome in self.outcomes:
            total.update(getattr(outcome, what))
        return total
