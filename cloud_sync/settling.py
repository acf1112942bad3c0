"""What becomes held: audit by a walk back from a seal, the other classes by having no gap.

The role key's signature covers the seal's bytes, they name the hash of the event before, and so on back to what is
already held. The walk goes by hash, so it finds the true row among any number of forged ones for the same seq; a row
that came first has no advantage. In the other classes the first row for a seq is taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edge.event import GENESIS


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A stored row that may be the true one of its seq. ``start``: where a seal lets our share begin; else 0.

    Tens of thousands are made at a time, none part of a cycle: without ``gc`` the collector of garbage leaves them be.
    """

    seq: int
    digest: bytes
    prev: bytes = b""
    vouched: bool = False
    """A seal, whose signature has been checked, or the end of a chain that a later epoch's first event names."""
    start: int = 0


class Cursor(msgspec.Struct, frozen=True):
    """All up to ``seq`` is held; ``digest`` is the chain's hash there, empty where the share begins in the middle."""

    seq: int = 0
    digest: bytes = GENESIS


class Settled(msgspec.Struct):
    """The outcome for one epoch and class.

    ``rivals`` are rows at or below the cursor that are not the held ones; ``missing`` the gaps that stand in the way;
    ``forked`` seals that are signed and yet do not join what is held: the role key has told two histories. ``skipped``
    are numbers before our share, of which nothing is kept. ``reach``: how far rows and thinned ranges go without a gap.
    """

    cursor: Cursor
    rivals: list[tuple[int, bytes]] = []
    missing: list[tuple[int, int]] = []
    forked: list[tuple[int, bytes]] = []
    skipped: tuple[int, int] | None = None
    reach: int = 0


def settle_audit(cursor: Cursor, candidates: Iterable[Candidate]) -> Settled:
    """Move the cursor as far as seals prove. ``candidates`` are all stored rows above it, in any order."""
    settled = Settled(cursor)
    by_seq: dict[int, dict[bytes, Candidate]] = defaultdict(dict)
    for candidate in candidates:
        by_seq[candidate.seq][candidate.digest] = candidate
    true: set[bytes] = set()
    stuck: dict[bytes, int] = {}
    for seal in sorted(_vouched(by_seq), key=lambda one: one.seq):
        base = _base(settled.cursor, seal)
        if seal.seq <= base.seq:
            continue
        path, reached = _walk_back(seal, base, by_seq, stuck)
        if reached > base.seq:
            stuck.update(dict.fromkeys(path, reached))
        elif base.digest not in (by_seq[base.seq + 1][path[-1]].prev, b""):
            settled.forked.append((seal.seq, seal.digest))
        else:
            if base.seq > settled.cursor.seq:
                settled.skipped = (settled.cursor.seq + 1, base.seq)
            settled.cursor = Cursor(seal.seq, seal.digest)
            true.update(path)
    low, high = settled.skipped or (0, -1)
    beaten = ((seq, rows) for seq, rows in by_seq.items() if seq <= settled.cursor.seq and not low <= seq <= high)
    settled.rivals = [(seq, digest) for seq, rows in beaten for digest in rows.keys() - true]
    settled.missing = _missing(settled.cursor.seq, by_seq.keys(), stuck.values())
    return settled


def _vouched(by_seq: Mapping[int, Mapping[bytes, Candidate]]) -> Iterable[Candidate]:
    return (row for rows in by_seq.values() for row in rows.values() if row.vouched)


def _base(cursor: Cursor, seal: Candidate) -> Cursor:
    """Where the walk has to arrive. A share that begins later begins there, whatever came before."""
    return cursor if seal.start <= cursor.seq + 1 else Cursor(seal.start - 1, b"")


def _walk_back(
    seal: Candidate, base: Cursor, by_seq: Mapping[int, Mapping[bytes, Candidate]], stuck: Mapping[bytes, int]
) -> tuple[list[bytes], int]:
    """The digests from the seal down, and the seq for which the row was not there (``base.seq`` when all were)."""
    path = [seal.digest]
    seq, wanted = seal.seq - 1, seal.prev
    while seq > base.seq:
        if wanted in stuck:
            return path, stuck[wanted]
        row = by_seq.get(seq, {}).get(wanted)
        if row is None:
            return path, seq
        path.append(row.digest)
        seq, wanted = seq - 1, row.prev
    return path, seq


def settle_plain(
    cursor: Cursor, rows: Iterable[tuple[int, bytes]], gone: Iterable[tuple[int, int]], *, ended: bool = False
) -> Settled:
    """Move the cursor over rows (in the order they came) and thinned ranges without a gap. A row wins over a range.

    Nobody signs a range. So the cursor goes no further than the highest row that was seen, unless the epoch has
    ``ended`` and no further row will come.
    """
    settled = Settled(cursor)
    first: dict[int, bytes] = {}
    for seq, digest in rows:
        if seq <= cursor.seq or first.setdefault(seq, digest) != digest:
            settled.rivals.append((seq, digest))
    settled.reach = _contiguous(cursor.seq, first, sorted(gone))
    seen = max(first, default=cursor.seq)
    settled.cursor = Cursor(settled.reach if ended else min(settled.reach, seen), b"")
    settled.missing = _missing(settled.reach, first.keys(), ())
    return settled


def _contiguous(seq: int, rows: Mapping[int, bytes], gone: Sequence[tuple[int, int]]) -> int:
    ranges = iter(gone)
    current = next(ranges, None)
    while True:
        while seq + 1 in rows:
            seq += 1
        while current is not None and current[1] <= seq:
            current = next(ranges, None)
        if current is None or current[0] > seq + 1:
            return seq
        seq = current[1]


MAX_MISSING = 16
"""Gaps named in one ack; the next names the following ones."""
UNPROVEN_SPAN = 500
"""Rows asked for again below one whose true neighbour is not there: all of them may be forged."""


def _missing(held: int, seqs: Iterable[int], stuck: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers that are absent below the highest present, and those at which a walk found only wrong rows."""
    gaps = []
    expected = held + 1
    for seq in sorted(seqs):
        if seq > expected:
            gaps.append((expected, seq - 1))
        expected = max(expected, seq + 1)
    wrong = {seq for seq in stuck if seq > held and not any(first <= seq <= last for first, last in gaps)}
    gaps += [(max(held + 1, seq - UNPROVEN_SPAN + 1), seq) for seq in wrong]
    return sorted(gaps)[:MAX_MISSING]
