"""A small file beside the database that remembers how far it had come, so that an older copy put in its place is
noticed.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Anchor(msgspec.Struct, frozen=True):
    """These numbers of ``epoch`` were on the disk when this was written; the database may be ahead, never behind."""

    epoch: str
    audit: int
    state: int
    telemetry: int

    @property
    def last(self) -> tuple[int, int, int]:
        """In the order of ``EventClass``."""
        return self.audit, self.state, self.telemetry


def read_anchor(path: Path) -> Anchor | None:
    """What the file says; None when it is missing or damaged, which proves nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Anchor)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_anchor(path: Path, anchor: Anchor) -> None:
    """Replace the file in one step. Called after the commit it speaks of, so that it never leads."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(anchor))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
