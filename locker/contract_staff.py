"""What a locker tells of an audit: two persons have signed that somebody may look behind every door."""

from __future__ import annotations

from typing import Annotated

import msgspec

from locker.contract_words import AuditOutcome, DoorName, Event, Found

Count = Annotated[int, msgspec.Meta(ge=0)]


class AuditBegun(Event, frozen=True, kw_only=True):
    """From now on a service badge may open one door after the other, ``doors`` of them, under ``command``."""

    TYPE = "locker.audit.begun"
    SUBJECT = "command"
    command: str
    doors: Count


class AuditFound(Event, frozen=True, kw_only=True):
    """Somebody with the badge ``by`` has seen what is behind the door. What follows from it has events of its own."""

    TYPE = "locker.audit.found"
    door: DoorName
    command: str
    by: str
    found: Found
    outcome: AuditOutcome


class AuditDone(Event, frozen=True, kw_only=True):
    """The audit is over: every door was looked behind, or its time is, or another one was begun.

    The counts are of doors; ``left`` are those that nobody has looked behind.
    """

    TYPE = "locker.audit.done"
    SUBJECT = "command"
    command: str
    as_expected: Count
    missing: Count
    unexpected: Count
    left: Count
