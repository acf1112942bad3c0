"""A second node made of a copy of the first one's card: the same keys and journal, a cabinet of its own, one broker."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

from tests.crash.bench import Bench
from tests.crash.journal_file import Entry, read_journal
from tests.faults.births import Child
from tests.faults.store import LOCK_S, put_back
from tests.faults.yard import PATIENCE_S, Yard

SEALED_S = 0.5
"""A seal comes 0.2 s after the last event here, and has to reach the broker."""


class Clone(Bench):
    """Lives for a while beside the node it was copied from. What it told is kept apart: it is another node's."""

    def __init__(self, yard: Yard, number: int) -> None:
        super().__init__(yard.site.directory / f"clone-{number}")
        self._port = yard.ground.port("clone")
        self._yard = yard
        self._children: list[Child] = []
        self.courier = yard.courier

    async def live(self, files: dict[str, bytes], *, deposits: int) -> list[Entry]:
        """Serve so many couriers with the same journal as its origin has, then end for good. Returns what it told."""
        try:
            await self._begin(files)
            for number in range(deposits):
                await self.deposit(f"of-the-clone-{number}")
            await asyncio.sleep(SEALED_S)
        finally:
            for child in reversed(self._children):
                await child.kill()
        with contextlib.suppress(sqlite3.Error):
            return read_journal(self.site.database, LOCK_S)
        return []

    async def _begin(self, files: dict[str, bytes]) -> None:
        site, yard = self.site, self._yard
        for each in ("run", "store"):
            (site.directory / each).mkdir(parents=True)
        (site.directory / "keys").symlink_to(yard.site.directory / "keys")
        told = yard.site.node_toml.read_text()
        site.node_toml.write_text(told.replace(f"port = {yard.kiosk_port}\n", f"port = {self._port}\n"))
        put_back(site.database.parent, files)
        board = (str(site.port), str(site.sim_control), str(site.directory / "witness.jsonl"))
        self._children.append(yard.bear_beside("lock-board", "clone-board", board))
        await yard.until_true("the clone's board", self._plugged)
        self._children.append(yard.bear_beside("locker", "clone-locker", (str(site.node_toml),)))
        self._children.append(yard.bear_beside("cloud-sync", "clone-sync", (str(site.node_toml),), behind="node"))
        await yard.until_true("the clone", self._answers, PATIENCE_S)

    async def _plugged(self) -> bool:
        return self.site.port.is_symlink()

    async def _answers(self) -> bool:
        try:
            status, answer = await self.ask("GET", "/api/doors")
        except FileNotFoundError:
            return False
        return status == 200 and all(door["state"] != "unknown" for door in answer["doors"])
