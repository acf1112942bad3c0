"""What to send next: one stream for all consumers, in order within a class, paced, and what is missing once more.

The pump never sees the network or the clock: ``next_step`` says what to do, and it is told what came of it. What the
role agent answers to one ``Ask`` is one load; a load whose every message has its PUBACK moves the send position, which
never goes back. Nothing is read from the events' bytes here.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from cloud_sync.ports import FAILURE, MAX_IN_FLIGHT
from edge.event import EventClass
from edge.link import MAX_PULL_EVENTS, JournalView

RESERVED = 2
"""Places in the window that the pump leaves to results and presence, so that a drain does not hold them up."""
BACKLOG = 8
"""Events in one answer above which they travel as a batch: below, a subscriber sees single events as they happen."""
REPEAT_SHARE = 0.1
"""Of the pace, for everything that is sent again."""
REPEAT_AFTER = 30.0
"""Seconds; a consumer that is there acknowledges within three."""
LONGEST_REPEAT = 3600.0
"""Seconds; the time doubles with each repeat that brought nothing."""
QUOTA_PAUSE = 5.0
"""Seconds of silence after the broker said that a quota is used up."""
BURST_SECONDS = 0.2
"""How much unused pace may be saved up."""
MAX_WANTED = 64
"""Wanted ranges kept; consumers say them again."""
MAX_SEQ = 2**46 - 1
"""The journal has no higher number."""
FRAME_ROOM = 1024
"""Bytes of a packet that are topic and MQTT's own header."""

REFUSALS = {0x87: "not_authorised", 0x90: "topic_invalid", 0x95: "too_large", 0x97: "quota", 0x99: "payload_invalid"}
"""Reason codes of MQTT 5 (section 3.4.2.1) that mean different things to a person."""
_QUOTA = 0x97
_CLASSES = {event_class.value: event_class for event_class in EventClass}


class Pacing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast and how big. ``pace``: messages a second; 50 is half of what AWS IoT allows one connection.

    ``repeat_after``: seconds without an acknowledgement after which rows go again.
    """

    pace: float = 50.0
    batch_bytes: int = 64 * 1024
    repeat_after: float = REPEAT_AFTER


class Ask(msgspec.Struct, frozen=True):
    """Ask the role agent for events above ``after``; tell the answer to ``Pump.pulled``."""

    epoch: str
    event_class: EventClass
    after: int
    limit: int
    again: bool
    wakes: int


class Send(msgspec.Struct, frozen=True):
    """Publish ``payload``; tell its PUBACK to ``Pump.delivered`` with the ``ticket``."""

    ticket: int
    event_class: EventClass
    batch: bool
    payload: bytes


class Pause(msgspec.Struct, frozen=True):
    """There is nothing to do for ``seconds`` (may be infinite) unless something happens before."""

    seconds: float


Step = Ask | Send | Pause


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


class _Load:
    """One answer on its way: ``unsent`` messages, ``unanswered`` ones among those sent."""

    def __init__(self, stream: _Stream, upto: int, messages: Iterable[tuple[bool, bytes]], *, again: bool) -> None:
        self.stream = stream
        self.upto = upto
        self.again = again
        self.unsent = deque(messages)
        self.unanswered = 0

    @property
    def done(self) -> bool:
        return not self.unsent and not self.unanswered


class _Stream:
    """One class of one epoch: ``acked`` by every consumer, sent up to ``position``, read up to ``head``."""

    def __init__(self, epoch: str, event_class: EventClass, acked: int, repeat_after: float) -> None:
        self.epoch = epoch
        self.event_class = event_class
        self.acked = acked
        self._repeat_after = repeat_after
        self.position = acked
        self.head = acked
        self.dry = False
        self.loads: deque[_Load] = deque()
        self.waiting_since = 0.0
        self.repeat_wait = self._repeat_after
        self.repeat_at = 0
        """Where a repeat under way goes on; 0 when there is none."""
        self.repeat_to = 0

    def move(self, now: float) -> None:
        """Let the position follow the loads that are through, in their order."""
        while self.loads and self.loads[0].done:
            if self.position == self.acked:
                self.waiting_since = now
            self.position = max(self.position, self.loads.popleft().upto)

    def acknowledge(self, acked: int, now: float) -> None:
        if acked <= self.acked:
            return
        self.acked = acked
        self.position = max(self.position, acked)
        self.head = max(self.head, acked)
        self.waiting_since = now
        self.repeat_wait = self._repeat_after
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

    def holds(self, stream: _Stream, seq: int) -> bool:
        return (self.epoch, self.event_class) == (stream.epoch, stream.event_class) and self.at <= seq <= self.last


class Pump:
    """Decides the order of everything that leaves the node as an event."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._pace = Bucket(pacing.pace)
        self._repeats = Bucket(pacing.pace * REPEAT_SHARE)
        self._repeat_after = pacing.repeat_after
        self._streams: dict[tuple[EventClass, str], _Stream] = {}
        self._ended: dict[tuple[EventClass, str], _Stream] = {}
        """Of epochs that every consumer had held, and one has lost again: only what is wanted goes."""
        self._wanted: deque[Wanted] = deque()
        self._open: dict[bool, _Load] = {}
        """By ``again``: at most one load of each way with messages not yet sent."""
        self._tickets: dict[int, _Load] = {}
        self._next_ticket = 1
        self._window = 0
        self._batch_bytes = pacing.batch_bytes
        self._max_packet = pacing.batch_bytes
        self._wakes = 0
        self._silent_until = -math.inf
        self.counts: Counter[str] = Counter()
        """``events_sent`` (repeats included), ``messages_sent``, ``messages_again``, ``refused_*`` by reason."""

    def connected(self, window: int, max_packet: int) -> None:
        """A connection begins: what is not through starts again at the send position."""
        self._window = max(1, min(window, MAX_IN_FLIGHT) - RESERVED)
        self._max_packet = max_packet - FRAME_ROOM
        self._batch_bytes = min(self._pacing.batch_bytes, self._max_packet)
        self._tickets.clear()
        self._open.clear()
        for stream in self._streams.values():
            stream.loads.clear()
            stream.head = stream.position
            stream.dry = False

    def journals(self, views: Sequence[JournalView], now: float) -> None:
        """What the role agent says of its epochs, oldest first: cursors rise, held epochs leave."""
        streams: dict[tuple[EventClass, str], _Stream] = {}
        for event_class in EventClass:
            for view in views:
                acked, last = view.classes.get(event_class.value, (0, 0))
                key = (event_class, view.epoch)
                stream = self._streams.get(key) or _Stream(view.epoch, event_class, acked, self._repeat_after)
                stream.acknowledge(acked, now)
                stream.dry = stream.dry and last <= stream.head
                streams[key] = stream
        self._streams = streams
        wanted = {(want.event_class, want.epoch) for want in self._wanted}
        self._ended = {key: ended for key, ended in self._ended.items() if key in wanted and key not in streams}
        known = streams.keys() | self._ended.keys()
        self._wanted = deque(want for want in self._wanted if (want.event_class, want.epoch) in known)

    def wake(self) -> None:
        """There may be more than the last answers had."""
        self._wakes += 1
        for stream in self._streams.values():
            stream.dry = False

    def want(self, ranges: Iterable[tuple[str, str, int, int]]) -> None:
        """Ranges a consumer lacks. What is above the send position comes by itself and is left out."""
        for epoch, name, first, last in ranges:
            event_class = _CLASSES.get(name)
            if event_class is None or len(self._wanted) >= MAX_WANTED:
                continue
            stream = self._stream(event_class, epoch)
            if stream is None:
                stream = self._ended[event_class, epoch] = _Stream(epoch, event_class, MAX_SEQ, self._repeat_after)
            if first <= stream.position and not any(want.holds(stream, first) for want in self._wanted):
                self._wanted.append(Wanted(epoch, stream.event_class, first, min(last, stream.position)))

    def next_step(self, now: float) -> Step:
        """What to do now. Asked again after every step and whenever something happened."""
        if not self._window or len(self._tickets) >= self._window:
            return Pause(math.inf)
        if now < self._silent_until:
            return Pause(self._silent_until - now)
        ready = self._pace.wait(now)
        if ready > 0:
            return Pause(ready)
        return self._again(now) or self._fresh() or Pause(self._until_repeat(now))

    def pulled(self, ask: Ask, bodies: Sequence[bytes], upto: int, now: float) -> None:
        """The answer to ``ask``."""
        stream = self._stream(ask.event_class, ask.epoch)
        if stream is None:
            return
        if ask.again:
            self._note_repeat(stream, ask, upto, now)
        else:
            stream.dry = upto <= ask.after and ask.wakes == self._wakes
            stream.head = max(stream.head, upto)
        if upto > ask.after:
            load = _Load(stream, upto, self._messages(bodies), again=ask.again)
            if load.unsent:
                self._open[ask.again] = load
            if not ask.again:
                stream.loads.append(load)
                stream.move(now)

    def delivered(self, ticket: int, code: int, now: float) -> None:
        """The PUBACK of a ``Send``. A failure leaves the rows unacknowledged; they go again as such."""
        load = self._tickets.pop(ticket, None)
        if load is None:
            return
        if code >= FAILURE:
            self.counts["refused_" + REFUSALS.get(code, "other")] += 1
        if code == _QUOTA:
            self._silent_until = now + QUOTA_PAUSE
        load.unanswered -= 1
        load.stream.move(now)

    def backlog_known(self) -> int:
        """Numbers sent and not yet acknowledged by every consumer, all streams together."""
        return sum(stream.position - stream.acked for stream in self._streams.values())

    def position(self, epoch: str, event_class: EventClass) -> int:
        """The send position of a stream, 0 when there is none."""
        stream = self._streams.get((event_class, epoch))
        return stream.position if stream else 0

    def _stream(self, event_class: EventClass, epoch: str) -> _Stream | None:
        return self._streams.get((event_class, epoch)) or self._ended.get((event_class, epoch))

    def _again(self, now: float) -> Step | None:
        if self._repeats.wait(now) > 0:
            return None
        if True in self._open:
            return self._send(self._open[True])
        for stream in self._streams.values():
            stream.begin_overdue(now)
        if self._wanted:
            want = self._wanted[0]
            return self._ask_again(want.epoch, want.event_class, want.at, want.last)
        for stream in self._streams.values():
            if stream.repeat_at:
                return self._ask_again(stream.epoch, stream.event_class, stream.repeat_at, stream.repeat_to)
        return None

    def _ask_again(self, epoch: str, event_class: EventClass, first: int, last: int) -> Ask:
        return Ask(epoch, event_class, first - 1, min(MAX_PULL_EVENTS, last - first + 1), True, self._wakes)

    def _fresh(self) -> Step | None:
        if False in self._open:
            return self._send(self._open[False])
        for stream in self._streams.values():
            if not stream.dry:
                return Ask(stream.epoch, stream.event_class, stream.head, MAX_PULL_EVENTS, False, self._wakes)
        return None

    def _send(self, load: _Load) -> Send:
        batch, payload = load.unsent.popleft()
        if not load.unsent:
            del self._open[load.again]
        self._pace.take()
        if load.again:
            self._repeats.take()
            self.counts["messages_again"] += 1
        self.counts["messages_sent"] += 1
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tickets[ticket] = load
        load.unanswered += 1
        return Send(ticket, load.stream.event_class, batch, payload)

    def _until_repeat(self, now: float) -> float:
        if True in self._open or self._wanted or any(stream.repeat_at for stream in self._streams.values()):
            return self._repeats.wait(now)
        overdue = min((stream.overdue_in(now) for stream in self._streams.values()), default=math.inf)
        return max(overdue, self._repeats.wait(now))

    def _note_repeat(self, stream: _Stream, ask: Ask, upto: int, now: float) -> None:
        nothing_left = upto <= ask.after
        if self._wanted and self._wanted[0].epoch == ask.epoch and self._wanted[0].event_class is ask.event_class:
            want = self._wanted[0]
            if want.at == ask.after + 1:
                want.at = max(want.at, upto + 1)
                if nothing_left or want.at > want.last:
                    self._wanted.popleft()
                return
        if stream.repeat_at:
            stream.repeat_at = max(stream.repeat_at, upto + 1)
            if nothing_left or stream.repeat_at > stream.repeat_to:
                stream.end_repeat(now)

    def _messages(self, bodies: Sequence[bytes]) -> list[tuple[bool, bytes]]:
        """Cut an answer into messages: single events, or batches within the byte bound once it is a backlog."""
        fitting = [body for body in bodies if len(body) <= self._max_packet]
        self.counts["refused_too_large"] += len(bodies) - len(fitting)
        self.counts["events_sent"] += len(fitting)
        if len(fitting) <= BACKLOG:
            return [(False, body) for body in fitting]
        return [_as_message(run) for run in _runs(fitting, self._batch_bytes)]


def _runs(bodies: Iterable[bytes], limit: int) -> Iterable[list[bytes]]:
    run: list[bytes] = []
    size = 1
    for body in bodies:
        if run and size + len(body) + 1 > limit:
            yield run
            run, size = [], 1
        run.append(body)
        size += len(body) + 1
    if run:
        yield run


def _as_message(run: list[bytes]) -> tuple[bool, bytes]:
    if len(run) == 1:
        return False, run[0]
    return True, b"[" + b",".join(run) + b"]"
