"""What a locker tells the world: its events, and the words that they and ``locker.commands`` are made of.

Bookings, couriers, sessions and attempts are random ids. No field may ever hold a code, a PIN, a name or an address.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from edge.event import Draft, EventClass

DoorName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,16}(?!\n)$")]
"""What is printed on the door, such as ``07`` or ``A3``.

Published as JSON Schema, so the end of the pattern is written to mean the same in Python, where a bare ``$`` would
let a line break follow.
"""

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}(?!\n)$")]
"""An opaque random id. A tracking number is not one: it can be looked up."""


class DoorState(enum.Enum):
    """A door as far as its sensor lets us know. ``locker.door`` holds the table of what follows what."""

    CLOSED = "closed"
    UNLOCKING = "unlocking"
    """An attempt to open it is running."""
    OPEN = "open"
    AJAR = "ajar"
    """Open for longer than anybody needs."""
    JAMMED = "jammed"
    """Pulsed as often as allowed, and closed all the while."""
    FORCED = "forced"
    """Came open although nothing asked it to."""
    UNKNOWN = "unknown"


class Reason(enum.Enum):
    """Why a person at the kiosk was refused. Part of the kiosk's API and of events: words stay as they are."""

    TYPO = "typo"
    """The digits were mistyped: wrong length or check digit. Costs no attempt."""
    NO_SUCH_CODE = "no_such_code"
    """No code of this locker. Says the same whichever part of code and extension was wrong."""
    EXPIRED = "expired"
    USED = "used"
    WAIT = "wait"
    """Attempts are paced; ``retry_after`` says for how long."""
    EXTENSION_NEEDED = "extension_needed"
    """Too many wrong codes today: the four digits that stand beside the code are wanted as well."""
    BUSY = "busy"
    """Another door, or this one, is being opened."""
    OUT_OF_SERVICE = "out_of_service"
    CONFIRM_NEEDED = "confirm_needed"
    """The last attempt ended unknown: only a renewed confirmation makes another one."""
    NOT_ALLOWED = "not_allowed"
    """Badge or PIN is wrong, too old, or for another locker. Which of them is not told."""
    BOOKING_REFUSED = "booking_refused"
    """The booking is not expected here, or its parcel already lies here."""
    NO_ROOM = "no_room"
    """No free compartment of that size and height."""
    CLOSED = "closed"
    """Deposits are taken at other hours. Collections always are."""


class Cause(enum.Enum):
    """What asked for a door to be opened."""

    CODE = "code"
    COURIER = "courier"
    COMMAND = "command"


class Doubt(enum.Enum):
    """Why it cannot be known whether a door was opened."""

    NO_ANSWER = "no_answer"
    """A reading was missing: the board did not answer, or its answer could not be trusted."""
    ALREADY_OPEN = "already_open"
    """The sensor read open before the pulse, so that no opening could be seen."""
    UNSTEADY = "unsteady"
    """The sensor read open too briefly to be believed, and closed again."""
    RESTARTED = "restarted"
    """The program stopped between pulse and outcome."""


class BlockCause(enum.Enum):
    """Why a compartment is not offered until somebody has looked."""

    JAMMED = "jammed"
    UNKNOWN = "unknown"
    FORCED = "forced"
    NOT_EMPTY = "not_empty"
    STAFF = "staff"


class BookingChange(enum.Enum):
    """What became of a booking."""

    EXPECTED = "expected"
    CANCELLED = "cancelled"
    LAPSED = "lapsed"
    """Nobody brought the parcel for as long as one may be waited for."""
    EXTENDED = "extended"
    REISSUED = "reissued"
    """Its parcel has a new code, told by ``locker.code.issued``; the former one is dead."""
    STORED = "stored"
    WITHDRAWN = "withdrawn"
    """Its courier took the parcel along again: it is still expected."""
    ENDED = "ended"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every event's data.

    ``TYPE`` is its name on the wire, ``SUBJECT`` the field that names the thing it is about.
    """

    TYPE: ClassVar[str]
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    SUBJECT: ClassVar[str] = "door"


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


class ParcelRemoved(Event, frozen=True, kw_only=True):
    """Two people have declared by ``command`` that the parcel does not lie here any more; its code is dead."""

    TYPE = "parcel.removed"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    command: str


class BookingChanged(Event, frozen=True, kw_only=True):
    """``rev`` is the revision of the command that asked for it, 0 where none did.

    ``hold_hours`` count from the deposit on; ``expires`` is until when a parcel that lies here is held, wall seconds.
    """

    TYPE = "locker.booking.changed"
    SUBJECT = "booking"
    booking: Id
    change: BookingChange
    rev: int = 0
    hold_hours: int | None = None
    expires: float | None = None


class CodeIssued(Event, frozen=True, kw_only=True):
    """A pickup code exists. ``sealed`` is a JWE of code and extension that only the hub's key ``kid`` opens.

    ``expires``: wall seconds since 1970, None if the parcel may lie for good.
    """

    TYPE = "locker.code.issued"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    kid: str
    sealed: str
    expires: float | None


class CodeAccepted(Event, frozen=True, kw_only=True):
    """A code was right and its parcel is being released. ``confirmed``: after an unknown outcome, on renewed wish."""

    TYPE = "locker.code.accepted"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id
    attempt: Id
    confirmed: bool = False


class CodeRefused(Event, frozen=True, kw_only=True):
    """Codes refused for one reason in one minute, so that a flood of them is one event.

    ``minute``: whole minutes since 1970 by the wall clock, trusted or not.
    """

    TYPE = "locker.code.refused"
    SUBJECT = "reason"
    reason: Reason
    minute: int
    count: Annotated[int, msgspec.Meta(ge=1)]


class BadgeRefused(Event, frozen=True, kw_only=True):
    """Badges or PINs refused for one cause in one minute. ``cause`` says more than the courier at the kiosk is told."""

    TYPE = "locker.badge.refused"
    SUBJECT = "cause"
    cause: str
    minute: int
    count: Annotated[int, msgspec.Meta(ge=1)]


class UnlockRequested(Event, frozen=True, kw_only=True):
    """Committed before the pulse it announces. ``before`` is what the sensor read when the attempt began.

    ``pulse`` counts within ``attempt``. ``parcel`` is "" where a command opens a door for itself; ``cause_id`` is then
    the command's id.
    """

    TYPE = "locker.unlock.requested"
    door: DoorName
    attempt: Id
    pulse: Annotated[int, msgspec.Meta(ge=1, le=3)]
    session: Id
    cause: Cause
    before: Literal["closed", "open", "unknown"]
    parcel: str = ""
    cause_id: str = ""


class UnlockUnsent(Event, frozen=True, kw_only=True):
    """The announced pulse never left: port missing or busy. The door was not touched."""

    TYPE = "locker.unlock.unsent"
    door: DoorName
    attempt: Id
    session: Id


class DoorOpened(Event, frozen=True, kw_only=True):
    """The door was seen to go from closed to open after our pulse. ``attempt`` is "" when it came after we gave up."""

    TYPE = "locker.door.opened"
    door: DoorName
    attempt: str = ""
    session: str = ""
    parcel: str = ""


class DoorClosed(Event, frozen=True, kw_only=True):
    """An open door was seen to close."""

    TYPE = "locker.door.closed"
    door: DoorName
    session: str = ""
    parcel: str = ""


class DoorJammed(Event, frozen=True, kw_only=True):
    """Every allowed pulse was given and every reading since said closed. The code, if there was one, stays valid."""

    TYPE = "locker.door.jammed"
    door: DoorName
    attempt: Id
    session: Id
    pulses: int


class DoorUnknown(Event, frozen=True, kw_only=True):
    """It cannot be known whether the door was opened. ``hook`` is what the sensor says now."""

    TYPE = "locker.door.unknown"
    door: DoorName
    cause: Doubt
    hook: Literal["closed", "open", "unknown"]
    attempt: str = ""
    session: str = ""


class DoorForced(Event, frozen=True, kw_only=True):
    """The door came open although nothing had asked it to: tampering, or a latch that does not hold."""

    TYPE = "locker.door.forced"
    door: DoorName


class DoorFoundOpen(Event, frozen=True, kw_only=True):
    """The door stood open when it could be seen again, after a time without readings. ``parcel`` should be inside."""

    TYPE = "locker.door.found_open"
    door: DoorName
    parcel: str = ""


class DoorAjar(Event, frozen=True, kw_only=True):
    """The door has stood open for ``seconds``, longer than anybody needs."""

    TYPE = "locker.door.ajar"
    door: DoorName
    seconds: float


class Collected(Event, frozen=True, kw_only=True):
    """The door closed after the parcel had been released."""

    TYPE = "parcel.collected"
    SUBJECT = "parcel"
    parcel: Id
    door: DoorName
    session: Id


class CompartmentBlocked(Event, frozen=True, kw_only=True):
    """The compartment is not offered until somebody has looked."""

    TYPE = "locker.compartment.blocked"
    door: DoorName
    cause: BlockCause


class CompartmentReleased(Event, frozen=True, kw_only=True):
    """Two people have looked: the compartment is empty and offered again. ``command`` is theirs."""

    TYPE = "locker.compartment.released"
    door: DoorName
    command: str = ""


class DoorSnapshot(Event, frozen=True, kw_only=True):
    """One door as it stands; the newest of each door survives."""

    TYPE = "locker.door.state"
    CLASS = EventClass.STATE
    door: DoorName
    state: DoorState
    hook: Literal["closed", "open", "unknown"]
    item: bool | None
    """What the infrared sensor sees, None where there is none."""


_EVENTS: Final[tuple[type[Event], ...]] = (
    DepositBegun,
    Deposited,
    DepositWithdrawn,
    ParcelRemoved,
    BookingChanged,
    CodeIssued,
    CodeAccepted,
    CodeRefused,
    BadgeRefused,
    UnlockRequested,
    UnlockUnsent,
    DoorOpened,
    DoorClosed,
    DoorJammed,
    DoorUnknown,
    DoorForced,
    DoorFoundOpen,
    DoorAjar,
    Collected,
    CompartmentBlocked,
    CompartmentReleased,
    DoorSnapshot,
)

EVENTS: Final[dict[str, tuple[type[Event], EventClass]]] = {event.TYPE: (event, event.CLASS) for event in _EVENTS}
"""Every event of a locker: its type, the struct of its data, its class."""


def draft(event: Event) -> Draft:
    """The event as the journal takes it."""
    subject = getattr(event, event.SUBJECT)
    return Draft(event.CLASS, event.TYPE, subject.value if isinstance(subject, enum.Enum) else subject, event)
