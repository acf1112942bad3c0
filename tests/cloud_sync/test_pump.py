"""What leaves the node, in which order and how fast; the pump is driven by hand, with time as a number."""

from __future__ import annotations

import copy
import math
from collections import deque

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.pump import (
    BACKLOG,
    REPEAT_AFTER,
    RESERVED,
    Ask,
    Pacing,
    Pause,
    Pump,
    Send,
    SetAside,
)
from cloud_sync.stream import LONGEST_REPEAT
from edge.event import EventClass
from edge.keys import SigningKey
from edge.link import JournalView
from tests.cloud_sync.rig import Epoch

KEY = SigningKey(b"k" * 32)
ROOM = 1_000_000
AUDIT, STATE, TELEMETRY = EventClass


class Bench:
    """A pump, a journal to pull from and a broker that answers when told to."""

    def __init__(self, *epochs: Epoch, pacing: Pacing | None = None, window: int = 20) -> None:
        self.epochs = epochs
        self.pump = Pump(pacing or Pacing(pace=1000.0))
        self.now = 0.0
        self.sent: list[Send] = []
        self.sent_at: list[float] = []
        self.unanswered: deque[Send] = deque()
        self.aside: list[SetAside] = []
        self.tell()
        self.pump.connected(window, ROOM)

    def tell(self) -> None:
        self.pump.journals([epoch.view() for epoch in self.epochs], self.now)

    def step(self) -> Ask | Send | SetAside | Pause:
        step = self.pump.next_step(self.now)
        if isinstance(step, Ask):
            assert step.limit >= 1
            epoch = next(each for each in self.epochs if each.id == step.epoch)
            bodies, upto = epoch.pull(step.event_class, step.after, step.limit)
            self.pump.pulled(step, bodies, upto, self.now)
        elif isinstance(step, Send):
            self.sent.append(step)
            self.sent_at.append(self.now)
            self.unanswered.append(step)
        elif isinstance(step, SetAside):
            self.aside.append(step)
        return step

    def answer(self, code: int = 0) -> None:
        self.pump.delivered(self.unanswered.popleft().ticket, code, self.now)

    def run(self, seconds: float) -> None:
        """Let time pass; every message has its PUBACK at once."""
        end = self.now + seconds
        while self.now <= end:
            step = self.step()
            while self.unanswered:
                self.answer()
            if isinstance(step, Pause):
                self.now = min(self.now + step.seconds, math.nextafter(end, math.inf))

    def events(self, since: int = 0) -> list[bytes]:
        return [body for send in self.sent[since:] for body in bodies_of(send)]


def bodies_of(send: Send) -> list[bytes]:
    if not send.batch:
        return [send.payload]
    return [bytes(raw) for raw in msgspec.json.decode(send.payload, type=list[msgspec.Raw])]


def epoch_of(audit: int = 0, state: int = 0, telemetry: int = 0) -> Epoch:
    epoch = Epoch(KEY)
    for event_class, count in ((AUDIT, audit), (STATE, state), (TELEMETRY, telemetry)):
        for _ in range(count):
            epoch.add(event_class, "some.event")
    return epoch


def test_audit_goes_before_state_before_telemetry_and_old_epochs_first():
    old, new = epoch_of(3, 3, 3), epoch_of(3, 3, 3)
    bench = Bench(old, new)
    bench.run(1)
    expected = [body for each in EventClass for epoch in (old, new) for body in epoch.bodies(each)]
    assert bench.events() == expected


def test_a_backlog_travels_as_batches_within_the_bound():
    epoch = epoch_of(telemetry=2000)
    bench = Bench(epoch, pacing=Pacing(pace=1000.0, batch_bytes=4096))
    bench.run(2)
    batches = [send for send in bench.sent if send.batch]
    assert len(batches) > 100
    assert max(len(send.payload) for send in batches) <= 4096
    assert [body for send in bench.sent if send.event_class is TELEMETRY for body in bodies_of(send)] == epoch.bodies(
        TELEMETRY
    )


def test_a_few_events_travel_alone():
    bench = Bench(epoch_of(audit=BACKLOG - 1))
    bench.run(1)
    assert [send.batch for send in bench.sent] == [False] * BACKLOG


def test_the_pace_is_kept():
    bench = Bench(epoch_of(telemetry=3000), pacing=Pacing(pace=20.0, batch_bytes=512))
    bench.run(10)
    assert 195 <= len(bench.sent) <= 10 * 20 + 0.2 * 20 + 1


def test_the_window_leaves_room_for_results():
    bench = Bench(epoch_of(telemetry=3000), pacing=Pacing(pace=10_000.0, batch_bytes=512), window=20)
    while not isinstance(bench.step(), Pause):
        pass
    assert len(bench.unanswered) == 20 - RESERVED


def test_a_broker_that_takes_one_message_at_a_time_gets_one():
    bench = Bench(epoch_of(telemetry=100), window=1)
    while not isinstance(bench.step(), Pause):
        pass
    assert len(bench.unanswered) == 1


def test_after_a_lost_connection_what_had_no_puback_goes_again_in_order():
    epoch = epoch_of(audit=5000)
    bench = Bench(epoch)
    for _ in range(200):
        bench.step()
    for _ in range(5):
        bench.answer()
    position = bench.pump.position(epoch.id, AUDIT)
    bench.unanswered.clear()
    since = len(bench.sent)
    bench.pump.connected(20, ROOM)
    assert bench.pump.position(epoch.id, AUDIT) == position > 0
    bench.run(5)
    assert bench.events(since)[: 5001 - position] == epoch.bodies()[position:]


def test_what_nobody_acknowledges_goes_again_with_growing_pauses():
    bench = Bench(epoch_of(audit=2))
    bench.run(REPEAT_AFTER * 1.5)
    assert len(bench.sent) == 6
    bench.run(REPEAT_AFTER)
    assert len(bench.sent) == 6
    bench.run(REPEAT_AFTER)
    assert len(bench.sent) == 9
    bench.run(100_000)
    assert len(bench.sent) <= 9 + 3 * (6 + 100_000 / LONGEST_REPEAT)


def test_what_is_acknowledged_does_not_go_again():
    epoch = epoch_of(audit=9)
    bench = Bench(epoch)
    bench.run(1)
    epoch.acked[AUDIT] = 10
    bench.tell()
    bench.run(1000)
    assert len(bench.events()) == 10


def test_an_ack_ends_the_repeat_that_it_overtakes():
    """Asking for no rows is no request: the role agent ends the connection over it, and it was made again for ever."""
    epoch = epoch_of(audit=9, state=9)
    bench = Bench(epoch)
    bench.run(1)
    bench.now += REPEAT_AFTER
    first = bench.step()
    assert isinstance(first, Ask)
    assert first.again
    epoch.acked[STATE] = 9
    bench.tell()
    bench.run(REPEAT_AFTER / 2)
    assert [send.event_class for send in bench.sent[19:]] == [AUDIT] * len(bench.sent[19:])


def test_a_wanted_range_goes_again_within_a_tenth_of_the_pace():
    epoch = epoch_of(audit=400)
    epoch.acked[AUDIT] = 0
    bench = Bench(epoch, pacing=Pacing(pace=100.0, batch_bytes=600))
    bench.run(20)
    since = len(bench.sent)
    bench.pump.want([(epoch.id, "audit", 11, 30), (epoch.id, "audit", 15, 20)])
    bench.pump.want([(epoch.id, "audit", 900, 999), (epoch.id, "weather", 1, 2)])
    bench.run(3)
    again = bench.events(since)
    assert again[:20] == epoch.bodies()[10:30]
    assert len(again) == 20
    span = bench.sent_at[-1] - bench.sent_at[since]
    assert len(bench.sent) - since <= 0.1 * 100 * span + 3


def test_what_a_consumer_lost_of_an_epoch_that_all_had_held_goes_again():
    old, new = epoch_of(audit=30), epoch_of(audit=3)
    bench = Bench(old, new)
    bench.run(20)
    bench.pump.journals([new.view()], bench.now)
    since = len(bench.sent)
    bench.pump.want([(old.id, "audit", 11, 20), (old.id, "audit", 25, 25)])
    bench.pump.journals([new.view()], bench.now)
    bench.run(3)
    assert bench.events(since) == [*old.bodies()[10:20], old.bodies()[24]]


def test_a_wake_during_a_pull_is_not_forgotten():
    epoch = epoch_of(audit=0)
    bench = Bench(epoch)
    bench.run(1)
    bench.pump.wake()
    ask = bench.pump.next_step(bench.now)
    assert isinstance(ask, Ask)
    late = epoch.add(AUDIT)
    bench.pump.wake()
    bench.pump.pulled(ask, (), ask.after, bench.now)
    bench.run(1)
    assert bench.events()[-1] == late


def test_a_held_epoch_leaves():
    old, new = epoch_of(2), epoch_of(2)
    bench = Bench(old, new)
    bench.run(1)
    bench.pump.want([(old.id, "audit", 1, 2)])
    bench.pump.journals([JournalView(new.id, new.view().classes)], bench.now)
    since = len(bench.sent)
    bench.run(1000)
    assert set(bench.events(since)) <= set(new.bodies())


@given(st.data())
def test_whatever_happens_nothing_is_left_out_and_the_position_never_goes_back(data):  # noqa: C901  one action, one line
    """Random steps, answers, failures, lost connections, acks, wants, new events; then a calm end."""
    epoch = epoch_of(data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40)), data.draw(st.integers(0, 60)))
    window = data.draw(st.integers(1, 20))
    bench = Bench(epoch, pacing=Pacing(pace=50.0, batch_bytes=1500), window=window)
    position = dict.fromkeys(EventClass, 0)
    fresh: dict[EventClass, list[bytes]] = {each: [] for each in EventClass}
    actions = st.sampled_from(["step", "step", "step", "answer", "fail", "lost", "ack", "want", "event", "time"])
    for action in data.draw(st.lists(actions, max_size=150)):
        match action:
            case "step":
                step = bench.step()
                if isinstance(step, Send):
                    fresh[step.event_class] += bodies_of(step)
            case "answer" | "fail" if bench.unanswered:
                bench.answer(0x80 if action == "fail" else 0)
            case "lost":
                bench.unanswered.clear()
                bench.pump.connected(window, ROOM)
            case "ack":
                each = data.draw(st.sampled_from(list(EventClass)))
                epoch.acked[each] = data.draw(st.integers(epoch.acked[each], bench.pump.position(epoch.id, each)))
                bench.tell()
            case "want":
                each = data.draw(st.sampled_from(list(EventClass)))
                first = data.draw(st.integers(1, 50))
                bench.pump.want([(epoch.id, each.value, first, first + 5)])
            case "event":
                epoch.add(AUDIT)
                bench.pump.wake()
            case "time":
                bench.now += data.draw(st.floats(0, 40))
        assert len(bench.unanswered) <= max(1, window - RESERVED)
        for each in EventClass:
            now = bench.pump.position(epoch.id, each)
            assert now >= position[each]
            position[each] = now
    while bench.unanswered:
        bench.answer()
    bench.run(60)
    for each in EventClass:
        assert bench.pump.position(epoch.id, each) == epoch.last[each]
        assert set(bench.events()) >= set(epoch.bodies(each))


def test_what_an_older_file_put_in_its_place_goes_on_with_is_sent_too():
    """Its numbers have been given before, so the position has passed them; the consumer has to see that they differ."""
    epoch = Epoch(KEY)
    bench = Bench(epoch)
    older = copy.deepcopy(epoch)
    for _ in range(3):
        epoch.add(AUDIT)
    bench.pump.wake()
    bench.run(1)
    epoch.acked[AUDIT] = epoch.last[AUDIT]
    bench.tell()
    bench.epochs = (older,)
    another = older.add(AUDIT, data={"of": "another history"})
    bench.tell()
    since = len(bench.sent)
    bench.run(1)
    assert another in bench.events(since)
