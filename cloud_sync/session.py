"""The states of the way to the broker, and the figures of its back-off."""

from __future__ import annotations

import enum

from edge.errors import TransitionError

FIRST_PAUSE = 5.0
"""Seconds; the bound of the first pause. A fleet of 10,000 that was thrown out together then knocks 4,000 times in its
worst second, and 15,000 times with 1 s."""
LONGEST_PAUSE = 300.0
"""Seconds. A fleet of 10,000 that lost its broker for long then comes back at some 70 a second."""
STABLE_AFTER = 300.0
"""Seconds a connection must have lasted before its loss counts as the first: a broker that accepts and then throws out
would otherwise be asked once a second for ever."""


class LinkState(enum.Enum):
    """Where the way to the broker stands."""

    WAITING = "waiting"
    """The role agent is not there: without it there is no link number, so no CONNECT."""
    CONNECTING = "connecting"
    PROBING = "probing"
    """Connected; the message to ourselves has not come back yet."""
    ONLINE = "online"
    LIMITED = "limited"
    """Connected, but the probe or a subscription was refused: rights are missing. What works is used."""
    BACKING_OFF = "backing_off"


class LinkInput(enum.Enum):
    """What can happen to it."""

    AGENT_READY = "agent_ready"
    ACCEPTED = "accepted"
    PROVEN = "proven"
    DENIED = "denied"
    LOST = "lost"
    PAUSED = "paused"


TRANSITIONS: dict[tuple[LinkState, LinkInput], LinkState] = {
    (LinkState.WAITING, LinkInput.AGENT_READY): LinkState.CONNECTING,
    (LinkState.CONNECTING, LinkInput.ACCEPTED): LinkState.PROBING,
    (LinkState.CONNECTING, LinkInput.LOST): LinkState.BACKING_OFF,
    (LinkState.PROBING, LinkInput.PROVEN): LinkState.ONLINE,
    (LinkState.PROBING, LinkInput.DENIED): LinkState.LIMITED,
    (LinkState.PROBING, LinkInput.LOST): LinkState.BACKING_OFF,
    (LinkState.ONLINE, LinkInput.LOST): LinkState.BACKING_OFF,
    (LinkState.LIMITED, LinkInput.PROVEN): LinkState.ONLINE,
    (LinkState.LIMITED, LinkInput.LOST): LinkState.BACKING_OFF,
    (LinkState.BACKING_OFF, LinkInput.PAUSED): LinkState.WAITING,
}


def after(state: LinkState, happened: LinkInput) -> LinkState:
    """The next state. Raises ``TransitionError`` for what the table does not have."""
    try:
        return TRANSITIONS[state, happened]
    except KeyError:
        raise TransitionError(
            f"link is {state.value}, {happened.value} cannot happen", remedy="report this as a defect"
        ) from None
