"""The link's table, presence and wants: small rules with large consequences."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from cloud_sync.collector import order_of_epochs
from cloud_sync.presence import Presence, decode, encode, supersedes
from cloud_sync.session import TRANSITIONS, LinkInput, LinkState, after
from cloud_sync.wants import LONGEST_PAUSE, MAX_WANTED, SETTLE_FOR, WANT_AGAIN, Gap, Place, Planned, plan
from edge.errors import ProtocolError, TransitionError

AT = datetime.fromtimestamp(0, UTC)


def presence(link: int, epoch: str = "b", *, online: bool = True) -> Presence:
    return Presence(online, online, link, "s", epoch, "locker", "0.1.0", AT)


def test_what_the_table_does_not_have_cannot_happen():
    for state in LinkState:
        for happened in LinkInput:
            if (state, happened) not in TRANSITIONS:
                with pytest.raises(TransitionError):
                    after(state, happened)


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS.values()) == set(LinkState)
    assert {state for state, _ in TRANSITIONS} == set(LinkState)


def test_a_loss_is_possible_wherever_there_is_a_connection():
    for state in (LinkState.CONNECTING, LinkState.PROBING, LinkState.ONLINE, LinkState.LIMITED):
        assert after(state, LinkInput.LOST) is LinkState.BACKING_OFF


def test_the_will_of_a_connection_that_was_taken_over_puts_nobody_offline():
    assert supersedes(presence(8), presence(7))
    assert not supersedes(presence(7, online=False), presence(8))
    assert supersedes(presence(8, online=False), presence(8))


def test_between_epochs_the_proven_order_counts_and_not_the_link():
    before = order_of_epochs({"c": "b", "b": "a"}, "c")
    assert before == {"a", "b"}
    assert not supersedes(presence(900, "a", online=False), presence(1, "c"), before=before)
    assert supersedes(presence(1, "d"), presence(900, "c"), before=before)


def test_epochs_that_name_each_other_do_not_loop():
    assert order_of_epochs({"a": "b", "b": "a"}, "a") == {"a", "b"}


def test_presence_is_what_it_was():
    assert decode(encode(presence(3))) == presence(3)
    assert set(msgspec.json.decode(encode(presence(3)))) == {
        *("online", "serving", "link", "session", "epoch", "role", "version", "at")
    }
    for payload in (b"", b"[]", b'{"online":1}', b"x" * 5000):
        with pytest.raises(ProtocolError):
            decode(payload)


GAP: Gap = ("e", "audit", 3, 4)


def asked_at(missing: list[Gap], times: list[float]) -> list[float]:
    """When the node is asked, of the ``times`` at which somebody looks."""
    planned: dict[Place, Planned] = {}
    asked: list[float] = []
    for now in times:
        planned, due = plan(planned, missing, now)
        asked += [now] * len(due)
    return asked


def test_a_gap_is_asked_for_once_it_lasts_and_again_ever_more_rarely():
    first = SETTLE_FOR
    assert asked_at([GAP], [0, first, 2, first + WANT_AGAIN, 30, first + 3 * WANT_AGAIN]) == [
        *(first, first + WANT_AGAIN, first + 3 * WANT_AGAIN)
    ]
    every_second = asked_at([GAP], [float(second) for second in range(20_000)])
    assert every_second[-1] - every_second[-2] == LONGEST_PAUSE


def test_a_gap_that_is_filled_leaves_the_plan_and_one_that_grows_keeps_its_time():
    planned, _ = plan({}, [GAP], 0.0)
    grown, due = plan(planned, [("e", "audit", 3, 9)], 0.5)
    assert (grown["e", "audit", 3].last, due) == (9, [])
    assert plan(grown, [], 1.0) == ({}, [])


def test_a_wall_clock_that_was_put_back_keeps_no_gap_waiting():
    planned, _ = plan({}, [GAP], 1e9)
    _, due = plan(planned, [GAP], 1000.0)
    assert due == [GAP]


def test_one_ack_asks_for_no_more_than_it_may():
    many: list[Gap] = [("e", "audit", 10 * n + 1, 10 * n + 2) for n in range(3 * MAX_WANTED)]
    planned, _ = plan({}, many, 0.0)
    assert len(plan(planned, many, 2.0)[1]) == MAX_WANTED
