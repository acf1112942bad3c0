"""What becomes held, and what a forger can and cannot do about it."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.settling import Candidate, Cursor, Settled, settle_audit, settle_plain
from edge.event import GENESIS, EventClass, decode
from edge.keys import SigningKey
from tests.cloud_sync.rig import Epoch

KEY = SigningKey(b"k" * 32)


def candidates(epoch: Epoch, start: int = 1) -> list[Candidate]:
    """The rows of an epoch as the collector has stored them."""
    found = []
    for seq, _, body in epoch.items[EventClass.AUDIT]:
        event = decode(body)
        seal = event.type == "node.journal.sealed"
        found.append(Candidate(seq, epoch.hashes[seq], epoch.hashes[seq - 1], seal, start if seal else 0))
    return found


def sealed_epoch(count: int, every: int = 7) -> Epoch:
    epoch = Epoch(KEY)
    while epoch.last[EventClass.AUDIT] < count:
        if epoch.last[EventClass.AUDIT] % every == every - 1:
            epoch.seal()
        else:
            epoch.add(EventClass.AUDIT)
    epoch.seal()
    return epoch


def settle_all(rows: list[Candidate], cursor: Cursor = Cursor()) -> Settled:  # noqa: B008  frozen
    return settle_audit(cursor, [row for row in rows if row.seq > cursor.seq])


def test_all_up_to_the_last_seal_is_held():
    epoch = sealed_epoch(20)
    epoch.add(EventClass.AUDIT)
    settled = settle_all(candidates(epoch))
    assert settled == Settled(Cursor(epoch.last[EventClass.AUDIT] - 1, epoch.hashes[-2]))


def test_without_a_seal_nothing_is_held():
    epoch = Epoch(KEY)
    epoch.add(EventClass.AUDIT)
    assert settle_all(candidates(epoch)) == Settled(Cursor(0, GENESIS))


def test_a_seal_after_a_gap_makes_nothing_held_and_the_gap_is_named():
    rows = candidates(sealed_epoch(20, every=100))
    settled = settle_all([row for row in rows if row.seq not in (5, 6, 11)])
    assert settled.cursor == Cursor(0, GENESIS)
    assert settled.missing == [(5, 6), (11, 11)]


def test_a_seal_before_a_gap_still_counts():
    rows = candidates(sealed_epoch(20, every=7))
    settled = settle_all([row for row in rows if row.seq != 9])
    assert settled.cursor.seq == 7
    assert settled.missing == [(9, 9)]


def test_forged_rows_that_came_first_are_beaten():
    epoch = sealed_epoch(20)
    forged = [Candidate(seq, bytes([seq]) * 32, bytes([seq - 1]) * 32) for seq in range(1, 15)]
    settled = settle_all(forged + candidates(epoch))
    assert settled.cursor == Cursor(epoch.last[EventClass.AUDIT], epoch.hashes[-1])
    assert sorted(settled.rivals) == [(row.seq, row.digest) for row in forged]


def test_a_forged_row_in_place_of_a_true_one_is_asked_for_again():
    rows = candidates(sealed_epoch(20, every=100))
    rows[9] = Candidate(10, b"f" * 32, b"e" * 32)
    settled = settle_all(rows)
    assert settled.cursor.seq == 0
    assert settled.missing == [(1, 10)]


def test_two_signed_histories_are_told_and_the_first_stays():
    epoch = sealed_epoch(6, every=100)
    held = settle_all(candidates(epoch)).cursor
    other = Candidate(held.seq + 2, b"s" * 32, b"p" * 32, vouched=True)
    between = Candidate(held.seq + 1, b"p" * 32, b"not what is held".ljust(32))
    settled = settle_audit(held, [other, between])
    assert settled.cursor == held
    assert settled.forked == [(other.seq, other.digest)]


def test_a_share_that_begins_later_begins_there():
    """A new consumer: what came before its time is not its own, and does not hold it up."""
    epoch = sealed_epoch(30, every=10)
    rows = [row for row in candidates(epoch, start=21) if row.seq >= 19]
    settled = settle_all(rows)
    assert settled.cursor.seq == epoch.last[EventClass.AUDIT]
    assert settled.skipped == (1, 20)
    assert settled.rivals == []


def test_a_later_epochs_word_ends_a_chain_without_a_seal():
    epoch = Epoch(KEY)
    epoch.add(EventClass.AUDIT)
    rows = candidates(epoch)
    assert settle_all(rows).cursor.seq == 0
    rows[-1] = msgspec.structs.replace(rows[-1], vouched=True)
    assert settle_all(rows).cursor == Cursor(2, epoch.hashes[2])


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.integers(2, 12))
def test_in_any_order_in_any_portions_all_becomes_held_once(rng: random.Random, count: int, every: int):
    """Rows come reordered, doubled, in portions, among forged ones: the end is the same, and each step only rises."""
    epoch = sealed_epoch(count, every)
    true = candidates(epoch)
    forged = [Candidate(rng.randint(1, count), rng.randbytes(32), rng.choice(epoch.hashes)) for _ in range(count)]
    arriving = true + forged + rng.choices(true, k=count)
    rng.shuffle(arriving)
    stored: list[Candidate] = []
    cursor = Cursor()
    while arriving:
        portion = rng.randint(1, len(arriving))
        stored += arriving[:portion]
        del arriving[:portion]
        settled = settle_all(stored, cursor)
        assert settled.cursor.seq >= cursor.seq
        assert settled.cursor.digest == epoch.hashes[settled.cursor.seq]
        assert all(digest != epoch.hashes[seq] for seq, digest in settled.rivals)
        assert not settled.forked
        cursor = settled.cursor
    assert cursor.seq == epoch.last[EventClass.AUDIT]


@given(st.sets(st.integers(1, 30)), st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)), max_size=6))
def test_the_other_classes_are_held_as_far_as_rows_and_thinned_ranges_reach(seqs: set[int], spans):
    """Against a plain count: they reach to the first number that is in neither, the cursor to the last row seen."""
    gone = [(first, first + more) for first, more in spans]
    covered = seqs | {seq for first, last in gone for seq in range(first, last + 1)}
    reach = next(seq for seq in range(100) if seq + 1 not in covered)
    rows = [(seq, b"%d" % seq) for seq in sorted(seqs)]
    settled = settle_plain(Cursor(0, b""), rows, gone)
    assert (settled.reach, settled.cursor.seq) == (reach, min(reach, max(seqs, default=0)))
    missing = {seq for first, last in settled.missing for seq in range(first, last + 1)}
    assert not missing & seqs
    assert all(seq > reach for seq in missing)
    assert settle_plain(Cursor(0, b""), rows, gone, ended=True).cursor.seq == reach


def test_of_two_rows_for_one_number_the_first_stays():
    settled = settle_plain(Cursor(0, b""), [(1, b"a"), (1, b"b"), (2, b"c")], [])
    assert (settled.cursor.seq, settled.rivals) == (2, [(1, b"b")])
