"""What a locker tells the world: every event, by its type."""

from __future__ import annotations

import enum
from typing import Final

from edge.event import Draft, EventClass
from locker.contract_cabinet import CABINET_EVENTS
from locker.contract_doors import (
    CompartmentBlocked,
    CompartmentReleased,
    DoorAjar,
    DoorClosed,
    DoorForced,
    DoorFoundOpen,
    DoorJammed,
    DoorOpened,
    DoorSnapshot,
    DoorTold,
    DoorUnknown,
    UnlockRequested,
    UnlockUnsent,
)
from locker.contract_parcels import (
    BadgeRefused,
    BookingChanged,
    CodeAccepted,
    CodeIssued,
    CodeRefused,
    Collected,
    DepositBegun,
    Deposited,
    DepositWithdrawn,
    DropAccepted,
    DropCodeIssued,
    ParcelClaimed,
    ParcelRecalled,
    ParcelRemoved,
    ReleaseAccepted,
    VisitContinued,
    VoucherAccepted,
    VoucherRefused,
)
from locker.contract_words import (
    BlockCause,
    BookingChange,
    BookingKind,
    Cause,
    CodeUse,
    DoorName,
    DoorState,
    Doubt,
    Event,
    Id,
    Reason,
    RecallCause,
    Word,
)

__all__ = [
    "EVENTS",
    "BadgeRefused",
    "BlockCause",
    "BookingChange",
    "BookingChanged",
    "BookingKind",
    "Cause",
    "CodeAccepted",
    "CodeIssued",
    "CodeRefused",
    "CodeUse",
    "Collected",
    "CompartmentBlocked",
    "CompartmentReleased",
    "DepositBegun",
    "DepositWithdrawn",
    "Deposited",
    "DoorAjar",
    "DoorClosed",
    "DoorForced",
    "DoorFoundOpen",
    "DoorJammed",
    "DoorName",
    "DoorOpened",
    "DoorSnapshot",
    "DoorState",
    "DoorTold",
    "DoorUnknown",
    "Doubt",
    "DropAccepted",
    "DropCodeIssued",
    "Event",
    "Id",
    "ParcelClaimed",
    "ParcelRecalled",
    "ParcelRemoved",
    "Reason",
    "RecallCause",
    "ReleaseAccepted",
    "UnlockRequested",
    "UnlockUnsent",
    "VisitContinued",
    "VoucherAccepted",
    "VoucherRefused",
    "Word",
    "draft",
]

_EVENTS: Final[tuple[type[Event], ...]] = (
    DepositBegun,
    Deposited,
    DepositWithdrawn,
    ParcelRecalled,
    ParcelClaimed,
    ParcelRemoved,
    BookingChanged,
    CodeIssued,
    DropCodeIssued,
    DropAccepted,
    CodeAccepted,
    CodeRefused,
    VoucherAccepted,
    VoucherRefused,
    ReleaseAccepted,
    VisitContinued,
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
    DoorTold,
    Collected,
    CompartmentBlocked,
    CompartmentReleased,
    DoorSnapshot,
    *CABINET_EVENTS,
)

EVENTS: Final[dict[str, tuple[type[Event], EventClass]]] = {event.TYPE: (event, event.CLASS) for event in _EVENTS}
"""Every event of a locker: its type, the struct of its data, its class."""


def draft(event: Event) -> Draft:
    """The event as the journal takes it."""
    subject = getattr(event, event.SUBJECT)
    return Draft(event.CLASS, event.TYPE, subject.value if isinstance(subject, enum.Enum) else subject, event)
