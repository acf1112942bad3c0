"""A courier's deposit in the ledger: the PIN's budget, the choice of a compartment, the own deposit opened again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from locker import announcing, badge, compartment, contract, parcel, settling
from locker.announcing import Attempt
from locker.attempts import MAX_CODES
from locker.badge import Badge, Depositor, OwnDeposit, PinCharge, PinRefusal
from locker.booking import BookingState
from locker.commands import MAX_TOGETHER
from locker.compartment import Candidate, Climate, CompartmentInput, Size
from locker.contract import Cause, Reason
from locker.ledger import Booking, CompartmentRow, Ledger, Parcel
from locker.parcel import PRESENT, ParcelInput, ParcelState
from locker.pickup_code import Refusal


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a courier with a good badge and PIN asks for, or a customer with a drop code."""

    by: Depositor
    cause: Cause = Cause.COURIER
    bookings: tuple[str, ...]
    """Put in together, behind one door."""
    size: Size
    low: bool
    open: bool = True
    """Whether new deposits are taken at this hour."""
    shut: frozenset[str] = frozenset()
    """Doors that the operator wants no deposit behind, or whose zone is not known to be at its temperature."""
    climate: Climate = Climate.AMBIENT
    exchange: str = ""
    """The parcel whose own code, voucher or command has asked for this: it is handed out once these are inside."""


_AWAITED = (BookingState.EXPECTED, BookingState.STORED)

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


def well_formed(bookings: tuple[str, ...]) -> bool:
    """Whether so many, each once, can be put into one compartment."""
    return 1 <= len(bookings) <= MAX_TOGETHER and len(set(bookings)) == len(bookings)


class Placing:
    """Puts parcels behind doors, and remembers the last ones for whoever needs another door: one waits at a time."""

    def __init__(self, look: Look, hours: Callable[[], bool], shut: Callable[[], frozenset[str]]) -> None:
        """``hours`` says whether deposits are taken now, ``shut`` which doors the operator wants none behind."""
        self._look = look
        self._hours = hours
        self._shut = shut
        self._last: tuple[str, Asked] | None = None

    def place(self, ledger: Ledger, asked: Asked, attempt: Attempt) -> str | Refusal:
        """``place``, with the doors as they are seen now."""
        door = place(ledger, msgspec.structs.replace(asked, open=self._hours(), shut=self._shut()), self._look, attempt)
        if not isinstance(door, Refusal):
            self._last = (attempt.session, asked)
        return door

    def asked_in(self, session: str) -> Asked | None:
        """What was last placed, if it was in this session."""
        return self._last[1] if self._last is not None and self._last[0] == session else None


def place(ledger: Ledger, asked: Asked, look: Look, attempt: Attempt) -> str | Refusal:
    """Choose and take a compartment and announce its pulse; the courier's own one again shortly after."""
    booked = [each for booking in asked.bookings if (each := ledger.booking(booking)) is not None]
    if not _may_share(asked, booked) or any(each.state not in _AWAITED for each in booked):
        return Refusal(Reason.BOOKING_REFUSED)
    asked = _as_booked(asked, booked)
    held = [found for booking in asked.bookings if (found := ledger.parcel(booking)) is not None]
    here = [found for found in held if found.state in PRESENT]
    if here and not all(_was_given_up(ledger, asked.by, found) for found in here):
        return _place_again(ledger, asked, here, look, attempt)
    if any(found.state not in PRESENT and found.state is not ParcelState.WITHDRAWN for found in held):
        return Refusal(Reason.BOOKING_REFUSED)
    for found in here:
        _give_up(ledger, found, attempt.session)
    if not asked.open:
        return Refusal(Reason.CLOSED)
    if ledger.live_codes() + len(asked.bookings) > MAX_CODES:
        return Refusal(Reason.NO_ROOM)
    return _place_new(ledger, asked, look, attempt)


def _may_share(asked: Asked, booked: list[Booking]) -> bool:
    """Those of different customers may not: whoever collects one parcel gets what lies beside it. So neither does
    what a courier is to take along lie beside what a customer collects. Nor do those share that are kept at different
    temperatures.
    """
    for_couriers = sum(not each.kind.collected_here for each in booked)
    groups, climates = {each.group for each in booked if each.group}, {each.climate for each in booked}
    return for_couriers in {0, len(asked.bookings)} and len(groups) <= 1 and len(climates) <= 1


def _place_new(ledger: Ledger, asked: Asked, look: Look, attempt: Attempt) -> str | Refusal:
    offered = [row for row in ledger.compartments() if row.door not in asked.shut]
    candidates = [candidate for row in offered if (candidate := look(row)) is not None]
    chosen = compartment.choose(candidates, asked.size, low=asked.low, climate=asked.climate)
    if chosen is None:
        # No candidate at all: no board answers, which is another thing than a full cabinet.
        return Refusal(Reason.NO_ROOM if candidates else Reason.OUT_OF_SERVICE)
    door, by = chosen.door, asked.by
    ledger.set_compartment(door, compartment.move(ledger.compartment(door).state, CompartmentInput.TAKE))
    for booking in asked.bookings:
        ledger.add_parcel(
            Parcel(
                parcel=booking,
                door=door,
                state=ParcelState.DEPOSITING,
                courier=by.courier,
                run=by.run,
                batch=attempt.session if len(asked.bookings) > 1 else "",
            )
        )
    _announce(ledger, asked, _seen(candidates, door, attempt), door, again=False)
    return door


def _as_booked(asked: Asked, booked: list[Booking]) -> Asked:
    """At least the size that was booked, and in reach if that was; the courier may see that it needs more."""
    for each in booked:
        larger = asked.size if asked.size.fits(Size(each.size)) else Size(each.size)
        low = asked.low or each.low
        asked = msgspec.structs.replace(asked, size=larger, low=low, climate=Climate(each.climate))
    return asked


def _was_given_up(ledger: Ledger, by: Depositor, held: Parcel) -> bool:
    """Whether this courier's door was never seen to open: by asking for another they say that they hold the parcel."""
    last = ledger.unlocking(held.door)
    mine = last is not None and last.parcel in {each.parcel for each in ledger.put_in_with(held.parcel)}
    never_opened = last is not None and mine and last.ended and not last.opened
    first = held.state is ParcelState.DEPOSITING and not held.was_stored
    return first and never_opened and (held.courier, held.run) == (by.courier, by.run)


def _give_up(ledger: Ledger, held: Parcel, session: str) -> None:
    """Where one was not put in, nor were those beside it: whoever waited for the word would call them stored."""
    for each in ledger.put_in_with(held.parcel):
        if each.door == held.door:
            settling.withdraw(ledger, each.parcel, each.door, session)


def _place_again(ledger: Ledger, asked: Asked, here: list[Parcel], look: Look, attempt: Attempt) -> str | Refusal:
    """The own deposit opens again with all that was put in, and for nothing else."""
    door = here[0].door
    if {each.parcel for each in ledger.parcels_at(door)} != set(asked.bookings):
        return Refusal(Reason.BOOKING_REFUSED)
    candidate = look(ledger.compartment(door))
    if candidate is None or not all(_may_reopen(ledger, asked.by, each) for each in here):
        return Refusal(Reason.BOOKING_REFUSED)
    for each in here:
        ledger.move_parcel(each.parcel, each.state, parcel.move(each.state, ParcelInput.DEPOSIT))
    _announce(ledger, asked, _seen([candidate], door, attempt), door, again=True)
    return door


def _may_reopen(ledger: Ledger, by: Depositor, held: Parcel) -> bool:
    if held.state is not ParcelState.STORED or held.stored_at is None:
        return False
    return badge.may_reopen(by, OwnDeposit(held.courier, held.run, held.stored_at), ledger.running())


def _seen(candidates: list[Candidate], door: str, attempt: Attempt) -> Attempt:
    before = next(each.reading.hook for each in candidates if each.compartment.door == door)
    return msgspec.structs.replace(attempt, before=before)


def _announce(ledger: Ledger, asked: Asked, attempt: Attempt, door: str, *, again: bool) -> None:
    for booking in asked.bookings:
        begun = contract.DepositBegun(
            parcel=booking,
            door=door,
            session=attempt.session,
            courier=asked.by.courier,
            run=asked.by.run,
            again=again,
        )
        announcing.tell(ledger, begun)
    announcing.announce(ledger, door, attempt, asked.cause, parcel_id=asked.bookings[0])
