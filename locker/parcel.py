"""A parcel's life in the locker: its states and the one table of what may follow what.

That a code has expired is no state: it follows from the hold time and a trusted clock each time somebody asks.
"""

from __future__ import annotations

import enum
from typing import Final

from edge.errors import TransitionError


class ParcelState(enum.Enum):
    """Where a parcel is, as far as is known."""

    DEPOSITING = "depositing"
    """A courier is at the compartment. Where they are interrupted, the parcel is taken to be inside."""
    STORED = "stored"
    RELEASING = "releasing"
    """An attempt to open its door is running. Taken by compare-and-set, so that of two racers one hears ``busy``."""
    UNCONFIRMED = "unconfirmed"
    """An attempt ended and nobody knows whether the door opened. Collectable again, once the customer confirms."""
    RELEASED = "released"
    """Its door was seen to open: the code is used, and the door has yet to close."""
    COLLECTED = "collected"
    WITHDRAWN = "withdrawn"
    """It never lay here, or its courier took it back."""
    CLAIMED = "claimed"
    """Its customer has left it inside, because something is wrong with it. Staff take it out."""
    RECALLED = "recalled"
    """Its customer does not get it here any more. A courier takes it out."""
    TAKING_BACK = "taking_back"
    """Its door was seen to open for a courier who takes it out, and has yet to close."""
    TAKEN_BACK = "taken_back"
    REMOVED = "removed"
    """Staff have looked: it is not here any more."""


class ParcelInput(enum.Enum):
    """What can happen to a parcel."""

    DEPOSITED = "deposited"
    """The deposit's door closed with the parcel inside."""
    WITHDRAWN = "withdrawn"
    """The deposit ended without a parcel inside."""
    DEPOSIT = "deposit"
    """Its courier opens a compartment once more: the own deposit again, or another try after a withdrawal."""
    RELEASE = "release"
    """A right code, or a command, asks for its door."""
    NOT_MOVED = "not_moved"
    """The attempt ended and the door surely stayed closed: jammed, or the pulse never left."""
    IN_DOUBT = "in_doubt"
    """The attempt ended without anybody knowing whether the door opened."""
    OPENED = "opened"
    """The door was seen to open after our pulse, be it later than the attempt lasted."""
    CLOSED = "closed"
    """The door was seen to close."""
    CLAIMED = "claimed"
    """Its customer says that it stays inside; also of a door that has just closed."""
    RECALLED = "recalled"
    """Whoever sent it wants it elsewhere, or back."""
    TAKE_BACK = "take_back"
    """The door was seen to open for the courier who takes it out."""
    CLEARED = "cleared"
    """Somebody has looked who may say so: it is not inside."""


_S = ParcelState
_I = ParcelInput

TRANSITIONS: Final[dict[tuple[ParcelState, ParcelInput], ParcelState]] = {
    (_S.DEPOSITING, _I.DEPOSITED): _S.STORED,
    (_S.DEPOSITING, _I.WITHDRAWN): _S.WITHDRAWN,
    (_S.STORED, _I.DEPOSIT): _S.DEPOSITING,
    (_S.STORED, _I.RELEASE): _S.RELEASING,
    (_S.STORED, _I.OPENED): _S.RELEASED,
    (_S.RELEASING, _I.NOT_MOVED): _S.STORED,
    (_S.RELEASING, _I.IN_DOUBT): _S.UNCONFIRMED,
    (_S.RELEASING, _I.OPENED): _S.RELEASED,
    (_S.UNCONFIRMED, _I.RELEASE): _S.RELEASING,
    (_S.UNCONFIRMED, _I.OPENED): _S.RELEASED,
    (_S.RELEASED, _I.CLOSED): _S.COLLECTED,
    (_S.RELEASED, _I.CLAIMED): _S.CLAIMED,
    (_S.COLLECTED, _I.CLAIMED): _S.CLAIMED,
    (_S.STORED, _I.RECALLED): _S.RECALLED,
    (_S.UNCONFIRMED, _I.RECALLED): _S.RECALLED,
    (_S.STORED, _I.TAKE_BACK): _S.TAKING_BACK,
    (_S.UNCONFIRMED, _I.TAKE_BACK): _S.TAKING_BACK,
    (_S.CLAIMED, _I.TAKE_BACK): _S.TAKING_BACK,
    (_S.RECALLED, _I.TAKE_BACK): _S.TAKING_BACK,
    (_S.TAKING_BACK, _I.CLOSED): _S.TAKEN_BACK,
    (_S.WITHDRAWN, _I.DEPOSIT): _S.DEPOSITING,
    (_S.DEPOSITING, _I.CLEARED): _S.REMOVED,
    (_S.STORED, _I.CLEARED): _S.REMOVED,
    (_S.RELEASING, _I.CLEARED): _S.REMOVED,
    (_S.UNCONFIRMED, _I.CLEARED): _S.REMOVED,
    (_S.RELEASED, _I.CLEARED): _S.REMOVED,
    (_S.CLAIMED, _I.CLEARED): _S.REMOVED,
    (_S.RECALLED, _I.CLEARED): _S.REMOVED,
    (_S.TAKING_BACK, _I.CLEARED): _S.REMOVED,
}

FIRST: Final = ParcelState.DEPOSITING
"""Every parcel begins with a deposit."""

PRESENT: Final = frozenset(
    {
        _S.DEPOSITING,
        _S.STORED,
        _S.RELEASING,
        _S.UNCONFIRMED,
        _S.RELEASED,
        _S.CLAIMED,
        _S.RECALLED,
        _S.TAKING_BACK,
    }
)
"""The states in which a parcel keeps its compartment from being offered."""


def move(state: ParcelState, happened: ParcelInput) -> ParcelState:
    """The state that follows.

    The ledger writes it by compare-and-set, ``update ... where state = <the state read>``: no row changed means that
    somebody else was first. Raises ``TransitionError`` for what the table does not have.
    """
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise TransitionError(
            f"a parcel that is {state.value} cannot be {happened.value}",
            remedy="nothing was changed; report this with the journal around it",
        )
    return following
