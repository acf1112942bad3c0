"""One class of one epoch on its way out: what is on the way, how far it has come, when it goes again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from edge.event import EventClass

LONGEST_REPEAT = 3600.0
"""Seconds; the time doubles with each repeat that brought nothing."""
BURST_SECONDS = 0.2
"""How much unused pace may be saved up."""
MAX_ASIDE = 1000
"""Events that a broker will not take, remembered per stream. One beyond is only tried more often than it need be."""
CONNECTION_LOST = "connection_lost"
"""Why an event was set aside whose sending ended connection after connection."""


class Run(msgspec.Struct):
    """Events that travel as one message. ``index`` is its place in its load; ``tries`` how often it was refused."""

    bodies: list[bytes]
    index: tuple[int, int] = (0, 0)
    tries: int = 0

    @property
    def batch(self) -> bool:
        return len(self.bodies) > 1

    @property
    def payload(self) -> bytes:
        return b"[" + b",".join(self.bodies) + b"]" if self.batch else self.bodies[0]

    def singles(self) -> list[Run]:
        """Each event by itself, in the batch's place."""
        return [Run([body], (self.index[0], number)) for number, body in enumerate(self.bodies)]


class Load:
    """One answer on its way: ``unsent`` messages, ``unanswered`` ones among those sent."""

    def __init__(self, stream: Stream, upto: int, runs: Iterable[Run], *, again: bool) -> None:
        self.stream = stream
        self.upto = upto
        self.again = again
        self.unsent = deque(runs)
        self.unanswered = 0

    @property
    def done(self) -> bool:
        return not self.unsent and not self.unanswered

    def put_back(self, *runs: Run) -> None:
        """To be sent once more, where they stood."""
        self.unsent = deque(sorted([*runs, *self.unsent], key=lambda run: run.index))


class Stream:
    """One class of one epoch: ``acked`` by every consumer, sent up to ``position``, read up to ``head``."""

    def __init__(self, epoch: str, event_class: EventClass, acked: int, repeat_after: float) -> None:
        self.epoch = epoch
        self.event_class = event_class
        self.acked = acked
        self._repeat_after = repeat_after
        self.position = acked
        self.head = acked
        self.dry = False
        self.loads: deque[Load] = deque()
        self.denied = ""
        """Why the broker lets nothing through now; "" when it does."""
        self.denied_until = -math.inf
        self.aside: dict[int, str] = {}
        """Numbers that the broker will not take, and why."""
        self.waiting_since = 0.0
        self.repeat_wait = self._repeat_after
        self.repeat_at = 0
        """Where a repeat under way goes on; 0 when there is none."""
        self.repeat_to = 0

    def begin_again(self) -> None:
        """A new connection: what is not through starts again at the send position, what it may take is tried anew."""
        self.loads.clear()
        self.head = self.position
        self.dry = False
        self.denied, self.denied_until = "", -math.inf
        self.aside = {seq: why for seq, why in self.aside.items() if why == CONNECTION_LOST}

    def next_load(self) -> Load | None:
        """The oldest with something to send."""
        return next((load for load in self.loads if load.unsent), None)

    def move(self, now: float) -> None:
        """Let the position follow the loads that are through, in their order."""
        while self.loads and self.loads[0].done:
            if self.position == self.acked:
                self.waiting_since = now
            self.position = max(self.position, self.loads.popleft().upto)

    def skip_to(self, upto: int) -> None:
        """Go on behind what was set aside."""
        self.position = self.head = max(self.position, upto)

    def set_aside(self, seq: int, why: str) -> None:
        if len(self.aside) < MAX_ASIDE:
            self.aside[seq] = why

    def without_aside(self, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """What may be sent again of ``bodies``."""
        return [body for body in bodies if seq_of(body) not in self.aside] if self.aside else bodies

    def acknowledge(self, acked: int, now: float) -> None:
        if acked <= self.acked:
            return
        self.acked = acked
        self.position = max(self.position, acked)
        self.head = max(self.head, acked)
        self.waiting_since = now
        self.repeat_wait = self._repeat_after
        self.aside = {seq: why for seq, why in self.aside.items() if seq > acked}
        if self.repeat_at:
            self.repeat_at = max(self.repeat_at, acked + 1)
            if self.repeat_at > self.repeat_to:
                self.repeat_at = self.repeat_to = 0  # the ack has overtaken it

    def begin_overdue(self, now: float) -> None:
        """Start sending again what nobody has acknowledged for too long."""
        if not self.repeat_at and self.overdue_in(now) <= 0:
            self.repeat_at, self.repeat_to = self.acked + 1, self.position

    def overdue_in(self, now: float) -> float:
        if self.acked >= self.position:
            return math.inf
        return self.waiting_since + self.repeat_wait - now

    def end_repeat(self, now: float) -> None:
        self.repeat_at = self.repeat_to = 0
        self.waiting_since = now
        self.repeat_wait = min(LONGEST_REPEAT, self.repeat_wait * 2)


class Wanted(msgspec.Struct):
    """Numbers ``at`` to ``last`` that a consumer lacks."""

    epoch: str
    event_class: EventClass
    at: int
    last: int

    def holds(self, stream: Stream, seq: int) -> bool:
        return (self.epoch, self.event_class) == (stream.epoch, stream.event_class) and self.at <= seq <= self.last


class Bucket:
    """Tokens that come back at ``rate`` a second; time is handed in."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate * BURST_SECONDS)
        self._tokens = self._most
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until a token is there; 0 when one is."""
        if now > self._at:
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
            self._at = now
        # A shortfall of less than a millionth is rounding: waiting for it would ask again without end.
        return 0.0 if self._tokens >= 1.0 - 1e-6 else (1.0 - self._tokens) / self._rate

    def take(self) -> None:
        self._tokens -= 1.0


class _Numbered(msgspec.Struct):
    seq: int = 0


_numbered = msgspec.json.Decoder(_Numbered)


def seq_of(body: bytes) -> int:
    """The number in an event's bytes, 0 for a notice of a thinned range."""
    return _numbered.decode(body).seq


def cut(bodies: Iterable[bytes], limit: int) -> list[Run]:
    """``bodies`` as batches of at most ``limit`` bytes each; one that is larger by itself travels alone."""
    runs: list[Run] = []
    run: list[bytes] = []
    size = 1
    for body in bodies:
        if run and size + len(body) + 1 > limit:
            runs.append(Run(run, (len(runs), 0)))
            run, size = [], 1
        run.append(body)
        size += len(body) + 1
    return [*runs, Run(run, (len(runs), 0))] if run else runs
