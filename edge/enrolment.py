"""How a node gets its certificate: what it asks the enrolment service, what it proves, and what it takes back.

A *claim* is a word that a person carries from the service to the node. It is worth one certificate for one name, once.
The role key signs over it and over the certificate request, so a stolen request is worth nothing, and no relay can put
another key in its place. Whoever steals a claim before it is used is that node until the node's own try is refused,
which the audit shows: claims are short-lived, and travel by another way than the address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

from edge import base64url, jose
from edge.claims import claims_as, refused
from edge.errors import ConfigError, Fault, LastmileError, ProtocolError
from edge.identity import Identity, identify, split_node
from edge.issuers import MAX_ROOTS, Issuers, read_issuers
from edge.keys import Random, SealingKey, SigningKey, VerifyKey

ROOT_PATH = "/v1/root.pem"
ENROL_PATH = "/v1/enrol"
RENEW_PATH = "/v1/renew"

CLAIM_BYTES = 20
"""160 random bits: nobody guesses one, however long it is valid, and a person can still type 27 characters."""

MAX_BODY_BYTES = 64 * 1024
"""Of a request or an answer: an issuers document has 32 KiB at most, all else a few."""

Pem = Annotated[str, msgspec.Meta(max_length=16_384)]
Token = Annotated[str, msgspec.Meta(max_length=jose.MAX_TOKEN_BYTES)]


class EnrolmentRefused(LastmileError):
    """The service said no. ``reason`` is its word; nothing was given, and nothing here was changed."""

    fault = Fault.OPERATOR

    def __init__(self, reason: str, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.reason = reason


class EnrolRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST to ``ENROL_PATH``."""

    claim: Annotated[str, msgspec.Meta(max_length=64)]
    request: Pem
    role: dict[str, str]
    """The role key's public JWK."""
    proof: Token


class EnrolProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the role key signs at enrolment (``lm-enrol+jwt``): its node, the request and the claim, as digests."""

    iss: str
    request: str
    claim: str


class Enrolled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an enrolled node needs to know; all of it public."""

    certificate: Pem
    """The node's own, then the authority that issued it."""
    authority: Pem
    """Who signs brokers and the enrolment service."""
    roots: Annotated[tuple[dict[str, str], ...], msgspec.Meta(min_length=1, max_length=MAX_ROOTS)]
    issuers: Token
    lowest_issuers: Annotated[int, msgspec.Meta(ge=1)]
    """No issuers document with a lower version may ever be believed by this node."""
    hub: dict[str, str]


class RenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST to ``RENEW_PATH`` over a connection with the present certificate."""

    request: Pem
    proof: Token


class RenewProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the role key signs for a renewal (``lm-renew+jwt``)."""

    iss: str
    request: str


class Renewed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new certificate and its chain."""

    certificate: Pem


class Refusal(msgspec.Struct, frozen=True):
    """Why not: ``reason`` is one stable word."""

    reason: str
    what: str
    remedy: str


class Terms(msgspec.Struct, frozen=True):
    """What ``Enrolled`` means once it is checked."""

    roots: tuple[VerifyKey, ...]
    issuers: Issuers
    hub: SealingKey


def new_claim(random: Random) -> str:
    return base64url.encode(random(CLAIM_BYTES))


def claim_digest(claim: str) -> str:
    """What is kept of a claim: whoever reads the database cannot use it. No salt is needed for 160 random bits."""
    return base64url.encode(hashlib.sha256(claim.encode()).digest())


def prove_enrolment(node: str, request_digest: str, claim: str, role: SigningKey) -> str:
    """The role key's word that ``node`` asks for this certificate with this claim."""
    return jose.sign(EnrolProof(node, request_digest, claim_digest(claim)), jose.ENROL, role).decode()


def check_enrolment(asked: EnrolRequest, node: str, request_digest: str) -> VerifyKey:
    """The role key that asks. Raises ``VerificationError``: ``bad_key``, ``bad_proof`` or a reason of ``jose``."""
    role = _role_key(asked.role)
    claims = jose.verify(asked.proof.encode(), jose.ENROL, lambda kid: _only(role, kid)).claims
    proof = claims_as(claims, EnrolProof)
    if proof != EnrolProof(node, request_digest, claim_digest(asked.claim)):
        raise refused("bad_proof", "the proof is about another request, claim or node", "enrol again from the node")
    return role


def vouch_for(request_digest: str, identity: Identity, role: SigningKey) -> bytes:
    """The role key's word that this node asks for a new certificate. Worth nothing to anyone but the service."""
    return jose.sign(RenewProof(identity.audience, request_digest), jose.RENEW, role)


def check_renewal(proof: str, request_digest: str, identity: Identity, role: VerifyKey) -> None:
    """Raises ``VerificationError``: ``bad_proof`` or a reason of ``jose``."""
    claims = jose.verify(proof.encode(), jose.RENEW, lambda kid: _only(role, kid)).claims
    if claims_as(claims, RenewProof) != RenewProof(identity.audience, request_digest):
        raise refused("bad_proof", "the proof is about another request or node", "ask the role agent again")


def check_terms(enrolled: Enrolled, *, pinned_roots: Sequence[str] = (), lowest_issuers: int = 1) -> Terms:
    """The keys that the node is to believe from now on.

    ``pinned_roots`` (thumbprints) and ``lowest_issuers`` come by another way than the service, from the person at the
    node; a service that has been taken over cannot go below them. Raises ``ConfigError`` or ``VerificationError``.
    """
    roots = tuple(VerifyKey.from_jwk(each) for each in enrolled.roots)
    if pinned_roots and {root.kid for root in roots} - set(pinned_roots):
        raise ConfigError("the service names a root that was not pinned", remedy="ask the operator; enrol nothing")
    lowest = max(enrolled.lowest_issuers, lowest_issuers)
    issuers = read_issuers(enrolled.issuers.encode(), roots, held_version=lowest - 1)
    return Terms(roots, issuers, SealingKey.from_jwk(enrolled.hub))


def node_identity(node: str, role: VerifyKey) -> Identity:
    """Raises ``ConfigError`` for what is no node's name."""
    return identify(*split_node(node), role)


def _role_key(jwk: dict[str, str]) -> VerifyKey:
    try:
        return VerifyKey.from_jwk(jwk)
    except (ConfigError, ProtocolError) as error:
        raise refused("bad_key", f"role key: {error.what}", "send the node's public role key") from error


def _only(role: VerifyKey, kid: str) -> VerifyKey:
    if kid != role.kid:
        raise refused("bad_proof", "signed by another key than the role key", "sign it with the node's role key")
    return role
