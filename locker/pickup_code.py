"""Pickup codes: how they are made, read and kept, and the verdict on a typed one."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge.errors import ConfigError, DeviceError
from locker.attempts import (
    Attempts,
    after_wrong_code,
    after_wrong_extended,
    cost_of,
    extended_wait,
    extension_needed,
)
from locker.contract import Reason
from locker.parcel import ParcelState

DIGITS: Final = 8
"""Random digits of a code; a check digit follows them."""

EXTENSION_DIGITS: Final = 4
"""Random digits that stand beside every code, typed only when the locker asks for them."""

KEY_BYTES: Final = 32
"""Of the key that codes are hashed with."""

BUSY_RETRY: Final = 5.0
"""Seconds until a busy door is worth another try: an attempt lasts 6 s at most, and most end within 1 s."""

_TYPED_LIMIT: Final = 32
"""Characters beyond which nothing is looked at: nine digits with every separator a person would type are fewer."""

_DRAWS: Final = 128
"""Draws before a source of randomness is taken to be broken: a sound one fails 128 times with a chance below 1e-200."""

# The quasigroup of order 10 in H. Michael Damm's thesis (Marburg, 2004): catches every single wrong digit and every
# swap of neighbours.
_DAMM: Final = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)


def check_digit(digits: str) -> str:
    """The Damm check digit of ``digits``; that of a number with its check digit is 0."""
    interim = 0
    for digit in digits:
        interim = _DAMM[interim][int(digit)]
    return str(interim)


class _Secret(msgspec.Struct, frozen=True):
    """Base of what holds a code. Printing one never shows it, because whatever is printed may be logged."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class PickupCode(_Secret, frozen=True):
    """A code as it is made. It leaves the node sealed, or not at all."""

    digits: str
    extension: str

    @property
    def typed(self) -> str:
        """The nine digits that a customer types."""
        return self.digits + check_digit(self.digits)


class TypedCode(_Secret, frozen=True):
    """A code as it was typed: well formed, its check digit right and dropped. Nothing says that it exists."""

    digits: str
    extension: str | None


class CodeHashes(_Secret, frozen=True):
    """What the ledger keeps of a code: one hash for the code, one for code and extension together.

    They cannot be mistaken for each other, so the ledger may look for a hash in either column. Who has both hashes and
    key finds the code within seconds, the space being 10^8: what protects it is the key, not the hash.
    """

    plain: bytes
    extended: bytes


class CodeHasher(_Secret, frozen=True):
    """Hashes codes with the node's own key of ``KEY_BYTES`` random bytes."""

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ConfigError(
                f"the key for pickup codes has {len(self.key)} bytes instead of {KEY_BYTES}",
                remedy="let the node make a new one; codes hashed with the old one are lost with it",
            )

    def plain(self, digits: str) -> bytes:
        """The hash of a code alone."""
        return self._hash(b"code:" + digits.encode())

    def extended(self, digits: str, extension: str) -> bytes:
        """The hash of a code and its extension as one secret."""
        return self._hash(b"code+extension:" + digits.encode() + extension.encode())

    def of(self, code: PickupCode) -> CodeHashes:
        """Both hashes of ``code``."""
        return CodeHashes(self.plain(code.digits), self.extended(code.digits, code.extension))

    def _hash(self, message: bytes) -> bytes:
        return hmac.digest(self.key, message, "sha256")


def issue(random: Callable[[int], bytes], hasher: CodeHasher, taken: Callable[[bytes], bool]) -> PickupCode:
    """A new code, every one as likely as any other.

    ``random(n)`` gives n unpredictable bytes. ``taken`` says whether the locker holds a plain hash, of a live code or
    of a used one that it still remembers. Raises ``DeviceError`` when the randomness is plainly broken.
    """
    for _ in range(_DRAWS):
        code = PickupCode(draw_digits(DIGITS, random), draw_digits(EXTENSION_DIGITS, random))
        if not taken(hasher.plain(code.digits)):
            return code
    raise _broken_randomness()


def parse(text: str, extension: str | None = None) -> TypedCode | None:
    """What was typed, or None for a typo: wrong length, wrong check digit, other characters.

    Spaces and dashes are overlooked. An empty extension counts as none.
    """
    code = _only_digits(text, DIGITS + 1)
    if code is None or check_digit(code) != "0":
        return None
    if not extension:
        return TypedCode(code[:DIGITS], None)
    beside = _only_digits(extension, EXTENSION_DIGITS)
    return None if beside is None else TypedCode(code[:DIGITS], beside)


class CodeRecord(msgspec.Struct, frozen=True):
    """What the ledger holds for a code: its parcel, where that lies, and how things stand.

    ``expires`` is in wall seconds since 1970, moved on by every outage in which the customer could not have collected;
    None never expires. ``serviceable``: the door can be asked to open at all, because its board answers.
    """

    parcel: str
    door: str
    state: ParcelState
    expires: float | None = None
    serviceable: bool = True


class Now(msgspec.Struct, frozen=True):
    """The time of a verdict: wall seconds since 1970 and whether they are trusted, accumulated running seconds."""

    wall: float
    trusted: bool
    running: float


class Grant(msgspec.Struct, frozen=True):
    """The parcel may be released. ``confirmed``: after an unknown outcome, on the customer's renewed wish."""

    parcel: str
    door: str
    confirmed: bool


class Refusal(msgspec.Struct, frozen=True):
    """Not now. ``retry_after``: seconds until time alone may change the answer, None if it will not."""

    reason: Reason
    retry_after: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The answer, and the budget to commit in the same transaction, before anybody hears the answer."""

    answer: Grant | Refusal
    attempts: Attempts


def judge(
    typed: TypedCode | None,
    *,
    hasher: CodeHasher,
    find: Callable[[bytes], CodeRecord | None],
    live: Callable[[], int],
    attempts: Attempts,
    now: Now,
    confirm: bool = False,
) -> Verdict:
    """The verdict on a typed code, ``typed`` being what ``parse`` returned.

    ``find`` looks a hash up in the ledger, and is asked at most once: a typo, a try that has to wait and a code that
    lacks its extension are refused without a look. ``live`` counts the codes that a guess could hit. An extension that
    was given always counts. Only a code that is not there costs an attempt: whoever knows a used or an expired one has
    not guessed.
    """
    if typed is None:
        return Verdict(Refusal(Reason.TYPO), attempts)
    if typed.extension is None:
        return _judge_plain(typed, hasher, find, live, attempts, now, confirm=confirm)
    wait = extended_wait(attempts, now.running)
    if wait > 0.0:
        return Verdict(Refusal(Reason.WAIT, wait), attempts)
    record = find(hasher.extended(typed.digits, typed.extension))
    if record is None:
        spent = after_wrong_extended(attempts, now.running, cost_of(live()))
        return Verdict(Refusal(Reason.NO_SUCH_CODE), spent)
    return Verdict(answer_to(record, now, confirm=confirm), attempts)


def _judge_plain(
    typed: TypedCode,
    hasher: CodeHasher,
    find: Callable[[bytes], CodeRecord | None],
    live: Callable[[], int],
    attempts: Attempts,
    now: Now,
    *,
    confirm: bool,
) -> Verdict:
    # A guess is dearer while more codes live; where none was wrong lately, any can be paid.
    if attempts.wrong and extension_needed(attempts, now.running, cost_of(live())):
        return Verdict(Refusal(Reason.EXTENSION_NEEDED), attempts)
    record = find(hasher.plain(typed.digits))
    if record is None:
        spent = after_wrong_code(attempts, now.running, cost_of(live()))
        return Verdict(Refusal(Reason.NO_SUCH_CODE), spent)
    return Verdict(answer_to(record, now, confirm=confirm), attempts)


_REFUSED_STATES: Final = {
    ParcelState.DEPOSITING: Refusal(Reason.BUSY, BUSY_RETRY),
    ParcelState.RELEASING: Refusal(Reason.BUSY, BUSY_RETRY),
    ParcelState.RELEASED: Refusal(Reason.USED),
    ParcelState.COLLECTED: Refusal(Reason.USED),
    ParcelState.CLAIMED: Refusal(Reason.USED),
    ParcelState.RECALLED: Refusal(Reason.RECALLED),
    ParcelState.TAKING_BACK: Refusal(Reason.RECALLED),
    ParcelState.TAKEN_BACK: Refusal(Reason.RECALLED),
    ParcelState.WITHDRAWN: Refusal(Reason.NO_SUCH_CODE),
    ParcelState.REMOVED: Refusal(Reason.NO_SUCH_CODE),
}


def answer_to(record: CodeRecord, now: Now, *, confirm: bool) -> Grant | Refusal:
    """What to say to a right code, or to whatever else proves that the parcel is this customer's."""
    refusal = _REFUSED_STATES.get(record.state)
    if refusal is not None:
        return refusal
    if record.expires is not None and now.trusted and now.wall >= record.expires:
        return Refusal(Reason.EXPIRED)
    if not record.serviceable:
        return Refusal(Reason.OUT_OF_SERVICE)
    again = record.state is ParcelState.UNCONFIRMED
    if again and not confirm:
        return Refusal(Reason.CONFIRM_NEEDED)
    return Grant(record.parcel, record.door, confirmed=again)


def draw_digits(count: int, random: Callable[[int], bytes]) -> str:
    """``count`` (at most 8) random decimal digits without bias: draws above the largest multiple are thrown away."""
    space = 10**count
    limit = 2**32 - 2**32 % space
    for _ in range(_DRAWS):
        drawn = int.from_bytes(random(4), "big")
        if drawn < limit:
            return f"{drawn % space:0{count}d}"
    raise _broken_randomness()


def _broken_randomness() -> DeviceError:
    return DeviceError(
        f"no usable random number in {_DRAWS} draws",
        remedy="no code was issued; look at the node's source of randomness",
    )


def _only_digits(text: str, count: int) -> str | None:
    if len(text) > _TYPED_LIMIT:
        return None
    bare = text.replace(" ", "").replace("-", "")
    return bare if len(bare) == count and bare.isascii() and bare.isdigit() else None
