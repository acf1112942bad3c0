"""When a certificate is renewed, and the two phases in which the new one takes the old one's place.

good --due--> asking --granted--> trying --proven--> good
asking --refused--> good             (asked again after a pause)
trying --failed--> good   (the new one is thrown away, the old one kept)
"""

from __future__ import annotations

import enum
import hashlib

from edge.certificate import Certificate
from edge.errors import TransitionError

SHARE = 2 / 3
"""Of its life after which a certificate is renewed: with 90 days there are 30 left in which the service may be away."""
SPREAD = 0.05
"""Of its life by which that moment is drawn forward or back: lockers that were enrolled in one week of installing do
not all ask in one hour."""
CHECK_S = 6 * 3600.0
"""Between two looks at the certificate, and so at least between two requests."""
ANEW_S = 86_400.0
"""On a clock that nobody has set the dates say nothing, so the service is asked once a day; it knows the time."""
TRIALS = 3
"""Connections that the new certificate may fail while the old one succeeds, before it is thrown away."""
ALARM_SHARE = 1 / 6
"""Of its life left: renewal has failed half of its time by now, and a person has to look."""


class RenewalState(enum.Enum):
    """Where the pair on the disk stands."""

    GOOD = "good"
    ASKING = "asking"
    TRYING = "trying"
    """The new pair lies beside the old one and has not been taken by the broker yet."""


class RenewalInput(enum.Enum):
    """What can happen to it."""

    DUE = "due"
    FOUND = "found"
    """A new pair lies there from an earlier run."""
    REFUSED = "refused"
    GRANTED = "granted"
    PROVEN = "proven"
    FAILED = "failed"


TRANSITIONS: dict[tuple[RenewalState, RenewalInput], RenewalState] = {
    (RenewalState.GOOD, RenewalInput.DUE): RenewalState.ASKING,
    (RenewalState.GOOD, RenewalInput.FOUND): RenewalState.TRYING,
    (RenewalState.ASKING, RenewalInput.REFUSED): RenewalState.GOOD,
    (RenewalState.ASKING, RenewalInput.GRANTED): RenewalState.TRYING,
    (RenewalState.TRYING, RenewalInput.PROVEN): RenewalState.GOOD,
    (RenewalState.TRYING, RenewalInput.FAILED): RenewalState.GOOD,
}


def after(state: RenewalState, happened: RenewalInput) -> RenewalState:
    """The next state. Raises ``TransitionError`` for what the table does not have."""
    try:
        return TRANSITIONS[state, happened]
    except KeyError:
        raise TransitionError(
            f"renewal is {state.value}, {happened.value} cannot happen", remedy="report this as a defect"
        ) from None


def due_at(certificate: Certificate) -> float:
    """The wall time to renew at: two thirds of its life, give or take ``SPREAD``.

    The draw is made from the random serial number, so it is the same after every restart.
    """
    drawn = int.from_bytes(hashlib.sha256(certificate.serial.encode()).digest()[:4], "big") / 2**32
    life = certificate.not_after - certificate.not_before
    return certificate.not_before + life * (SHARE + SPREAD * (2 * drawn - 1))


def alarming(certificate: Certificate, wall: float) -> bool:
    """Whether so little of its life is left that a person has to look."""
    return wall > certificate.not_after - ALARM_SHARE * (certificate.not_after - certificate.not_before)
