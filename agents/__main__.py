"""``lastmile``, which is also ``python -m agents``.

``lastmile run`` goes a way of its own: a process that serves for months is spared what only people at a terminal need.
typer and rich, which structlog would load too, are a quarter of cloud-sync's memory.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from edge.errors import LastmileError


def main() -> None:
    """Run the command line; an error that a person can mend is told in one line, without a traceback."""
    try:
        if sys.argv[1:2] == ["run"]:
            _serve(sys.argv[2:])
        else:
            from agents.cli import app

            app()
    except LastmileError as error:
        sys.stderr.write(f"lastmile: {error}\n")
        sys.exit(2)


def _serve(arguments: list[str]) -> None:
    # None is Python's own mark for a module that may not be imported; structlog then does without.
    cast("dict[str, Any]", sys.modules).setdefault("rich", None)
    from agents import processes

    processes.main(arguments)


if __name__ == "__main__":
    main()
