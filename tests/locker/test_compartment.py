"""Which compartment a parcel gets, and which is never offered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TransitionError
from locker.compartment import (
    TRANSITIONS,
    Candidate,
    Compartment,
    CompartmentInput,
    LedgerState,
    Size,
    choose,
    move,
)
from locker.latch import Hook, Latch, Reading

EMPTY = Reading(Hook.CLOSED, item=False)


def candidate(
    door: str,
    size: Size = Size.M,
    height_mm: int = 1500,
    ledger: LedgerState = LedgerState.FREE,
    reading: Reading = EMPTY,
    uses: int = 0,
) -> Candidate:
    return Candidate(Compartment(door, Latch(0, 0), size, height_mm), ledger, reading, uses)


def chosen(candidates: list[Candidate], size: Size = Size.S, *, low: bool = False) -> str | None:
    found = choose(candidates, size, low=low)
    return found.door if found else None


def test_the_smallest_that_fits():
    bank = [candidate("1", Size.L), candidate("2", Size.M), candidate("3", Size.S)]
    assert [chosen(bank, size) for size in Size] == ["3", "2", "1"]


def test_a_larger_one_when_its_own_size_is_full():
    assert chosen([candidate("1", Size.L), candidate("2", Size.S)], Size.M) == "1"


def test_none_when_none_is_large_enough():
    assert chosen([candidate("1", Size.M), candidate("2", Size.S)], Size.L) is None


def test_a_low_door_on_request_even_if_it_is_larger():
    bank = [candidate("1", Size.S, 1600), candidate("2", Size.L, 800)]
    assert chosen(bank, low=True) == "2"
    assert chosen(bank[:1], low=True) is None


def test_low_doors_are_kept_for_who_needs_them_while_another_of_the_size_is_free():
    bank = [candidate("1", Size.S, 800), candidate("2", Size.S, 1600), candidate("3", Size.M, 1600)]
    assert chosen(bank) == "2"
    assert chosen([bank[0], bank[2]]) == "1"


@pytest.mark.parametrize(("height", "low"), [(379, False), (380, True), (1220, True), (1221, False)])
def test_reach_of_a_seated_person(height, low):
    assert candidate("1", height_mm=height).compartment.low is low


def test_wear_is_spread_and_ties_are_settled_by_name():
    bank = [candidate("2", uses=5), candidate("3", uses=4), candidate("1", uses=5)]
    assert chosen(bank) == "3"
    assert chosen([bank[0], bank[2]]) == "1"


@pytest.mark.parametrize("ledger", [state for state in LedgerState if state is not LedgerState.FREE])
def test_what_the_ledger_does_not_call_free_is_not_offered(ledger):
    assert chosen([candidate("1", ledger=ledger)]) is None


@pytest.mark.parametrize(
    "reading",
    [Reading(Hook.OPEN), Reading(Hook.UNKNOWN), Reading(Hook.CLOSED, item=True), Reading(Hook.OPEN, item=False)],
)
def test_what_a_sensor_contradicts_is_not_offered(reading):
    assert chosen([candidate("1", reading=reading)]) is None


def test_a_compartment_without_an_item_sensor_is_offered_on_hook_and_ledger():
    assert chosen([candidate("1", reading=Reading(Hook.CLOSED))]) == "1"


candidates = st.builds(
    candidate,
    st.text("0123456789", min_size=1, max_size=3),
    st.sampled_from(Size),
    st.integers(200, 2000),
    st.sampled_from(LedgerState),
    st.builds(Reading, st.sampled_from(Hook), st.sampled_from([None, True, False])),
    st.integers(0, 3),
)


@given(st.lists(candidates, max_size=12), st.sampled_from(Size), st.booleans())
def test_whatever_the_bank_looks_like_the_choice_is_free_fits_and_does_not_depend_on_order(bank, size, low):
    found = choose(bank, size, low=low)
    fitting = [each for each in bank if each.free and each.compartment.size.fits(size)]
    if low:
        fitting = [each for each in fitting if each.compartment.low]
    if found is None:
        assert not fitting
    else:
        assert found in [each.compartment for each in fitting]
        again = choose(list(reversed(bank)), size, low=low)
        assert again is not None
        assert (again.door, again.size) == (found.door, found.size)


def test_a_blocked_or_doubtful_compartment_becomes_free_only_when_somebody_has_looked():
    looked = {CompartmentInput.SEEN_EMPTY, CompartmentInput.SEEN_FULL}
    doubtful = {LedgerState.BLOCKED, LedgerState.UNKNOWN}
    for (state, happened), following in TRANSITIONS.items():
        if state in doubtful and following not in doubtful:
            assert happened in looked


def test_an_occupied_compartment_is_not_taken_twice():
    with pytest.raises(TransitionError, match="occupied"):
        move(move(LedgerState.FREE, CompartmentInput.TAKE), CompartmentInput.TAKE)
