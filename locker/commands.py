"""What a locker can be told: its commands and their arguments."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec

from edge.command import Kind, Rule
from edge.issuers import AUDIT, BOOK, CLEAR, OPEN
from locker.contract import BookingKind, DoorName, Id

MAX_HOLD_HOURS = 2160
"""90 days, all extensions included: a compartment is no cellar."""

MAX_TOGETHER = 8
"""Parcels that are put into one compartment at once: what a courier scans in one go, and the largest takes."""

MAX_DELEGATES = 3
"""People whom a customer can have sent at once, each with a code of their own."""

ALL_DOORS: Final = "all-doors"
"""The subject of an audit."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

HoldHours = Annotated[int, msgspec.Meta(ge=1, le=MAX_HOLD_HOURS)]


def is_id(text: str) -> bool:
    """Whether ``text`` can stand where an ``Id`` is asked for."""
    return _ID.fullmatch(text) is not None


class Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of the command ``open``: one door. There is no "open all"."""

    door: DoorName


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``release``: the customer of ``parcel`` stands before ``door`` and has read ``shown`` there."""

    parcel: Id
    door: DoorName
    shown: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{6}(?!\n)$")]


class Clear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``clear``: somebody has looked, the compartment is empty and its door works. Opens nothing.

    A parcel that is known to be inside must be named by ``parcel``, and those beside it by ``also``: they are then
    declared gone with their codes.
    """

    door: DoorName
    parcel: Id | None = None
    also: Annotated[tuple[Id, ...], msgspec.Meta(max_length=MAX_TOGETHER)] = ()


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``audit``, none: somebody with a service badge may look behind every door, one after the other.

    Opens nothing by itself, and is good for four hours in which the locker runs.
    """


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``expect``: a parcel will come under the booking that is the subject.

    It is held ``hold_hours`` from its deposit on. ``low``: only a door in reach of a seated person will do. ``group``
    is the pseudonym of a customer who gets several parcels: they may share a compartment and be collected in one visit.
    ``climate``: only a compartment that is kept at it, and known to be.

    ``kind`` other than a delivery: a customer brings it, with a code that is issued at once. ``exchange`` names the
    booking of what this customer has to give back before this parcel is handed out.
    """

    size: Literal["S", "M", "L"]
    hold_hours: HoldHours
    low: bool = False
    group: Id | None = None
    kind: BookingKind = BookingKind.DELIVERY
    exchange: Id | None = None
    climate: Literal["ambient", "cold", "frozen", "heated"] = "ambient"


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``cancel``: the parcel will not come after all."""


class Extend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``extend``: hold it so much longer; once overdue, so much from now on."""

    hours: HoldHours


class Delegate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``delegate``: one more code, as a ``locker.code.issued``, for somebody whom the customer sends."""


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``revoke``: the code of the delegate ``which`` is dead."""

    which: Annotated[int, msgspec.Meta(ge=1, le=MAX_DELEGATES)]


class Redirect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``redirect``: the parcel goes to the node ``to`` instead; what lies here, a courier takes along."""

    to: Id


class Recall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``recall``: the parcel is not for its customer any more; what lies here, a courier takes along."""

    cause: Literal["sender", "operator"] = "operator"


class Reissue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``reissue``: a new code, as a ``locker.code.issued``; the former one and all delegates' are dead."""


COMMANDS: Final[dict[str, Rule]] = {
    "open": Rule(Kind.ACTUATION, OPEN, Open),
    "release": Rule(Kind.ACTUATION, OPEN, Release),
    "clear": Rule(Kind.ACTUATION, CLEAR, Clear, persons=2),
    "audit": Rule(Kind.ACTUATION, AUDIT, Audit, persons=2),
    "expect": Rule(Kind.BOOKING, BOOK, Expect),
    "cancel": Rule(Kind.BOOKING, BOOK, Cancel),
    "extend": Rule(Kind.BOOKING, BOOK, Extend),
    "delegate": Rule(Kind.BOOKING, BOOK, Delegate),
    "revoke": Rule(Kind.BOOKING, BOOK, Revoke),
    "reissue": Rule(Kind.BOOKING, BOOK, Reissue),
    "redirect": Rule(Kind.BOOKING, BOOK, Redirect),
    "recall": Rule(Kind.BOOKING, BOOK, Recall),
}
"""Every command of a locker. The subject is the door, or the booking's id; of ``release`` the parcel's; of ``audit`` it
is ``ALL_DOORS``."""
