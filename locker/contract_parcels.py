"""What a locker tells of parcels, their bookings and their codes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from locker.contract_words import BookingChange, DoorName, Event, Id, Reason, RecallCause


class DepositBegun(Event, frozen=True, kw_only=True):
    """A courier was let in and a compartment chosen. ``again``: the courier's own deposit, reopened soon after."""

    TYPE = "parcel.deposit.begun"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    courier: Id
    run: Id
    again: bool = False


class Deposited(Event, frozen=True, kw_only=True):
    """The door was seen to close on the parcel."""

    TYPE = "parcel.deposited"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    courier: Id


class DepositWithdrawn(Event, frozen=True, kw_only=True):
    """No parcel lies in the compartment after all: the courier took it along, or the door never opened."""

    TYPE = "parcel.deposit.withdrawn"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id


class TakenBack(Event, frozen=True, kw_only=True):
    """The door closed after a courier with the badge ``by`` had it opened to take the parcel out."""

    TYPE = "parcel.taken_back"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    by: str = ""


class ParcelRemoved(Event, frozen=True, kw_only=True):
    """The parcel does not lie here any more, and its code is dead.

    Two people have declared that by ``command``, or let it be found out by their audit; or the badge ``by`` was to
    take it back, and found nothing.
    """

    TYPE = "parcel.removed"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    command: str
    by: str = ""


class BookingChanged(Event, frozen=True, kw_only=True):
    """``rev`` is the revision of the command that asked for it, 0 where none did.

    ``hold_hours`` count from the deposit on; ``expires`` is until when a parcel that lies here is held, wall seconds.
    ``delegate`` counts the codes for other people from 1; 0 where the change is about none of them. ``to`` is the node
    that a redirected parcel goes to.
    """

    TYPE = "locker.booking.changed"
    SUBJECT = "booking"
    booking: Id
    change: BookingChange
    rev: int = 0
    hold_hours: int | None = None
    expires: float | None = None
    delegate: int = 0
    to: str = ""


class ParcelRecalled(Event, frozen=True, kw_only=True):
    """The parcel that lies here is not for its customer any more: no code of it opens, a courier takes it out."""

    TYPE = "parcel.recalled"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    cause: RecallCause


class ParcelClaimed(Event, frozen=True, kw_only=True):
    """Its customer says that something is wrong with the parcel. ``left``: it stays inside, and staff take it out."""

    TYPE = "parcel.claimed"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    left: bool


class CodeIssued(Event, frozen=True, kw_only=True):
    """A pickup code exists. ``sealed`` is a JWE of code and extension that only the hub's key ``kid`` opens.

    ``expires``: wall seconds since 1970, None if the parcel may lie for good. ``delegate``: 0 for the customer's own
    code, which ends all that there were before; from 1 on for that of somebody whom the customer sends.
    """

    TYPE = "locker.code.issued"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    kid: str
    sealed: str
    expires: float | None
    delegate: int = 0


class DropCodeIssued(Event, frozen=True, kw_only=True):
    """Whoever brings this parcel has a code. ``sealed`` is a JWE of code and extension for the hub's key ``kid``."""

    TYPE = "locker.drop_code.issued"
    SUBJECT = "parcel"
    parcel: Id
    kid: str
    sealed: str


class DropAccepted(Event, frozen=True, kw_only=True):
    """A drop code was right, and a compartment opens for its parcel.

    ``exchange`` is the parcel that is handed out once this one is inside, "" for none.
    """

    TYPE = "locker.drop.accepted"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    exchange: str = ""


class CodeAccepted(Event, frozen=True, kw_only=True):
    """A code was right and its parcel is being released. ``confirmed``: after an unknown outcome, on renewed wish.

    ``delegate`` as when the code was issued.
    """

    TYPE = "locker.code.accepted"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    confirmed: bool = False
    delegate: int = 0


class CodeRefused(Event, frozen=True, kw_only=True):
    """Codes refused for one reason in one minute, so that a flood of them is one event.

    ``minute``: whole minutes since 1970 by the wall clock, trusted or not.
    """

    TYPE = "locker.code.refused"
    SUBJECT = "reason"
    reason: Reason
    minute: int
    count: Annotated[int, msgspec.Meta(ge=1)]


class VoucherAccepted(Event, frozen=True, kw_only=True):
    """A voucher is in force and its parcel is being released. ``gen`` is its edition, ``confirmed`` as with a code."""

    TYPE = "locker.voucher.accepted"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    gen: int
    confirmed: bool = False


class VoucherRefused(Event, frozen=True, kw_only=True):
    """Vouchers refused for one reason in one minute; ``minute`` as with refused codes."""

    TYPE = "locker.voucher.refused"
    SUBJECT = "reason"
    reason: Reason
    minute: int
    count: Annotated[int, msgspec.Meta(ge=1)]


class ReleaseAccepted(Event, frozen=True, kw_only=True):
    """``command`` is for the customer who stands before the locker, and the parcel is being released."""

    TYPE = "locker.release.accepted"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    command: str
    confirmed: bool = False


class VisitContinued(Event, frozen=True, kw_only=True):
    """A customer who was just handed a parcel, in the session ``before``, is handed another one of the same group."""

    TYPE = "locker.visit.continued"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    before: Id


class BadgeRefused(Event, frozen=True, kw_only=True):
    """Badges or PINs refused for one cause in one minute. ``cause`` says more than the courier at the kiosk is told."""

    TYPE = "locker.badge.refused"
    SUBJECT = "cause"
    cause: str
    minute: int
    count: Annotated[int, msgspec.Meta(ge=1)]


class Collected(Event, frozen=True, kw_only=True):
    """The door closed after the parcel had been released."""

    TYPE = "parcel.collected"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
