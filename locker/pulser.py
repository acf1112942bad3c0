"""The rules of the pulser, which alone drives coils on GPIO lines: what may be asked, for how long, and who sees to it.

Two processes share the work. The *hand* drives the lines and times each pulse. The *guard* is told before each, and
when the hand is late, silent or gone, it kills the hand and switches everything off itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from edge.errors import ProtocolError

CAP_S: Final = 1.0
"""No coil of a cabinet lock is driven for longer, whatever fails. Vendors drive theirs for 0.2 to 0.5 s."""
LONGEST_MS: Final = 850
"""Of a pulse that is asked for, so that the guard has the rest of ``CAP_S`` to act."""
LATE_S: Final = 0.05
"""From the end of a pulse until its hand counts as hung: a scheduler's worst turn on a loaded Pi is below 20 ms."""
REST_S: Final = 0.3
"""Between two pulses: the supply is sized for one coil, and a coil is asked for once a door."""
BEAT_S: Final = 0.5
"""The hand says this often that it lives."""
SILENT_S: Final = 2.0
"""Without a word for so long, with no coil driven, the hand hangs all the same."""
START_S: Final = 15.0
"""For the hand's first word: it loads gpiozero, which takes the slowest Pi two seconds, and switches all off."""
MAX_PACKET_BYTES: Final = 256


class Said(enum.Enum):
    """The pulser's answer."""

    SERVED = "served"
    """To a connection, unasked and with the number 0: whoever made it is the one client now."""
    ON = "on"
    """The coil is driven now."""
    BUSY = "busy"
    """Another coil is driven, or was a moment ago."""
    NO_SUCH_LINE = "no_such_line"


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drive ``line`` for ``ms`` milliseconds. ``n`` comes back in the answer."""

    n: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    line: Annotated[int, msgspec.Meta(ge=0, le=27)]
    ms: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_MS)]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int
    said: Said


class Beat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hand to the guard: it lives, and until when (CLOCK_MONOTONIC, seconds) a coil is driven; None: none is."""

    until: float | None


_ask = msgspec.json.Decoder(Ask)
_answer = msgspec.json.Decoder(Answer)
_beat = msgspec.json.Decoder(Beat)


def encode(message: Ask | Answer | Beat) -> bytes:
    return msgspec.json.encode(message)


def decode_ask(packet: bytes) -> Ask:
    """Raises ``ProtocolError``; its sender is then cut off."""
    try:
        return _ask.decode(packet)
    except msgspec.DecodeError as error:
        raise ProtocolError("not a request to the pulser", remedy="send a line and its milliseconds") from error


def decode_answer(packet: bytes) -> Answer:
    """Raises ``ProtocolError``."""
    try:
        return _answer.decode(packet)
    except msgspec.DecodeError as error:
        raise ProtocolError("not an answer of the pulser", remedy="run agent and pulser of one release") from error


def decode_beat(packet: bytes) -> Beat:
    """Raises ``ProtocolError``."""
    try:
        return _beat.decode(packet)
    except msgspec.DecodeError as error:
        raise ProtocolError("not a word of the hand", remedy="the guard ends it") from error


class Coils:
    """Which coil is driven: at most one, never beyond its time, then a rest. Times are monotonic seconds."""

    def __init__(self, lines: Iterable[int]) -> None:
        self._lines = frozenset(lines)
        self._driven: tuple[int, float] | None = None
        self._rested_at = float("-inf")

    @property
    def until(self) -> float | None:
        """When the coil that is driven must be off; None while none is."""
        return None if self._driven is None else self._driven[1]

    def ask(self, ask: Ask, now: float) -> Said:
        """After ON the caller drives ``ask.line`` at once, and switches it off when ``over`` names it."""
        if ask.line not in self._lines:
            return Said.NO_SUCH_LINE
        if self._driven is not None or now < self._rested_at:
            return Said.BUSY
        self._driven = (ask.line, now + ask.ms / 1000)
        return Said.ON

    def over(self, now: float) -> int | None:
        """The line whose time is up, to be switched off at once; None where none is."""
        if self._driven is None or now < self._driven[1]:
            return None
        return self._end(now)

    def stop(self, now: float) -> int | None:
        """The line that was driven, to be switched off before its time: who asked for it is gone."""
        return None if self._driven is None else self._end(now)

    def _end(self, now: float) -> int | None:
        line, self._driven = self._driven, None
        self._rested_at = now + REST_S
        return None if line is None else line[0]


class Watch:
    """The guard's judgement of its hand. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._deadline = now + START_S

    @property
    def deadline(self) -> float:
        """Unless the hand has said more by then, it hangs."""
        return self._deadline

    def heard(self, beat: Beat, now: float) -> None:
        """Whatever the hand claims, no coil may be driven for longer than ``CAP_S`` allows."""
        if beat.until is None:
            self._deadline = now + SILENT_S
        else:
            self._deadline = min(beat.until, now + LONGEST_MS / 1000) + LATE_S

    def hangs(self, now: float) -> bool:
        return now >= self._deadline
