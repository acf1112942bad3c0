"""What the pump does with a message that the broker does not take; brokers and time are played by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloud_sync.pump import LATER_PAUSE, RIGHTS_PAUSE, Pacing, Pause, Send
from cloud_sync.refusal import MAX_TRIES
from cloud_sync.strikes import STRIKES
from edge.event import EventClass
from tests.cloud_sync.test_pump import ROOM, Bench, bodies_of, epoch_of

AUDIT, STATE, TELEMETRY = EventClass
ONCE = Pacing(pace=1000.0, repeat_after=1e6)
"""No repeats for want of an ack: what goes twice went twice for another reason."""
QUOTA, NOT_AUTHORISED, TOO_LARGE, PAYLOAD_INVALID, UNSPECIFIED = 0x97, 0x87, 0x95, 0x99, 0x80


def let(bench: Bench, seconds: float, code: Callable[[Send], int]) -> list[bytes]:
    """Let time pass before a broker that answers each message with ``code``; returns what it took."""
    taken: list[bytes] = []
    end = bench.now + seconds
    while bench.now < end:
        step = bench.step()
        while bench.unanswered:
            sent = bench.unanswered[0]
            answer = code(sent)
            taken += bodies_of(sent) if answer < 0x80 else []
            bench.answer(answer)
        if isinstance(step, Pause):
            bench.now = min(bench.now + step.seconds, end)
    return taken


def test_a_used_up_quota_brings_silence_and_then_the_same_message():
    epoch = epoch_of(audit=5, state=3)
    bench = Bench(epoch, pacing=ONCE, window=3)
    answers = iter([QUOTA, QUOTA])
    taken = let(bench, 60.0, lambda _: next(answers, 0))
    assert taken == [*epoch.bodies(), *epoch.bodies(STATE)]
    assert bench.pump.counts["refused_quota"] == 2
    assert bench.sent_at[1] - bench.sent_at[0] == LATER_PAUSE
    assert bench.sent_at[2] - bench.sent_at[1] == 2 * LATER_PAUSE


def test_without_the_right_to_a_class_it_waits_whole_and_the_others_go_on():
    epoch = epoch_of(audit=5, state=5)
    bench = Bench(epoch, pacing=ONCE)
    rights = [False]

    def broker(sent: Send) -> int:
        return NOT_AUTHORISED if sent.event_class is AUDIT and not rights[0] else 0

    assert let(bench, RIGHTS_PAUSE * 3, broker) == epoch.bodies(STATE)
    assert bench.pump.denied == {"audit": "not_authorised"}
    assert bench.pump.position(epoch.id, AUDIT) == 0
    rights[0] = True
    assert let(bench, RIGHTS_PAUSE + 1, broker) == epoch.bodies()
    assert bench.pump.denied == {}
    assert bench.aside == []


@pytest.mark.parametrize("code", [TOO_LARGE, PAYLOAD_INVALID, UNSPECIFIED])
def test_a_batch_with_one_bad_event_is_cut_up_and_only_that_one_set_aside(code):
    epoch = epoch_of(audit=30)
    bad = epoch.bodies()[17]
    bench = Bench(epoch)
    taken = let(bench, 10_000.0, lambda sent: code if bad in bodies_of(sent) else 0)
    assert set(taken) == set(epoch.bodies()) - {bad}
    assert bench.pump.position(epoch.id, AUDIT) == 31
    assert [(one.event_class, one.seq) for one in bench.aside] == [(AUDIT, 18)]


def test_a_refusal_without_a_reason_is_tried_some_times_first():
    epoch = epoch_of()
    bench = Bench(epoch)
    answers = iter([UNSPECIFIED] * (MAX_TRIES - 1))
    assert let(bench, 1000.0, lambda _: next(answers, 0))[:1] == epoch.bodies()
    assert bench.aside == []


def test_an_event_above_the_brokers_packet_size_is_told_of_and_the_next_ones_go_on():
    epoch = epoch_of(audit=1)
    big = epoch.add(AUDIT, "big.event", "x" * 3000)
    last = epoch.add(AUDIT)
    bench = Bench(epoch)
    bench.pump.connected(20, 3000)
    bench.run(1)
    assert bench.events() == [*epoch.bodies()[:2], last]
    assert [(one.seq, one.reason) for one in bench.aside] == [(3, "too_large")]
    # Neither a repeat nor who lacks it brings it to this broker; another one that takes it gets it.
    bench.pump.want([(epoch.id, "audit", 3, 3)])
    bench.run(100)
    assert big not in bench.events()
    bench.pump.connected(20, ROOM)
    bench.pump.want([(epoch.id, "audit", 3, 3)])
    bench.run(10)
    assert big in bench.events()


def hanging_up(bench: Bench, bad: bytes, connections: int) -> list[bytes]:
    """A broker that ends the connection over ``bad``; every connection carries the probe before. What it took."""
    taken: list[bytes] = []
    for _ in range(connections):
        bench.pump.connected(20, ROOM)
        bench.pump.proven()
        bench.unanswered.clear()
        for _ in range(2000):
            step = bench.step()
            if bench.unanswered and bad in bodies_of(bench.unanswered[0]):
                break
            while bench.unanswered:
                taken += bodies_of(bench.unanswered[0])
                bench.answer()
            if isinstance(step, Pause):
                bench.now += min(step.seconds, 1.0)
    return taken


def test_an_event_that_ends_every_connection_is_found_and_set_aside():
    epoch = epoch_of(audit=40, state=2)
    bad = epoch.bodies()[20]
    bench = Bench(epoch)
    taken = hanging_up(bench, bad, 2 * STRIKES + 1)
    assert [(one.event_class, one.seq, one.reason) for one in bench.aside] == [(AUDIT, 21, "connection_lost")]
    assert set(taken) == (set(epoch.bodies()) | set(epoch.bodies(STATE))) - {bad}
    assert bench.pump.position(epoch.id, AUDIT) == 41
    # Whoever lacks it does not make it end connections again.
    since = len(bench.sent)
    bench.pump.want([(epoch.id, "audit", 20, 22)])
    bench.run(10)
    assert bench.events(since) == [epoch.bodies()[19], epoch.bodies()[21]]
    # And batches travel again.
    for _ in range(30):
        epoch.add(AUDIT)
    bench.pump.wake()
    since = len(bench.sent)
    bench.run(10)
    assert any(send.batch for send in bench.sent[since:])


def test_connections_that_carry_nothing_at_all_blame_no_event():
    """The line is bad, or presence is what the broker hangs up over: the probe never came back."""
    epoch = epoch_of(audit=40)
    bench = Bench(epoch)
    for _ in range(50):
        bench.pump.connected(20, ROOM)
        for _ in range(10):
            bench.step()
        bench.unanswered.clear()
    assert bench.aside == []
    bench.pump.connected(20, ROOM)
    bench.pump.proven()
    bench.run(100)
    assert set(bench.events()) == set(epoch.bodies())
