"""The simulator's log of what physically happened: append-only JSON lines, on the disk before anybody hears of it."""

from __future__ import annotations

import asyncio
import collections
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class _Waiter(NamedTuple):
    what: str
    board: int | None
    lock: int | None
    times: int
    done: asyncio.Future[None]


class Witness:
    """Opened by ``open`` and closed by ``close``. Lines of earlier runs stay in the file and are not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._counts: collections.Counter[tuple[str, object, object]] = collections.Counter()
        self._waiters: list[_Waiter] = []

    def open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        os.close(self._file)

    def note(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Append ``lines`` and return when the disk has them; then count them and wake who waited for them."""
        kept = list(lines)
        if not kept:
            return
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in kept)
        os.write(self._file, text.encode())
        os.fsync(self._file)
        for line in kept:
            self.count(str(line["what"]), line.get("board"), line.get("lock"))

    def count(self, what: str, board: object = None, lock: object = None) -> None:
        """Count what is too frequent to be written."""
        self._counts.update({(what, board, lock), (what, board, None), (what, None, None)})
        for waiter in [w for w in self._waiters if self._reached(w)]:
            self._waiters.remove(waiter)
            if not waiter.done.done():
                waiter.done.set_result(None)

    def counts(self) -> dict[str, int]:
        """How often each thing has happened since the start, over all boards."""
        return {what: count for (what, board, _), count in self._counts.items() if board is None}

    async def until(self, what: str, board: int | None, lock: int | None, count: int) -> None:
        """Return once ``what`` has been counted ``count`` times since the start, there or (None) anywhere."""
        waiter = _Waiter(what, board, lock, count, asyncio.get_running_loop().create_future())
        if self._reached(waiter):
            return
        self._waiters.append(waiter)
        try:
            await waiter.done
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _reached(self, waiter: _Waiter) -> bool:
        return self._counts[waiter.what, waiter.board, waiter.lock] >= waiter.times


def read_witness(path: Path) -> list[dict[str, object]]:
    """Every whole line so far, in order. A line that is being written is left for the next reading."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
