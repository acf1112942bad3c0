"""What the commands for bookings do to the ledger: expect, cancel, extend, delegate, revoke, reissue, redirect, recall.

Each is one transaction's work, in which its command and revision are spent as well; so each is in effect once. They
raise ``VerificationError`` with a stable reason where the locker's own rules refuse them: then nothing was changed.
"""

from __future__ import annotations

import msgspec

from edge.claims import refused
from locker import parcel
from locker.announcing import tell
from locker.booking import EXPECTED_S, MAX_EXPECTED, BookingInput, BookingState, move
from locker.commands import MAX_HOLD_HOURS, Cancel, Delegate, Expect, Extend, Recall, Redirect, Reissue, Revoke
from locker.contract import BookingChange, BookingChanged, CodeUse, ParcelRecalled, RecallCause
from locker.issuing import Issue, issue_code, issue_drop_code, issue_further_code
from locker.ledger import Booking, HeldCode, Ledger, Parcel
from locker.parcel import PRESENT, ParcelInput, ParcelState
from locker.settling import move_booking

Order = Expect | Cancel | Extend | Delegate | Revoke | Reissue | Redirect | Recall

_HOUR = 3600.0
_OF_STAFF = (ParcelState.CLAIMED, ParcelState.RECALLED)
"""It lies here, and its customer does not get it."""


def carry_out(ledger: Ledger, booking: str, order: Order, rev: int, issue: Issue) -> None:
    """Do what the command says with ``booking``, under its revision."""
    match order:
        case Expect():
            _expect(ledger, booking, order, rev, issue)
        case Cancel():
            _cancel(ledger, booking, rev)
        case Extend(hours):
            _extend(ledger, booking, hours, rev)
        case Delegate():
            _delegate(ledger, booking, rev, issue)
        case Revoke(which):
            _revoke(ledger, booking, which, rev)
        case Reissue():
            _reissue(ledger, booking, rev, issue)
        case Redirect(to):
            _take_elsewhere(ledger, booking, RecallCause.REDIRECTED, BookingChange.REDIRECTED, rev, to=to)
        case Recall(cause):
            _take_elsewhere(ledger, booking, RecallCause(cause), BookingChange.RECALLED, rev)


def lapse(ledger: Ledger) -> bool:
    """Wait no longer for what nobody has brought; returns whether there was such a booking."""
    late = [each for each in ledger.bookings(BookingState.EXPECTED) if ledger.running() - each.since > EXPECTED_S]
    for each in late:
        move_booking(ledger, each.booking, BookingInput.CANCEL, BookingChange.LAPSED)
    return bool(late)


def _expect(ledger: Ledger, booking: str, order: Expect, rev: int, issue: Issue) -> None:
    _require_absent(ledger, booking)
    held = ledger.booking(booking)
    if held is not None and held.state is BookingState.ENDED:
        raise refused("already_over", f"{booking} has been here and is gone", "book under a new id")
    if held is None and len(ledger.bookings(BookingState.EXPECTED)) >= MAX_EXPECTED:
        raise refused("too_many_bookings", f"{MAX_EXPECTED} parcels are expected", "cancel what will not come")
    state = BookingState.EXPECTED if held is None else move(held.state, BookingInput.EXPECT)
    fresh = Booking(
        booking=booking,
        state=state,
        size=order.size,
        low=order.low,
        hold_hours=order.hold_hours,
        since=ledger.running(),
        group=order.group or "",
        kind=order.kind,
        exchange=order.exchange or "",
        climate=order.climate,
    )
    ledger.save_booking(fresh)
    _tell(ledger, fresh, BookingChange.EXPECTED, rev)
    if order.kind.dropped:
        issue_drop_code(ledger, booking, issue)
    else:  # it was to be brought by its customer, and is not any more
        ledger.forget_further_code(HeldCode(booking, CodeUse.DROP))


def _cancel(ledger: Ledger, booking: str, rev: int) -> None:
    _require_absent(ledger, booking)
    _require_expected(ledger, booking)
    move_booking(ledger, booking, BookingInput.CANCEL, BookingChange.CANCELLED, rev=rev)


def _extend(ledger: Ledger, booking: str, hours: int, rev: int) -> None:
    """Hold longer what lies here or will come. A hold that has run out is taken up again from now on.

    While its courier is at the door a parcel has no hold yet: it gets the booking's when the deposit is complete.
    """
    here = _parcel_here(ledger, booking)
    if here is not None and here.state in _OF_STAFF:
        raise _not_waiting(booking)
    if here is None or (here.state is ParcelState.DEPOSITING and not here.was_stored):
        held = _require_expected(ledger, booking)
        if held.hold_hours + hours > MAX_HOLD_HOURS:
            raise _too_long()
        longer = msgspec.structs.replace(held, hold_hours=held.hold_hours + hours)
        ledger.save_booking(longer)
        _tell(ledger, longer, BookingChange.EXTENDED, rev)
        return
    expires = here.expires
    if expires is not None:
        wall = ledger.stamp.wall
        # On a clock that nobody has set nothing runs out, and what is left is counted from what is surely past.
        expires = (max(expires, wall) if ledger.stamp.trusted else expires) + hours * _HOUR
        if expires > wall + MAX_HOLD_HOURS * _HOUR:
            raise _too_long()
        ledger.set_expiry(booking, expires)
    tell(ledger, BookingChanged(booking=booking, change=BookingChange.EXTENDED, rev=rev, expires=expires))


def _delegate(ledger: Ledger, booking: str, rev: int, issue: Issue) -> None:
    here = _require_waiting(ledger, booking)
    number = issue_further_code(ledger, here, issue)
    tell(ledger, BookingChanged(booking=booking, change=BookingChange.DELEGATED, rev=rev, delegate=number))


def _revoke(ledger: Ledger, booking: str, which: int, rev: int) -> None:
    code = HeldCode(booking, CodeUse.PICKUP, which)
    if code not in ledger.further_codes(booking, CodeUse.PICKUP):
        raise refused("no_such_code", f"no delegate {which} of {booking} has a code", "nothing: it opens nothing")
    ledger.forget_further_code(code)
    tell(ledger, BookingChanged(booking=booking, change=BookingChange.REVOKED, rev=rev, delegate=which))


def _require_waiting(ledger: Ledger, booking: str) -> Parcel:
    """The parcel, waiting for its customer."""
    here = _parcel_here(ledger, booking)
    if here is None or not here.coded or here.state in _OF_STAFF:
        raise _not_waiting(booking)
    if here.state is ParcelState.RELEASED:
        raise refused("being_collected", f"the door of {booking} is open", "ask the customer")
    return here


def _reissue(ledger: Ledger, booking: str, rev: int, issue: Issue) -> None:
    held = ledger.booking(booking)
    if held is not None and held.kind.dropped and held.state is BookingState.EXPECTED:
        _tell(ledger, held, BookingChange.REISSUED, rev)
        issue_drop_code(ledger, booking, issue)
        return
    here = _require_waiting(ledger, booking)
    tell(ledger, BookingChanged(booking=booking, change=BookingChange.REISSUED, rev=rev, expires=here.expires))
    issue_code(ledger, here, issue, here.expires)


def _take_elsewhere(
    ledger: Ledger, booking: str, cause: RecallCause, change: BookingChange, rev: int, *, to: str = ""
) -> None:
    """Nobody waits for it here any more; what lies here already is not its customer's any more, here."""
    here = _parcel_here(ledger, booking)
    if here is None:
        _require_absent(ledger, booking)
        _require_expected(ledger, booking)
        move_booking(ledger, booking, BookingInput.CANCEL, change, rev=rev, to=to)
        return
    _recall(ledger, here, cause)
    tell(ledger, BookingChanged(booking=booking, change=change, rev=rev, to=to))


def _recall(ledger: Ledger, here: Parcel, cause: RecallCause) -> None:
    """The parcel is not for its customer any more: no code and no voucher opens its door, a courier takes it out.

    Who has redirected it knows, and their codes are gone. Others' are kept, so that whoever types one hears why.

    Raises ``VerificationError``: ``being_collected, being_deposited`` where somebody is at its door, ``not_here`` where
    it waits for staff already.
    """
    if here.state in {ParcelState.RELEASING, ParcelState.RELEASED}:
        raise refused("being_collected", f"{here.parcel} is being collected", "nothing, if it is; or ask again")
    if here.state is ParcelState.DEPOSITING:
        raise refused("being_deposited", f"a courier is at the door of {here.parcel}", "ask again when it lies here")
    if here.state in _OF_STAFF:
        raise _not_waiting(here.parcel)
    ledger.move_parcel(here.parcel, here.state, parcel.move(here.state, ParcelInput.RECALLED))
    if cause is RecallCause.REDIRECTED:
        ledger.forget_code(here.parcel)
    tell(ledger, ParcelRecalled(parcel=here.parcel, door=here.door, cause=cause))


def _parcel_here(ledger: Ledger, booking: str) -> Parcel | None:
    found = ledger.parcel(booking)
    return found if found is not None and found.state in PRESENT else None


def _require_absent(ledger: Ledger, booking: str) -> None:
    found = ledger.parcel(booking)
    if found is None or found.state is ParcelState.WITHDRAWN:
        return
    if found.state in PRESENT:
        raise refused("already_here", f"the parcel of {booking} lies here", "extend it, or have it collected")
    raise refused("already_over", f"{booking} has been here and is gone", "book under a new id")


def _require_expected(ledger: Ledger, booking: str) -> Booking:
    held = ledger.booking(booking)
    if held is None or held.state is not BookingState.EXPECTED:
        raise refused("no_such_booking", f"{booking} is not expected here", "nothing: there is nothing to change")
    return held


def _not_waiting(booking: str) -> Exception:
    return refused("not_here", f"no parcel of {booking} waits for its customer", "look at the booking's events")


def _too_long() -> Exception:
    return refused("hold_too_long", f"more than {MAX_HOLD_HOURS} hours ahead", "have it collected, or sent back")


def _tell(ledger: Ledger, booking: Booking, change: BookingChange, rev: int) -> None:
    changed = BookingChanged(booking=booking.booking, change=change, rev=rev, hold_hours=booking.hold_hours)
    tell(ledger, changed)
