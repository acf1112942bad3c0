"""One door: readings and running time go in, what happened and what to do next comes out."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from edge.errors import TransitionError
from locker.contract import DoorState, Doubt
from locker.door_times import DEFAULT_TIMES, DoorTimes
from locker.latch import Hook


class DoorInput(enum.Enum):
    """What can happen to a door. ``DoorWatch`` finds out which of these it was."""

    UNLOCK = "unlock"
    """An attempt to open it begins."""
    OPENED = "opened"
    """Seen to go from closed to open, and we had asked for it."""
    BROKE_OPEN = "broke_open"
    """Seen to go from closed to open, and nothing had asked for it."""
    FOUND_OPEN = "found_open"
    """Open when it could first be seen."""
    CLOSED = "closed"
    LEFT_OPEN = "left_open"
    STUCK = "stuck"
    """All pulses were given and it stayed closed."""
    UNTOUCHED = "untouched"
    """The first pulse of the attempt never left."""
    DOUBTED = "doubted"
    """The attempt ended and its outcome cannot be known, or the board does not answer."""


_S = DoorState
_I = DoorInput

TRANSITIONS: Final[dict[tuple[DoorState, DoorInput], DoorState]] = {
    (_S.CLOSED, _I.UNLOCK): _S.UNLOCKING,
    (_S.CLOSED, _I.OPENED): _S.OPEN,
    (_S.CLOSED, _I.BROKE_OPEN): _S.FORCED,
    (_S.CLOSED, _I.DOUBTED): _S.UNKNOWN,
    (_S.UNLOCKING, _I.OPENED): _S.OPEN,
    (_S.UNLOCKING, _I.STUCK): _S.JAMMED,
    (_S.UNLOCKING, _I.UNTOUCHED): _S.UNKNOWN,
    (_S.UNLOCKING, _I.DOUBTED): _S.UNKNOWN,
    (_S.OPEN, _I.UNLOCK): _S.UNLOCKING,
    (_S.OPEN, _I.CLOSED): _S.CLOSED,
    (_S.OPEN, _I.LEFT_OPEN): _S.AJAR,
    (_S.OPEN, _I.DOUBTED): _S.UNKNOWN,
    (_S.AJAR, _I.UNLOCK): _S.UNLOCKING,
    (_S.AJAR, _I.CLOSED): _S.CLOSED,
    (_S.AJAR, _I.DOUBTED): _S.UNKNOWN,
    (_S.JAMMED, _I.UNLOCK): _S.UNLOCKING,
    (_S.JAMMED, _I.OPENED): _S.OPEN,
    (_S.JAMMED, _I.BROKE_OPEN): _S.FORCED,
    (_S.JAMMED, _I.DOUBTED): _S.UNKNOWN,
    (_S.FORCED, _I.UNLOCK): _S.UNLOCKING,
    (_S.FORCED, _I.CLOSED): _S.CLOSED,
    (_S.FORCED, _I.DOUBTED): _S.UNKNOWN,
    (_S.UNKNOWN, _I.UNLOCK): _S.UNLOCKING,
    (_S.UNKNOWN, _I.CLOSED): _S.CLOSED,
    (_S.UNKNOWN, _I.FOUND_OPEN): _S.OPEN,
    (_S.UNKNOWN, _I.OPENED): _S.OPEN,
    (_S.UNKNOWN, _I.BROKE_OPEN): _S.FORCED,
}


def move(state: DoorState, happened: DoorInput) -> DoorState:
    """The state that follows. Raises ``TransitionError`` for what the table does not have."""
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise TransitionError(
            f"a door that is {state.value} was told {happened.value}",
            remedy="nothing was changed; report this with the journal around it",
        )
    return following


class Happening(enum.Enum):
    """What a reading told us. All but ``CHIME`` also changed ``DoorWatch.state``."""

    OPENED = "opened"
    """From closed to open after our pulse: the only proof that a door was opened."""
    CLOSED = "closed"
    """It had been open, and is closed."""
    FOUND_CLOSED = "found_closed"
    """Closed, after it could not be known how it stood."""
    FOUND_OPEN = "found_open"
    FORCED = "forced"
    CHIME = "chime"
    AJAR = "ajar"
    SILENT = "silent"
    """The board does not answer."""


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do but read the sensor, at the latest at ``until`` (monotonic seconds)."""

    until: float


class Pulse(msgspec.Struct, frozen=True):
    """Pulse the latch: commit number ``number`` first, then call ``DoorWatch.pulsed``, then send."""

    number: int


class Outcome(enum.Enum):
    """How an attempt ended."""

    OPENED = "opened"
    JAMMED = "jammed"
    UNSENT = "unsent"
    """No pulse left: the door was surely not touched."""
    UNKNOWN = "unknown"


class Done(msgspec.Struct, frozen=True):
    """The attempt is over. ``doubt`` says why an ``UNKNOWN`` one is; else None."""

    outcome: Outcome
    doubt: Doubt | None = None


Step = Wait | Pulse | Done


class _Attempt:
    """What one attempt to open the door has seen so far."""

    def __init__(self, doubt: Doubt | None) -> None:
        self.doubt = doubt
        self.pulses = 0
        self.pulsed_at: float | None = None
        self.read_at = 0.0
        self.closed_at: float | None = None
        self.done: Done | None = None

    def saw(self, hook: Hook, mono: float, gap: float) -> None:
        """Note one raw reading: one that is not *closed*, or ``gap`` without any, forbids every further pulse."""
        unseen = self.pulsed_at is not None and mono - max(self.pulsed_at, self.read_at) > gap
        self.read_at = mono
        if hook is Hook.CLOSED:
            self.closed_at = mono
        if self.doubt is None and (unseen or hook is not Hook.CLOSED):
            self.doubt = Doubt.UNSTEADY if hook is Hook.OPEN else Doubt.NO_ANSWER

    def next_step(self, mono: float, times: DoorTimes) -> Step:
        if self.done is not None:
            return self.done
        if self.pulsed_at is None:
            return Pulse(1)
        settled, due = self.pulsed_at + times.no_change, self.pulsed_at + times.pulse_gap
        if mono < settled:
            return Wait(settled)
        closed_at = self.closed_at
        fresh = closed_at is not None and closed_at >= settled and mono - closed_at <= times.fresh
        still_closed = self.doubt is None and fresh
        if still_closed and self.pulses >= times.pulses:
            return Done(Outcome.JAMMED)
        if mono < due:
            return Wait(due)  # also in doubt: an opening whose first reading has just come can still be confirmed
        return Pulse(self.pulses + 1) if still_closed else Done(Outcome.UNKNOWN, self.doubt or Doubt.NO_ANSWER)


class _Mark(msgspec.Struct, frozen=True):
    """A pulse: when it was announced, whether the door was surely closed then, and when its frame had gone out."""

    at: float
    closed: bool
    sent: float


class DoorWatch:
    """Follows one door. Not knowing is its first state, and it never takes silence for *closed*.

    Feed ``observe`` with every reading. To open: ``begin``, then do what ``next_step`` says until it says ``Done``.
    All times are monotonic seconds of this boot and must not go back.
    """

    def __init__(self, times: DoorTimes = DEFAULT_TIMES) -> None:
        self.state = DoorState.UNKNOWN
        self._times = times
        self._raw: Hook | None = None
        self._raw_since = 0.0
        self._read_at = 0.0
        self._level = Hook.UNKNOWN
        self._closed_at: float | None = None  # the last confirmed *closed*; None once an opening has used it up
        self._pulse: _Mark | None = None
        self._pulse_before: _Mark | None = None
        self._opened_at = 0.0
        self._chimed = False
        self._attempt: _Attempt | None = None

    @property
    def hook(self) -> Hook:
        """The sensor as last confirmed by a repeated reading."""
        return self._level

    @property
    def attempting(self) -> bool:
        """Whether an attempt to open the door is under way."""
        return self._attempt is not None and self._attempt.done is None

    def standing(self, mono: float) -> Hook:
        """How the door stands at ``mono``: as confirmed, or UNKNOWN if that is too old or was just contradicted."""
        fresh = mono - self._read_at <= self._times.fresh
        return self._level if fresh and self._raw is self._level else Hook.UNKNOWN

    def begin(self, mono: float) -> None:
        """Begin an attempt. Raises ``TransitionError`` while another one is under way."""
        self.state = move(self.state, DoorInput.UNLOCK)
        self._attempt = _Attempt(_DOUBTS[self.standing(mono)])

    def resume(self, before: Hook, mono: float) -> None:
        """Take up an attempt that a crash cut short: watch for its outcome, and never pulse.

        ``before`` is what ``standing`` said when that attempt began. Open now and closed then is *opened*; what has not
        shown itself within ``DoorTimes.pulse_gap`` ends as ``Doubt.RESTARTED``. Only for a watch that was just made.
        """
        self.state = move(self.state, DoorInput.UNLOCK)
        self._attempt = _Attempt(Doubt.RESTARTED)
        self._attempt.pulsed_at = mono
        # A program takes longer to start than a coil is driven.
        began = mono - self._times.coil - self._times.debounce
        self._pulse = _Mark(began, before is Hook.CLOSED, began)
        if before is Hook.CLOSED:
            self._closed_at = mono

    def pulsed(self, mono: float) -> None:
        """A pulse is on its way. Call it right before handing it over: a door opens faster than a call returns.
        Call ``sent`` right after it.

        Raises ``TransitionError`` when ``next_step`` has not asked for one.
        """
        attempt = self._running()
        if not isinstance(attempt.next_step(mono, self._times), Pulse):
            raise TransitionError("a pulse that nobody asked for", remedy="report this: do only what next_step says")
        attempt.pulses += 1
        attempt.pulsed_at = mono
        self._pulse_before, self._pulse = self._pulse, _Mark(mono, self.standing(mono) is Hook.CLOSED, mono)

    def sent(self, mono: float) -> None:
        """The frame of the pulse just announced has gone out, or may have: its coil is driven from now on.

        It can have waited for an answer on its bus, or for another coil, longer than a coil is driven.
        """
        if self._pulse is not None:
            self._pulse = _Mark(self._pulse.at, self._pulse.closed, mono)
        if self._attempt is not None and self._attempt.done is None:
            self._attempt.pulsed_at = mono

    def unsent(self) -> None:
        """The pulse just announced did not leave (``DeviceError``): it ends the attempt.

        After an earlier pulse of the same attempt the outcome is unknown, because the door cannot be followed any more.
        """
        attempt = self._running()
        self._pulse = self._pulse_before
        untouched = attempt.pulses <= 1
        self._end(attempt, Done(Outcome.UNSENT) if untouched else Done(Outcome.UNKNOWN, Doubt.NO_ANSWER))

    def next_step(self, mono: float) -> Step:
        """What to do now for the attempt. Read the sensor first. Raises ``TransitionError`` when none was begun."""
        if self._attempt is None:
            raise TransitionError("no attempt was begun", remedy="report this: call begin first")
        step = self._attempt.next_step(mono, self._times)
        if isinstance(step, Done) and self._attempt.done is None:
            self._end(self._attempt, step)
        return step

    def observe(self, hook: Hook, mono: float) -> list[Happening]:
        """Take one reading; returns what it told us, in order, mostly nothing."""
        self._read_at = mono
        if self._attempt is not None and self._attempt.done is None:
            self._attempt.saw(hook, mono, self._times.gap)
        if not self._steady(hook, mono) or (hook is Hook.OPEN and self._driven(mono)):
            return self._overdue(mono)
        self._level = hook
        happened = self._settle(hook, mono)
        if hook is Hook.CLOSED:
            self._closed_at = mono
        elif hook is Hook.OPEN:
            self._closed_at = None  # the next opening needs a closed door before it
        return happened + self._overdue(mono)

    def _steady(self, hook: Hook, mono: float) -> bool:
        """Whether the reading repeats the one before, long enough after it."""
        if hook is not self._raw:
            self._raw, self._raw_since = hook, mono
            return False
        return mono - self._raw_since >= self._times.debounce

    def _driven(self, mono: float) -> bool:
        """Whether the coil may still be what holds the hook open."""
        return self._pulse is not None and mono < self._pulse.sent + self._times.coil + self._times.debounce

    def _settle(self, hook: Hook, mono: float) -> list[Happening]:
        if hook is Hook.OPEN:
            return self._settle_open(mono)
        if hook is Hook.CLOSED:
            return self._settle_closed()
        if self.state in (DoorState.UNKNOWN, DoorState.UNLOCKING):
            return []
        self.state = move(self.state, DoorInput.DOUBTED)
        return [Happening.SILENT]

    def _settle_closed(self) -> list[Happening]:
        if self.state in (DoorState.CLOSED, DoorState.JAMMED, DoorState.UNLOCKING):
            return []
        happening = Happening.FOUND_CLOSED if self.state is DoorState.UNKNOWN else Happening.CLOSED
        self.state = move(self.state, DoorInput.CLOSED)
        return [happening]

    def _settle_open(self, mono: float) -> list[Happening]:
        if self.state in (DoorState.OPEN, DoorState.AJAR, DoorState.FORCED):
            return []
        if self._proven():
            self.state = move(self.state, DoorInput.OPENED)
            if self._attempt is not None and self._attempt.done is None:
                self._attempt.done = Done(Outcome.OPENED)
            return self._opened(Happening.OPENED, mono)
        if self.attempting:
            return []  # the attempt ends in doubt; no alarm while somebody is being served
        if self._closed_at is None or self._explained(self._closed_at):
            self.state = move(self.state, DoorInput.FOUND_OPEN)
            return self._opened(Happening.FOUND_OPEN, mono)
        self.state = move(self.state, DoorInput.BROKE_OPEN)
        return self._opened(Happening.FORCED, mono)

    def _explained(self, closed_at: float) -> bool:
        """Whether a pulse explains the opening: a recent one, or one given since the door was last seen closed."""
        return self._pulse is not None and self._pulse.at >= min(closed_at, self._raw_since - self._times.commanded)

    def _proven(self) -> bool:
        """Whether the door was surely closed when it was pulsed, or was seen closed after it."""
        if self._pulse is None or self._closed_at is None or not self._explained(self._closed_at):
            return False
        return self._pulse.closed or self._closed_at >= self._pulse.at

    def _opened(self, happening: Happening, mono: float) -> list[Happening]:
        self._opened_at, self._chimed = mono, False
        return [happening]

    def _overdue(self, mono: float) -> list[Happening]:
        if self.state is not DoorState.OPEN:
            return []
        stood = mono - self._opened_at
        if stood >= self._times.ajar:
            self.state = move(self.state, DoorInput.LEFT_OPEN)
            return [Happening.AJAR]
        if stood >= self._times.chime and not self._chimed:
            self._chimed = True
            return [Happening.CHIME]
        return []

    def _running(self) -> _Attempt:
        if self._attempt is None or self._attempt.done is not None:
            raise TransitionError("no attempt is under way", remedy="report this: call begin first")
        return self._attempt

    def _end(self, attempt: _Attempt, done: Done) -> None:
        attempt.done = done
        self.state = move(self.state, _ENDS[done.outcome])


_ENDS: Final = {
    Outcome.OPENED: DoorInput.OPENED,
    Outcome.JAMMED: DoorInput.STUCK,
    Outcome.UNSENT: DoorInput.UNTOUCHED,
    Outcome.UNKNOWN: DoorInput.DOUBTED,
}

_DOUBTS: Final = {Hook.CLOSED: None, Hook.OPEN: Doubt.ALREADY_OPEN, Hook.UNKNOWN: Doubt.NO_ANSWER}
