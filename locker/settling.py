"""What each thing that happened does to the ledger, and the events that tell of it.

Every function is one transaction's work: it reads the ledger as it stands, moves states by their tables and appends
the events. What it returns is what may be shown or moved once the transaction is on the disk.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from edge.errors import VerificationError
from locker import compartment as compartments
from locker import contract, parcel
from locker.booking import TRANSITIONS as BOOKINGS
from locker.booking import BookingInput
from locker.compartment import CompartmentInput, LedgerState
from locker.contract import BlockCause, BookingChange, Cause, DoorState, Doubt, Event, draft
from locker.door import DEFAULT_TIMES, Done, Happening, Outcome
from locker.latch import Hook, Reading
from locker.ledger import Ledger, Parcel, Unlocking
from locker.parcel import ParcelInput, ParcelState
from locker.pickup_code import CodeHashes


class IssuedCode(msgspec.Struct, frozen=True):
    """A new code as it may leave this transaction: hashed for the ledger, sealed for the hub's key ``kid``."""

    hashes: CodeHashes
    sealed: str
    kid: str

    def __repr__(self) -> str:
        return "IssuedCode(...)"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt about to be made: random ids, and what the sensor reads before it."""

    attempt: str
    session: str
    before: Hook


class Purpose(enum.Enum):
    """What a door is opened for, and so what its opening, its failing and its closing mean."""

    RELEASE = "release"
    """A parcel is handed out."""
    DEPOSIT = "deposit"
    """A parcel is put in."""
    LOOK = "look"
    """Somebody looks inside; no parcel is meant to change hands."""


PURPOSES: Final[dict[Cause, Purpose]] = {
    Cause.CODE: Purpose.RELEASE,
    Cause.COURIER: Purpose.DEPOSIT,
    Cause.COMMAND: Purpose.LOOK,
}
"""Every cause has one."""


Issue = Callable[[Callable[[bytes], bool], str], IssuedCode]
"""Makes a code for a parcel; the first argument says whether a plain hash is taken."""


REMOTE_CAPS = ((60.0, 3), (86_400.0, 20))
"""At most so many doors opened by commands in so many running seconds, whoever signs: 3 a minute, 20 a day."""


def tell(ledger: Ledger, event: Event) -> None:
    ledger.append(draft(event))


def charge_remote_opening(ledger: Ledger) -> None:
    """Count one more door opened by a command. Raises ``VerificationError`` (``capped``) when that is too many."""
    for seconds, most in REMOTE_CAPS:
        if ledger.remote_openings(seconds) >= most:
            raise VerificationError(
                "capped", f"{most} doors were opened in {seconds:.0f} s", remedy="go there, or wait"
            )
    ledger.note_remote_opening()


def announce(
    ledger: Ledger, door: str, attempt: Attempt, cause: Cause, *, parcel_id: str = "", cause_id: str = ""
) -> None:
    """Commit the first pulse of an attempt: from here on it may have happened."""
    unlocking = Unlocking(
        door=door,
        attempt=attempt.attempt,
        session=attempt.session,
        cause=cause,
        before=attempt.before.value,
        parcel=parcel_id,
        cause_id=cause_id,
    )
    ledger.begin_unlocking(unlocking)
    tell(ledger, _requested(unlocking))


def announce_again(ledger: Ledger, door: str, attempt: str, pulses: int) -> None:
    """Commit a further pulse of ``attempt``, unless it has got its outcome by now."""
    unlocking = ledger.unlocking(door)
    if unlocking is None or unlocking.attempt != attempt or unlocking.ended:
        return
    ledger.count_pulse(attempt, pulses)
    tell(ledger, _requested(msgspec.structs.replace(unlocking, pulses=pulses)))


def _requested(unlocking: Unlocking) -> Event:
    return contract.UnlockRequested(
        door=unlocking.door,
        attempt=unlocking.attempt,
        pulse=unlocking.pulses,
        session=unlocking.session,
        cause=unlocking.cause,
        before=unlocking.before,  # type: ignore[arg-type]  # Hook's own words, kept as text
        parcel=unlocking.parcel,
        cause_id=unlocking.cause_id,
    )


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
        _move_parcel(ledger, unlocking.parcel, ParcelInput.OPENED)
    elif purpose is Purpose.LOOK:
        _doubt_occupied(ledger, door)
    elif unlocking.ended and not unlocking.opened:
        _resume_deposit(ledger, door, unlocking.parcel)
    return unlocking


def _resume_deposit(ledger: Ledger, door: str, parcel_id: str) -> None:
    """A courier's door gave way after all, when it had been given up: what is put in now must not be overlooked."""
    found = ledger.parcel(parcel_id)
    if found is None or found.door != door or not _move_parcel(ledger, parcel_id, ParcelInput.DEPOSIT):
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
        _move_parcel(ledger, unlocking.parcel, ParcelInput.NOT_MOVED if surely_shut else ParcelInput.IN_DOUBT)
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
    found = ledger.parcel(unlocking.parcel)
    if found is not None and found.coded:
        _move_parcel(ledger, unlocking.parcel, ParcelInput.DEPOSITED)
    else:
        withdraw(ledger, unlocking.parcel, door, unlocking.session)


def withdraw(ledger: Ledger, parcel_id: str, door: str, session: str) -> None:
    """No parcel lies behind the door after all; a code that was issued for it goes with it."""
    if _move_parcel(ledger, parcel_id, ParcelInput.WITHDRAWN):
        ledger.forget_code(parcel_id)
        tell(ledger, contract.DepositWithdrawn(parcel=parcel_id, door=door, session=session))
        move_booking(ledger, parcel_id, BookingInput.WITHDRAW, BookingChange.WITHDRAWN)
        _empty_compartment(ledger, door)


def door_closed(
    ledger: Ledger, door: str, *, seen_open: bool, empty: bool, item: bool | None, issue: Issue, hold_s: float
) -> str:
    """The door is closed again; completes whatever it was opened for. Returns the session it belonged to, "" for none.

    ``seen_open`` is false when the door is only found closed, after a time without readings. ``empty``: the courier
    said that no parcel is inside. ``item`` is what the infrared sensor sees, None without one.
    """
    unlocking, found = ledger.unlocking(door), ledger.parcel_at(door)
    session = unlocking.session if unlocking is not None else ""
    if seen_open:
        tell(ledger, contract.DoorClosed(door=door, session=session, parcel=found.parcel if found else ""))
    if found is None:
        return session
    if found.state is ParcelState.RELEASED:
        _collected(ledger, found, session, item=item)
    elif found.state is ParcelState.DEPOSITING and (unlocking is None or unlocking.ended):
        if empty:
            withdraw(ledger, found.parcel, door, session)
        else:
            deposited(ledger, found, session, issue=issue, hold_s=hold_s)
    return session


def _collected(ledger: Ledger, found: Parcel, session: str, *, item: bool | None) -> None:
    _move_parcel(ledger, found.parcel, ParcelInput.CLOSED)
    tell(ledger, contract.Collected(parcel=found.parcel, door=found.door, session=session or "none"))
    move_booking(ledger, found.parcel, BookingInput.END, BookingChange.ENDED)
    if item:
        block(ledger, found.door, BlockCause.NOT_EMPTY)
    _empty_compartment(ledger, found.door)


def deposited(ledger: Ledger, found: Parcel, session: str, *, issue: Issue, hold_s: float) -> None:
    """The parcel is inside: hash and sealed code are kept in this same transaction."""
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
    if not found.coded:
        issue_code(ledger, found, issue, expires)


def issue_code(ledger: Ledger, found: Parcel, issue: Issue, expires: float | None) -> None:
    """A new code for the parcel, sealed for the hub; one that it had is dead from here on."""
    code = issue(lambda digest: ledger.find_code(digest) is not None, found.parcel)
    ledger.save_code(found.parcel, code.hashes)
    tell(
        ledger,
        contract.CodeIssued(parcel=found.parcel, door=found.door, kid=code.kid, sealed=code.sealed, expires=expires),
    )


def move_booking(
    ledger: Ledger,
    booking: str,
    happened: BookingInput,
    change: BookingChange,
    *,
    rev: int = 0,
    expires: float | None = None,
) -> None:
    """Move the booking of a parcel, if there is one and its table has it, and tell."""
    found = ledger.booking(booking)
    following = None if found is None else BOOKINGS.get((found.state, happened))
    if found is None or following is None:
        return
    ledger.save_booking(msgspec.structs.replace(found, state=following))
    tell(
        ledger,
        contract.BookingChanged(booking=booking, change=change, rev=rev, hold_hours=found.hold_hours, expires=expires),
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
        found = ledger.parcel_at(door)
        if found is not None and found.coded:  # reopened by its courier: the sensor may lie, the customer must not wait
            _move_parcel(ledger, found.parcel, ParcelInput.DEPOSITED)
    elif happening is Happening.SILENT:
        tell(ledger, contract.DoorUnknown(door=door, cause=Doubt.NO_ANSWER, hook="unknown"))


def _found_open(ledger: Ledger, door: str) -> None:
    """While nobody could look the door was opened: by those who are being served, or by a stranger."""
    found = ledger.parcel_at(door)
    tell(ledger, contract.DoorFoundOpen(door=door, parcel=found.parcel if found else ""))
    if found is not None and found.state not in {ParcelState.DEPOSITING, ParcelState.RELEASED}:
        block(ledger, door, BlockCause.FORCED)


def snapshot(ledger: Ledger, door: str, state: DoorState, reading: Reading) -> None:
    """The door as it stands, for whoever shows the locker to people."""
    tell(ledger, contract.DoorSnapshot(door=door, state=state, hook=reading.hook.value, item=reading.item))


def block(ledger: Ledger, door: str, cause: BlockCause) -> None:
    """Do not offer the compartment until somebody has looked; told once."""
    if ledger.compartment(door).state is not LedgerState.BLOCKED:
        _move_compartment(ledger, door, CompartmentInput.BLOCK)
        tell(ledger, contract.CompartmentBlocked(door=door, cause=cause))


def _doubt_occupied(ledger: Ledger, door: str) -> None:
    """Somebody other than the customer had the door open: what lies inside is not known for sure any more."""
    if ledger.parcel_at(door) is not None:
        _move_compartment(ledger, door, CompartmentInput.DOUBT)


def _move_compartment(ledger: Ledger, door: str, happened: CompartmentInput) -> None:
    ledger.set_compartment(door, compartments.move(ledger.compartment(door).state, happened))


def _empty_compartment(ledger: Ledger, door: str) -> None:
    if ledger.compartment(door).state is not LedgerState.FREE:  # somebody may have looked meanwhile
        _move_compartment(ledger, door, CompartmentInput.EMPTY)


def _move_parcel(ledger: Ledger, parcel_id: str, happened: ParcelInput) -> bool:
    """Move the parcel if its table has it; a parcel that has moved on by other means stays where it is."""
    found = ledger.parcel(parcel_id)
    following = None if found is None else parcel.TRANSITIONS.get((found.state, happened))
    if found is None or following is None:
        return False
    return ledger.move_parcel(parcel_id, found.state, following)
