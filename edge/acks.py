"""A consumer's signed word that it holds a node's events: the only thing that moves a cursor of the audit class."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

import msgspec

from edge import jose
from edge.claims import Uuid7, Word, claims_as, refused
from edge.identity import Identity
from edge.issuers import ACK, Issuers
from edge.keys import SigningKey

MAX_JOURNALS = 16
"""Epochs in one ack. Each restore, clone or quarantine begins one; old ones leave once they are held."""

MAX_WANTED = 64
"""Ranges asked for in one ack: what is still missing is asked for again in the next."""

_REMEDY = "send the members that the contract names"

ClassName = Literal["audit", "state", "telemetry"]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""0 is "none yet"; above, what SQLite can count."""

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Cursor = tuple[Seq, Hash | None]
Range = tuple[Uuid7, ClassName, Seq, Seq]


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``iss`` is the consumer's name. All up to each ``seq`` is held; ``want`` lists what it lacks, ends included.

    The hash is the hex SHA-256 of the audit chain at that seq, null in the other classes.
    """

    iss: Word
    aud: str
    journals: Annotated[dict[Uuid7, dict[ClassName, Cursor]], msgspec.Meta(max_length=MAX_JOURNALS)]
    want: Annotated[tuple[Range, ...], msgspec.Meta(max_length=MAX_WANTED)] = ()


def read_ack(
    token: bytes, issuers: Issuers, identity: Identity, *, consumers: Collection[str], wall: float | None
) -> Ack:
    """The ack of one of the configured ``consumers``, signed for this node under the scope ``ack``.

    Whether the hash is the journal's own is for the journal to say. Raises ``VerificationError``: a reason of
    ``Issuers.check``, ``unknown_consumer`` or ``bad_claims``. ``wall`` is None while the clock is not trusted.
    """
    claims, issuer = issuers.check(token, jose.ACK, ACK, node=identity.node, audience=identity.audience, wall=wall)
    if issuer.name not in consumers:
        raise refused("unknown_consumer", f"{issuer.name} is no consumer here", "name it in the node's config")
    ack = claims_as(claims, Ack)
    _require_sense(ack.journals, ack.want)
    return ack


def sign_ack(ack: Ack, key: SigningKey) -> bytes:
    """The bytes to publish. Raises ``VerificationError`` (``bad_claims``) for what no node would take."""
    shaped = claims_as(msgspec.to_builtins(ack), Ack)
    _require_sense(shaped.journals, shaped.want)
    return jose.sign(ack, jose.ACK, key)


def _require_sense(journals: Mapping[str, Mapping[ClassName, Cursor]], want: tuple[Range, ...]) -> None:
    for classes in journals.values():
        for name, (seq, link) in classes.items():
            if (link is not None) != (name == "audit" and seq > 0):
                raise refused("bad_claims", "a hash belongs to audit, from seq 1, and to nothing else", _REMEDY)
    if any(first < 1 or last < first for _, _, first, last in want):
        raise refused("bad_claims", "a wanted range begins at 1 or later and ends no earlier", _REMEDY)
