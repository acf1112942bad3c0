"""The red team: ``python -m tests.redteam --seed S``; ``--without CHECK`` to see it succeed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.faults.__main__ import MEMORY
from tests.redteam.run import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", default="", help="a check of tests.hostile.removals to take out of the product")
    parser.add_argument("--only", action="append", default=[], help="a scene; several times for several")
    parser.add_argument("--until-failure", action="store_true")
    parser.add_argument("--files", help="keep the files of the run there")
    parser.add_argument("--report", help="JSON file")
    wanted = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lm-red-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        directory = Path(wanted.files or scratch) / "world"
        report = play(
            wanted.seed,
            directory,
            check=wanted.without,
            only=set(wanted.only),
            until_failure=wanted.until_failure,
        )
    if wanted.report:
        Path(wanted.report).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    audit = f"{report.held} of {report.audit} audit events held, {report.disputed} disputed"
    sys.stdout.write(
        f"{report.hostile} hostile messages in {len(report.scenes)} scenes, {report.honest} honest acts of which "
        f"{len(report.failed)} failed, {report.openings} openings, {audit}, {time.monotonic() - began:.1f} s\n"
    )
    sys.stdout.write("".join(f"FAULT {fault}\n" for fault in report.faults))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
