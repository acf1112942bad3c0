"""A courier's deposit in the ledger: the PIN's budget, the choice of a compartment, the own deposit opened again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from locker import badge, compartment, contract, parcel, settling
from locker.badge import Badge, OwnDeposit, PinCharge, PinRefusal
from locker.booking import BookingState
from locker.compartment import Candidate, CompartmentInput, Size
from locker.contract import Cause, Reason
from locker.ledger import Booking, CompartmentRow, Ledger, Parcel
from locker.parcel import PRESENT, ParcelInput, ParcelState
from locker.pickup_code import Refusal
from locker.settling import Attempt


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a courier with a good badge and PIN asks for."""

    bearer: Badge
    booking: str
    size: Size
    low: bool
    open: bool = True
    """Whether new deposits are taken at this hour."""
    shut: frozenset[str] = frozenset()
    """Doors that the operator wants no deposit behind."""


Look = Callable[[CompartmentRow], Candidate | None]
"""A compartment as its sensors show it; None for one that cannot be opened now."""


def charge(ledger: Ledger, bearer: Badge) -> PinCharge | PinRefusal:
    """Charge one try of the PIN before it is looked at."""
    charged = badge.charge_pin(ledger.pin_tries(bearer.jti), ledger.attempts(), ledger.running())
    if isinstance(charged, PinCharge):
        _save(ledger, bearer, charged)
    return charged


def refund(ledger: Ledger, bearer: Badge) -> None:
    """The PIN was right, so it was no guess."""
    _save(ledger, bearer, PinCharge(ledger.pin_tries(bearer.jti), ledger.attempts()).refund())


def _save(ledger: Ledger, bearer: Badge, charged: PinCharge) -> None:
    ledger.save_pin_tries(bearer.jti, charged.tries)
    ledger.save_attempts(charged.attempts)


def place(ledger: Ledger, asked: Asked, look: Look, attempt: Attempt) -> str | Refusal:
    """Choose and take a compartment and announce its pulse; the courier's own one again shortly after."""
    booked = ledger.booking(asked.booking)
    if booked is not None:
        if booked.state not in {BookingState.EXPECTED, BookingState.STORED}:
            return Refusal(Reason.BOOKING_REFUSED)
        asked = _as_booked(asked, booked)
    held = ledger.parcel(asked.booking)
    if held is not None and held.state in PRESENT:
        if not _was_given_up(ledger, asked.bearer, held):
            return _place_again(ledger, asked, held, look, attempt)
        settling.withdraw(ledger, held.parcel, held.door, attempt.session)
    elif held is not None and held.state is not ParcelState.WITHDRAWN:
        return Refusal(Reason.BOOKING_REFUSED)
    if not asked.open:
        return Refusal(Reason.CLOSED)
    offered = [row for row in ledger.compartments() if row.door not in asked.shut]
    candidates = [candidate for row in offered if (candidate := look(row)) is not None]
    chosen = compartment.choose(candidates, asked.size, low=asked.low)
    if chosen is None:
        # No candidate at all: no board answers, which is another thing than a full cabinet.
        return Refusal(Reason.NO_ROOM if candidates else Reason.OUT_OF_SERVICE)
    door = chosen.door
    ledger.set_compartment(door, compartment.move(ledger.compartment(door).state, CompartmentInput.TAKE))
    bearer = asked.bearer
    ledger.add_parcel(
        Parcel(parcel=asked.booking, door=door, state=ParcelState.DEPOSITING, courier=bearer.courier, run=bearer.run)
    )
    _announce(ledger, asked, _seen(candidates, door, attempt), door, again=False)
    return door


def _as_booked(asked: Asked, booked: Booking) -> Asked:
    """At least the size that was booked, and in reach if that was; the courier may see that it needs more."""
    larger = asked.size if asked.size.fits(Size(booked.size)) else Size(booked.size)
    return msgspec.structs.replace(asked, size=larger, low=asked.low or booked.low)


def _was_given_up(ledger: Ledger, bearer: Badge, held: Parcel) -> bool:
    """Whether this courier's door was never seen to open: by asking for another they say that they hold the parcel."""
    last = ledger.unlocking(held.door)
    never_opened = last is not None and last.parcel == held.parcel and last.ended and not last.opened
    first = held.state is ParcelState.DEPOSITING and not held.coded
    return first and never_opened and (held.courier, held.run) == (bearer.courier, bearer.run)


def _place_again(ledger: Ledger, asked: Asked, held: Parcel, look: Look, attempt: Attempt) -> str | Refusal:
    if held.state is not ParcelState.STORED or held.stored_at is None:
        return Refusal(Reason.BOOKING_REFUSED)
    own = OwnDeposit(held.courier, held.run, held.stored_at)
    candidate = look(ledger.compartment(held.door))
    if candidate is None or not badge.may_reopen(asked.bearer, own, ledger.running()):
        return Refusal(Reason.BOOKING_REFUSED)
    ledger.move_parcel(held.parcel, held.state, parcel.move(held.state, ParcelInput.DEPOSIT))
    _announce(ledger, asked, _seen([candidate], held.door, attempt), held.door, again=True)
    return held.door


def _seen(candidates: list[Candidate], door: str, attempt: Attempt) -> Attempt:
    before = next(each.reading.hook for each in candidates if each.compartment.door == door)
    return msgspec.structs.replace(attempt, before=before)


def _announce(ledger: Ledger, asked: Asked, attempt: Attempt, door: str, *, again: bool) -> None:
    begun = contract.DepositBegun(
        parcel=asked.booking,
        door=door,
        session=attempt.session,
        courier=asked.bearer.courier,
        run=asked.bearer.run,
        again=again,
    )
    settling.tell(ledger, begun)
    settling.announce(ledger, door, attempt, Cause.COURIER, parcel_id=asked.booking)
