"""The product's command line with one promise taken out of it: ``python -m tests.mutants NAME demo --once``.

Every process that it starts is mutated alike.
"""

from __future__ import annotations

import importlib
import sys

from agents import processes
from agents.__main__ import main

if __name__ == "__main__":
    name = sys.argv.pop(1)
    importlib.import_module(f"tests.mutants.{name}").apply()
    processes.COMMAND = (sys.executable, "-m", "tests.mutants", name)
    main()
