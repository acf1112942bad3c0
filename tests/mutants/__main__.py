"""The product's command line with one promise taken out of it: ``python -m tests.mutants NAME demo --once``.

Every process that it starts is mutated alike.
"""

from __future__ import annotations

import importlib
import sys

from agents import cli, processes

if __name__ == "__main__":
    name = sys.argv.pop(1)
    importlib.import_module(f"tests.mutants.{name}").apply()
    processes.COMMAND = (sys.executable, "-m", "tests.mutants", name)
    cli.main()
