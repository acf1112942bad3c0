"""Saying what time it is to a node whose clock has jumped: a command of two persons, for it can make time go back.

It is a command with a nonce, not a document: one that a broker has kept back for a year would be wrong by a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from edge.claims import refused
from edge.command import Kind, Rule
from edge.issuers import TIME

SUBJECT: Final = "clock"


class SetTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of ``time``: it is ``wall`` now, seconds since 1970; the command's subject is ``clock``.

    The node trusts its clock again, also where that lowers what it took for the least possible time.
    """

    wall: Annotated[float, msgspec.Meta(ge=0)]


TIME_RULES: Final[Mapping[str, Rule]] = {"time": Rule(Kind.ACTUATION, TIME, SetTime, persons=2)}
"""Every role has this one; a package's table is joined to it."""


def require_agreement(said: SetTime, subject: str, machine: float, most_s: float) -> None:
    """Raises ``VerificationError`` unless the machine's clock is within ``most_s``: ``bad_args, clock_disagrees``.

    A node cannot set its machine's clock; one that shows another time would be caught stepping again at the next look.
    """
    if subject != SUBJECT:
        raise refused("bad_args", "time is told to another thing than the clock", f"let the subject be {SUBJECT}")
    if abs(said.wall - machine) > most_s:
        raise refused("clock_disagrees", "the machine's clock shows another time", "set that first, then say it again")
