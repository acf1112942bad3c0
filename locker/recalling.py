"""Couriers take out what is not for a customer here, or not any more: the list of it, and the door that opens next.

Nothing of a parcel changes before its door was seen to open: a jam or a doubt leaves it to whoever it was for. Nobody
can be quicker meanwhile, because one door is opened at a time.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from locker import announcing
from locker.announcing import Attempt
from locker.badge import Badge
from locker.collecting import Doors
from locker.contract import BookingKind, Cause, Reason
from locker.ledger import Ledger, Parcel
from locker.parcel import ParcelState
from locker.pickup_code import Refusal

Why = Literal["return", "send", "recalled", "claimed", "expired"]

_WAITING: Final = (ParcelState.STORED, ParcelState.UNCONFIRMED)
_BY_STATE: Final[dict[ParcelState, Why]] = {ParcelState.RECALLED: "recalled", ParcelState.CLAIMED: "claimed"}
_BY_KIND: Final[dict[BookingKind, Why]] = {BookingKind.RETURN: "return", BookingKind.SEND: "send"}


class Due(msgspec.Struct, frozen=True):
    """A parcel that the courier is to take along, and why."""

    door: str
    parcel: str
    why: Why


def due(ledger: Ledger, bearer: Badge) -> list[Due]:
    """What the bearer may take along, by door. Behind a door where anything else lies too, nothing: it would be open
    to whoever takes out the rest.
    """
    behind: dict[str, list[Parcel]] = {}
    for each in ledger.parcels_here():
        behind.setdefault(each.door, []).append(each)
    listed: list[Due] = []
    for door in sorted(behind):
        whys = [(each.parcel, _why(ledger, bearer, each)) for each in behind[door]]
        found = [Due(door, parcel, why) for parcel, why in whys if why is not None]
        listed += found if len(found) == len(whys) else []
    return listed


def _why(ledger: Ledger, bearer: Badge, here: Parcel) -> Why | None:
    """None: it is its customer's, or somebody is at its door."""
    if here.state in _BY_STATE:
        return _BY_STATE[here.state]
    if here.state not in _WAITING:
        return None
    booked = ledger.booking(here.parcel)
    if booked is not None and booked.kind in _BY_KIND:
        return _BY_KIND[booked.kind]
    named = bearer.recall == "expired" or here.parcel in bearer.recall
    return "expired" if named and _is_over(ledger, here, by_name=bearer.recall != "expired") else None


def _is_over(ledger: Ledger, here: Parcel, *, by_name: bool) -> bool:
    """Whether its hold has run out. Where nobody here can know that, only the word of who has signed its name counts:
    a hold that was extended meanwhile is not cut short by a badge of the morning.
    """
    if here.expires is None or not ledger.stamp.trusted:
        return by_name
    return ledger.stamp.wall >= here.expires


def choose(
    ledger: Ledger, bearer: Badge, parcel: str | None, *, after: list[str], doors: Doors, attempt: Attempt
) -> str | Refusal:
    """The door whose pulse is now announced: that of ``parcel``, or the next on the list.

    ``after``: doors that were tried in this visit, which come last.
    """
    listed = [each for each in due(ledger, bearer) if parcel is None or each.parcel == parcel]
    if not listed:
        return Refusal(Reason.NOTHING_DUE)
    able = [each for each in listed if doors.serviceable(each.door)]
    if not able:
        return Refusal(Reason.OUT_OF_SERVICE)
    chosen = min(able, key=lambda each: (each.door in after, each.door))
    attempt = msgspec.structs.replace(attempt, before=doors.standing(chosen.door))
    announcing.announce(ledger, chosen.door, attempt, Cause.RECALL, parcel_id=chosen.parcel, cause_id=bearer.jti)
    return chosen.door
