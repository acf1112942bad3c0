"""The link's table, presence and wants: small rules with large consequences."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from cloud_sync.collector import order_of_epochs
from cloud_sync.presence import Presence, decode, encode, supersedes
from cloud_sync.session import TRANSITIONS, LinkInput, LinkState, after
from cloud_sync.wants import WANT_AGAIN, Wants
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


def test_a_gap_is_asked_for_once_it_lasts_and_again_after_a_while():
    wants = Wants()
    gap = ("e", "audit", 3, 4)
    assert wants.due("s", [gap], 0.0) == []
    assert wants.due("s", [gap], 1.0) == [gap]
    assert wants.due("s", [gap], 2.0) == []
    assert wants.due("s", [gap], 1.0 + WANT_AGAIN) == [gap]
    assert wants.open() == {"s"}
    assert wants.due("s", [], 20.0) == []
    assert wants.open() == set()
