"""The words that a locker's events and commands are made of.

Bookings, couriers, sessions and attempts are random ids. No field may ever hold a code, a PIN, a name or an address.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

import msgspec

from edge.event import EventClass

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
    VOUCHER_REFUSED = "voucher_refused"
    """No voucher, or none that anybody who may has signed."""
    OTHER_LOCKER = "other_locker"
    """A good voucher, and for another locker."""
    TOO_EARLY = "too_early"
    """A voucher that is not valid yet."""
    SUPERSEDED = "superseded"
    """A newer voucher for the same parcel was shown here."""
    NOT_HERE = "not_here"
    """What was named does not lie here, or not for this person: not yet, or not any more."""
    RECALLED = "recalled"
    """A right code, whose parcel is not for its customer here any more: a courier takes it along, or has done so."""
    NOTHING_DUE = "nothing_due"
    """Staff: nothing is to be done there, or nothing more."""
    PARCEL_INSIDE = "parcel_inside"
    """Staff: a parcel lies behind that door."""
    LOOK_FIRST = "look_first"
    """Staff: only who has had that door open may say what is behind it."""
    DOOR_OPEN = "door_open"
    """Staff: the door stands open, or its sensor says so."""
    ITEM_SEEN = "item_seen"
    """Staff: the compartment's sensor sees something inside."""
    CLOSED = "closed"
    """Deposits are taken at other hours. Collections always are."""


class Cause(enum.Enum):
    """What asked for a door to be opened."""

    CODE = "code"
    DELEGATE = "delegate"
    """The code of somebody whom the customer has sent."""
    VOUCHER = "voucher"
    GROUP = "group"
    """The customer at the door before has another parcel here."""
    EXCHANGE = "exchange"
    """What it is exchanged for has just been put in."""
    RELEASE = "release"
    """A command for the customer who stands before the locker."""
    COURIER = "courier"
    DROP = "drop"
    """A customer who brings a parcel: a return, or one that is sent."""
    COMMAND = "command"
    RECALL = "recall"
    """A courier takes out what is not for its customer."""
    SERVICE = "service"
    """A service badge looks into an empty compartment."""
    CLEANING = "cleaning"
    AUDIT = "audit"
    """A service badge looks what is behind each door, for two persons who have signed."""


class CodeUse(enum.Enum):
    """What a typed code is for."""

    PICKUP = "pickup"
    """Its parcel is handed out."""
    DROP = "drop"
    """Its customer puts the parcel in."""


class Word(enum.Enum):
    """What the person at a door says of it, beyond being through. Part of the kiosk's API and of events."""

    NONE = ""
    EMPTY = "empty"
    """A deposit: no parcel of mine stays inside."""
    DOES_NOT_FIT = "does_not_fit"
    """A deposit: it stays outside, because the compartment is too small for it."""
    NOT_EMPTY = "not_empty"
    """A deposit: something lies inside already, and mine stays outside."""
    WILL_NOT_CLOSE = "will_not_close"
    """The door cannot be shut. A parcel that was to be put in stays outside."""
    WRONG_TAKEN = "wrong_taken"
    """A collection: something is wrong with my parcel, and I take it along."""
    WRONG_LEFT = "wrong_left"
    """A collection: something is wrong with my parcel, and it stays inside for staff."""
    MISSING = "missing"
    """A taking back: no parcel was inside."""


class BookingKind(enum.Enum):
    """Who brings the parcel, and who takes it out."""

    DELIVERY = "delivery"
    """A courier brings it, its customer collects."""
    RETURN = "return"
    """A customer brings it back, a courier takes it along."""
    SEND = "send"
    """A customer brings it, a courier takes it to another place."""
    HAND_OVER = "hand_over"
    """A customer brings it, another collects it here."""

    @property
    def dropped(self) -> bool:
        """Whether a customer brings it, with a code of their own."""
        return self is not BookingKind.DELIVERY

    @property
    def collected_here(self) -> bool:
        """Whether a customer takes it out, and so gets a code for that."""
        return self in {BookingKind.DELIVERY, BookingKind.HAND_OVER}


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
    WILL_NOT_CLOSE = "will_not_close"
    STAFF = "staff"
    """Somebody with a service badge wants it so."""
    CLEANING = "cleaning"
    """It is open to be cleaned; when its door has closed it is offered again."""


class RecallCause(enum.Enum):
    """Why a parcel that lies here is not for its customer any more."""

    REDIRECTED = "redirected"
    """Its customer wants it elsewhere."""
    SENDER = "sender"
    """Whoever sent it wants it back."""
    OPERATOR = "operator"
    """The operator wants it out, such as for a hold that will not be paid or a locker that is moved."""


class Found(enum.Enum):
    """What somebody has seen behind a door in an audit."""

    EMPTY = "empty"
    PARCEL = "parcel"
    """What the locker expects there."""
    OTHER = "other"
    """Something else."""


class AuditOutcome(enum.Enum):
    """How what was found stands to what the ledger held."""

    AS_EXPECTED = "as_expected"
    MISSING = "missing"
    """A parcel that should be there is not."""
    UNEXPECTED = "unexpected"
    """Something is there that should not be."""


class BookingChange(enum.Enum):
    """What became of a booking."""

    EXPECTED = "expected"
    CANCELLED = "cancelled"
    REDIRECTED = "redirected"
    """Its parcel goes elsewhere. Where it lies here already, a courier takes it along."""
    RECALLED = "recalled"
    """It is not for its customer any more. Where its parcel lies here already, a courier takes it along."""
    LAPSED = "lapsed"
    """Nobody brought the parcel for as long as one may be waited for."""
    EXTENDED = "extended"
    REISSUED = "reissued"
    """Its parcel has a new code, told by ``locker.code.issued``; the former one is dead."""
    DELEGATED = "delegated"
    """Somebody else has a code for its parcel too, told by ``locker.code.issued``."""
    REVOKED = "revoked"
    """That code is dead."""
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
