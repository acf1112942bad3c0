"""What to send next: one stream for all consumers, in order within a class, paced, and what is missing once more.

The pump never sees the network or the clock: ``next_step`` says what to do, and it is told what came of it. What the
role agent answers to one ``Ask`` is one load; a load whose every message has its PUBACK moves the send position, which
goes back only with the journal itself.

A message that the broker does not take is judged by ``cloud_sync.refusal``. A broker may also end the connection over
one, and again after every reconnect: where connections end twice in a row with the same message in flight, events go
one at a time, and the one that ends two more is set aside. Nothing is read from the events' bytes but its number then.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cloud_sync.ports import MAX_IN_FLIGHT
from cloud_sync.refusal import Verdict, judge
from cloud_sync.stream import CONNECTION_LOST, Bucket, Load, Run, Stream, Wanted, cut, seq_of
from cloud_sync.strikes import Strikes
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
LATER_PAUSE = 5.0
"""Seconds of silence after the broker said that it cannot now; doubled with every try of the same message."""
LONGEST_LATER = 300.0
RIGHTS_PAUSE = 60.0
"""Seconds until a class that we may not publish is tried again: a person may be giving the right now."""
MAX_WANTED = 64
"""Wanted ranges kept; consumers say them again."""
MAX_SEQ = 2**46 - 1
"""The journal has no higher number."""
FRAME_ROOM = 1024
"""Bytes of a packet that are topic and MQTT's own header."""

_CLASSES = {event_class.value: event_class for event_class in EventClass}


class Pacing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast and how big. ``pace``: messages a second; 50 is half of what AWS IoT allows one connection.

    ``batch_bytes`` 0: every event travels alone. ``repeat_after``: seconds without an acknowledgement after which rows
    go again.
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


class SetAside(msgspec.Struct, frozen=True):
    """Tell the role agent that the broker will not take this event, and why."""

    epoch: str
    event_class: EventClass
    seq: int
    reason: str


class Pause(msgspec.Struct, frozen=True):
    """There is nothing to do for ``seconds`` (may be infinite) unless something happens before."""

    seconds: float


Step = Ask | Send | SetAside | Pause


class Pump:
    """Decides the order of everything that leaves the node as an event."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._pace = Bucket(pacing.pace)
        self._repeats = Bucket(pacing.pace * REPEAT_SHARE)
        self._repeat_after = pacing.repeat_after
        self._streams: dict[tuple[EventClass, str], Stream] = {}
        self._ended: dict[tuple[EventClass, str], Stream] = {}
        """Of epochs that every consumer had held, and one has lost again: only what is wanted goes."""
        self._wanted: deque[Wanted] = deque()
        self._again_load: Load | None = None
        """What is being sent again now."""
        self._tickets: dict[int, tuple[Load, Run]] = {}
        """In the order of sending."""
        self._next_ticket = 1
        self._window = 0
        self._batch_bytes = pacing.batch_bytes
        self._max_packet = pacing.batch_bytes
        self._wakes = 0
        self._silent_until = -math.inf
        self._aside_due: deque[SetAside] = deque()
        self._strikes = Strikes()
        self.counts: Counter[str] = Counter()
        """``events_sent`` (repeats included), ``messages_sent``, ``messages_again``, ``set_aside``, ``refused_*``."""

    def connected(self, window: int, max_packet: int) -> None:
        """A connection begins: what is not through starts again at the send position."""
        self._note_loss()
        self._strikes.proven = False
        self._window = max(1, min(window, MAX_IN_FLIGHT) - RESERVED)
        self._max_packet = max_packet - FRAME_ROOM
        self._batch_bytes = min(self._pacing.batch_bytes, self._max_packet)
        self._tickets.clear()
        self._again_load = None
        for stream in self._streams.values():
            stream.begin_again()

    def proven(self) -> None:
        """Other messages have come through this connection, or had their time: what ends it now is an event."""
        self._strikes.proven = True

    def journals(self, views: Sequence[JournalView], now: float) -> None:
        """What the role agent says of its epochs, oldest first: cursors rise, held epochs leave."""
        streams: dict[tuple[EventClass, str], Stream] = {}
        for event_class in EventClass:
            for view in views:
                acked, last = view.classes.get(event_class.value, (0, 0))
                key = (event_class, view.epoch)
                stream = self._streams.get(key)
                if stream is None or acked < stream.acked or last < stream.head:
                    # Of an older file put in its place nothing has been sent: what it holds may be another history.
                    stream = Stream(view.epoch, event_class, acked, self._repeat_after)
                stream.acknowledge(acked, now)
                stream.dry = stream.dry and last <= stream.head
                streams[key] = stream
        self._streams = streams
        self._strikes.keep_to(streams.values())
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
                stream = self._ended[event_class, epoch] = Stream(epoch, event_class, MAX_SEQ, self._repeat_after)
            if first <= stream.position and not any(want.holds(stream, first) for want in self._wanted):
                self._wanted.append(Wanted(epoch, stream.event_class, first, min(last, stream.position)))

    def next_step(self, now: float) -> Step:
        """What to do now. Asked again after every step and whenever something happened."""
        if self._aside_due:
            return self._aside_due.popleft()
        if len(self._tickets) >= (min(1, self._window) if self._strikes.careful else self._window):
            return Pause(math.inf)
        if self._strikes.careful and not self._strikes.proven:
            return Pause(math.inf)
        if now < self._silent_until:
            return Pause(self._silent_until - now)
        ready = self._pace.wait(now)
        if ready > 0:
            return Pause(ready)
        return self._again(now) or self._fresh(now) or Pause(self._until_next(now))

    def pulled(self, ask: Ask, bodies: Sequence[bytes], upto: int, now: float) -> None:
        """The answer to ``ask``."""
        stream = self._stream(ask.event_class, ask.epoch)
        if stream is None:
            return
        if ask.again:
            self._note_repeat(stream, ask, upto, now)
            bodies = stream.without_aside(bodies)
        else:
            stream.dry = upto <= ask.after and ask.wakes == self._wakes
            stream.head = max(stream.head, upto)
        if upto <= ask.after:
            return
        load = Load(stream, upto, self._runs(stream, bodies), again=ask.again)
        if not ask.again:
            stream.loads.append(load)
            stream.move(now)
        elif load.unsent:
            self._again_load = load

    def delivered(self, ticket: int, code: int, now: float) -> None:
        """The PUBACK of a ``Send``."""
        load, run = self._tickets.pop(ticket, (None, None))
        if load is None or run is None:
            return
        load.unanswered -= 1
        word, verdict = judge(code, run.tries)
        if verdict is Verdict.TAKEN:
            load.stream.denied = ""
        else:
            self.counts["refused_" + word] += 1
            self._refused(load, run, word, verdict, now)
        if not load.again:
            load.stream.move(now)
            self._strikes.moved()
        elif load.unsent and self._again_load is None:
            self._again_load = load

    @property
    def denied(self) -> Mapping[str, str]:
        """The classes that the broker will not let us publish, and its reason words."""
        return {stream.event_class.value: stream.denied for stream in self._streams.values() if stream.denied}

    def passed(self) -> list[tuple[str, str, int]]:
        """(epoch, class, seq): how far the broker has taken what consumers have not acknowledged, audit left out."""
        return [
            (stream.epoch, stream.event_class.value, stream.position)
            for stream in self._streams.values()
            if stream.event_class is not EventClass.AUDIT and stream.position > stream.acked
        ]

    def position(self, epoch: str, event_class: EventClass) -> int:
        """The send position of a stream, 0 when there is none."""
        stream = self._streams.get((event_class, epoch))
        return stream.position if stream else 0

    def _stream(self, event_class: EventClass, epoch: str) -> Stream | None:
        return self._streams.get((event_class, epoch)) or self._ended.get((event_class, epoch))

    def _again(self, now: float) -> Step | None:
        if self._repeats.wait(now) > 0:
            return None
        load = self._again_load
        if load is not None and now >= load.stream.denied_until:
            return self._send(load)
        for stream in self._streams.values():
            stream.begin_overdue(now)
        for want in self._wanted:
            stream_of_it = self._stream(want.event_class, want.epoch)
            if stream_of_it is not None and now >= stream_of_it.denied_until:
                return self._ask_again(want.epoch, want.event_class, want.at, want.last)
        for stream in self._streams.values():
            if stream.repeat_at and now >= stream.denied_until:
                return self._ask_again(stream.epoch, stream.event_class, stream.repeat_at, stream.repeat_to)
        return None

    def _ask_again(self, epoch: str, event_class: EventClass, first: int, last: int) -> Ask:
        return Ask(epoch, event_class, first - 1, min(MAX_PULL_EVENTS, last - first + 1), True, self._wakes)

    def _fresh(self, now: float) -> Step | None:
        most = 1 if self._strikes.careful else MAX_PULL_EVENTS
        for stream in self._streams.values():
            if now < stream.denied_until:
                continue
            load = stream.next_load()
            if load is not None:
                return self._send(load)
            if not stream.dry:
                return Ask(stream.epoch, stream.event_class, stream.head, most, False, self._wakes)
        return None

    def _send(self, load: Load) -> Send:
        run = load.unsent.popleft()
        self._pace.take()
        if load.again:
            self._repeats.take()
            self.counts["messages_again"] += 1
            if not load.unsent:
                self._again_load = None
        self.counts["messages_sent"] += 1
        self.counts["events_sent"] += len(run.bodies)
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tickets[ticket] = (load, run)
        load.unanswered += 1
        return Send(ticket, load.stream.event_class, run.batch, run.payload)

    def _until_next(self, now: float) -> float:
        streams = self._streams.values()
        denied = min((one.denied_until - now for one in streams if one.denied_until > now), default=math.inf)
        if self._again_load or self._wanted or any(stream.repeat_at for stream in streams):
            # Of a denied class nothing goes again either, so its own time may be what is waited for.
            return min(denied, self._repeats.wait(now) or LATER_PAUSE)
        overdue = min((stream.overdue_in(now) for stream in streams), default=math.inf)
        return min(denied, max(overdue, self._repeats.wait(now)))

    def _note_repeat(self, stream: Stream, ask: Ask, upto: int, now: float) -> None:
        nothing_left = upto <= ask.after
        for want in self._wanted:
            if (want.epoch, want.event_class, want.at) == (ask.epoch, ask.event_class, ask.after + 1):
                want.at = max(want.at, upto + 1)
                if nothing_left or want.at > want.last:
                    self._wanted.remove(want)
                return
        if stream.repeat_at:
            stream.repeat_at = max(stream.repeat_at, upto + 1)
            if nothing_left or stream.repeat_at > stream.repeat_to:
                stream.end_repeat(now)

    def _runs(self, stream: Stream, bodies: Sequence[bytes]) -> list[Run]:
        """An answer as messages: single events, or batches within the byte bound once it is a backlog."""
        fitting = [body for body in bodies if len(body) <= self._max_packet]
        if len(fitting) < len(bodies):
            for body in bodies:
                if len(body) > self._max_packet:
                    self.counts["refused_too_large"] += 1
                    self._set_aside(stream, body, "too_large")
        alone = len(fitting) <= BACKLOG or self._strikes.careful
        return cut(fitting, 0 if alone else self._batch_bytes)

    # What the broker does not take.

    def _refused(self, load: Load, run: Run, word: str, verdict: Verdict, now: float) -> None:
        run.tries += 1
        stream = load.stream
        if verdict is Verdict.LATER:
            load.put_back(run)
            self._silent_until = now + min(LONGEST_LATER, LATER_PAUSE * 2.0 ** (run.tries - 1))
        elif verdict is Verdict.RIGHTS:
            load.put_back(run)
            stream.denied, stream.denied_until = word, now + RIGHTS_PAUSE
        elif run.batch:
            load.put_back(*run.singles())
        else:
            self._set_aside(stream, run.bodies[0], word)

    def _set_aside(self, stream: Stream, body: bytes, why: str) -> None:
        seq = seq_of(body)
        self.counts["set_aside"] += 1
        if seq:
            stream.set_aside(seq, why)
            self._aside_due.append(SetAside(stream.epoch, stream.event_class, seq, why))

    def _note_loss(self) -> None:
        """The connection before ended: look at what was in flight that had not been sent before."""
        lost = [(load, run) for load, run in self._tickets.values() if not load.again]
        if not lost:
            return
        load, run = lost[0]
        if self._strikes.lost(load.stream, max(each.upto for each, _ in lost)):
            self._set_aside(load.stream, run.bodies[0], CONNECTION_LOST)
            load.stream.skip_to(load.upto)
