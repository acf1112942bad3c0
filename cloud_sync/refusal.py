"""What a broker's PUBACK means for the message: four ways to go on, by its reason code."""

from __future__ import annotations

import enum

from cloud_sync.ports import FAILURE

MAX_TRIES = 6
"""Of one message that is refused without a reason; then its content is taken for the cause."""


class Verdict(enum.Enum):
    """What becomes of a message that was answered."""

    TAKEN = "taken"
    LATER = "later"
    """The broker cannot now; the same message goes again after a pause, and nothing overtakes it in its class."""
    RIGHTS = "rights"
    """We may not publish there: its class waits, a person is told, the other classes go on."""
    CONTENT = "content"
    """The broker will never take these bytes. A batch is cut up; a single event is set aside and told of."""


_VERDICTS = {
    0x87: ("not_authorised", Verdict.RIGHTS),
    0x90: ("topic_invalid", Verdict.RIGHTS),
    0x95: ("too_large", Verdict.CONTENT),
    0x97: ("quota", Verdict.LATER),
    0x99: ("payload_invalid", Verdict.CONTENT),
}
"""Reason codes of MQTT 5 (section 3.4.2.1). 3.1.1 has none: such a broker says nothing, or ends the connection."""


def judge(code: int, tries: int) -> tuple[str, Verdict]:
    """The word to count under, and how to go on with a message that was refused ``tries`` times before."""
    if code < FAILURE:
        return "", Verdict.TAKEN
    if code in _VERDICTS:
        return _VERDICTS[code]
    return "other", Verdict.CONTENT if tries + 1 >= MAX_TRIES else Verdict.LATER
