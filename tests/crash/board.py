"""The simulated lock board of the fork suite, a process of its own: quick latches and coils, the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from locker.kerong_sim import SimConfig, run_board_simulator


def main(link: str, control: str, log: str) -> None:
    config = SimConfig(Path(link), Path(control), Path(log), release_ms=2, open_ms=5, coil_ms=10)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run_board_simulator(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
