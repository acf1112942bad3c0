"""What each thing that happened does to the ledger, and the events that tell of it.

Every function is one transaction's work: it reads the ledger as it stands, moves states by their tables and appends
the events. What it returns is what may be shown or moved once the transaction is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from locker import compartment as compartments
from locker import contract, parcel
from locker.announcing import PURPOSES, Purpose, tell
from locker.booking import TRANSITIONS as BOOKINGS
from locker.booking import BookingInput
from locker.compartment import CompartmentInput, LedgerState
from locker.contract import BlockCause, BookingChange, Cause, DoorState, Doubt, Event, Word
from locker.door import Done, Happening, Outcome
from locker.door_times import DEFAULT_TIMES
from locker.issuing import Issue, issue_code
from locker.latch import Hook, Reading
from locker.ledger import Ledger, Parcel, Unlocking
from locker.parcel import ParcelInput, ParcelState

OUTSIDE: Final = frozenset({Word.EMPTY, Word.DOES_NOT_FIT, Word.NOT_EMPTY, Word.WILL_NOT_CLOSE})
"""Words by which a deposit puts nothing in."""


def door_opened(ledger: Ledger, door: str) -> Unlocking | None:
    """The door was seen to open after our pulse: only now is a code used. Returns the attempt that explains it."""
    unlocking = ledger.unlocking(door)
    if unlocking is None:
        tell(ledger, contract.DoorOpened(door=door))
        return None
    ledger.end_unlocking(unlocking.attempt, opened=True)
    ledger.count_use(door)
    opened = contract.DoorOpened(
        door=door,
        attempt="" if unlocking.ended else unlocking.attempt,
        session=unlocking.session,
        parcel=unlocking.parcel,
    )
    tell(ledger, opened)
    purpose = PURPOSES[unlocking.cause]
    if purpose is Purpose.RELEASE:
        _move_all(ledger, ledger.parcels_at(door), ParcelInput.OPENED)
    elif purpose is Purpose.TAKE_BACK:
        _move_all(ledger, ledger.parcels_at(door), ParcelInput.TAKE_BACK)
    elif purpose is Purpose.LOOK:
        _doubt_occupied(ledger, door)
        if unlocking.cause is Cause.CLEANING:
            block(ledger, door, BlockCause.CLEANING, by=unlocking.cause_id)
    elif unlocking.ended and not unlocking.opened:
        _resume_deposit(ledger, door, unlocking.parcel)
    return unlocking


def _resume_deposit(ledger: Ledger, door: str, parcel_id: str) -> None:
    """A courier's door gave way after all, when it had been given up: what is put in now must not be overlooked."""
    here = [each for each in ledger.put_in_with(parcel_id) if each.door == door]
    if not _move_all(ledger, here, ParcelInput.DEPOSIT):
        return
    if ledger.compartment(door).state is LedgerState.FREE:
        _move_compartment(ledger, door, CompartmentInput.TAKE)


def attempt_ended(ledger: Ledger, door: str, attempt: str, done: Done, hook: Hook) -> Unlocking | None:
    """``attempt`` ended without the door being seen to open. The code, if there was one, stays valid.

    Returns None when its outcome was told before.
    """
    unlocking = ledger.unlocking(door)
    if unlocking is None or unlocking.attempt != attempt or unlocking.ended:
        return None
    ledger.end_unlocking(attempt, opened=False)
    tell(ledger, _ended(unlocking, done, hook))
    if done.outcome is not Outcome.UNSENT:
        jammed = done.outcome is Outcome.JAMMED
        block(ledger, door, BlockCause.JAMMED if jammed else BlockCause.UNKNOWN)
    surely_shut = done.outcome in {Outcome.JAMMED, Outcome.UNSENT}
    purpose = PURPOSES[unlocking.cause]
    if purpose is Purpose.RELEASE:
        _move_all(ledger, ledger.parcels_at(door), ParcelInput.NOT_MOVED if surely_shut else ParcelInput.IN_DOUBT)
    elif purpose is Purpose.DEPOSIT and surely_shut:
        _deposit_failed(ledger, door, unlocking)
    return unlocking


def _ended(unlocking: Unlocking, done: Done, hook: Hook) -> Event:
    door, attempt, session = unlocking.door, unlocking.attempt, unlocking.session
    if done.outcome is Outcome.JAMMED:
        return contract.DoorJammed(door=door, attempt=attempt, session=session, pulses=unlocking.pulses)
    if done.outcome is Outcome.UNSENT:
        return contract.UnlockUnsent(door=door, attempt=attempt, session=session)
    return contract.DoorUnknown(
        door=door, cause=done.doubt or Doubt.NO_ANSWER, hook=hook.value, attempt=attempt, session=session
    )


def _deposit_failed(ledger: Ledger, door: str, unlocking: Unlocking) -> None:
    """The door surely stayed shut: a first deposit put nothing inside, a reopened one left its parcel there."""
    for each in ledger.parcels_at(door):
        if each.was_stored:
            _move_parcel(ledger, each.parcel, ParcelInput.DEPOSITED)
        elif each.state is ParcelState.DEPOSITING:
            withdraw(ledger, each.parcel, door, unlocking.session)


def withdraw(ledger: Ledger, parcel_id: str, door: str, session: str) -> None:
    """No parcel lies behind the door after all; a code that was issued for it goes with it."""
    if _move_parcel(ledger, parcel_id, ParcelInput.WITHDRAWN):
        ledger.forget_code(parcel_id)
        tell(ledger, contract.DepositWithdrawn(parcel=parcel_id, door=door, session=session))
        move_booking(ledger, parcel_id, BookingInput.WITHDRAW, BookingChange.WITHDRAWN)
        _empty_compartment(ledger, door)


WRONG: Final = frozenset({Word.WRONG_TAKEN, Word.WRONG_LEFT})
"""Words of a customer with whose parcel something is wrong."""


AT_AN_OPEN_DOOR: Final = frozenset({ParcelState.DEPOSITING, ParcelState.RELEASED, ParcelState.TAKING_BACK})
"""Somebody is at such a parcel's door by right."""


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What the closing of a door has completed.

    ``session`` and ``parcel`` are "" and ``cause`` None where nobody had asked for the door. ``parcel`` is the one that
    it was opened for, ``collected`` are the parcels whose
    customer is through with them, ``stored`` those that lie here now, ``sealed`` the codes that were issued for what
    was put in. ``word`` is what was said.
    """

    door: str
    session: str
    cause: Cause | None
    parcel: str = ""
    word: Word = Word.NONE
    collected: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()


def door_closed(
    ledger: Ledger, door: str, *, seen_open: bool, item: bool | None, issue: Issue, hold_s: float
) -> Closed:
    """The door is closed again; completes whatever it was opened for.

    ``seen_open`` is false when the door is only found closed, after a time without readings. ``item`` is what the
    infrared sensor sees, None without one.
    """
    unlocking, here = ledger.unlocking(door), ledger.parcels_at(door)
    session = unlocking.session if unlocking is not None else ""
    if seen_open:
        tell(ledger, contract.DoorClosed(door=door, session=session, parcel=_named(here, unlocking)))
    word = Word.NONE if unlocking is None else Word(unlocking.word)
    released = [each for each in here if each.state is ParcelState.RELEASED]
    if released:
        _collected(ledger, door, released, session, word=word, item=item)
    taking = [each for each in here if each.state is ParcelState.TAKING_BACK]
    if taking:
        _taken_back(ledger, door, taking, unlocking, item=item)
    if seen_open and unlocking is not None and unlocking.cause is Cause.CLEANING:
        _cleaned(ledger, door, unlocking.cause_id, item=item)
    sealed: list[str] = []
    stored: list[str] = []
    over = unlocking is None or unlocking.ended
    for each in here:
        if over and each.state is ParcelState.DEPOSITING and word in OUTSIDE:
            withdraw(ledger, each.parcel, door, session)
        elif over and each.state is ParcelState.DEPOSITING:
            stored.append(each.parcel)
            sealed += deposited(ledger, each, session, issue=issue, hold_s=hold_s)
    return Closed(
        door=door,
        session=session,
        cause=None if unlocking is None else unlocking.cause,
        parcel="" if unlocking is None else unlocking.parcel,
        word=word,
        collected=tuple(each.parcel for each in released),
        stored=tuple(stored),
        sealed=tuple(sealed),
    )


def _named(here: list[Parcel], unlocking: Unlocking | None) -> str:
    """Of the parcels behind a door the one that an event names: the one it was opened for, or else the first."""
    ids = [each.parcel for each in here]
    return unlocking.parcel if unlocking is not None and unlocking.parcel in ids else next(iter(ids), "")


def _collected(
    ledger: Ledger, door: str, released: list[Parcel], session: str, *, word: Word, item: bool | None
) -> None:
    """Their customer is through with them: gone, or left inside because something is wrong."""
    for each in released:
        if word in WRONG:
            claim(ledger, each, session, word)
        if word is not Word.WRONG_LEFT:
            _move_parcel(ledger, each.parcel, ParcelInput.CLOSED)
            tell(ledger, contract.Collected(parcel=each.parcel, door=door, session=session or "none"))
            move_booking(ledger, each.parcel, BookingInput.END, BookingChange.ENDED)
    if item and word is not Word.WRONG_LEFT:
        block(ledger, door, BlockCause.NOT_EMPTY)
    if word is not Word.WRONG_LEFT and ledger.parcels_at(door):
        _move_compartment(ledger, door, CompartmentInput.DOUBT)  # of another's, who knows whether it is still there
    _empty_compartment(ledger, door)


def _taken_back(
    ledger: Ledger, door: str, taking: list[Parcel], unlocking: Unlocking | None, *, item: bool | None
) -> None:
    """A courier is through with them: taken along, or not found inside."""
    known = unlocking is not None and unlocking.cause is Cause.RECALL
    by, session = (unlocking.cause_id, unlocking.session) if unlocking is not None and known else ("", "none")
    missing = unlocking is not None and Word(unlocking.word) is Word.MISSING
    for each in taking:
        if missing:
            remove(ledger, each, by=by)
        else:
            _move_parcel(ledger, each.parcel, ParcelInput.CLOSED)
            tell(ledger, contract.TakenBack(parcel=each.parcel, door=door, session=session, by=by))
            move_booking(ledger, each.parcel, BookingInput.END, BookingChange.ENDED)
    if item:
        block(ledger, door, BlockCause.NOT_EMPTY)
    _empty_compartment(ledger, door)


def remove(ledger: Ledger, held: Parcel, *, command: str = "", by: str = "") -> None:
    """Somebody has looked who may say so: the parcel is not inside. Its codes go with it."""
    ledger.move_parcel(held.parcel, held.state, parcel.move(held.state, ParcelInput.CLEARED))
    ledger.forget_code(held.parcel)
    tell(ledger, contract.ParcelRemoved(parcel=held.parcel, door=held.door, command=command, by=by))
    move_booking(ledger, held.parcel, BookingInput.END, BookingChange.ENDED)


def _cleaned(ledger: Ledger, door: str, by: str, *, item: bool | None) -> None:
    """Somebody has had it open and clean: it is offered again, unless there is more that speaks against it."""
    if item:
        block(ledger, door, BlockCause.NOT_EMPTY)
    elif ledger.compartment(door).cause is BlockCause.CLEANING:
        _move_compartment(ledger, door, CompartmentInput.SEEN_EMPTY)
        tell(ledger, contract.CompartmentReleased(door=door, by=by))


def claim(ledger: Ledger, found: Parcel, session: str, word: Word) -> None:
    """Something is wrong with the parcel; where it stays inside, it keeps its compartment from being offered."""
    left = word is Word.WRONG_LEFT
    if left:
        _move_parcel(ledger, found.parcel, ParcelInput.CLAIMED)
    if ledger.compartment(found.door).state is LedgerState.FREE and ledger.parcels_at(found.door):
        _move_compartment(ledger, found.door, CompartmentInput.TAKE)
    tell(ledger, contract.ParcelClaimed(parcel=found.parcel, door=found.door, session=session or "none", left=left))


def deposited(ledger: Ledger, found: Parcel, session: str, *, issue: Issue, hold_s: float) -> list[str]:
    """The parcel is inside: hash and sealed code are kept in this same transaction. Returns the sealed code, if new."""
    _move_parcel(ledger, found.parcel, ParcelInput.DEPOSITED)
    booked = ledger.booking(found.parcel)
    expires = found.expires
    if expires is None and ledger.stamp.trusted:
        expires = ledger.stamp.wall + (booked.hold_hours * 3600.0 if booked is not None else hold_s)
    ledger.store_parcel(found.parcel, expires=expires)
    tell(
        ledger,
        contract.Deposited(parcel=found.parcel, door=found.door, session=session or "none", courier=found.courier),
    )
    move_booking(ledger, found.parcel, BookingInput.STORE, BookingChange.STORED, expires=expires)
    if found.coded or not (booked is None or booked.kind.collected_here):
        return []
    return [issue_code(ledger, found, issue, expires)]


def move_booking(
    ledger: Ledger,
    booking: str,
    happened: BookingInput,
    change: BookingChange,
    *,
    rev: int = 0,
    expires: float | None = None,
    to: str = "",
) -> None:
    """Move the booking of a parcel, if there is one and its table has it, and tell."""
    found = ledger.booking(booking)
    following = None if found is None else BOOKINGS.get((found.state, happened))
    if found is None or following is None:
        return
    ledger.save_booking(msgspec.structs.replace(found, state=following))
    tell(
        ledger,
        contract.BookingChanged(
            booking=booking, change=change, rev=rev, hold_hours=found.hold_hours, expires=expires, to=to
        ),
    )


def noticed(ledger: Ledger, door: str, happening: Happening) -> None:
    """What a door shows without anybody having asked for it."""
    if happening is Happening.FORCED:
        tell(ledger, contract.DoorForced(door=door))
        block(ledger, door, BlockCause.FORCED)
    elif happening is Happening.FOUND_OPEN:
        _found_open(ledger, door)
    elif happening is Happening.AJAR:
        tell(ledger, contract.DoorAjar(door=door, seconds=DEFAULT_TIMES.ajar))
        # Reopened by its courier: the sensor may lie, the customer must not wait.
        _move_all(ledger, [each for each in ledger.parcels_at(door) if each.was_stored], ParcelInput.DEPOSITED)
    elif happening is Happening.SILENT:
        tell(ledger, contract.DoorUnknown(door=door, cause=Doubt.NO_ANSWER, hook="unknown"))


def _found_open(ledger: Ledger, door: str) -> None:
    """While nobody could look the door was opened: by those who are being served, or by a stranger."""
    here = ledger.parcels_at(door)
    tell(ledger, contract.DoorFoundOpen(door=door, parcel=_named(here, ledger.unlocking(door))))
    if here and not being_served(here):
        block(ledger, door, BlockCause.FORCED)


def being_served(here: Iterable[Parcel]) -> bool:
    """Whether somebody is by right at the open door behind which these lie."""
    return any(each.state in AT_AN_OPEN_DOOR for each in here)


def snapshot(ledger: Ledger, door: str, state: DoorState, reading: Reading) -> None:
    """The door as it stands, for whoever shows the locker to people."""
    tell(ledger, contract.DoorSnapshot(door=door, state=state, hook=reading.hook.value, item=reading.item))


_LOOKED: Final = {BlockCause.STAFF, BlockCause.CLEANING}
"""Blocked by somebody who has looked and can end it: whatever else speaks against the compartment takes its place."""


def block(ledger: Ledger, door: str, cause: BlockCause, *, by: str = "") -> None:
    """Do not offer the compartment until somebody has looked; told once."""
    row = ledger.compartment(door)
    if row.state is LedgerState.BLOCKED and (row.cause not in _LOOKED or cause in _LOOKED):
        return
    ledger.set_compartment(door, compartments.move(row.state, CompartmentInput.BLOCK), cause)
    tell(ledger, contract.CompartmentBlocked(door=door, cause=cause, by=by))


def _doubt_occupied(ledger: Ledger, door: str) -> None:
    """Somebody other than the customer had the door open: what lies inside is not known for sure any more."""
    if ledger.parcels_at(door):
        _move_compartment(ledger, door, CompartmentInput.DOUBT)


def _move_compartment(ledger: Ledger, door: str, happened: CompartmentInput) -> None:
    ledger.set_compartment(door, compartments.move(ledger.compartment(door).state, happened))


def _empty_compartment(ledger: Ledger, door: str) -> None:
    if ledger.parcels_at(door):
        return
    if ledger.compartment(door).state is not LedgerState.FREE:  # somebody may have looked meanwhile
        _move_compartment(ledger, door, CompartmentInput.EMPTY)


def _move_all(ledger: Ledger, these: Iterable[Parcel], happened: ParcelInput) -> bool:
    """Move each whose table has it; returns whether there was one."""
    moved = [each for each in these if _move_parcel(ledger, each.parcel, happened)]
    return bool(moved)


def _move_parcel(ledger: Ledger, parcel_id: str, happened: ParcelInput) -> bool:
    """Move the parcel if its table has it; a parcel that has moved on by other means stays where it is."""
    found = ledger.parcel(parcel_id)
    following = None if found is None else parcel.TRANSITIONS.get((found.state, happened))
    if found is None or following is None:
        return False
    return ledger.move_parcel(parcel_id, found.state, following)
