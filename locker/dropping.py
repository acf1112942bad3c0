"""Customers bring parcels: returns, parcels to be sent or handed over, and what is given back in an exchange."""

from __future__ import annotations

from locker import contract
from locker.announcing import Attempt, tell
from locker.badge import Depositor
from locker.booking import BookingState
from locker.compartment import Size
from locker.contract import Cause, Reason
from locker.depositing import Asked, Placing
from locker.ledger import Booking, Ledger
from locker.parcel import PRESENT, ParcelState
from locker.pickup_code import BUSY_RETRY, CodeRecord, Refusal
from locker.settling import Closed

CUSTOMER = "customer"
"""Stands for the courier's id of whatever a customer has put in; the run is then the booking."""

_OWN = (ParcelState.DEPOSITING, ParcelState.STORED)
_STANDING = {
    BookingState.EXPECTED: ParcelState.STORED,
    BookingState.STORED: ParcelState.COLLECTED,
    BookingState.ENDED: ParcelState.COLLECTED,
    BookingState.CANCELLED: ParcelState.WITHDRAWN,
}


def record_of(ledger: Ledger, booked: Booking) -> CodeRecord:
    """How things stand for whoever holds the drop code, in the words by which pickup codes are judged.

    Soon after the deposit the code opens the own compartment again, as a courier's badge does. It is used once the
    parcel is anybody else's: its recipient's, or a courier's.
    """
    here = ledger.parcel(booked.booking)
    if here is not None and here.state in PRESENT:
        state = here.state if here.state in _OWN else ParcelState.COLLECTED
        return CodeRecord(booked.booking, here.door, state)
    return CodeRecord(booked.booking, "", _STANDING[booked.state])


def take_in(
    ledger: Ledger, booked: Booking, placing: Placing, attempt: Attempt, *, exchange: str = ""
) -> str | Refusal:
    """Choose a compartment for what the customer has brought, and announce its pulse; ``exchange`` as in ``Asked``."""
    asked = Asked(
        by=Depositor(CUSTOMER, booked.booking),
        cause=Cause.DROP,
        bookings=(booked.booking,),
        size=Size(booked.size),
        low=booked.low,
        exchange=exchange,
    )
    door = placing.place(ledger, asked, attempt)
    if isinstance(door, Refusal):
        if door.reason is not Reason.BOOKING_REFUSED:
            return door
        # Still awaited and yet refused: somebody is at its door, and an exchange goes on when that is shut.
        awaited = booked.state is BookingState.EXPECTED
        return Refusal(Reason.BUSY, BUSY_RETRY) if awaited else Refusal(Reason.USED)
    accepted = contract.DropAccepted(
        parcel=booked.booking, door=door, session=attempt.session, attempt=attempt.attempt, exchange=exchange
    )
    tell(ledger, accepted)
    return door


def owed(ledger: Ledger, parcels: list[str]) -> tuple[Booking, str] | None:
    """What has to be given back before one of these parcels is handed out, and for which of them."""
    for each in parcels:
        booked = ledger.booking(each)
        back = None if booked is None or not booked.exchange else ledger.booking(booked.exchange)
        if back is not None and back.state is BookingState.EXPECTED:
            return back, each
    return None


def handed_out_for(ledger: Ledger, closed: Closed, asked: Asked | None) -> str:
    """The parcel that is exchanged for what was just put in, "" for none.

    Only where it was asked for by what opens its own door. That something was given back proves nothing: a courier may
    have brought it, or whoever was given the drop code.
    """
    if asked is None or not asked.exchange or not closed.stored:
        return ""
    here = ledger.parcel(asked.exchange)
    return here.parcel if here is not None and here.state is ParcelState.STORED else ""
