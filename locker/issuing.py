"""Pickup codes come into the ledger: hashed there, and sealed for the hub in the event that tells of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge.claims import refused
from locker import contract
from locker.announcing import tell
from locker.attempts import MAX_CODES, MAX_FURTHER
from locker.commands import MAX_DELEGATES
from locker.contract import CodeUse
from locker.ledger import HeldCode, Ledger, Parcel
from locker.pickup_code import CodeHashes


class IssuedCode(msgspec.Struct, frozen=True):
    """A new code as it may leave this transaction: hashed for the ledger, sealed for the hub's key ``kid``."""

    hashes: CodeHashes
    sealed: str
    kid: str

    def __repr__(self) -> str:
        return "IssuedCode(...)"


Issue = Callable[[Callable[[bytes], bool], str], IssuedCode]
"""Makes a code for a parcel; the first argument says whether a plain hash is taken."""


def issue_code(ledger: Ledger, found: Parcel, issue: Issue, expires: float | None) -> str:
    """A new code for the parcel, sealed for the hub; one that it had is dead from here on. Returns it as sealed."""
    ledger.forget_code(found.parcel)
    code = issue(lambda digest: ledger.find_code(digest) is not None, found.parcel)
    ledger.save_code(found.parcel, code.hashes)
    _tell(ledger, found, code, 0, expires)
    return code.sealed


def issue_further_code(ledger: Ledger, found: Parcel, issue: Issue) -> int:
    """One more code for the parcel, for somebody whom its customer sends. Returns its number.

    Raises ``VerificationError``: ``too_many_delegates``, ``too_many_codes``.
    """
    taken = {code.which for code in ledger.further_codes(found.parcel, CodeUse.PICKUP)}
    number = next((number for number in range(1, MAX_DELEGATES + 1) if number not in taken), None)
    if number is None:
        raise refused("too_many_delegates", f"{MAX_DELEGATES} others have a code", "revoke one of theirs")
    require_room(ledger)
    code = issue(lambda digest: ledger.find_code(digest) is not None, found.parcel)
    ledger.save_further_code(HeldCode(found.parcel, CodeUse.PICKUP, number), code.hashes)
    _tell(ledger, found, code, number, found.expires)
    return number


def issue_drop_code(ledger: Ledger, booking: str, issue: Issue) -> None:
    """A code for whoever brings the parcel; one that there was is dead. Raises ``VerificationError`` as above."""
    held = HeldCode(booking, CodeUse.DROP)
    ledger.forget_further_code(held)
    require_room(ledger)
    code = issue(lambda digest: ledger.find_code(digest) is not None, booking)
    ledger.save_further_code(held, code.hashes)
    tell(ledger, contract.DropCodeIssued(parcel=booking, kid=code.kid, sealed=code.sealed))


def require_room(ledger: Ledger) -> None:
    """Raises ``VerificationError`` (``too_many_codes``) where one more beside the parcels' own is too many."""
    if ledger.further_code_count() >= MAX_FURTHER or ledger.live_codes() >= MAX_CODES:
        raise refused("too_many_codes", "guessing would become too easy", "revoke codes, or have parcels collected")


def _tell(ledger: Ledger, found: Parcel, code: IssuedCode, delegate: int, expires: float | None) -> None:
    issued = contract.CodeIssued(
        parcel=found.parcel, door=found.door, kid=code.kid, sealed=code.sealed, expires=expires, delegate=delegate
    )
    tell(ledger, issued)
