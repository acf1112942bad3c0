"""The envelope of every event: a CloudEvent in structured JSON, its class, its place in the chain, and seals.

The bytes are made once, by ``Envelope``. They are stored, hashed, sent and kept unchanged; whoever receives them reads
them with ``decode`` and never encodes them again.
"""

from __future__ import annotations

import enum
import hashlib
from binascii import hexlify
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge import base64url
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

    def __init__(self, word: str) -> None:
        self.number = len(self.__class__.__members__)
        """0, 1, 2: an attribute, because hashing a member costs more than all else that is done with it."""
        self.text = b'"%b"' % word.encode()


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
_text = _encoder.encode


class Envelope:
    """Makes the bytes of events that share their origin and their moment, such as those of one transaction.

    What they have in common is written once: an event costs a third of what encoding it whole would.
    """

    __slots__ = ("_after_class", "_after_id", "_after_subject")

    def __init__(self, origin: Origin, stamp: Stamp) -> None:
        time = datetime.fromtimestamp(stamp.wall, UTC)
        clock = b"trusted" if stamp.trusted else b"untrusted"
        self._after_id = b',"source":%b,"type":' % _text(origin.source)
        self._after_subject = b',"time":%b,"lmclass":' % _text(time)
        self._after_class = b',"epoch":%b,"session":%b,"mono":"%.3f","clock":"%b","data":' % (
            _text(origin.epoch),
            _text(origin.session),
            stamp.mono,
            clock,
        )

    def encode(self, draft: Draft, event_id: str, seq: int, prev: bytes | None) -> bytes:
        """The event's bytes. ``prev`` is the 32-byte hash before it, None outside the audit class.

        Raises ``ProtocolError`` when the event is over ``MAX_EVENT_BYTES``, ``TypeError`` for data that is not JSON.
        """
        place: tuple[bytes, ...] = (b',"seq":', _text(seq)) if seq else ()
        if prev is not None:
            place += (b',"prev":"', hexlify(prev), b'"')
        body = b"".join(
            (
                b'{"specversion":"1.0","id":',
                _text(event_id),
                self._after_id,
                _text(draft.type),
                b',"subject":',
                _text(draft.subject),
                self._after_subject,
                draft.event_class.text,
                self._after_class,
                _text(draft.data),
                *place,
                b"}",
            )
        )
        if len(body) > MAX_EVENT_BYTES:
            raise ProtocolError(
                f"event {draft.type} has {len(body)} bytes, the limit is {MAX_EVENT_BYTES}",
                remedy="its author splits it; nothing was stored",
            )
        return body


def encode(draft: Draft, *, origin: Origin, stamp: Stamp, event_id: str, seq: int, prev: bytes | None) -> bytes:
    """One event by itself; see ``Envelope.encode``. ``seq`` 0 is left out."""
    return Envelope(origin, stamp).encode(draft, event_id=event_id, seq=seq, prev=prev)


def decode(body: bytes) -> CloudEvent:
    """The event in ``body``. Raises ``ProtocolError`` when it is not one, is oversized, or has an unknown class."""
    if len(body) > MAX_EVENT_BYTES:
        raise ProtocolError(f"event of {len(body)} bytes", remedy=f"dropped; the limit is {MAX_EVENT_BYTES}")
    try:
        event = _decoder.decode(body)
        EventClass(event.lmclass)
    except (ValueError, RecursionError) as error:
        # Nesting beyond what the reader can follow is malformed like any other.
        raise ProtocolError(f"not an event: {error}", remedy="dropped; the sender is asked again") from error
    if event.specversion != "1.0":
        raise ProtocolError(f"CloudEvents version {event.specversion!r}", remedy="dropped; this reader knows 1.0")
    return event


def link_hash(prev: bytes, body: bytes) -> bytes:
    """The hash an audit row keeps: SHA-256 over the previous hash and its own bytes."""
    return hashlib.sha256(prev + body).digest()


def with_signature(unsigned: bytes, signature: bytes) -> bytes:
    """Put ``signature`` (64 bytes) into the bytes of a seal that were made with an empty one."""
    text = base64url.encode(signature).encode()
    return unsigned.replace(_NO_SIGNATURE, b'"signature":"' + text + b'"', 1)


def without_signature(sealed: bytes) -> tuple[bytes, bytes]:
    """A seal's bytes as they were signed, and the signature. Raises ``ProtocolError`` when there is not exactly one."""
    head, mark, rest = sealed.partition(b'"signature":"')
    text, quote = rest[:_SIGNATURE_CHARS], rest[_SIGNATURE_CHARS : _SIGNATURE_CHARS + 1]
    if not mark or quote != b'"' or b'"signature":"' in rest:
        raise ProtocolError("a seal without exactly one signature", remedy="quarantined; look at the sender")
    # Canonical spelling only: a second spelling of the same signature would be a second hash of the same seal.
    signature = base64url.decode(text)
    return head + _NO_SIGNATURE + rest[_SIGNATURE_CHARS + 1 :], signature
