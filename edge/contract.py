"""Events that every node has, whatever its role."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from edge.document import RefusedMember
from edge.event import BEGUN, DROPPED, SEALED, Draft, EventClass, EventsDropped, JournalBegun, JournalSealed


class CommandDecided(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a signed command; the node's signed result says the same to its issuer."""

    TYPE: ClassVar[str] = "node.command.decided"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    command: str
    name: str
    issuer: str
    cosigner: str = ""
    """The second person, where two had to sign; told when the command is taken or refused."""
    target: str
    status: str
    reason: str = ""


class DesiredApplied(msgspec.Struct, frozen=True, kw_only=True):
    """A ``desired`` document is in force from here on."""

    TYPE: ClassVar[str] = "node.desired.applied"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    version: int
    issuer: str


class DesiredRefused(msgspec.Struct, frozen=True, kw_only=True):
    """A ``desired`` document was well signed and asks for what this node does not do; it changed nothing."""

    TYPE: ClassVar[str] = "node.desired.refused"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    version: int
    issuer: str
    refused: tuple[RefusedMember, ...]


class InputRefused(msgspec.Struct, frozen=True, kw_only=True):
    """What came from outside and was not believed, counted over about a minute.

    ``what`` is its kind (``command``, ``document``), ``reason`` the word of the check that it did not pass.
    """

    TYPE: ClassVar[str] = "node.input.refused"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    what: str
    reason: str
    count: int


class EventUnsendable(msgspec.Struct, frozen=True, kw_only=True):
    """The broker will not take an event. One of audit is kept and tried at every connection; of the other classes a
    range tells that it is missing. One such event a minute: ``count`` are those since the last one, this one included.
    """

    TYPE: ClassVar[str] = "node.event.unsendable"
    CLASS: ClassVar[EventClass] = EventClass.AUDIT
    epoch: str
    event_class: str
    seq: int
    reason: str
    count: int


EVENTS: Final[dict[str, tuple[type[msgspec.Struct], EventClass | None]]] = {
    CommandDecided.TYPE: (CommandDecided, CommandDecided.CLASS),
    DesiredApplied.TYPE: (DesiredApplied, DesiredApplied.CLASS),
    DesiredRefused.TYPE: (DesiredRefused, DesiredRefused.CLASS),
    InputRefused.TYPE: (InputRefused, InputRefused.CLASS),
    EventUnsendable.TYPE: (EventUnsendable, EventUnsendable.CLASS),
    BEGUN: (JournalBegun, EventClass.AUDIT),
    SEALED: (JournalSealed, EventClass.AUDIT),
    DROPPED: (EventsDropped, None),
}
"""Every event of a node: the struct of its data, and its class; a dropped range carries the class it tells of."""


def decided(**fields: Any) -> Draft:
    """The event ``node.command.decided``."""
    event = CommandDecided(**fields)
    return Draft(event.CLASS, event.TYPE, event.command, event)


def desired_applied(**fields: Any) -> Draft:
    """The event ``node.desired.applied``."""
    event = DesiredApplied(**fields)
    return Draft(event.CLASS, event.TYPE, "desired", event)


def desired_refused(**fields: Any) -> Draft:
    """The event ``node.desired.refused``."""
    event = DesiredRefused(**fields)
    return Draft(event.CLASS, event.TYPE, "desired", event)


def input_refused(**fields: Any) -> Draft:
    """The event ``node.input.refused``."""
    event = InputRefused(**fields)
    return Draft(event.CLASS, event.TYPE, event.what, event)
