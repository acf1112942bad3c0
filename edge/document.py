"""Signed documents that a node keeps in force until a newer edition comes: ``desired``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from edge import jose
from edge.claims import Seconds, Word, claims_as, require_newer
from edge.identity import Identity
from edge.issuers import DESIRED, Issuers
from edge.keys import SigningKey


class Desired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator wants of one node. ``body`` is for the role to read; it refuses what it may not change."""

    iss: Word
    aud: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    issued_at: Seconds
    body: dict[str, Any]


def read_desired(
    token: bytes, issuers: Issuers, identity: Identity, *, held_version: int, wall: float | None
) -> Desired:
    """The document, signed for this node under the scope ``desired``, newer than the one held (0 for none).

    Raises ``VerificationError``: a reason of ``Issuers.check``, ``not_newer`` or ``bad_claims``. ``wall`` is None while
    the clock is not trusted.
    """
    claims, _ = issuers.check(token, jose.DESIRED, DESIRED, node=identity.node, audience=identity.audience, wall=wall)
    desired = claims_as(claims, Desired)
    require_newer(desired.version, held_version)
    return desired


def sign_desired(desired: Desired, key: SigningKey) -> bytes:
    return jose.sign(desired, jose.DESIRED, key)
