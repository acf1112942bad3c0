"""The count itself: each broken promise is seen as one, and every kill falls into its window."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.history import (
    ACCEPTED,
    AT_REST,
    BEFORE_COMMIT,
    COMMIT_TO_PULSE,
    JAMMED,
    OPENED,
    OUTCOME_TO_ACK,
    PULSE_TO_OUTCOME,
    REQUESTED,
    UNKNOWN,
    UNSENT,
    Call,
    History,
)

Told = list[dict[str, Any]]


class Scene:
    """One locker with one parcel behind door 01; the first life begins at 0 s, the second at 10 s."""

    def __init__(self) -> None:
        self.witness: Told = []
        self.journal: Told = []
        self.calls: list[Call] = []

    def saw(self, what: str, at: float) -> Scene:
        self.witness.append({"what": what, "t": at, "board": 0, "lock": 0})
        return self

    def told(self, kind: str, at: float, attempt: str = "a", **more: Any) -> Scene:
        data = {"door": "01", "attempt": attempt, "parcel": "p", "session": f"s-{attempt}", "cause": "code", **more}
        seq = len(self.journal) + 1
        event = {"type": kind, "mono": f"{at:.3f}", "session": f"life-{int(at // 10)}", "seq": seq, "data": data}
        self.journal.append(event)
        return self

    def accepted(self, at: float, attempt: str = "a", *, confirmed: bool = False, answered: bool = True) -> Scene:
        call = Call("collect", "p", confirmed, *((202, {"session": f"s-{attempt}"}) if answered else ()))
        self.calls.append(call)
        self.told(ACCEPTED, at, attempt, confirmed=confirmed)
        return self.told(REQUESTED, at, attempt, pulse=1)

    def history(self) -> History:
        return History(self.witness, self.journal, [0.0, 10.0], self.calls)


def collected() -> Scene:
    return Scene().accepted(1.0).saw("frame", 1.01).saw("opened", 1.03).told(OPENED, 1.1)


def doubted() -> Scene:
    return Scene().accepted(1.0).saw("frame", 1.01).told(UNKNOWN, 12.0)


def late() -> Scene:
    """The attempt had been given up when the door was seen open."""
    return doubted().saw("opened", 12.1).told(OPENED, 12.2, "", session="s-a")


def test_a_late_opening_uses_the_code_and_is_without_fault() -> None:
    assert late().history().faults() == []
    assert late().history().used() == {"p"}


def test_an_undisturbed_pickup_is_without_fault() -> None:
    assert collected().history().faults() == []


def test_a_confirmed_second_attempt_after_a_doubt_is_without_fault() -> None:
    scene = doubted().accepted(13.0, "b", confirmed=True).saw("frame", 13.01).saw("opened", 13.03)
    assert scene.told(OPENED, 13.1, "b").history().faults() == []


def test_a_frame_after_an_attempt_was_given_up_unsent_is_that_of_the_next() -> None:
    scene = Scene().accepted(1.0).told(UNSENT, 1.2).accepted(2.0, "b")
    assert scene.saw("frame", 2.01).saw("opened", 2.03).told(OPENED, 2.1, "b").history().faults() == []


def test_a_call_that_was_cut_off_may_have_been_accepted() -> None:
    scene = Scene().accepted(1.0, answered=False).told(UNKNOWN, 12.0)
    assert scene.history().faults() == []


@pytest.mark.parametrize(
    ("scene", "fault"),
    [
        (collected().saw("frame", 12.0), "no commit announced it"),
        (Scene().saw("frame", 0.9).accepted(1.0).told(OPENED, 1.1), "no commit announced it"),
        (Scene().accepted(1.0).saw("frame", 12.0).told(UNKNOWN, 13.0), "no commit announced it"),
        (Scene().saw("opened", 1.0), "nobody had asked"),
        (collected().told(REQUESTED, 1.2, pulse=2).saw("frame", 1.3), "after it had opened the door"),
        (doubted().told(REQUESTED, 13.0, pulse=2), "pulsed again after a crash"),
        (Scene().accepted(1.0).told(REQUESTED, 1.1, pulse=4).told(UNKNOWN, 2.0), "numbered [1, 4]"),
        (Scene().accepted(1.0).saw("frame", 1.01), "it has 0 outcomes"),
        (collected().told(UNKNOWN, 2.0), "it has 2 outcomes"),
        (Scene().accepted(1.0).saw("frame", 1.01).saw("opened", 1.03).told(JAMMED, 2.0), "told as locker.door.jammed"),
        (Scene().accepted(1.0).saw("frame", 1.01).told(JAMMED, 2.0), "jammed after 1 pulses"),
        (Scene().accepted(1.0).saw("frame", 1.01).told(UNSENT, 2.0), "a frame was on the wire"),
        (Scene().accepted(1.0).told(UNSENT, 1.2).saw("frame", 2.0), "no commit announced it"),
        (Scene().accepted(1.0).saw("frame", 1.01).told(OPENED, 2.0), "did not open"),
        (collected().saw("opened", 1.5), "opened the door 2 times"),
        (collected().told(OPENED, 5.0, ""), "was told open 2 times and opened 1 times"),
        (late().accepted(13.0, "b").told(UNKNOWN, 15.0, "b"), "accepted after its door had been seen open"),
        (collected().accepted(2.0, "b").told(UNKNOWN, 5.0, "b"), "accepted after its door had been seen open"),
        (doubted().accepted(13.0, "b").told(UNKNOWN, 15.0, "b"), "accepted unconfirmed"),
        (Scene().told(JAMMED, 1.0, "x"), "was never announced"),
        (collected().saw("double_coil", 5.0), "double_coil at lock 0"),
    ],
)
def test_a_broken_promise_is_seen(scene: Scene, fault: str) -> None:
    assert any(fault in found for found in scene.history().faults()), scene.history().faults()


def test_an_answer_that_was_not_kept_is_seen() -> None:
    scene = collected()
    scene.calls.append(Call("collect", "q", status=202, answer={"session": "lost"}))
    assert scene.history().faults() == ["collect of q was answered and is not in the journal"]


def test_a_release_that_nobody_asked_for_is_seen() -> None:
    scene = collected()
    scene.calls.clear()
    assert scene.history().faults() == ["collect of p stands in the journal and nobody had asked for it"]


@pytest.mark.parametrize(
    ("scene", "before", "window"),
    [
        (Scene(), 0, BEFORE_COMMIT),
        (collected(), 1, BEFORE_COMMIT),
        (Scene().accepted(1.0), 0, COMMIT_TO_PULSE),
        (Scene().accepted(1.0).saw("frame", 1.01).told(REQUESTED, 1.5, pulse=2), 0, COMMIT_TO_PULSE),
        (Scene().accepted(1.0).saw("frame", 1.01).saw("opened", 1.03), 0, PULSE_TO_OUTCOME),
        (collected(), 0, OUTCOME_TO_ACK),
    ],
)
def test_a_kill_falls_into_its_window(scene: Scene, before: int, window: str) -> None:
    assert scene.history().window(asked=True, requests_before=before, acknowledged=0) == window


def test_a_kill_after_the_last_ack_hits_a_locker_at_rest() -> None:
    assert collected().history().window(asked=False, requests_before=1, acknowledged=3) == AT_REST
