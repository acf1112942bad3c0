"""Reads a node's journal for a person: its last events, and whether the whole audit chain holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.errors import ConfigError, ProtocolError
from edge.event import GENESIS, SEALED, CloudEvent, decode, link_hash, without_signature
from edge.journal_read_sql import JournalReader
from edge.keys import VerifyKey
from edge.keys_file import read_verify_key
from edge.system_clock import SystemClock


class Verdict(msgspec.Struct, frozen=True):
    """``sound``: no number is missing, no hash is wrong, every seal is the role key's."""

    sound: bool
    lines: tuple[str, ...]


def _open(database: Path) -> JournalReader:
    if not database.is_file():
        raise ConfigError(f"{database}: no such file", remedy="name the node's state.db")
    return JournalReader(database, "", "", SystemClock())


def tail(database: Path, count: int) -> Iterator[str]:
    """The last ``count`` events, oldest first."""
    reader = _open(database)
    try:
        for event in reader.tail(count):
            yield (
                f"{event.time:%Y-%m-%d %H:%M:%S} {event.lmclass:9} {event.seq:>6} {event.type:28} {event.subject} "
                f"{bytes(event.data).decode()}"
            )
    finally:
        reader.close()


def verify(database: Path, role_key: Path) -> Verdict:
    """Walk every epoch's audit chain from its first kept event to its end."""
    key, reader = read_verify_key(role_key), _open(database)
    walks: dict[str, _Walk] = {}
    try:
        for epoch, seq, body, digest in reader.audit():
            walks.setdefault(epoch, _Walk(epoch, key)).step(seq, body, digest)
    finally:
        reader.close()
    lines = tuple(line for walk in walks.values() for line in walk.report())
    return Verdict(all(not walk.faults for walk in walks.values()), lines or ("the journal is empty",))


class _Walk:
    """One epoch. A chain whose beginning was deleted after its time starts at the first row that is kept."""

    def __init__(self, epoch: str, key: VerifyKey) -> None:
        self._epoch = epoch
        self._key = key
        self._hash: bytes | None = None
        self._seq = 0
        self._first = 0
        self._sealed = 0
        self.faults: list[str] = []

    def step(self, seq: int, body: bytes, digest: bytes) -> None:
        if self._hash is None:
            self._first, self._seq = seq, seq - 1
        if seq != self._seq + 1:
            self.faults.append(f"{self._seq + 1} to {seq - 1} are missing")
        try:
            event = decode(body)
        except ProtocolError as error:
            self.faults.append(f"{seq} is not an event: {error.what}")
        else:
            self._check(event, seq, body, digest)
        self._seq, self._hash = seq, digest

    def _check(self, event: CloudEvent, seq: int, body: bytes, digest: bytes) -> None:
        before = self._hash if self._hash is not None else (GENESIS if seq == 1 else bytes.fromhex(event.prev))
        if event.prev != before.hex() or link_hash(before, body) != digest or event.seq != seq:
            self.faults.append(f"{seq} does not follow from the one before it")
        if event.type == SEALED:
            unsigned, signature = without_signature(body)
            if self._key.verify(signature, unsigned):
                self._sealed = seq
            else:
                self.faults.append(f"the seal at {seq} is not the role key's")

    def report(self) -> Iterator[str]:
        yield f"epoch {self._epoch}: audit {self._first} to {self._seq}, sealed to {self._sealed}"
        yield from (f"  FAULT: {fault}" for fault in self.faults)
        if not self.faults:
            yield "  chain and seals hold"
