"""The envelope of every event: a CloudEvent in structured JSON, its class, its place in the chain, and seals.

The bytes are made once, by ``encode``. They are stored, hashed, sent and kept unchanged; whoever receives them reads
them with ``decode`` and never encodes them again.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge.errors import ProtocolError

MAX_EVENT_BYTES = 32 * 1024
"""One event, so that a packet of the local socket (64 KiB) always holds at least one."""

GENESIS = bytes(32)
"""What stands for "the hash before the first audit event" of an epoch."""

SEALED = "node.journal.sealed"
BEGUN = "node.journal.begun"
DROPPED = "node.events.dropped"

_NO_SIGNATURE = b'"signature":""'
_SIGNATURE_CHARS = 86
"""An Ed25519 signature, 64 bytes, in base64url without padding."""


class EventClass(enum.Enum):
    """How an event may end: audit is never dropped, state survives as the newest of its subject, telemetry is
    thinned.
    """

    AUDIT = "audit"
    STATE = "state"
    TELEMETRY = "telemetry"


class Draft(msgspec.Struct, frozen=True):
    """An event as its author tells it; the journal gives it its number and its place in the chain.

    ``type`` reads like ``locker.door.opened``, ``subject`` names the thing it is about (a door, a booking), ``data``
    is a struct of the package's ``contract``.
    """

    event_class: EventClass
    type: str
    subject: str
    data: Any


class CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """CloudEvents 1.0, JSON format, with our extension attributes.

    ``seq`` counts from 1 without a gap in (epoch, class). ``prev`` is the hex hash of the audit event before this one
    and absent in the other classes; ``seq`` is absent (0) only in ``node.events.dropped``. ``session`` is the random
    id of the agent's run, ``mono`` its running time in seconds, ``clock`` says whether ``time`` can be believed.
    """

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    lmclass: str
    epoch: str
    session: str
    mono: str
    clock: str
    data: msgspec.Raw
    seq: int = 0
    prev: str = ""
    specversion: str = ""


class _Outgoing(msgspec.Struct, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    lmclass: str
    epoch: str
    session: str
    mono: str
    clock: str
    data: Any
    seq: int = 0
    prev: str = ""


class JournalBegun(msgspec.Struct, frozen=True):
    """Data of ``node.journal.begun``, the first audit event of an epoch.

    ``previous`` is the epoch before, "" for a new node. ``last_seq`` is that epoch's highest audit seq as far as this
    node can know, None where it cannot. ``cause``: new, quarantined, rolled_back, restored, cloned, lost.
    ``kept_seq`` and ``kept_hash`` are the end of the previous epoch's chain as this node has it now (0 and "" for
    none): once this event is sealed they vouch for that chain as a seal of its own would, because nobody may add to
    it any more.
    """

    previous: str
    last_seq: int | None
    cause: str
    kept_seq: int = 0
    kept_hash: str = ""


class JournalSealed(msgspec.Struct, frozen=True):
    """Data of ``node.journal.sealed``: the role key vouches for every audit event from ``first`` to this one.

    ``consumers`` tells where each consumer's share of this epoch begins (its ``from``). ``signature`` is Ed25519 over
    this event's own bytes with the signature empty; because they hold ``prev``, it covers the chain.
    """

    first: int
    kid: str
    consumers: dict[str, int]
    signature: str = ""


class EventsDropped(msgspec.Struct, frozen=True):
    """Data of ``node.events.dropped``: the numbers ``first`` to ``last`` of a class were thinned, ``count`` rows in
    all.
    """

    event_class: str
    first: int
    last: int
    count: int
    reason: str


class Stamp(msgspec.Struct, frozen=True):
    """When something was told: wall seconds, running seconds, and whether the wall clock was trusted."""

    wall: float
    mono: float
    trusted: bool


class Origin(msgspec.Struct, frozen=True):
    """What all events of one run of one agent share."""

    source: str
    epoch: str
    session: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(CloudEvent)


def encode(draft: Draft, *, origin: Origin, stamp: Stamp, event_id: str, seq: int, prev: bytes | None) -> bytes:
    """The event's bytes. ``prev`` is the 32-byte hash before it, None outside the audit class.

    Raises ``ProtocolError`` when the event is over ``MAX_EVENT_BYTES``.
    """
    body = _encoder.encode(
        _Outgoing(
            "1.0",
            event_id,
            origin.source,
            draft.type,
            draft.subject,
            datetime.fromtimestamp(stamp.wall, UTC),
            draft.event_class.value,
            origin.epoch,
            origin.session,
            f"{stamp.mono:.3f}",
            "trusted" if stamp.trusted else "untrusted",
            draft.data,
            seq,
            prev.hex() if prev is not None else "",
        )
    )
    if len(body) > MAX_EVENT_BYTES:
        raise ProtocolError(
            f"event {draft.type} has {len(body)} bytes, the limit is {MAX_EVENT_BYTES}",
            remedy="its author splits it; nothing was stored",
        )
    return body


def decode(body: bytes) -> CloudEvent:
    """The event in ``body``. Raises ``ProtocolError`` when it is not one, is oversized, or has an unknown class."""
    if len(body) > MAX_EVENT_BYTES:
        raise ProtocolError(f"event of {len(body)} bytes", remedy=f"dropped; the limit is {MAX_EVENT_BYTES}")
    try:
        event = _decoder.decode(body)
        EventClass(event.lmclass)
    except ValueError as error:
        raise ProtocolError(f"not an event: {error}", remedy="dropped; the sender is asked again") from error
    if event.specversion != "1.0":
        raise ProtocolError(f"CloudEvents version {event.specversion!r}", remedy="dropped; this reader knows 1.0")
    return event


def link_hash(prev: bytes, body: bytes) -> bytes:
    """The hash an audit row keeps: SHA-256 over the previous hash and its own bytes."""
    return hashlib.sha256(prev + body).digest()


def with_signature(unsigned: bytes, signature: bytes) -> bytes:
    """Put ``signature`` (64 bytes) into the bytes of a seal that were made with an empty one."""
    text = base64.urlsafe_b64encode(signature).rstrip(b"=")
    return unsigned.replace(_NO_SIGNATURE, b'"signature":"' + text + b'"', 1)


def without_signature(sealed: bytes) -> tuple[bytes, bytes]:
    """A seal's bytes as they were signed, and the signature. Raises ``ProtocolError`` when there is not exactly one."""
    head, mark, rest = sealed.partition(b'"signature":"')
    text, quote = rest[:_SIGNATURE_CHARS], rest[_SIGNATURE_CHARS : _SIGNATURE_CHARS + 1]
    if not mark or quote != b'"' or b'"signature":"' in rest:
        raise ProtocolError("a seal without exactly one signature", remedy="quarantined; look at the sender")
    try:
        signature = base64.b64decode(text + b"==", altchars=b"-_", validate=True)
    except ValueError as error:
        raise ProtocolError("a seal whose signature is not base64url", remedy="quarantined") from error
    return head + _NO_SIGNATURE + rest[_SIGNATURE_CHARS + 1 :], signature
