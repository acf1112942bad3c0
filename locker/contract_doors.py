"""What a locker tells of doors and the compartments behind them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge.event import EventClass
from locker.contract_words import BlockCause, Cause, DoorName, DoorState, Doubt, Event, Id, Word


class UnlockRequested(Event, frozen=True, kw_only=True):
    """Committed before the pulse it announces. ``before`` is what the sensor read when the attempt began.

    ``pulse`` counts within ``attempt``. ``parcel`` is "" where a door is opened for itself. ``cause_id`` is the id of
    the command that asked for it, or of the badge of staff.
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


class DoorTold(Event, frozen=True, kw_only=True):
    """Whoever stands at the door has said ``word`` of it. ``parcel`` is what it was opened for, if anything."""

    TYPE = "locker.door.told"
    door: DoorName
    session: Id
    word: Word
    parcel: str = ""


class CompartmentBlocked(Event, frozen=True, kw_only=True):
    """The compartment is not offered until somebody has looked. ``by`` is the badge of who said so, "" for nobody."""

    TYPE = "locker.compartment.blocked"
    door: DoorName
    cause: BlockCause
    by: str = ""


class CompartmentReleased(Event, frozen=True, kw_only=True):
    """Somebody has looked: the compartment is sound, and offered again where it is empty.

    ``command`` is that of two people, or their audit's; ``by`` is the badge of who stood there.
    """

    TYPE = "locker.compartment.released"
    door: DoorName
    command: str = ""
    by: str = ""


class DoorSnapshot(Event, frozen=True, kw_only=True):
    """One door as it stands; the newest of each door survives."""

    TYPE = "locker.door.state"
    CLASS = EventClass.STATE
    door: DoorName
    state: DoorState
    hook: Literal["closed", "open", "unknown"]
    item: bool | None
    """What the infrared sensor sees, None where there is none."""
