"""What the journal told to be kept is not lost, changed, repeated or believed too early, whatever happens between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from edge.event import EventClass
from tests.conservation.machine import WholeWay
from tests.conservation.model import Holdings

RUN = settings(
    max_examples=30,
    stateful_step_count=25,
    database=None,
    # Without shrinking: a failing run waits long for what does not come, and hundreds of them would never end.
    phases=(Phase.generate,),
)
"""Some 12 s on a quiet machine."""
LOADED = 110
"""Seconds; below the limit at which pytest gives up the whole process."""
AUDIT, STATE, TELEMETRY = EventClass


def run(number: int) -> None:
    """One fixed set of 30 runs; another ``number`` is another set."""

    class Numbered(WholeWay):
        """Carries the number; ``seed`` writes it into what it is given."""

    with capture_logs():
        run_state_machine_as_test(seed(number)(Numbered), settings=RUN)


@pytest.mark.timeout(LOADED)
@pytest.mark.parametrize("number", [1, 2])
def test_every_event_is_held_or_its_loss_is_told(number):
    run(number)


@pytest.mark.long
@pytest.mark.parametrize("number", range(3, 23))
def test_every_event_is_held_or_its_loss_is_told_in_many_more_runs(number):
    run(number)


@pytest.fixture
def way() -> Iterator[WholeWay]:
    """A running whole; at the end it is healed, and everything has to be held."""
    way = WholeWay()
    way.begin()
    yield way
    way.teardown()


def test_a_consumer_that_lost_what_it_had_signed_for_knows_its_loss_and_goes_on(way):
    """The node has deleted those rows; told so, the consumer does not wait for them for ever."""
    cloud = way.consumers["cloud"]
    way.copy_a_consumer("cloud")
    way.append([(TELEMETRY, "1")] * 3)
    way.let_time_pass(40.0)
    way.put_an_older_copy_of_a_consumer_back("cloud")
    way.append([(TELEMETRY, "1"), (AUDIT, "1")])
    way.let_time_pass(40.0)
    held = Holdings(cloud)
    assert [seq for (_, name), seq in held.rows if name == "telemetry"] == [4]
    assert cloud.rows("SELECT first, last, count, reason FROM dropped") == [(1, 3, 3, "acknowledged")]


def test_audit_that_a_consumer_lost_is_fetched_again_also_of_an_epoch_that_is_over(way):
    way.copy_a_consumer("cloud")
    way.append([(AUDIT, "1")] * 3)
    way.let_time_pass(12.0)
    way.copy_node()
    way.append([(AUDIT, "1")])
    way.put_an_older_copy_of_the_node_back()
    way.let_time_pass(12.0)
    before = Holdings(way.consumers["cloud"]).cursors
    way.put_an_older_copy_of_a_consumer_back("cloud")
    way.append([(AUDIT, "1")])
    way.let_time_pass(40.0)
    first, second = sorted(epoch for epoch, name in before if name == "audit")
    held = Holdings(way.consumers["cloud"]).cursors
    assert held[first, "audit"] >= 5
    assert held[second, "audit"] > before[second, "audit"]


def test_an_epoch_that_an_ack_called_forth_is_carried_at_once(way):
    """The node takes an ack that does not fit for a sign that its file went back; cloud-sync hears of it there."""
    way.kill_agent([(AUDIT, "1")], 0)
    way.let_time_pass(3.0)
    before = way.agent.journal.head.epoch
    way.sign_for_another_history("cloud")
    way.let_time_pass(12.0)
    after = way.agent.journal.head.epoch
    assert after != before
    assert Holdings(way.consumers["cloud"]).cursors[after, "audit"] > 0


def test_an_epoch_of_which_cloud_sync_did_not_hear_is_carried_too(way):
    """The broker goes in the moment between the role agent's answer and its arrival."""
    way.kill_agent([(AUDIT, "1")], 0)
    way.sign_for_another_history("cloud")
    way.kill_agent([], 0)
    way.cut_the_broker(forget=False)
    way.let_time_pass(3.0)
    way.restore_the_broker()
    way.let_time_pass(12.0)
    epoch = way.agent.journal.head.epoch
    assert Holdings(way.consumers["cloud"]).cursors[epoch, "audit"] > 0
