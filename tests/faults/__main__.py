"""The fault lab: ``python -m tests.faults --runs N --seed S``, or ``--only SEED`` for one run again."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.crash.nursery import preload
from tests.faults import network
from tests.faults.plan import Powers, draw_plan
from tests.faults.report import Report
from tests.faults.run import Outcome, play_all

MEMORY = Path("/dev/shm")
"""Where it exists, the files lie there: the disks whose power is cut are simulated ones."""


def main() -> int:
    wanted = _arguments()
    powers = find_powers()
    preload()
    if wanted.mutant:
        importlib.import_module(f"tests.mutants.{wanted.mutant}").apply()
    seeds = [wanted.only] if wanted.only is not None else list(range(wanted.seed, wanted.seed + wanted.runs))
    with tempfile.TemporaryDirectory(prefix="lm-faults-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        directory = Path(wanted.files) if wanted.files else Path(scratch)
        # PostgreSQL does not run as root, and its folder is inside.
        Path(scratch).chmod(0o711)
        report = Report(len(seeds), powers, tell=not wanted.quiet)
        runs = play_all(iter(seeds), directory, powers, wanted.jobs, keep=bool(wanted.files))
        with contextlib.closing(runs):
            for outcome in runs:
                report.add(outcome)
                if wanted.only is not None:
                    _tell_story(outcome)
                if report.failures and wanted.until_failure:
                    break
        report.end()
        if wanted.report:
            Path(wanted.report).write_bytes(msgspec.json.format(msgspec.json.encode(report.summary()), indent=1))
    return 1 if report.failures else 0


def find_powers() -> Powers:
    disk = os.geteuid() == 0 and Path("/dev/fuse").exists()
    postgres = any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return Powers(network=network.possible(), disk=disk, postgres=postgres)


def _tell_story(outcome: Outcome) -> None:
    sys.stdout.write(f"plan: {msgspec.json.encode(draw_plan(outcome.seed)).decode()}\n")
    sys.stdout.write("\n".join([*outcome.story, *outcome.faults, *outcome.failed]) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others count on from it")
    parser.add_argument("--only", type=int, help="this seed alone, with its story")
    parser.add_argument("--jobs", type=int, default=4, help="runs beside each other; most of a run is waiting")
    parser.add_argument("--mutant", default="", help="a module of tests.mutants, to see the lab fail")
    parser.add_argument("--until-failure", action="store_true")
    parser.add_argument("--report", help="JSON file")
    parser.add_argument("--files", help="keep the files of every run there; else of none")
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    # Nothing here is interactive, and a forked child must not write what its parent had buffered.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())
