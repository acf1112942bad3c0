"""A parcel's life: the usual way, the ways round it, and that nothing else is possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TransitionError
from locker.parcel import FIRST, PRESENT, TRANSITIONS, ParcelInput, ParcelState, move


def live(*inputs: ParcelInput) -> ParcelState:
    state = FIRST
    for each in inputs:
        state = move(state, each)
    return state


def test_a_parcel_is_deposited_and_collected():
    story = (ParcelInput.DEPOSITED, ParcelInput.RELEASE, ParcelInput.OPENED, ParcelInput.CLOSED)
    assert live(*story) is ParcelState.COLLECTED


def test_a_jam_gives_the_parcel_back_to_its_code():
    assert live(ParcelInput.DEPOSITED, ParcelInput.RELEASE, ParcelInput.NOT_MOVED) is ParcelState.STORED


def test_after_an_unknown_outcome_it_can_be_released_again_but_is_not_the_same_as_stored():
    doubted = live(ParcelInput.DEPOSITED, ParcelInput.RELEASE, ParcelInput.IN_DOUBT)
    assert doubted is ParcelState.UNCONFIRMED
    assert move(doubted, ParcelInput.RELEASE) is ParcelState.RELEASING


@pytest.mark.parametrize("given_up", [ParcelInput.NOT_MOVED, ParcelInput.IN_DOUBT])
def test_a_door_that_opens_after_the_attempt_was_given_up_still_uses_the_code(given_up):
    assert live(ParcelInput.DEPOSITED, ParcelInput.RELEASE, given_up, ParcelInput.OPENED) is ParcelState.RELEASED


def test_a_courier_may_look_again_and_take_the_parcel_along():
    assert live(ParcelInput.DEPOSITED, ParcelInput.DEPOSIT, ParcelInput.WITHDRAWN) is ParcelState.WITHDRAWN


def test_a_booking_whose_first_door_jammed_gets_another_try():
    assert live(ParcelInput.WITHDRAWN, ParcelInput.DEPOSIT, ParcelInput.DEPOSITED) is ParcelState.STORED


@pytest.mark.parametrize("state", [ParcelState.RELEASING, ParcelState.RELEASED, ParcelState.COLLECTED])
def test_a_parcel_is_released_once_at_a_time_and_never_after_it_was_handed_over(state):
    with pytest.raises(TransitionError, match=state.value):
        move(state, ParcelInput.RELEASE)


@given(st.lists(st.sampled_from(ParcelInput), max_size=12))
def test_whatever_happens_only_an_opening_leads_to_collected(inputs):
    state, opened = FIRST, False
    for each in inputs:
        if (state, each) not in TRANSITIONS:
            with pytest.raises(TransitionError):
                move(state, each)
            continue
        state = move(state, each)
        opened = opened or each is ParcelInput.OPENED
        assert opened or state is not ParcelState.COLLECTED
        assert not opened or state not in {ParcelState.STORED, ParcelState.RELEASING}
        assert (each is ParcelInput.CLEARED) == (state is ParcelState.REMOVED)


def test_every_state_can_be_reached_and_only_present_parcels_can_be_lost():
    reached = {FIRST, *TRANSITIONS.values()}
    assert reached == set(ParcelState)
    assert set(ParcelState) - PRESENT == {
        *(ParcelState.COLLECTED, ParcelState.WITHDRAWN, ParcelState.TAKEN_BACK, ParcelState.REMOVED)
    }
