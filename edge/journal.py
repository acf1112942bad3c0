"""The journal's rules and its port: what is numbered, chained, sealed, acknowledged and given up.

One append-only journal per node is both its audit trail and its outbox: a change of state and the events that tell of
it are one transaction. ``edge.journal_sql`` keeps it on disk.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from edge.event import GENESIS, Draft, EventClass

T = TypeVar("T")

SEAL_EVERY = 64
"""Unsealed audit events after which the next transaction ends with a seal."""
SEAL_AFTER_S = 2.0
"""Running seconds after which even one unsealed audit event is sealed: an ack can follow at most this late."""


class Need(enum.IntEnum):
    """What a transaction may use of the disk; the scarcer the space, the higher the need must be."""

    EXTRA = 0
    """Live copies and telemetry: the first to be refused."""
    DEPOSIT = 1
    """Takes responsibility for something new."""
    COLLECTION = 2
    """Ends a responsibility, or is about safety: has a reserve of its own."""


class Limits(msgspec.Struct, frozen=True):
    """How much the journal may keep.

    ``max_bytes`` bounds the database; above it telemetry is thinned first, then superseded state, never audit.
    ``reserve_bytes`` of free disk are left to collections. Acknowledged audit stays ``audit_s`` seconds.
    """

    max_bytes: int = 512 * 1024 * 1024
    reserve_bytes: int = 16 * 1024 * 1024
    audit_s: float = 30 * 86_400.0


class Head:
    """The growing end of the journal: which epoch, the last seq of each class, the end of the audit chain.

    ``last`` is in the order of ``EventClass``. ``inherited``: the epoch began in an earlier run, so our file may be an
    older copy of itself. ``mark`` and ``rewind`` let one refused piece of work in a shared transaction leave no trace.
    """

    __slots__ = ("epoch", "epoch_no", "first_unsealed", "hash", "inherited", "last", "starts", "unsealed_since")

    def __init__(self, epoch: str, epoch_no: int, starts: dict[str, int]) -> None:
        self.begin(epoch, epoch_no, starts)
        self.inherited = True

    def begin(self, epoch: str, epoch_no: int, starts: dict[str, int]) -> None:
        """Stand at the beginning of a new epoch; ``starts`` says where each consumer's share of it begins."""
        self.epoch = epoch
        self.epoch_no = epoch_no
        self.starts = starts
        self.last = [0] * len(EventClass)
        self.hash = GENESIS
        self.first_unsealed = 1
        self.unsealed_since: float | None = None
        self.inherited = False

    @property
    def audit(self) -> int:
        """The last seq of the audit class."""
        return self.last[0]

    @property
    def unsealed(self) -> int:
        return self.last[0] - self.first_unsealed + 1

    def seal_due(self, mono: float) -> bool:
        """Whether a seal belongs at the end of the transaction that is being written now."""
        since = self.unsealed_since
        return self.unsealed >= SEAL_EVERY or (since is not None and mono - since >= SEAL_AFTER_S)

    def mark(self) -> tuple[Any, ...]:
        """Where the end stands now."""
        return (
            self.epoch,
            self.epoch_no,
            self.starts,
            tuple(self.last),
            self.hash,
            self.first_unsealed,
            self.unsealed_since,
            self.inherited,
        )

    def rewind(self, mark: tuple[Any, ...]) -> None:
        """Stand again where ``mark`` was made."""
        self.epoch, self.epoch_no, self.starts, last, self.hash, self.first_unsealed, since, self.inherited = mark
        self.last = list(last)
        self.unsealed_since = since


class Gap(msgspec.Struct, frozen=True, order=True):
    """Numbers of one class that were thinned: ``first`` to ``last``, ``count`` rows of them by us, and why."""

    first: int
    last: int
    count: int
    reason: str


def merge_gaps(gaps: Iterable[Gap]) -> list[Gap]:
    """The same numbers in the fewest gaps: neighbours become one and keep both counts; reasons are joined."""
    merged: list[Gap] = []
    for gap in sorted(gaps):
        if merged and gap.first <= merged[-1].last + 1:
            merged.append(_joined(merged.pop(), gap))
        else:
            merged.append(gap)
    return merged


def _joined(gap: Gap, after: Gap) -> Gap:
    reasons = sorted({*gap.reason.split("+"), *after.reason.split("+")})
    return Gap(gap.first, max(gap.last, after.last), gap.count + after.count, "+".join(reasons))


class Sealer(Protocol):
    """The role key, as far as the journal needs it."""

    @property
    def kid(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        ...


class Transaction(Protocol):
    """Handed to the work of ``Journal.write``: what it appends and what it changes is kept together or not at all."""

    def append(self, draft: Draft) -> None:
        """Raises ``ProtocolError`` when the event is oversized; the work should then let it through."""
        ...


class Journal(Protocol):
    """What a role's service needs of the journal."""

    async def append(self, draft: Draft) -> None:
        """Return when the event is on the disk. Raises ``StoreError`` when it is not."""
        ...

    async def write(self, work: Callable[[Transaction], T], need: Need = Need.COLLECTION) -> T:
        """Run ``work`` in the writer thread, and return its result when all it did is on the disk.

        What ``work`` raises undoes it and is raised here. Raises ``StoreError`` when the disk did not take it:
        nothing of it was done. ``work`` must not wait for anything.
        """
        ...
