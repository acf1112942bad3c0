"""Whose signatures a node believes, for what and how long: the ``issuers`` document, signed by the operator's root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from edge import jose
from edge.claims import Seconds, Word, claims_as, refused, require_audience, require_newer
from edge.errors import ConfigError
from edge.keys import SigningKey, VerifyKey

ACK: Final = "ack"
AUDIT: Final = "audit"
BADGE: Final = "badge"
BOOK: Final = "book"
CLEAR: Final = "clear"
DESIRED: Final = "desired"
NONCE: Final = "nonce"
OPEN: Final = "open"
TIME: Final = "time"
VOUCHER: Final = "voucher"

MAX_KEYS = 64
"""Listed at once, revoked ones among them: an operator has a handful, and 64 still fit one token."""

MAX_ROOTS = 2
"""Pinned at enrolment: one in use, one in the safe for the day the first is lost."""

NodePattern = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,97}\*?(?!\n)$")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One issuer's key. ``nodes`` are whole names, or beginnings followed by ``*``, such as ``acme_*`` for a tenant.

    A revoked key stays listed for as long as commands under it may be repeated: only so can the node still answer what
    became of them.
    """

    name: Word
    jwk: dict[str, str]
    scopes: tuple[Word, ...]
    nodes: tuple[NodePattern, ...]
    not_before: Seconds
    not_after: Seconds
    revoked: bool = False


class IssuersDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of ``issuers``. ``version`` rises with every edition."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    issued_at: Seconds
    keys: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_KEYS)]


class Issuer(msgspec.Struct, frozen=True):
    """A listed key and what stands beside it."""

    entry: Entry
    key: VerifyKey

    @property
    def name(self) -> str:
        return self.entry.name


class Issuers:
    """The edition in force."""

    def __init__(self, document: IssuersDocument) -> None:
        """Raises ``VerificationError`` (``bad_claims``) for a key that is none, or is listed twice."""
        self.version = document.version
        self._by_kid: dict[str, Issuer] = {}
        for entry in document.keys:
            issuer = Issuer(entry, _key_of(entry))
            if issuer.key.kid in self._by_kid:
                raise refused("bad_claims", f"the key {issuer.key.kid} is listed twice", "list each key once")
            self._by_kid[issuer.key.kid] = issuer

    def listed(self, kid: str) -> Issuer:
        """The issuer with this key, whatever it may do now. Raises ``VerificationError`` (``unknown_key``)."""
        issuer = self._by_kid.get(kid)
        if issuer is None:
            raise refused("unknown_key", f"the key {kid} is not listed", "publish issuers that list it")
        return issuer

    def key_for(self, kid: str, scope: str, node: str, *, wall: float | None) -> Issuer:
        """The issuer with this key, if it may say things of ``scope`` to ``node`` now.

        ``wall`` is None while the clock is not trusted: then validity is not judged, a revocation still is. Raises
        ``VerificationError``: ``unknown_key, revoked_key, wrong_scope, wrong_node, key_not_yet_valid, key_expired``.
        """
        issuer = self.listed(kid)
        entry = issuer.entry
        if entry.revoked:
            raise refused("revoked_key", f"{entry.name}'s key is revoked", "sign with its present key")
        if scope not in entry.scopes:
            raise refused("wrong_scope", f"{entry.name} may not sign for {scope}", "ask an issuer that may")
        if not any(_matches(pattern, node) for pattern in entry.nodes):
            raise refused("wrong_node", f"{entry.name} may not speak to {node}", "ask an issuer that may")
        if wall is not None and wall < entry.not_before:
            raise refused("key_not_yet_valid", f"{entry.name}'s key is not valid yet", "wait, or check the clock")
        if wall is not None and wall >= entry.not_after:
            raise refused("key_expired", f"{entry.name}'s key has expired", "publish issuers with its new key")
        return issuer

    def check(
        self, token: bytes, typ: str, scope: str, *, node: str, audience: str | None, wall: float | None
    ) -> tuple[dict[str, Any], Issuer]:
        """The claims of a signed thing and who said them: every check that all such things share, in one place.

        ``audience`` is the node's own, None only for what is meant for several nodes and names them itself. Raises
        ``VerificationError`` with a reason of ``edge.jose.verify`` or ``key_for``, or ``wrong_issuer, wrong_audience``.
        """
        verified = jose.verify(token, typ, lambda kid: self.key_for(kid, scope, node, wall=wall).key)
        issuer = self.listed(verified.kid)
        require_issuer(verified.claims.get("iss"), issuer)
        if audience is not None:
            require_audience(verified.claims.get("aud"), audience)
        return verified.claims, issuer


def read_issuers(token: bytes, roots: Sequence[VerifyKey], *, held_version: int) -> Issuers:
    """The issuers that one of the pinned ``roots`` signed. ``held_version`` is 0 when none are held.

    Raises ``VerificationError``: a reason of ``edge.jose.verify``, ``unknown_key`` when no root signed it,
    ``not_newer`` when its version does not rise, ``bad_claims``.
    """
    if not 1 <= len(roots) <= MAX_ROOTS:
        raise ConfigError(f"{len(roots)} root keys", remedy=f"pin 1 to {MAX_ROOTS}")
    verified = jose.verify(token, jose.ISSUERS, lambda kid: _root(roots, kid))
    document = claims_as(verified.claims, IssuersDocument)
    require_newer(document.version, held_version)
    return Issuers(document)


def sign_issuers(document: IssuersDocument, root: SigningKey) -> bytes:
    """The bytes to publish. Raises ``VerificationError`` (``bad_claims``) for what no node would take."""
    Issuers(claims_as(msgspec.to_builtins(document), IssuersDocument))
    return jose.sign(document, jose.ISSUERS, root)


def require_issuer(claimed: object, issuer: Issuer) -> None:
    """Raises ``VerificationError`` (``wrong_issuer``) unless ``iss`` is the name the root gave to the key."""
    if claimed != issuer.name:
        raise refused("wrong_issuer", f"{issuer.name}'s key under another name", "put the listed name into iss")


def _key_of(entry: Entry) -> VerifyKey:
    try:
        return VerifyKey.from_jwk(entry.jwk)
    except ConfigError as error:
        raise refused("bad_claims", f"{entry.name}: {error.what}", "list its public Ed25519 key") from error


def _root(roots: Sequence[VerifyKey], kid: str) -> VerifyKey:
    for root in roots:
        if root.kid == kid:
            return root
    raise refused("unknown_key", "not signed by a pinned root", "sign it with the root pinned at enrolment")


def _matches(pattern: str, node: str) -> bool:
    return node.startswith(pattern[:-1]) if pattern.endswith("*") else node == pattern
