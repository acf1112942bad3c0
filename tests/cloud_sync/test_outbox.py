"""What an issuer knows of a command, and when the same bytes go out again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.outbox import (
    ANSWER_S,
    ASK_S,
    AWAY_S,
    FINAL,
    FIRST_PAUSE_S,
    HEARD,
    LONGEST_PAUSE_S,
    MAX_STALE,
    OUTCOME_S,
    TRANSITIONS,
    Input,
    Schedule,
    State,
    after,
    entry_of,
)
from edge.command import sign_command
from edge.result import Status
from tests.cloud_sync.outbox_rig import AUDIENCE, DAY, HUB, NODE, actuation, booking, claims, presence

WORDS = [HEARD[status] for status in Status]


def test_the_table_has_an_answer_to_everything_a_broker_can_bring() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Input))
    assert set(HEARD) == set(Status)


@pytest.mark.parametrize("end", [Input.DONE, Input.FAILED])
@settings(max_examples=30)
@given(noise=st.lists(st.sampled_from(Input), max_size=6))
def test_the_nodes_own_outcome_is_reached_from_anywhere_and_never_left(end: Input, noise: list[Input]) -> None:
    for begun in set(State) - {State.DONE, State.FAILED}:
        state = after(begun, end)
        for each in noise:
            state = after(state, each)
        assert state.value == end.value


@given(order=st.permutations([Input.SENT, Input.ACCEPTED, Input.ACCEPTED, Input.DONE, Input.DONE, Input.SENT]))
def test_however_a_broker_reorders_and_doubles_the_words_of_one_command_the_end_is_the_same(order: list[Input]) -> None:
    state = State.SIGNED
    for each in order:
        state = after(state, each)
    assert state is State.DONE


def test_what_was_accepted_and_is_denied_or_never_ends_is_unknown_and_not_undone() -> None:
    """A node whose database was rebuilt refuses the nonce of a door that it may have opened."""
    assert after(State.ACCEPTED, Input.REJECTED) is State.UNKNOWN
    assert after(State.ACCEPTED, Input.EXPIRED) is State.UNKNOWN
    assert after(State.SENT, Input.REJECTED) is State.REJECTED
    assert after(State.SENT, Input.EXPIRED) is State.EXPIRED


def test_a_refusal_for_missing_rights_gives_way_to_what_a_second_copy_brought_about() -> None:
    """The node keeps no such refusal, so a copy that the broker delivers later may be taken."""
    assert after(State.REJECTED, Input.ACCEPTED) is State.ACCEPTED
    assert after(State.REJECTED, Input.SENT) is State.REJECTED


@given(st.lists(st.sampled_from([Input.SENT, Input.EXPIRED]), max_size=8))
def test_no_outcome_comes_from_anywhere_but_the_node(steps: list[Input]) -> None:
    state = State.SIGNED
    for each in steps:
        state = after(state, each)
    assert state in {State.SIGNED, State.SENT, State.EXPIRED}


def test_an_entry_says_what_the_signed_bytes_say() -> None:
    said = claims("expect", "booking-9", rev=4)
    token = sign_command(said, HUB)
    entry = entry_of(said, token)
    assert (entry.node, entry.audience, entry.instance) == (NODE, AUDIENCE, AUDIENCE.split("/")[1])
    assert (entry.rev, entry.until, entry.token) == (4, said.iat + 30 * DAY, token)
    assert actuation().until == pytest.approx(actuation().made + ASK_S, abs=2)


# When.


def schedule(draw: float = 0.5) -> Schedule:
    return Schedule(lambda: draw)


def due(plan: Schedule, mono: float) -> list[str]:
    return [entry.jti for entry in plan.due(mono)]


def publish(plan: Schedule, mono: float) -> list[str]:
    found = due(plan, mono)
    for jti in found:
        plan.published(jti, mono)
        plan.taken(jti, mono)
    return found


def test_a_command_goes_out_at_once_and_once_to_a_node_that_is_not_there() -> None:
    """Every copy would wait in the node's queue at the broker, where there is room for a thousand messages of all."""
    plan, entry = schedule(), booking()
    plan.add(entry, State.SIGNED, 0.0)
    assert publish(plan, 0.0) == [entry.jti]
    assert publish(plan, AWAY_S - 1) == []
    assert publish(plan, AWAY_S) == [entry.jti]
    another_life = schedule()
    another_life.add(entry, State.SENT, 0.0)
    assert publish(another_life, AWAY_S - 1) == []
    assert publish(another_life, AWAY_S) == [entry.jti]


def test_it_goes_out_again_when_the_node_comes_back_by_another_connection_or_run() -> None:
    plan, entry = schedule(), booking()
    plan.add(entry, State.SIGNED, 0.0)
    publish(plan, 0.0)
    for at, seen in enumerate((presence(1), presence(2), presence(2, session="s2")), start=1):
        assert plan.heard(NODE, seen, float(at))
        assert publish(plan, float(at)) == [entry.jti]
    assert not plan.heard(NODE, presence(2, session="s2"), 4.0), "the hourly copy of the same presence"
    assert not plan.heard(NODE, presence(1), 4.0), "the late presence of a connection that is over"
    assert publish(plan, 4.0) == []


def test_the_will_of_a_node_that_returns_is_followed_by_its_new_connection() -> None:
    plan, entry = schedule(), booking()
    plan.heard(NODE, presence(3), 0.0)
    plan.add(entry, State.SIGNED, 0.0)
    publish(plan, 0.0)
    plan.heard(NODE, presence(3, online=False), 1.0)
    assert publish(plan, 10.0) == []
    assert plan.heard(NODE, presence(3), 11.0), "the will was of a connection that the broker had taken for dead"
    assert publish(plan, 11.0) == [entry.jti]


def test_a_node_that_is_there_and_silent_is_asked_with_ever_longer_pauses() -> None:
    plan, entry = schedule(draw=0.999_999), booking()
    plan.heard(NODE, presence(), 0.0)
    plan.add(entry, State.SIGNED, 0.0)
    now, pauses = 0.0, []
    for _ in range(10):
        assert publish(plan, now) == [entry.jti]
        again = plan.next_due()
        assert again is not None
        assert publish(plan, again - 0.001) == []
        pauses.append(again - now)
        now = again
    assert pauses[0] == pytest.approx(ANSWER_S + FIRST_PAUSE_S, rel=1e-3)
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] == pytest.approx(ANSWER_S + LONGEST_PAUSE_S, rel=1e-3)


def test_what_is_accepted_has_time_to_end_and_is_then_asked_for() -> None:
    plan, entry = schedule(draw=0.0), actuation()
    plan.heard(NODE, presence(), 0.0)
    plan.add(entry, State.SIGNED, 0.0)
    publish(plan, 0.0)
    plan.accepted(entry.jti, 1.0)
    assert publish(plan, 1.0 + OUTCOME_S - 0.1) == []
    assert publish(plan, 1.0 + OUTCOME_S) == [entry.jti]


def test_a_lower_revision_goes_first_and_the_next_only_after_its_last_word() -> None:
    """After the higher one the node would refuse the lower: superseded."""
    plan = schedule()
    second, first, other = booking(rev=2), booking(rev=1), booking("booking-2")
    for entry in (second, first, other):
        plan.add(entry, State.SIGNED, 0.0)
    assert sorted(publish(plan, 0.0)) == sorted([first.jti, other.jti])
    plan.heard(NODE, presence(), 1.0)
    assert second.jti not in publish(plan, 1.0)
    plan.remove(first.jti, 2.0)
    assert publish(plan, 2.0) == [second.jti]


def test_a_new_connection_to_the_broker_sends_what_no_broker_has_and_waits_for_presence_with_the_rest() -> None:
    plan, sent, fresh = schedule(), booking("booking-1"), booking("booking-2")
    plan.add(sent, State.SIGNED, 0.0)
    plan.heard(NODE, presence(), 0.0)
    publish(plan, 0.0)
    plan.add(fresh, State.SIGNED, 1.0)
    plan.connected(2.0)
    assert plan.presence(NODE) is None
    assert publish(plan, 2.0) == [fresh.jti]
    # The broker may be another one, with nothing kept: the same presence as before counts as news.
    assert plan.heard(NODE, presence(), 3.0)
    assert sorted(publish(plan, 3.0)) == sorted([sent.jti, fresh.jti])


def test_nobody_asks_for_ever() -> None:
    plan, entry = schedule(), booking()
    plan.add(entry, State.SENT, 0.0)
    assert plan.over(entry.until - 1) == []
    assert plan.over(entry.until) == [entry.jti]


def test_a_node_that_flaps_for_a_day_fills_no_memory() -> None:
    plan = schedule()
    plan.heard(NODE, presence(1), 0.0)
    for number in range(20):
        plan.add(booking(f"booking-{number}"), State.SENT, 0.0)
    for link in range(2, 2000):
        plan.heard(NODE, presence(link), float(link))
    assert len(plan._heap) <= MAX_STALE * 20 + MAX_STALE
    assert len(publish(plan, 2000.0)) == 20


def test_what_is_final_is_nowhere_in_the_schedule() -> None:
    plan, entry = schedule(), booking()
    plan.add(entry, State.SIGNED, 0.0)
    plan.remove(entry.jti, 0.0)
    plan.heard(NODE, presence(), 0.0)
    assert (due(plan, AWAY_S), len(plan), entry.jti in plan) == ([], 0, False)
    assert {State.DONE, State.FAILED, State.REJECTED, State.UNKNOWN, State.EXPIRED} == FINAL
