"""Signed commands: what they say, and whether this node may act on them now.

``read_command`` proves who said it and that it is for this node; then the inbox looks the ``jti`` up and answers a
repeat with what became of it; only a new one comes before ``admit``, which looks at rights and freshness.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from edge import jose
from edge.claims import Seconds, Uuid7, Word, claims_as, refused, require_audience
from edge.identity import Identity
from edge.issuers import NONCE, Issuers, require_issuer
from edge.keys import SigningKey, VerifyKey
from edge.nonce import NonceBook

MAX_WAIT_S = 45 * 86_400
"""A booking may lie with a broker this long for a node that is off, and no longer."""


class Kind(enum.Enum):
    """How a command proves that it is meant now."""

    ACTUATION = "actuation"
    """Opens or moves something: carries a nonce that this node gave out less than a minute ago."""
    SAFE = "safe"
    """Hold, return: carries the agent's session; refused for no clock and under no cap."""
    BOOKING = "booking"
    """May wait for days: carries a revision that rises per subject, and an expiry."""
    NONCE = "nonce"
    """Asks for a nonce: carries the agent's session."""


PROOF: Final = {
    Kind.ACTUATION: frozenset({"nonce"}),
    Kind.SAFE: frozenset({"session"}),
    Kind.BOOKING: frozenset({"rev", "exp"}),
    Kind.NONCE: frozenset({"session"}),
}
"""Which of the four a kind carries; the others must be absent."""


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A command as it is signed. ``subject`` is the one thing it acts on, such as a door or a booking."""

    iss: Word
    aud: str
    jti: Uuid7
    iat: Seconds
    name: Word
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=96)]
    args: dict[str, Any]
    nonce: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    session: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    rev: Annotated[int, msgspec.Meta(ge=1)] | None = None
    exp: Seconds | None = None


class Command(msgspec.Struct, frozen=True):
    """A command that is proven, not yet admitted.

    ``kids`` are the keys that signed it, the one of ``iss`` first; ``cosigner`` is the second one's name, "" for none.
    ``digest`` (hex SHA-256 of what the first has signed) tells a repeat from a second command under the same ``jti``.
    It leaves the second signature out: a broker can take that off, and no answer may be another for it.
    """

    claims: Claims
    kids: tuple[str, ...]
    digest: str
    cosigner: str = ""

    @property
    def kid(self) -> str:
        """The key of ``iss``: it asked for the nonce, and the answer is for it."""
        return self.kids[0]


class Rule(msgspec.Struct, frozen=True):
    """One command of a package: its kind, the scope its issuers need, the struct of its arguments.

    ``persons``: how many people sign it, 1 or 2, each under a name of their own and each with the scope.
    """

    kind: Kind
    scope: str
    args: type[msgspec.Struct]
    persons: int = 1


class NonceArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which command the nonce is for, on the request's own subject; ``request`` rises."""

    name: Word
    request: Annotated[int, msgspec.Meta(ge=1)]


NONCE_RULES: Final[Mapping[str, Rule]] = {"nonce": Rule(Kind.NONCE, NONCE, NonceArgs)}
"""Every role has this one; a package's table is joined to it."""


class Present(msgspec.Struct, frozen=True):
    """What a command is held against. ``wall`` is None while the clock is not trusted.

    ``passed`` are wall seconds that have surely gone by, whatever the clock says. ``held_rev`` is the highest revision
    seen for the command's subject, 0 for none.
    """

    session: str
    mono: float
    wall: float | None
    passed: float = 0.0
    held_rev: int = 0


def read_command(token: bytes, issuers: Issuers, identity: Identity) -> Command:
    """The command in ``token``: signed by listed keys, the first under its own name, for this instance, well-formed.

    Rights and freshness are not looked at, so that a repeat is answered even after its key was revoked. Raises
    ``VerificationError``: a reason of ``edge.jose.verify``, ``unknown_key, wrong_issuer, wrong_audience, bad_claims``.
    """
    signed = jose.verify_all(token, jose.COMMAND, lambda kid: issuers.listed(kid).key)
    claimed = signed[0].claims
    require_audience(claimed.get("aud"), identity.audience)
    claims = claims_as(claimed, Claims)
    require_issuer(claims.iss, issuers.listed(signed[0].kid))
    cosigner = issuers.listed(signed[1].kid).name if len(signed) > 1 else ""
    digest = hashlib.sha256(jose.first_alone(token)).hexdigest()
    return Command(claims, tuple(each.kid for each in signed), digest, cosigner)


def admit(
    command: Command, rules: Mapping[str, Rule], issuers: Issuers, node: str, *, present: Present, nonces: NonceBook
) -> msgspec.Struct:
    """The arguments of a new command that may be done now, as the rule's struct. An actuation's nonce is used up.

    Raises ``VerificationError``: ``unknown_command``, a reason of ``Issuers.key_for`` or ``NonceBook.redeem``,
    ``wrong_persons, same_person, bad_claims, bad_args, wrong_session, expired, superseded``.
    """
    claims = command.claims
    rule = rules.get(claims.name)
    if rule is None:
        raise refused("unknown_command", f"no command {claims.name}", "update the node, or the one who asks")
    # The safe direction waits for no clock, so a key's validity is not judged for it; a revocation is.
    wall = None if rule.kind is Kind.SAFE else present.wall
    names = [issuers.key_for(kid, rule.scope, node, wall=wall).name for kid in command.kids]
    _require_persons(names, rule)
    _require_proof(claims, rule.kind)
    args = _arguments(claims, rule)
    if rule.kind is Kind.BOOKING:
        _require_booking(claims, present)
    elif rule.kind is not Kind.ACTUATION and claims.session != present.session:
        raise refused("wrong_session", "meant for an earlier run of the agent", "sign it for the present session")
    if rule.kind is Kind.ACTUATION:
        # Last, because it is for one use: nothing refused above may cost the nonce.
        nonces.redeem(command.kid, claims.name, claims.subject, claims.nonce or "", present.mono)
    return args


def sign_command(claims: Claims, key: SigningKey) -> bytes:
    """The bytes that are kept, published and published again: never signed a second time."""
    return jose.sign(claims, jose.COMMAND, key)


def sign_first(claims: Claims, key: SigningKey) -> bytes:
    """Half of a command that two people sign; ``claims.iss`` is the one who begins. No node takes it yet."""
    return jose.sign_first(claims, jose.COMMAND, key)


def read_first(half: bytes, find_key: Callable[[str], VerifyKey]) -> Claims:
    """What the first person signed, for the second to look at before ``cosign``. Raises ``VerificationError``."""
    return claims_as(jose.verify_first(half, jose.COMMAND, find_key).claims, Claims)


def cosign(half: bytes, key: SigningKey) -> bytes:
    """The whole command, to be kept and published like one of ``sign_command``. Raises ``edge.jose.SigningError``."""
    return jose.cosign(half, jose.COMMAND, key)


def _require_persons(names: list[str], rule: Rule) -> None:
    if len(names) != rule.persons:
        raise refused("wrong_persons", f"signed by {len(names)}", f"let exactly {rule.persons} sign it")
    if len(set(names)) != len(names):
        raise refused("same_person", f"{names[0]} signed twice", "let somebody else sign as well")


def _require_proof(claims: Claims, kind: Kind) -> None:
    carried = {name for name in ("nonce", "session", "rev", "exp") if getattr(claims, name) is not None}
    if carried != PROOF[kind]:
        wanted = " and ".join(sorted(PROOF[kind]))
        raise refused("bad_claims", f"{claims.name} carries {sorted(carried)}", f"let it carry {wanted} alone")


def _arguments(claims: Claims, rule: Rule) -> msgspec.Struct:
    try:
        return msgspec.convert(claims.args, rule.args)
    except msgspec.ValidationError as error:
        raise refused("bad_args", f"{claims.name}: {error}", "send the arguments that the contract names") from error


def _require_booking(claims: Claims, present: Present) -> None:
    rev, exp = claims.rev or 0, claims.exp or 0
    if not claims.iat < exp <= claims.iat + MAX_WAIT_S:
        raise refused("bad_claims", "a booking that never expires", f"let it expire within {MAX_WAIT_S} s")
    if max(present.wall or 0.0, present.passed) >= exp:
        raise refused("expired", "a booking past its expiry", "sign a new one if it is still wanted")
    if rev <= present.held_rev:
        raise refused("superseded", f"revision {rev}, and {present.held_rev} was seen", "nothing: a newer one holds")
