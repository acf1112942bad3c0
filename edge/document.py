"""What the operator wants of a node, ``desired``, and what the node says it does of it, ``reported``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from edge import jose
from edge.claims import Seconds, Word, claims_as, refused, require_newer
from edge.identity import Identity
from edge.issuers import DESIRED, Issuers
from edge.keys import SigningKey, VerifyKey


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


class RefusedMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of a desired body that cannot be had, and why, as a stable word."""

    member: str
    reason: str


class Reported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node's own word. ``iss`` is its ``Identity.audience``; ``version`` rises with every edition, over restarts.

    ``applied`` is what is in force of the body of ``desired_version`` (0 for none yet). A document that was refused
    changed nothing: ``refused_version`` is its version, 0 where the last one that came is in force, and ``refused``
    says what was wrong with it.
    """

    iss: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    iat: Seconds
    software: str
    desired_version: Annotated[int, msgspec.Meta(ge=0)]
    issuers_version: Annotated[int, msgspec.Meta(ge=0)]
    applied: dict[str, Any]
    refused_version: Annotated[int, msgspec.Meta(ge=0)] = 0
    refused: tuple[RefusedMember, ...] = ()


def sign_reported(reported: Reported, role_key: SigningKey) -> bytes:
    return jose.sign(reported, jose.REPORTED, role_key)


def read_reported(token: bytes, role_key: VerifyKey, *, audience: str) -> Reported:
    """The node's word, by its role key. Raises ``VerificationError``: a reason of ``edge.jose.verify``,
    ``unknown_key, bad_claims, wrong_issuer``. That it is newer than another is for the reader to ask.
    """

    def find_key(kid: str) -> VerifyKey:
        if kid != role_key.kid:
            raise refused("unknown_key", "another node's key", "check the node's role key")
        return role_key

    reported = claims_as(jose.verify(token, jose.REPORTED, find_key).claims, Reported)
    if reported.iss != audience:
        raise refused("wrong_issuer", "another node's name", "check the node's identity")
    return reported
