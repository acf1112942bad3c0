"""What the cabinet's inputs mean: power, voltage, tampering, temperature. Readings and running time in, changes out.

A contact bounces and a supply sags for a moment, so everything has to last before it counts, and a temperature has to
come well back into its range before its alarm ends.
"""

from __future__ import annotations

import enum
import math
from typing import Final

import msgspec

from edge.errors import TransitionError
from locker.contract_cabinet import SensorState, Watched


class SensorInput(enum.Enum):
    """What can have lasted long enough to count."""

    FINE = "fine"
    WRONG = "wrong"
    SILENT = "silent"
    """No reading, or none that can be believed."""


_S = SensorState
_I = SensorInput

TRANSITIONS: Final[dict[tuple[SensorState, SensorInput], SensorState]] = {
    (_S.UNKNOWN, _I.FINE): _S.NORMAL,
    (_S.UNKNOWN, _I.WRONG): _S.ALARM,
    (_S.NORMAL, _I.WRONG): _S.ALARM,
    (_S.NORMAL, _I.SILENT): _S.UNKNOWN,
    (_S.ALARM, _I.FINE): _S.NORMAL,
    (_S.ALARM, _I.SILENT): _S.UNKNOWN,
}


def move(state: SensorState, happened: SensorInput) -> SensorState:
    """The state that follows. Raises ``TransitionError`` for what the table does not have."""
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise TransitionError(
            f"a sensor that is {state.value} was told {happened.value}",
            remedy="nothing was changed; report this with the journal around it",
        )
    return following


class Patience(msgspec.Struct, frozen=True):
    """Running seconds that something has to last before it counts."""

    wrong: float
    fine: float
    silent: float = 60.0


PATIENCE: Final = {
    # Mains: a recloser of the grid works within two seconds, and power that comes back may go again at once.
    Watched.MAINS: Patience(wrong=2.0, fine=10.0),
    # Firmware reports a sag after it has happened, so one report is enough; sags come in rows.
    Watched.UNDERVOLTAGE: Patience(wrong=0.0, fine=30.0),
    # Longer than a contact bounces, shorter than anybody needs to reach inside.
    Watched.TAMPER: Patience(wrong=0.2, fine=5.0),
    # Of a cabinet or a zone that names no time of its own.
    Watched.TEMPERATURE: Patience(wrong=900.0, fine=60.0, silent=120.0),
}

HYSTERESIS_C: Final = 0.5
"""How far back inside its range a temperature must be to end an alarm: the resolution of usual sensors, and their
noise."""


class Range(msgspec.Struct, frozen=True):
    """Degrees Celsius that are meant, both ends included."""

    low_c: float
    high_c: float

    def judge(self, celsius: float, *, alarmed: bool) -> SensorInput:
        # A range so narrow that nothing would be "well inside" keeps its middle half.
        margin = min(HYSTERESIS_C, (self.high_c - self.low_c) / 4) if alarmed else 0.0
        within = self.low_c + margin <= celsius <= self.high_c - margin
        return SensorInput.FINE if within else SensorInput.WRONG


class Change(msgspec.Struct, frozen=True):
    """A sensor came into another state. ``began``: an alarm that had not been told; ``ended_after``: running seconds
    that an alarm lasted which is over now.
    """

    state: SensorState
    began: bool = False
    ended_after: float | None = None


class SensorWatch:
    """Follows one contact, or one temperature in its range. Not knowing is its first state.

    An alarm outlives a silence: it ends when things are seen to be fine, and is told once.
    """

    def __init__(self, patience: Patience, *, wrong_at: int = 1, meant: Range | None = None) -> None:
        """``wrong_at`` is the level of a contact that means trouble; with ``meant`` readings are degrees Celsius."""
        self.state = SensorState.UNKNOWN
        self._patience = {
            SensorInput.WRONG: patience.wrong,
            SensorInput.FINE: patience.fine,
            SensorInput.SILENT: patience.silent,
        }
        self._wrong_at = wrong_at
        self._meant = meant
        self._seen: SensorInput | None = None
        self._since = 0.0
        self._alarm_since: float | None = None

    def observe(self, reading: float | None, mono: float) -> Change | None:
        """Take one reading at ``mono``, None where the sensor gave none; what has come of it, mostly nothing."""
        seen = self._judge(reading)
        if seen is not self._seen:
            self._seen, self._since = seen, mono
        if mono - self._since < self._patience[seen] or (self.state, seen) not in TRANSITIONS:
            return None
        self.state = move(self.state, seen)
        if self.state is SensorState.ALARM and self._alarm_since is None:
            self._alarm_since = self._since
            return Change(self.state, began=True)
        if self.state is SensorState.NORMAL and self._alarm_since is not None:
            lasted, self._alarm_since = mono - self._alarm_since, None
            return Change(self.state, ended_after=lasted)
        return Change(self.state)

    def _judge(self, reading: float | None) -> SensorInput:
        if reading is None or not math.isfinite(reading):
            return SensorInput.SILENT
        if self._meant is not None:
            return self._meant.judge(reading, alarmed=self._alarm_since is not None)
        return SensorInput.WRONG if round(reading) == self._wrong_at else SensorInput.FINE
