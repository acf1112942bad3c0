"""A node's audit journal as it lies on the disk, and a chain check of the test's own."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agents.demo_world import SealedCode
from edge import jose
from edge.keys import OpeningKey


class Entry(NamedTuple):
    """One audit event: its place, its bytes, the hash kept beside them."""

    epoch: str
    seq: int
    body: bytes
    digest: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


GENESIS = bytes(32)


def read_journal(database: Path, patience: float = 20.0) -> list[Entry]:
    """Every audit event of the node, oldest epoch first; the file is only read. ``patience`` in seconds for a lock."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=patience)
    try:
        rows = connection.execute(
            "SELECT epoch.id, seq, body, hash FROM event JOIN epoch ON epoch.no = epoch_no"
            " WHERE class = 0 ORDER BY epoch_no, seq"
        ).fetchall()
    finally:
        connection.close()
    return [Entry(*row) for row in rows]


def chain_faults(entries: list[Entry]) -> list[str]:
    """Where numbers are missing or hashes do not follow, per epoch from its first event on."""
    ends: dict[str, tuple[int, bytes]] = {}
    faults = []
    for entry in entries:
        seq, before = ends.get(entry.epoch, (0, GENESIS))
        event = entry.event
        if entry.seq != seq + 1 or event["seq"] != entry.seq:
            faults.append(f"{seq} is followed by {entry.seq}, which calls itself {event['seq']}")
        if event["prev"] != before.hex() or hashlib.sha256(before + entry.body).digest() != entry.digest:
            faults.append(f"{entry.seq} does not follow from the event before it")
        ends[entry.epoch] = (entry.seq, entry.digest)
    return faults


class Letters:
    """What customers are sent: every code, opened with the hub's key."""

    def __init__(self, hub: OpeningKey) -> None:
        self._hub = hub
        self.codes: dict[str, SealedCode] = {}

    def read(self, entries: list[Entry]) -> dict[str, SealedCode]:
        """All codes by parcel, with those that ``entries`` tell of."""
        for event in (entry.event for entry in entries):
            if event["type"] == "locker.code.issued" and event["data"]["parcel"] not in self.codes:
                opened = jose.open_sealed(event["data"]["sealed"].encode(), lambda _: self._hub)
                self.codes[event["data"]["parcel"]] = msgspec.json.decode(opened, type=SealedCode)
        return self.codes
