"""Who is there: the retained payload of ``presence``, its last will, and which of two is the newer."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from edge.errors import ProtocolError

MAX_PRESENCE_BYTES = 4096


class Presence(msgspec.Struct, frozen=True):
    """What a node says of itself. Unsigned: a broker can lie about it, so nothing acts on it alone.

    ``link`` is the connection's number, rising within ``epoch``; ``session`` the role agent's run; ``version`` its
    software. ``at`` is the node's wall time, for people.
    """

    online: bool
    serving: bool
    link: int
    session: str
    epoch: str
    role: str
    version: str
    at: datetime


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Presence)


def encode(presence: Presence) -> bytes:
    return _encoder.encode(presence)


def decode(payload: bytes) -> Presence:
    """Raises ``ProtocolError``."""
    if len(payload) > MAX_PRESENCE_BYTES:
        raise ProtocolError(f"presence of {len(payload)} bytes", remedy="dropped and counted")
    try:
        return _decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a presence: {error}", remedy="dropped and counted") from error


def supersedes(new: Presence, known: Presence, *, before: Collection[str] = ()) -> bool:
    """Whether ``new`` replaces ``known``. ``before``: the epochs that are proven to lie before that of ``known``.

    Within an epoch the higher link wins, and the later message of the same link; so the will of a connection that was
    taken over cannot put a node offline. Another epoch wins unless it is proven to be older.
    """
    if new.epoch == known.epoch:
        return new.link >= known.link
    return new.epoch not in before
