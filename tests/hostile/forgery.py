"""What somebody makes who can publish anything and holds every key but the right one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from edge.event import BEGUN, GENESIS, EventClass, JournalBegun, Origin
from edge.keys import SigningKey
from tests.cloud_sync.rig import SOURCE, Epoch

FORGER = SigningKey(b"f" * 32)
AUDIT, STATE, TELEMETRY = EventClass
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Impostor:
    """Signs with the forger's key and says that it was ``named``'s."""

    def __init__(self, named: SigningKey) -> None:
        self.kid = named.kid
        self.crypto = FORGER.crypto

    def sign(self, message: bytes) -> bytes:
        return FORGER.sign(message)

    def as_key(self) -> SigningKey:
        return cast("SigningKey", self)


def chain(key: SigningKey, epoch_id: str = "", *, length: int = 5, what: str = "forged.event") -> Epoch:
    """A whole audit chain from seq 1, sealed at its end; under ``epoch_id`` where one is given. It fits itself."""
    epoch = Epoch(key)
    if epoch_id:
        _move(epoch, epoch_id)
    for _ in range(length - 2):
        epoch.add(AUDIT, what)
    epoch.seal()
    return epoch


def _move(epoch: Epoch, epoch_id: str, source: str = SOURCE) -> None:
    epoch.id = epoch_id
    epoch.origin = Origin(source, epoch_id, "session-1")
    epoch.last = dict.fromkeys(EventClass, 0)
    epoch.hashes = [GENESIS]
    epoch.items = {each: [] for each in EventClass}
    epoch.first_unsealed = 1
    epoch.add(AUDIT, BEGUN, JournalBegun("", None, "new"))


def batch(bodies: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(bodies) + b"]"


def one_byte_changed(body: bytes) -> bytes:
    """Still an event with the same number and the same neighbour before it: only what it tells is another thing."""
    return body.replace(b'"subject":"door-1"', b'"subject":"door-2"')


def spelt_otherwise(seal: bytes) -> bytes:
    """The same signature in other bytes: base64 leaves four bits of the last character open."""
    head, mark, tail = seal.partition(b'"signature":"')
    last = _BASE64URL.index(tail[85])
    return head + mark + tail[:85] + _BASE64URL[last ^ 1 : (last ^ 1) + 1] + tail[86:]
