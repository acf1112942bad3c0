"""A booking's life at the locker: its states and the one table of what may follow what.

A booking says that a parcel will come. Which compartment it gets is chosen when it is there: none is kept empty for it.
"""

from __future__ import annotations

import enum
from typing import Final

from edge.errors import TransitionError

MAX_EXPECTED = 1_000
"""Parcels expected at once: four for every door of the largest cabinet, and few enough for the ledger's copies."""

EXPECTED_S = 90 * 86_400.0
"""Running seconds after which nobody waits for the parcel any more: the longest that a compartment is let for."""


class BookingState(enum.Enum):
    """Where a booking stands. *No row* is where all begin: a courier may also bring what nobody has announced."""

    EXPECTED = "expected"
    STORED = "stored"
    """Its parcel lies here."""
    ENDED = "ended"
    """Its parcel lay here and is gone. Final: a booking is in effect once."""
    CANCELLED = "cancelled"


class BookingInput(enum.Enum):
    """What can happen to a booking that there is."""

    EXPECT = "expect"
    """It is announced once more, under a higher revision."""
    CANCEL = "cancel"
    """It will not come here after all; also because it goes elsewhere."""
    STORE = "store"
    """Its deposit is complete."""
    WITHDRAW = "withdraw"
    """Its courier has taken the parcel along again."""
    END = "end"
    """Its parcel was collected, or declared gone."""


_S = BookingState
_I = BookingInput

TRANSITIONS: Final[dict[tuple[BookingState, BookingInput], BookingState]] = {
    (_S.EXPECTED, _I.EXPECT): _S.EXPECTED,
    (_S.EXPECTED, _I.CANCEL): _S.CANCELLED,
    (_S.EXPECTED, _I.STORE): _S.STORED,
    (_S.CANCELLED, _I.EXPECT): _S.EXPECTED,
    (_S.STORED, _I.STORE): _S.STORED,
    (_S.STORED, _I.WITHDRAW): _S.EXPECTED,
    (_S.STORED, _I.END): _S.ENDED,
}


def move(state: BookingState, happened: BookingInput) -> BookingState:
    """The state that follows. Raises ``TransitionError`` for what the table does not have."""
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise TransitionError(
            f"a booking that is {state.value} was told {happened.value}",
            remedy="nothing was changed; report this with the journal around it",
        )
    return following
