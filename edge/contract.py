"""Events that every node has, whatever its role."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from edge.event import BEGUN, DROPPED, SEALED, Draft, EventClass, EventsDropped, JournalBegun, JournalSealed


class CommandDecided(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a signed command; the node's signed result says the same to its issuer."""

    TYPE: ClassVar[str] = "node.command.decided"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    command: str
    name: str
    issuer: str
    target: str
    status: str
    reason: str = ""


EVENTS: Final[dict[str, tuple[type[msgspec.Struct], EventClass | None]]] = {
    CommandDecided.TYPE: (CommandDecided, CommandDecided.CLASS),
    BEGUN: (JournalBegun, EventClass.AUDIT),
    SEALED: (JournalSealed, EventClass.AUDIT),
    DROPPED: (EventsDropped, None),
}
"""Every event of a node: the struct of its data, and its class; a dropped range carries the class it tells of."""


def decided(**fields: Any) -> Draft:
    """The event ``node.command.decided``."""
    event = CommandDecided(**fields)
    return Draft(event.CLASS, event.TYPE, event.command, event)
