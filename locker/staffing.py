"""The words of the kiosk's API for staff: a visit with badge and PIN, and what may be done in it."""

from __future__ import annotations

import enum
from typing import Annotated, Final, Protocol

import msgspec

from locker.contract import DoorName, Found, Id
from locker.kiosk import Accepted, Refused

VISIT_S: Final = 600.0
"""Seconds of running time after which a visit in which nothing was asked is over: a long look into one compartment.
Whoever else begins anything at this locker ends it at once, so that nobody finds it open."""


class VisitRole(enum.Enum):
    """What a visit is for: the work of the badge's role, or an audit while two persons want one."""

    COURIER = "courier"
    SERVICE = "service"
    AUDIT = "audit"
    """Of a service badge; what that may do otherwise it may do now too."""


class Task(msgspec.Struct, frozen=True):
    """One thing to be done at a door, and ``what``.

    - courier: why a parcel is to be taken along (``locker.recalling.Why``), with the ``parcel``;
    - service: why the compartment is not offered (``locker.servicing.to_look_at``);
    - audit: ``look``.
    """

    door: str
    what: str
    parcel: str = ""


class VisitView(msgspec.Struct, frozen=True):
    """A visit as the page sees it: what is left to do, and how long it stays open if nothing is asked."""

    visit: str
    role: VisitRole
    tasks: list[Task]
    expires_s: float


class EnterRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/enter``. ``badge`` is the signed badge as scanned, or ``scan:`` and a reference."""

    badge: Annotated[str, msgspec.Meta(min_length=1, max_length=3072)]
    pin: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]

    def __repr__(self) -> str:
        return "EnterRequest()"


class RecallRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/{visit}/recall``: the next door of the list, or that of ``parcel``."""

    parcel: Id | None = None


class DoorRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/{visit}/open``, ``clean`` and ``clear``."""

    door: DoorName


class OutOfServiceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/{visit}/out_of_service``: offer it no more, or again where that was the reason."""

    door: DoorName
    on: bool


class FoundRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/{visit}/found``. ``parcel`` names the one that is there where several are expected."""

    door: DoorName
    found: Found
    parcel: Id | None = None


class NothingMore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/staff/{visit}/next`` and ``leave``: an object without members."""


class Staff(Protocol):
    """What stands behind the kiosk for staff. None: the visit is not known, or over.

    Its methods raise only ``edge.errors.LastmileError``.
    """

    async def enter(self, badge: str, pin: str) -> VisitView | Refused:
        """Badge and PIN begin a visit; one that there was is over."""
        ...

    async def look(self, visit: str) -> VisitView | None:
        """The visit as it stands. Does not prolong it."""
        ...

    async def leave(self, visit: str) -> bool:
        """The visit is over; False where it was not known."""
        ...

    async def recall(self, visit: str, parcel: str | None) -> Accepted | Refused | None:
        """A courier: open the next door with something to take along, or that of ``parcel``."""
        ...

    async def open(self, visit: str, door: str) -> Accepted | Refused | None:
        """Service: look into a compartment without a parcel."""
        ...

    async def clean(self, visit: str, door: str) -> Accepted | Refused | None:
        """Service: ``open``; the compartment is offered again when the door has closed, if it was before."""
        ...

    async def out_of_service(self, visit: str, door: str, on: bool) -> VisitView | Refused | None:  # noqa: FBT001 - the API's own word
        """Service: offer a compartment no more, or again. A parcel inside can be collected all the while."""
        ...

    async def clear(self, visit: str, door: str) -> VisitView | Refused | None:
        """Service: the compartment was seen empty and its door works; offer it again."""
        ...

    async def next(self, visit: str) -> Accepted | Refused | None:
        """An audit: open the next door."""
        ...

    async def found(self, visit: str, door: str, found: Found, parcel: str | None) -> VisitView | Refused | None:
        """An audit: what was behind the door."""
        ...
