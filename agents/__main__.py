"""``python -m agents`` is ``lastmile``."""

from agents.cli import main

main()
