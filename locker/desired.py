"""What the operator may change of a running locker, and the limits that no document moves.

It reaches new deposits, what couriers are offered, and the screen. It can neither keep a parcel that lies here from
being collected nor shorten its hold, and it has no word for wiring, calibration or issuers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from edge.document import RefusedMember
from locker.commands import HoldHours
from locker.contract import DoorName

TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)(?!\n)$")]
"""``08:00``; ``24:00`` is the end of a day."""

MAX_SPANS = 28
"""Four a day are more than any shop has."""

_DAY_S: Final = 86_400
_THURSDAY: Final = 3
"""1970-01-01, counted from Monday as 0."""


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deposits are taken on these days (1 is Monday) from ``opens`` until ``closes``, the node's own time.

    A night over midnight is two spans.
    """

    days: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...], msgspec.Meta(min_length=1, max_length=7)]
    opens: TimeOfDay
    closes: TimeOfDay

    def __post_init__(self) -> None:
        if _minutes(self.opens) >= _minutes(self.closes):
            raise ValueError("it closes before it opens")

    def holds(self, day: int, minute: int) -> bool:
        return day in self.days and _minutes(self.opens) <= minute < _minutes(self.closes)


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``desired``. What is not named is as the configuration has it."""

    hold_hours: HoldHours | None = None
    """For parcels that come without a booking of their own; those that lie here keep what they were promised."""
    opening_hours: Annotated[tuple[Span, ...], msgspec.Meta(max_length=MAX_SPANS)] | None = None
    """For deposits alone. None: always; an empty list: never."""
    languages: Annotated[tuple[Literal["en", "ru"], ...], msgspec.Meta(min_length=1)] | None = None
    """Offered by the kiosk, the first one to begin with."""
    out_of_service: Annotated[tuple[DoorName, ...], msgspec.Meta(max_length=256)] = ()
    """Doors that no deposit is offered. What lies behind them is collected as ever."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None

    def takes_deposits(self, day: int, minute: int) -> bool:
        """Whether a courier may deposit on ``day`` (1 is Monday) at ``minute`` of it."""
        return self.opening_hours is None or any(span.holds(day, minute) for span in self.opening_hours)


_MEMBERS: Final = {each.name: each.type for each in msgspec.structs.fields(Wishes)}


def read_wishes(body: Mapping[str, Any], doors: Collection[str]) -> tuple[Wishes, tuple[RefusedMember, ...]]:
    """The members of ``body`` that can be had, and those that cannot, by name.

    Reasons: ``unknown_member`` for what this release does not know or no document may touch, ``bad_value``,
    ``no_such_door``.
    """
    taken: dict[str, Any] = {}
    refused = []
    for member, value in body.items():
        reason = _fault(member, value, doors)
        if reason:
            refused.append(RefusedMember(member[:48], reason))
        else:
            taken[member] = value
    return msgspec.convert(taken, Wishes), tuple(refused)


def utc(wall: float) -> tuple[int, int]:
    """Day of the week (1 is Monday) and minute of the day in UTC."""
    days, seconds = divmod(int(wall), _DAY_S)
    return (days + _THURSDAY) % 7 + 1, seconds // 60


def _fault(member: str, value: Any, doors: Collection[str]) -> str:
    if member not in _MEMBERS:
        return "unknown_member"
    try:
        read = msgspec.convert(value, _MEMBERS[member])
    except msgspec.ValidationError:
        return "bad_value"
    if member == "out_of_service" and not set(read) <= set(doors):
        return "no_such_door"
    if read is None or (isinstance(read, tuple) and member != "opening_hours" and _repeats(read)):
        return "bad_value"
    return ""


def _repeats(values: Sequence[object]) -> bool:
    return len(set(values)) < len(values)


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)
