"""Pickup codes come into the ledger: hashed there, and sealed for the hub in the event that tells of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from locker import contract
from locker.announcing import tell
from locker.ledger import Ledger, Parcel
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
    code = issue(lambda digest: ledger.find_code(digest) is not None, found.parcel)
    ledger.save_code(found.parcel, code.hashes)
    tell(
        ledger,
        contract.CodeIssued(parcel=found.parcel, door=found.door, kid=code.kid, sealed=code.sealed, expires=expires),
    )
    return code.sealed
