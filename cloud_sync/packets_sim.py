"""MQTT 5 in bytes, as far as a simulated node speaks it: packets are made here, and read from bytes as they come.

Written from the OASIS standard (MQTT 5.0, sections 2 and 3), apart from what the product itself speaks it with, so that
thousands of clients fit one process and an error in one of the two is seen by the broker between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from cloud_sync.ports import Will
from edge.errors import ProtocolError

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
PING = bytes([12 << 4, 0])
GOODBYE = bytes([DISCONNECT << 4, 0])

MAX_PACKET = 1024 * 1024
"""Bytes; what a broker sends to a node is far smaller, so a longer one means that the stream is not MQTT."""
_LENGTH_BYTES = 4
"""Section 1.5.5: a variable byte integer has at most four."""

SESSION_EXPIRY, RECEIVE_MAXIMUM, MAXIMUM_PACKET = 0x11, 0x21, 0x27
_BYTE, _SHORT, _LONG, _VARIABLE, _TEXT, _PAIR = range(6)
_KINDS = {
    _BYTE: (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A),
    _SHORT: (0x13, RECEIVE_MAXIMUM, 0x22, 0x23),
    _LONG: (0x02, SESSION_EXPIRY, 0x18, MAXIMUM_PACKET),
    _VARIABLE: (0x0B,),
    _TEXT: (0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F),
    _PAIR: (0x26,),
}
_KIND_OF = {identifier: kind for kind, identifiers in _KINDS.items() for identifier in identifiers}
"""Section 2.2.2.2: how the value of each property is spelt."""


class Packet(msgspec.Struct, frozen=True):
    """What a broker sent. ``body`` follows the fixed header, whose low four bits are ``flags``."""

    kind: int
    flags: int
    body: bytes


class Published(msgspec.Struct, frozen=True):
    """A PUBLISH. ``packet_id`` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int


class Reader:
    """Bytes in, packets out; keeps what is not whole yet."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Raises ``ProtocolError`` for what is not MQTT."""
        self._kept += data
        while (length := _length(self._kept)) is not None:
            size, start = length
            if size > MAX_PACKET:
                raise ProtocolError(f"an MQTT packet of {size} bytes", remedy="look at what answers on that port")
            if len(self._kept) < start + size:
                return
            first = self._kept[0]
            packet = Packet(first >> 4, first & 0x0F, bytes(self._kept[start : start + size]))
            del self._kept[: start + size]
            yield packet


def connect(client_id: str, *, keepalive: int, session_expiry: int, receive_maximum: int, will: Will | None) -> bytes:
    """CONNECT (section 3.1) that keeps a session; ``session_expiry`` and ``keepalive`` in seconds."""
    flags = 0x00 if will is None else 0x04 | 1 << 3 | 1 << 5  # will, QoS 1, retained
    properties = bytes([SESSION_EXPIRY]) + session_expiry.to_bytes(4, "big")
    properties += bytes([RECEIVE_MAXIMUM]) + receive_maximum.to_bytes(2, "big")
    body = _text("MQTT") + bytes([5, flags]) + keepalive.to_bytes(2, "big") + _counted(properties) + _text(client_id)
    if will is not None:
        body += _counted(b"") + _text(will.topic) + _data(will.payload)
    return _packet(1, 0, body)


def publish(topic: str, payload: bytes, *, qos: int, retain: bool, packet_id: int) -> bytes:
    """PUBLISH (section 3.3)."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    return _packet(PUBLISH, qos << 1 | retain, _text(topic) + number + _counted(b"") + payload)


def puback(packet_id: int) -> bytes:
    return _packet(PUBACK, 0, packet_id.to_bytes(2, "big"))


def subscribe(filters: Sequence[str], packet_id: int) -> bytes:
    """SUBSCRIBE (section 3.8) with QoS 1."""
    wanted = b"".join(_text(each) + b"\x01" for each in filters)
    return _packet(8, 0x02, packet_id.to_bytes(2, "big") + _counted(b"") + wanted)


def read_connack(body: bytes) -> tuple[int, dict[int, int]]:
    """The reason code and the properties that are numbers. Raises ``ProtocolError``."""
    properties, _ = _properties(body, 2)
    return _at(body, 1), properties


def read_published(packet: Packet) -> Published:
    """Raises ``ProtocolError``."""
    qos = packet.flags >> 1 & 3
    size = int.from_bytes(packet.body[:2], "big")
    at = 2 + size + (2 if qos else 0)
    _, start = _properties(packet.body, at)
    try:
        topic = packet.body[2 : 2 + size].decode()
    except UnicodeDecodeError as error:
        raise _malformed() from error
    number = int.from_bytes(packet.body[2 + size : at], "big")
    return Published(topic, packet.body[start:], qos, bool(packet.flags & 1), number)


def read_puback(body: bytes) -> tuple[int, int]:
    """Packet id and reason code, which may be left out for success."""
    return int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0  # noqa: PLR2004  after the packet id


def read_suback(body: bytes) -> tuple[int, tuple[int, ...]]:
    """Packet id and a reason code for each filter. Raises ``ProtocolError``."""
    _, start = _properties(body, 2)
    return int.from_bytes(body[:2], "big"), tuple(body[start:])


def _length(kept: bytearray) -> tuple[int, int] | None:
    """Bytes of the body, and where it starts; None when that is not told yet."""
    value = 0
    for at in range(_LENGTH_BYTES):
        if len(kept) < at + 2:
            return None
        value |= (kept[at + 1] & 0x7F) << 7 * at
        if kept[at + 1] < 0x80:  # noqa: PLR2004  the bit that says that another byte follows
            return value, at + 2
    raise _malformed()


def _properties(body: bytes, at: int) -> tuple[dict[int, int], int]:
    """The properties that are numbers, and where they end."""
    size, start = _length(bytearray(b"\0" + body[at : at + _LENGTH_BYTES])) or (0, 1)
    at += start - 1
    end, found = at + size, dict[int, int]()
    if end > len(body):
        raise _malformed()
    while at < end:
        identifier = body[at]
        kind = _KIND_OF.get(identifier)
        if kind is None:
            raise _malformed()
        value, at = _value(body, at + 1, kind)
        found[identifier] = value
    return found, end


def _value(body: bytes, at: int, kind: int) -> tuple[int, int]:
    if kind in (_TEXT, _PAIR):
        for _ in range(1 + (kind == _PAIR)):
            at += 2 + int.from_bytes(body[at : at + 2], "big")
        return 0, at
    if kind == _VARIABLE:
        value, start = _length(bytearray(b"\0" + body[at : at + _LENGTH_BYTES])) or (0, 2)
        return value, at + start - 1
    size = {_BYTE: 1, _SHORT: 2, _LONG: 4}[kind]
    return int.from_bytes(body[at : at + size], "big"), at + size


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + _variable(len(body)) + body


def _counted(data: bytes) -> bytes:
    return _variable(len(data)) + data


def _variable(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _text(text: str) -> bytes:
    return _data(text.encode())


def _data(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _at(body: bytes, at: int) -> int:
    if len(body) <= at:
        raise _malformed()
    return body[at]


def _malformed() -> ProtocolError:
    return ProtocolError("not an MQTT 5 packet", remedy="look at what answers on that port")
