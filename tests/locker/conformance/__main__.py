"""``make doors`` and ``make fuzz``: as many operations, or bytes, as one has patience for.

Exit status 0 only if no promise was broken. What failed is told with its seed, and happens again with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from edge import log
from tests.locker.conformance.operations import Misdeed, Tally, operate
from tests.locker.conformance.rig import SerialRig
from tests.locker.conformance.rigs import rigs
from tests.locker.conformance.rubbish import fuzz
from tests.locker.conformance.served import serve

CHUNK: Final = 5_000
"""Operations on one rig, from one seed; as many bytes times ``CHUNK_BYTES``."""
CHUNK_BYTES: Final = 1_000_000
SHARE: Final = 1_250
"""Operations for each parcel that goes in and out through ledger, journal and service."""
PARCELS: Final = 8
"""In one locker; a jam leaves its compartment blocked."""


class Job(NamedTuple):
    what: str
    kind: str
    named: tuple[str, ...]
    seed: int
    size: int


class Result(NamedTuple):
    job: Job
    tally: Tally
    parcels: int
    misdeed: str


def work(job: Job) -> Result:
    """One chunk, in a process of its own."""
    log.configure(level="error")  # of a board that is gone, once for each operation that finds it gone
    maker = rigs(job.named)[job.kind]
    parcels = 0
    try:
        if job.what == "doors":
            tally = asyncio.run(operate(maker(job.seed, None), job.seed, job.size))
            parcels = min(PARCELS, round(job.size / SHARE))
            with tempfile.TemporaryDirectory(prefix="lm-") as folder:
                asyncio.run(serve(Path(folder), maker, job.seed, parcels))
        else:
            rig = maker(job.seed, None)
            tally = Tally()
            if isinstance(rig, SerialRig):
                told = asyncio.run(fuzz(rig, job.seed, job.size))
                tally = Tally(operations=job.size, outcomes=told)
    except Misdeed as misdeed:
        return Result(job, Tally(), 0, str(misdeed))
    return Result(job, tally, parcels, "")


def jobs(given: argparse.Namespace) -> Iterator[Job]:
    """Doors are divided among the kinds; of bytes each codec gets all."""
    named = tuple(given.lock_board)
    kinds = list(rigs(named))
    what, whole, chunk = ("fuzz", given.fuzz, CHUNK_BYTES) if given.fuzz else ("doors", given.operations, CHUNK)
    for kind in kinds:
        left = whole if given.fuzz else -(-whole // len(kinds))
        seed = given.seed
        while left > 0:
            yield Job(what, kind, named, seed, min(left, chunk))
            left, seed = left - chunk, seed + 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--operations", type=int, default=20_000, help="doors to open, over all kinds")
    parser.add_argument("--fuzz", type=int, default=0, help="bytes of rubbish for each codec, instead of doors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lock-board", action="append", default=[], metavar="MODULE:RIG", help="instead of ours")
    given = parser.parse_args()
    begun, misdeeds = monotonic(), 0
    totals: dict[str, Tally] = {}
    parcels = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(work, jobs(given)):
            totals[result.job.kind] = totals.get(result.job.kind, Tally()) + result.tally
            parcels += result.parcels
            if result.misdeed:
                misdeeds += 1
                sys.stdout.write(f"{result.job.kind}, seed {result.job.seed}: {result.misdeed}\n")
    for kind, tally in totals.items():
        sys.stdout.write(f"{kind:>14} {tally.operations:>10} {_told(tally, fuzzed=bool(given.fuzz))}\n")
    served = f", {parcels} parcels through the service" if parcels else ""
    sys.stdout.write(f"{misdeeds} promise(s) broken{served}, {monotonic() - begun:.0f} s\n")
    return 1 if misdeeds else 0


def _told(tally: Tally, *, fuzzed: bool) -> str:
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(tally.outcomes.items()))
    return f"bytes: {outcomes}" if fuzzed else f"operations, {tally.opened} doors opened, told: {outcomes}"


if __name__ == "__main__":
    sys.exit(main())
