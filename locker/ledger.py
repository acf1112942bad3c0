"""The ledger as the locker's rules see it: compartments, parcels, code hashes, attempts.

``locker.ledger_sql`` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from edge.event import Draft, Stamp
from edge.journal import Need
from locker.attempts import Attempts
from locker.booking import BookingState
from locker.compartment import LedgerState
from locker.contract import AuditOutcome, BlockCause, BookingKind, Cause, CodeUse, Word
from locker.parcel import ParcelState
from locker.pickup_code import CodeHashes

T = TypeVar("T")


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel as the ledger holds it. ``parcel`` is the random booking id.

    ``expires`` is wall seconds, None for one that was taken in on an untrusted clock. ``stored_at`` is accumulated
    running seconds, None until the deposit's door has closed. Parcels that were put in together share ``batch``.
    """

    parcel: str
    door: str
    state: ParcelState
    courier: str
    run: str
    batch: str = ""

    @property
    def was_stored(self) -> bool:
        """Whether its deposit was complete once: opened again, it lies inside until somebody says otherwise."""
        return self.stored_at is not None

    expires: float | None = None
    stored_at: float | None = None
    coded: bool = False


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel that was announced. ``since`` is accumulated running seconds of the node when it last was.

    Bookings of one ``group`` are one customer's. ``exchange`` is the booking of what has to be given back for it.
    """

    booking: str
    state: BookingState
    size: str
    low: bool
    hold_hours: int
    since: float
    group: str = ""
    kind: BookingKind = BookingKind.DELIVERY
    exchange: str = ""
    climate: str = "ambient"


class HeldCode(msgspec.Struct, frozen=True):
    """Which code of the ledger a typed one is: for the booking ``subject``, its own (``which`` 0) or a further one."""

    subject: str
    use: CodeUse
    which: int = 0


class Unlocking(msgspec.Struct, frozen=True, kw_only=True):
    """The last attempt to open a door. While ``ended`` is false its outcome has not been told.

    ``before`` is what the sensor read when it began, ``pulses`` how many were committed. ``opened``: the door was seen
    to open after one of them, be it after the end.
    """

    door: str
    attempt: str
    session: str
    cause: Cause
    before: str
    parcel: str = ""
    cause_id: str = ""
    pulses: int = 1
    ended: bool = False
    opened: bool = False
    word: str = ""
    """What was said at the door: a ``locker.contract.Word``."""


class CompartmentRow(msgspec.Struct, frozen=True):
    """A compartment in the ledger: its state and how often its door was opened.

    ``cause`` is why it is blocked; None where it is not, or where a former release has blocked it.
    """

    door: str
    state: LedgerState
    uses: int
    cause: BlockCause | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """An audit under way: whose ``command``, ``until`` which running second, and what came of each door so far."""

    command: str
    until: float
    doors: dict[str, AuditOutcome | None]


class Ledger(Protocol):
    """One transaction: all of it is kept, with the events appended, or none."""

    @property
    def stamp(self) -> Stamp: ...

    def append(self, draft: Draft) -> None: ...

    def require(self, need: Need) -> None:
        """This transaction turns out to need so much of the disk. Raises ``StoreFull``, and nothing of it is kept."""
        ...

    def running(self) -> float:
        """Accumulated running seconds of the node, over all its restarts."""
        ...

    def floor(self) -> float:
        """Wall seconds that have surely passed, as a trusted clock last said; 0.0 before the first such word."""
        ...

    def attempts(self) -> Attempts: ...

    def save_attempts(self, attempts: Attempts) -> None: ...

    def find_code(self, digest: bytes) -> HeldCode | None:
        """The code that, plain or with extension, has this hash."""
        ...

    def save_code(self, parcel: str, hashes: CodeHashes) -> None:
        """The parcel's own code; one that it had is gone."""
        ...

    def save_further_code(self, code: HeldCode, hashes: CodeHashes) -> None: ...

    def further_codes(self, subject: str, use: CodeUse) -> list[HeldCode]: ...

    def forget_further_code(self, code: HeldCode) -> None: ...

    def forget_code(self, parcel: str) -> None:
        """Every code by which the parcel can be collected."""
        ...

    def live_codes(self) -> int:
        """How many codes could open a door, or will once a deposit that has begun is complete."""
        ...

    def further_code_count(self) -> int:
        """How many of the live codes are beside the parcels' own."""
        ...

    def voucher_gen(self, booking: str) -> int:
        """The highest edition of a voucher seen for the booking, 0 for none."""
        ...

    def save_voucher_gen(self, booking: str, gen: int) -> None: ...

    def parcel(self, parcel: str) -> Parcel | None: ...

    def parcels_at(self, door: str) -> list[Parcel]:
        """The parcels that keep the compartment behind ``door`` from being offered, in the order of their ids."""
        ...

    def parcels_here(self) -> list[Parcel]:
        """Those behind all doors, in the order of their ids."""
        ...

    def put_in_with(self, parcel: str) -> list[Parcel]:
        """The parcels that were put in together with ``parcel``, itself included, wherever they are now."""
        ...

    def add_parcel(self, parcel: Parcel) -> None: ...

    def move_parcel(self, parcel: str, before: ParcelState, after: ParcelState) -> bool:
        """Compare-and-set; False when somebody else was first."""
        ...

    def store_parcel(self, parcel: str, *, expires: float | None) -> None:
        """Note when the deposit was complete, and until when it is held."""
        ...

    def set_expiry(self, parcel: str, expires: float) -> None: ...

    def booking(self, booking: str) -> Booking | None: ...

    def save_booking(self, booking: Booking) -> None: ...

    def bookings(self, state: BookingState) -> list[Booking]: ...

    def group(self, group: str) -> list[Booking]:
        """All bookings of one customer's group."""
        ...

    def compartments(self) -> list[CompartmentRow]: ...

    def compartment(self, door: str) -> CompartmentRow: ...

    def set_compartment(self, door: str, state: LedgerState, cause: BlockCause | None = None) -> None:
        """``cause``: why it is blocked from now on; None leaves it what it was for as long as it stays blocked."""
        ...

    def count_use(self, door: str) -> None: ...

    def begin_unlocking(self, unlocking: Unlocking) -> None: ...

    def count_pulse(self, attempt: str, pulses: int) -> None: ...

    def unlocking(self, door: str) -> Unlocking | None: ...

    def end_unlocking(self, attempt: str, *, opened: bool) -> None:
        """The attempt has its outcome, or, long ended, its late opening."""
        ...

    def note_word(self, attempt: str, word: Word) -> None: ...

    def open_unlockings(self) -> list[Unlocking]: ...

    def begin_audit(self, audit: Audit) -> None:
        """One at a time: what was kept of another is gone."""
        ...

    def audit(self) -> Audit | None: ...

    def note_audited(self, door: str, outcome: AuditOutcome) -> None: ...

    def end_audit(self) -> None: ...

    def pin_tries(self, badge: str) -> int: ...

    def save_pin_tries(self, badge: str, tries: int) -> None: ...

    def tally(self, kind: str, reason: str) -> None:
        """Count one refusal; a row per kind, reason and minute."""
        ...

    def finished_tallies(self) -> Iterable[tuple[str, str, int, int]]:
        """Take out (kind, reason, minute, count) of all minutes that are over."""
        ...

    def note_remote_opening(self) -> None: ...

    def remote_openings(self, seconds: float) -> int:
        """How many doors commands have opened in the last ``seconds`` of running time."""
        ...


class Store(Protocol):
    """Where the ledger's transactions are run; ``edge.journal.Journal.write`` says what holds for them."""

    async def write(self, work: Callable[[Ledger], T], need: Need = Need.COLLECTION) -> T: ...

    async def copied(self) -> None:
        """Return when a copy beside the database holds all that was written by now.

        Raises ``StoreError`` when the disk does not take one.
        """
        ...
