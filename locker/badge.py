"""A courier's badge and PIN: what a signed badge claims, and what it lets its bearer do here.

The signature is checked before anything in this file is asked. The bearer of a badge can read it and try PINs on a
machine of their own, where no limit of ours reaches: each try costs scrypt's 16 MiB and some 50 ms, so that all 10^8
PINs take about two core-months, against the 16 h that a badge lives. A PIN of 4 to 6 digits would fall within minutes
to hours, whatever the hash. A badge that was lost belongs on the revoked list all the same.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from edge import base64url
from edge.errors import ConfigError, VerificationError
from locker.attempts import Attempts, after_pin, after_right_pin, pin_wait
from locker.contract import Id

MAX_VALIDITY: Final = 16 * 3600
"""Seconds from ``nbf`` to ``exp``: one shift. Checked on an untrusted clock too."""

OWN_DEPOSIT: Final = 120.0
"""Seconds of running time in which couriers may open their own deposit again."""

PIN_DIGITS: Final = 8
"""Drawn at random by whoever issues it. Fewer would not fit the budget that ``locker.attempts`` reckons."""

PINS_PER_BADGE: Final = 5
"""Wrong PINs at one locker before the badge is no longer taken there. One lost badge must not use up all couriers'
budget; its courier gets a new badge from the hub."""

MAX_RECALLED: Final = 64
"""Parcels that one badge may name to be taken back: as many as fit into a QR that a scanner reads."""

SALT_BYTES: Final = 16

_SCRYPT_N: Final = 2**14
"""16 MiB at r = 8: what a node can spare, and tens of ms of one core."""
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1

_Salt = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}(?!\n)$")]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}(?!\n)$")]


class Role(enum.Enum):
    """What a badge's bearer does at the locker."""

    COURIER = "courier"
    """Puts parcels in, and takes out what is not for its customer (``locker.recalling``)."""
    SERVICE = "service"
    """Looks after doors and compartments (``locker.servicing``), and audits them where two persons have said so."""


class Depositor(msgspec.Struct, frozen=True):
    """Who puts a parcel in: a courier on a run, or a customer (``locker.dropping``)."""

    courier: str
    run: str


class Badge(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of a badge, named as they stand in the token.

    ``courier`` (``sub``) is a random id. ``nodes`` are the lockers it is for, ``run`` the run. ``nbf`` and ``exp`` are
    wall seconds since 1970. ``salt`` is new for every badge and ``pin`` the hash that ``pin_hash`` makes with it, both
    base64url.

    ``recall`` says which parcels whose hold has run out a courier takes back: those that it names, or all
    (``"expired"``). It is signed with the rest, so that no network is needed for it.
    """

    jti: Id
    courier: Id = msgspec.field(name="sub")
    nodes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
    run: Id
    nbf: int
    exp: int
    salt: _Salt
    pin: _Hash
    role: Role = Role.COURIER
    recall: Literal["expired"] | Annotated[tuple[Id, ...], msgspec.Meta(max_length=MAX_RECALLED)] = ()

    @property
    def depositor(self) -> Depositor:
        return Depositor(self.courier, self.run)


class BadgeFault(enum.Enum):
    """Why a badge or a PIN was refused, for the journal. The kiosk only says ``not_allowed`` or ``wait``."""

    WRONG_NODE = "wrong_node"
    TOO_LONG = "too_long"
    """Valid for longer than ``MAX_VALIDITY``, or ending before it begins."""
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    """``PINS_PER_BADGE`` wrong PINs were typed here for this badge."""
    WAIT = "wait"
    WRONG_PIN = "wrong_pin"
    WRONG_ROLE = "wrong_role"
    """A good badge, and for other work."""


def read_badge(claims: Mapping[str, Any]) -> Badge:
    """The badge in the claims of a verified token; other claims are left alone. Raises ``VerificationError``."""
    try:
        return msgspec.convert(claims, Badge)
    except msgspec.ValidationError as error:
        raise VerificationError("bad_badge", f"not a badge: {error}", remedy="the hub issues a new one") from error


def badge_fault(badge: Badge, *, node: str, wall: float, trusted: bool, floor: float) -> BadgeFault | None:
    """What speaks against the badge at ``node`` now, None if nothing does.

    ``floor`` is the time that has surely passed, as the node last knew from a trusted clock: on an untrusted one a
    badge that had ended by then stays ended, and no other expires.
    """
    if node not in badge.nodes:
        return BadgeFault.WRONG_NODE
    if not 0 < badge.exp - badge.nbf <= MAX_VALIDITY:
        return BadgeFault.TOO_LONG
    if trusted and wall < badge.nbf:
        return BadgeFault.NOT_YET
    if (wall if trusted else floor) >= badge.exp:
        return BadgeFault.EXPIRED
    return None


class PinCharge(msgspec.Struct, frozen=True):
    """What to commit before a PIN is checked: the badge's count and the locker's budget, with this try charged."""

    tries: int
    attempts: Attempts

    def refund(self) -> PinCharge:
        """What to commit once the PIN has proved right, applied to what the ledger holds by then."""
        return PinCharge(max(0, self.tries - 1), after_right_pin(self.attempts))


class PinRefusal(msgspec.Struct, frozen=True):
    """The PIN is not looked at. ``retry_after``: seconds, None if waiting does not help."""

    fault: BadgeFault
    retry_after: float | None = None


def charge_pin(tries: int, attempts: Attempts, running: float) -> PinCharge | PinRefusal:
    """Charge one try of a PIN. ``tries`` is the ledger's count for the badge, by its ``jti``; 0 for a new one.

    Checking takes tens of milliseconds, outside the transaction. So the try is charged and committed first, and
    refunded if it was right: parallel tries find it charged, and a power cut in between forgives nothing.
    """
    if tries >= PINS_PER_BADGE:
        return PinRefusal(BadgeFault.BLOCKED)
    wait = pin_wait(attempts, running)
    if wait > 0.0:
        return PinRefusal(BadgeFault.WAIT, wait)
    return PinCharge(tries + 1, after_pin(attempts, running))


def well_formed(pin: str) -> bool:
    """Whether ``pin`` could be one at all; if not it is refused and costs no try."""
    return len(pin) == PIN_DIGITS and pin.isascii() and pin.isdigit()


def pin_matches(badge: Badge, pin: str) -> bool:
    """Whether ``pin`` is the badge's. Takes some 50 ms and 16 MiB: call it in a thread, after ``charge_pin``."""
    return hmac.compare_digest(pin_hash(pin, badge.salt).encode(), badge.pin.encode())


def pin_hash(pin: str, salt: str) -> str:
    """32 bytes of scrypt over ``pin``, base64url. The salt is the text of ``salt`` as it stands in the badge."""
    digest = hashlib.scrypt(pin.encode(), salt=salt.encode(), n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32)
    return base64url.encode(digest)


def claims_for(  # noqa: PLR0913 - each is a claim
    *,
    jti: str,
    courier: str,
    nodes: tuple[str, ...],
    run: str,
    nbf: int,
    exp: int,
    pin: str,
    random: Callable[[int], bytes],
    role: Role = Role.COURIER,
    recall: Literal["expired"] | tuple[str, ...] = (),
) -> dict[str, Any]:
    """The claims of a new badge, for its issuer to sign. Raises ``ConfigError`` when the badge would be refused."""
    if not well_formed(pin):
        raise ConfigError(f"a PIN that is not {PIN_DIGITS} digits", remedy="draw it at random; people choose badly")
    if not 0 < exp - nbf <= MAX_VALIDITY:
        raise ConfigError(
            f"a badge valid for {exp - nbf} s", remedy=f"issue it for one shift, at most {MAX_VALIDITY} s"
        )
    salt = base64url.encode(random(SALT_BYTES))
    badge = Badge(
        jti=jti,
        courier=courier,
        nodes=nodes,
        run=run,
        nbf=nbf,
        exp=exp,
        salt=salt,
        pin=pin_hash(pin, salt),
        role=role,
        recall=recall,
    )
    claims: dict[str, Any] = msgspec.to_builtins(badge)
    return claims


class OwnDeposit(msgspec.Struct, frozen=True):
    """A deposit, as its courier may want to open it again. ``at``: accumulated running seconds when its door closed."""

    courier: str
    run: str
    at: float


def may_reopen(who: Depositor, deposit: OwnDeposit, running: float) -> bool:
    """Whether they may open this deposit again: the same courier on the same run, soon after."""
    mine = (deposit.courier, deposit.run) == (who.courier, who.run)
    return mine and 0.0 <= running - deposit.at <= OWN_DEPOSIT
