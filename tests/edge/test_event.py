"""The envelope: bytes that any reader of CloudEvents understands, made once, and seals that cover them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ProtocolError
from edge.event import (
    GENESIS,
    MAX_EVENT_BYTES,
    SEALED,
    Draft,
    EventClass,
    JournalSealed,
    Origin,
    Stamp,
    decode,
    encode,
    link_hash,
    with_signature,
    without_signature,
)
from edge.identifiers import uuid7, uuid7_run
from tests.edge.trust import ROLE

ORIGIN = Origin("/lm/v1/acme/acme_locker-7", "019aa8f0-7c1e-7abc-8def-0123456789ab", "0f" * 12)
STAMP = Stamp(1_800_000_000.25, 12.3456, trusted=True)
ID = "019aa8f0-7c1e-7abc-8def-00000000000a"


def made(event_class: EventClass = EventClass.AUDIT, subject: str = "door/1", data: Any = None, **named: Any) -> bytes:
    told = Draft(event_class, named.pop("type", "locker.door.opened"), subject, {} if data is None else data)
    members: dict[str, Any] = {"stamp": STAMP, "event_id": ID, "seq": 7, "prev": GENESIS} | named
    return encode(told, origin=ORIGIN, **members)


def test_the_bytes_say_what_the_contract_names() -> None:
    assert json.loads(made(data={"door": "B7"})) == {
        "specversion": "1.0",
        "id": ID,
        "source": ORIGIN.source,
        "type": "locker.door.opened",
        "subject": "door/1",
        "time": "2027-01-15T08:00:00.250000Z",
        "lmclass": "audit",
        "epoch": ORIGIN.epoch,
        "session": ORIGIN.session,
        "mono": "12.346",
        "clock": "trusted",
        "data": {"door": "B7"},
        "seq": 7,
        "prev": "00" * 32,
    }


def test_what_an_event_does_not_have_is_left_out() -> None:
    told = json.loads(made(EventClass.STATE, seq=0, prev=None, stamp=Stamp(0.0, 0.0, trusted=False)))
    assert not {"seq", "prev"} & told.keys()
    assert told["clock"] == "untrusted"


@given(
    st.text(), st.text(), st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.sampled_from(EventClass)
)
def test_any_words_come_back_as_they_went(kind: str, subject: str, data: Any, event_class: EventClass) -> None:
    event = decode(made(event_class, subject, data, type=kind))
    assert (event.type, event.subject, event.lmclass) == (kind, subject, event_class.value)
    assert json.loads(bytes(event.data)) == json.loads(msgspec.json.encode(data))


def test_an_event_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    room = MAX_EVENT_BYTES - len(made(data={"text": ""}))
    assert len(made(data={"text": "x" * room})) == MAX_EVENT_BYTES
    with pytest.raises(ProtocolError):
        made(data={"text": "x" * (room + 1)})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        made().replace(b'"audit"', b'"gossip"'),
        made().replace(b'"1.0"', b'"0.3"'),
        made().replace(b'"seq":7', b'"seq":"7"'),
        b" " * (MAX_EVENT_BYTES + 1),
    ],
)
def test_what_is_not_an_event_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


def sealed() -> tuple[bytes, bytes]:
    """A seal without and with its signature."""
    unsigned = made(type=SEALED, data=JournalSealed(1, ROLE.kid, {"hub": 1}))
    return unsigned, with_signature(unsigned, ROLE.sign(unsigned))


def test_a_seal_gives_back_the_bytes_that_were_signed() -> None:
    unsigned, whole = sealed()
    assert without_signature(whole) == (unsigned, ROLE.sign(unsigned))
    assert decode(whole).type == SEALED


@given(st.data())
def test_no_changed_byte_of_a_seal_keeps_its_signature(data: st.DataObject) -> None:
    _, whole = sealed()
    at, to = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = whole[:at] + bytes([to]) + whole[at + 1 :]
    if changed == whole:
        return
    try:
        body, signature = without_signature(changed)
    except ProtocolError:
        return
    assert not ROLE.public.verify(signature, body)


@pytest.mark.parametrize(
    "wrong", [b"", made(), sealed()[1] * 2, sealed()[1].replace(b'"signature":"', b'"signature":"!')]
)
def test_a_seal_without_exactly_one_signature_is_refused(wrong: bytes) -> None:
    with pytest.raises(ProtocolError):
        without_signature(wrong)


def test_the_chain_depends_on_every_byte_before() -> None:
    first, second = made(seq=1), made(seq=2)
    whole = link_hash(link_hash(GENESIS, first), second)
    assert whole != link_hash(link_hash(GENESIS, first + b" "), second)
    assert len(whole) == 32


@given(st.floats(0, 4_000_000_000), st.binary(min_size=10, max_size=10))
def test_ids_of_one_moment_rise_and_are_of_version_7(wall: float, random: bytes) -> None:
    run = uuid7_run(wall, random)
    ids = [next(run) for _ in range(50)]
    assert sorted(set(ids)) == ids
    milliseconds = f"{int(wall * 1000):012x}"
    for one in [*ids, uuid7(wall, random)]:
        groups = one.split("-")
        assert [len(group) for group in groups] == [8, 4, 4, 4, 12]
        assert (groups[0] + groups[1], groups[2][0]) == (milliseconds, "7")
        assert groups[3][0] in "89ab"
