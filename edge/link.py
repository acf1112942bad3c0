"""What the role agent and cloud-sync say to each other over the local socket: one message a packet, MessagePack.

cloud-sync asks, the role agent answers with the same ``n``; ``Wake``, ``Out`` and ``Serving`` come unasked. Neither
side trusts the other further than these shapes: the role agent verifies every signature itself.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from edge.errors import ProtocolError

MAX_PACKET_BYTES = 64 * 1024
PULL_BYTES = 56 * 1024
"""Event bytes in one answer to ``Pull``: leaves room for the frame around 500 small events."""
MAX_PULL_EVENTS = 500
MAX_TOKEN_BYTES = 32 * 1024

Number = Annotated[int, msgspec.Meta(ge=0, le=2**46 - 1)]
"""A seq, as the journal's rows can hold it."""
Word = Annotated[str, msgspec.Meta(max_length=64)]
Token = Annotated[bytes, msgspec.Meta(max_length=MAX_TOKEN_BYTES)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First packet of every connection."""

    n: int
    version: int = 1


class JournalView(msgspec.Struct, frozen=True):
    """One epoch: per class [seq every consumer has acknowledged, last seq], oldest epoch first."""

    epoch: str
    classes: dict[str, tuple[int, int]]


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Answer to ``Hello``. ``instance`` is the thumbprint of the role key, ``session`` the agent's run."""

    n: int
    tenant: str
    node: str
    role: str
    instance: str
    session: str
    software: str
    serving: bool
    consumers: tuple[str, ...]
    journals: tuple[JournalView, ...]


class Link(msgspec.Struct, frozen=True, tag="link"):
    """Asked before every CONNECT."""

    n: int


class LinkNumber(msgspec.Struct, frozen=True, tag="link_number"):
    """Answer to ``Link``: committed, and higher than any before within ``epoch``."""

    n: int
    link: int
    epoch: str


class Pull(msgspec.Struct, frozen=True, tag="pull"):
    """Events of one epoch and class with ``seq`` above ``after``, at most ``max`` and ``PULL_BYTES``."""

    n: int
    epoch: Word
    event_class: Word
    after: Number
    max: Annotated[int, msgspec.Meta(ge=1)]


class Events(msgspec.Struct, frozen=True, tag="events"):
    """Answer to ``Pull``: event bytes in order of seq, thinned ranges in between as ``node.events.dropped`` events.

    ``upto`` is the last seq covered by ``bodies`` (rows and ranges together), equal to ``after`` when there is nothing.
    """

    n: int
    bodies: tuple[bytes, ...]
    upto: int


class Held(msgspec.Struct, frozen=True, tag="held"):
    """A consumer's signed ack, as it came. Answered by ``HeldAnswer``."""

    n: int
    consumer: Word
    token: Token


class HeldAnswer(msgspec.Struct, frozen=True, tag="held_answer"):
    """``refused`` is "" or the reason word. ``want``: [epoch, class, from, to] that exist and may be sent again."""

    n: int
    refused: str
    journals: tuple[JournalView, ...]
    want: tuple[tuple[str, str, int, int], ...]


class Passed(msgspec.Struct, frozen=True, tag="passed"):
    """The broker has taken all up to ``upto``. Ends a row only where the node's config lets a PUBACK do so, and never
    one of audit. Answered by ``HeldAnswer``.
    """

    n: int
    epoch: Word
    event_class: Word
    upto: Number


class Unsendable(msgspec.Struct, frozen=True, tag="unsendable"):
    """The broker will not take the event ``seq``, for a reason word. Answered by ``HeldAnswer``."""

    n: int
    epoch: Word
    event_class: Word
    seq: Number
    reason: Word


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """A signed command or document, as it came. ``kind``: cmd, desired, issuers."""

    n: int
    kind: Word
    name: Word
    token: Token


class OfferAnswer(msgspec.Struct, frozen=True, tag="offer_answer"):
    """Committed: the broker's message may be acknowledged. ``results``: (id, signed result) to publish on
    ``res/{id}``.
    """

    n: int
    results: tuple[tuple[str, bytes], ...]


class Vouch(msgspec.Struct, frozen=True, tag="vouch"):
    """The digest of a request for a new certificate (``edge.certificate.Request.digest``)."""

    n: int
    request: Word


class Vouched(msgspec.Struct, frozen=True, tag="vouched"):
    """Answer to ``Vouch``: the role key's word, for the enrolment service alone, that this node asks for it."""

    n: int
    proof: Token


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """There are events above what was last pulled."""


class Out(msgspec.Struct, frozen=True, tag="out"):
    """To publish: ``kind`` res (name = command id), live (name = stream) or reported (name = "")."""

    kind: str
    name: str
    payload: bytes


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """Whether the role can serve people now; goes into presence."""

    serving: bool


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """The request ``n`` was not understood or not allowed."""

    n: int
    reason: str


Request = Hello | Link | Pull | Held | Passed | Unsendable | Offer | Vouch
Answer = Welcome | LinkNumber | Events | HeldAnswer | OfferAnswer | Vouched | Fault
Message = Request | Answer | Wake | Out | Serving

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Answer | Wake | Out | Serving] = msgspec.msgpack.Decoder(
    Answer | Wake | Out | Serving
)


def encode(message: Message) -> bytes:
    """One packet. Raises ``ProtocolError`` when it is over ``MAX_PACKET_BYTES``."""
    packet = _encoder.encode(message)
    if len(packet) > MAX_PACKET_BYTES:
        raise ProtocolError(f"packet of {len(packet)} bytes", remedy="its sender asks for less at a time")
    return packet


def decode_request(packet: bytes) -> Request:
    """What cloud-sync asks. Raises ``ProtocolError``; the role agent ends the connection."""
    try:
        return _requests.decode(packet)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"not a request: {error}", remedy="the connection ends") from error


def decode_reply(packet: bytes) -> Answer | Wake | Out | Serving:
    """What the role agent says. Raises ``ProtocolError``; cloud-sync ends the connection and asks again."""
    try:
        return _replies.decode(packet)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"not an answer: {error}", remedy="the connection ends") from error
