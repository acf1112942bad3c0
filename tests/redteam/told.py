"""What a journal and a board's log that only grow have told, each read from where it was left.

Whole they are read a few times a life, and an attack of thousands of lives would do little else.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.crash.history import OUTCOMES, REQUESTED

LOCK_S = 0.5
"""Whoever reads a store beside a process that has just died may not take its locks, and has to come again."""
UNSEEN = ("no_answer", "unsteady")
"""Why nobody can know of a door, beside a crash: no reading came in time, or too briefly."""


class Told:
    """Of one node whose files are never put back. Each ``read`` raises ``sqlite3.Error`` while it cannot be done."""

    def __init__(self, database: Path, witness: Path) -> None:
        self.decided: set[str] = set()
        """Ids of commands that the journal has taken up; of one that it has rejected nothing is left to know."""
        self.ended: set[str] = set()
        """Ids of commands of which an attempt has an outcome."""
        self.unseen: set[str] = set()
        """Ids of commands whose door could not be seen in time, while nothing struck the agent."""
        self.opened: list[str] = []
        """The door of every opening that physically happened."""
        self._database = database
        self._witness = witness
        self._at = 0
        self._offset = 0
        self._asked: dict[str, str] = {}
        self._open: set[str] = set()

    @property
    def settled(self) -> bool:
        """Whether every attempt has an outcome."""
        return not self._open

    def read(self) -> None:
        """The journal first: what happens meanwhile may be witnessed and not yet be told."""
        self._read_journal()
        self._read_witness()

    def _read_journal(self) -> None:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=LOCK_S)) as sql:
            query = "SELECT place, body FROM event WHERE class = 0 AND place > ? ORDER BY place"
            rows = sql.execute(query, (self._at,)).fetchall()
        for place, body in rows:
            self._at = place
            event = json.loads(body)
            data = event["data"]
            if event["type"] == REQUESTED:
                self._asked[data["attempt"]] = data["cause_id"]
                self._open.add(data["attempt"])
            elif event["type"] in OUTCOMES and data.get("attempt") in self._asked:
                self.ended.add(self._asked[data["attempt"]])
                if data.get("cause") in UNSEEN:
                    self.unseen.add(self._asked[data["attempt"]])
                self._open.discard(data["attempt"])
            elif event["type"] == "node.command.decided" and data["status"] != "rejected":
                self.decided.add(data["command"])

    def _read_witness(self) -> None:
        with self._witness.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in map(json.loads, whole.splitlines()):
            if line["what"] == "opened":
                self.opened.append(f"{line['lock'] + 1:02d}")
