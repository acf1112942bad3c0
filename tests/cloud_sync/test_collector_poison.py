"""Words and numbers that no node of ours writes. What a store could not keep would come again for ever, and keep every
other node's events out with it: a message is refused whole, or it is kept.
"""

from __future__ import annotations

import msgspec
import pytest

from cloud_sync.collector import MAX_SEQ
from edge.acks import Ack, sign_ack
from edge.event import (
    DROPPED,
    SEALED,
    Draft,
    EventsDropped,
    JournalBegun,
    JournalSealed,
    Stamp,
    encode,
    with_signature,
)
from edge.identifiers import uuid7
from edge.keys import SigningKey
from tests.cloud_sync.collector_rig import AUDIT, OURS, ROLE, STATE, epoch_of, keep, refused, standing
from tests.cloud_sync.rig import CONSUMER, T0, Epoch

NUL = b"\\u0000"
ANY_EPOCH = uuid7(0.0, bytes(10))


@pytest.mark.parametrize("member", ["id", "type", "subject"])
async def test_a_word_with_a_nul_is_refused_and_the_others_of_its_batch_are_kept(store, member):
    """PostgreSQL keeps no NUL in a text."""
    epoch = epoch_of(0)
    first, second = (epoch.add(STATE) for _ in range(2))
    value = msgspec.json.decode(first)[member].encode()
    poisoned = first.replace(b'"%b":"%b"' % (member.encode(), value), b'"%b":"%b%b"' % (member.encode(), NUL, value))
    assert poisoned != first
    await keep(store, poisoned, second, event_class=STATE)
    assert await refused(store) == {"malformed": 1}
    assert await store.rows("SELECT seq FROM event") == [(2,)]


async def test_a_reason_with_a_nul_is_refused(store):
    told = EventsDropped(STATE.value, 1, 2, 1, "spa\0ce")
    await keep(store, epoch_of(0)._encode(STATE, DROPPED, told, 0, None), event_class=STATE)
    assert await refused(store) == {"malformed": 1}


@pytest.mark.parametrize("start", [-1, MAX_SEQ + 1, 2**63, 2**80])
async def test_a_share_that_begins_at_no_number_makes_no_seal(store, start):
    """Signed by a role key all the same: a stolen card may cost its own node's audit, not the collector."""
    epoch = epoch_of(2)
    epoch.starts = {CONSUMER: start}
    await keep(store, *epoch.bodies(), epoch.seal())
    assert await refused(store) == {"malformed_seal": 1}
    assert (await standing(store)).journals == {}


@pytest.mark.parametrize(
    "begun",
    [
        JournalBegun("another life", None, "restored", 3, "ab" * 32),
        JournalBegun(ANY_EPOCH, None, "resto\0red", 3, "ab" * 32),
        JournalBegun(ANY_EPOCH, None, "restored", 2**80, "ab" * 32),
        JournalBegun(ANY_EPOCH, None, "restored", -5, "ab" * 32),
        JournalBegun(ANY_EPOCH, 2**80, "restored", 3, "ab" * 32),
        JournalBegun(ANY_EPOCH, None, "restored", 3, ""),
    ],
)
async def test_a_beginning_that_makes_no_sense_says_nothing_of_the_epoch_before(store, clock, begun):
    epoch = Epoch(ROLE, begun=begun)
    await keep(store, *epoch.bodies(), epoch.seal())
    assert (await standing(store)).journals[epoch.id]["audit"][0] == 2
    assert await store.rows("SELECT * FROM epoch") == []
    await clock.advance(60)
    assert (await standing(store)).want == []


async def test_what_is_asked_for_can_be_signed_at_the_last_number_too(store):
    epoch = epoch_of(0)
    draft = Draft(AUDIT, SEALED, "", JournalSealed(MAX_SEQ, ROLE.kid, {CONSUMER: MAX_SEQ}))
    moment = Stamp(T0, 0.0, trusted=True)
    unsigned = encode(draft, origin=epoch.origin, stamp=moment, event_id=ANY_EPOCH, seq=MAX_SEQ, prev=b"p" * 32)
    await keep(store, with_signature(unsigned, ROLE.sign(unsigned)))
    found = (await store.settle([OURS.source], ask_all=True))[OURS.source]
    assert found.journals[epoch.id]["audit"][0] == MAX_SEQ
    sign_ack(Ack(CONSUMER, OURS.audience, found.journals, tuple(found.want)), SigningKey(b"c" * 32))
