"""The proximity code: digits on the screen that whoever stands before the locker can read, and nobody else.

A customer's app sends them along with the wish to open; so a door opens only for somebody who is there. Kept in memory
alone and reckoned in running time: no clock has to be right.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from edge.claims import refused
from locker.pickup_code import draw_digits

DIGITS: Final = 6
"""Read from a screen and typed into a phone at once."""

PERIOD_S: Final = 60.0
"""A code is shown for so long."""

GRACE_S: Final = 30.0
"""And is good for so much longer: the way from the screen through a phone and a mobile network."""

WRONG: Final = ((60.0, 5), (86_400.0, 100))
"""Wrong codes in so many seconds before none is looked at: 5 a minute, 100 a day, each with 2 in 10^6 to be right.

Only who holds a listed key can try at all, and what is opened is one stored parcel's own door.
"""


class Shown:
    """The codes of one screen. ``random(n)`` gives n unpredictable bytes; times are monotonic seconds."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._code = self._before = ""
        self._since = 0.0
        self._wrong: list[float] = []

    def now(self, mono: float) -> tuple[str, float]:
        """The code to show, and for how many seconds more it is the one."""
        age = mono - self._since
        if not self._code or age >= PERIOD_S:
            # One that was not looked at for a whole period is on nobody's screen.
            self._before = self._code if age < 2 * PERIOD_S else ""
            self._code, self._since = draw_digits(DIGITS, self._random), mono
            age = 0.0
        return f"{self._code[:4]} {self._code[4:]}", PERIOD_S - age

    def require(self, typed: str, mono: float) -> None:
        """Whoever sends ``typed`` has just read the screen.

        Raises ``VerificationError``: ``not_in_front``; ``wait`` where too many were wrong lately, and then the code was
        not looked at.
        """
        self._wrong = [at for at in self._wrong if at > mono - WRONG[-1][0]]
        if any(sum(at > mono - seconds for at in self._wrong) >= most for seconds, most in WRONG):
            raise refused("wait", "too many wrong codes from the screen", "wait a minute, and read the screen again")
        self.now(mono)
        good = [self._code, self._before if mono - self._since < GRACE_S else ""]
        if not any(each and hmac.compare_digest(each.encode(), typed.encode()) for each in good):
            self._wrong.append(mono)
            raise refused("not_in_front", "not the code on the locker's screen", "read it there and send it at once")
