"""Run every benchmark and print its figures beside their goals; exit 1 when a goal is missed or a run fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def figures(script: Path, arguments: list[str]) -> list[dict[str, Any]] | None:
    """What one benchmark measured: the JSON object on its last line. None when it did not get that far."""
    run = subprocess.run(
        [sys.executable, str(script), "--json", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if run.returncode != 0 or not run.stdout.strip():
        return None
    measured: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])["figures"]
    return measured


def main(arguments: list[str]) -> int:
    console = Console()
    table = Table("benchmark", "figure", "value", "baseline", "ratio", "goal", "met")
    wrong = 0
    for script in sorted(BENCHMARKS.glob("[a-z]*.py")):
        with console.status(f"{script.stem} is running"):
            measured = figures(script, arguments)
        if measured is None:
            wrong += 1
            table.add_row(script.stem, "did not finish", *[""] * 4, "no")
        for figure in measured or []:
            wrong += not figure["met"]
            value = f"{_short(figure['value'])} {figure['unit']}"
            rest = [_short(figure.get(name)) for name in ("baseline", "ratio", "goal")]
            table.add_row(script.stem, figure["name"], value, *rest, "yes" if figure["met"] else "no")
    console.print(table)
    return 1 if wrong else 0


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
