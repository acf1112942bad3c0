"""One door through its days: opened, jammed, left open, forced, silent, and never believed further than it was seen."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TransitionError
from locker.contract import DoorState, Doubt
from locker.door import TRANSITIONS, Done, DoorInput, DoorWatch, Happening, Outcome, Pulse, Wait, move
from locker.latch import Hook

POLL = 0.125
"""Seconds between readings; a power of two, so that sums of it are exact."""

CLOSED, OPEN, UNKNOWN = Hook.CLOSED, Hook.OPEN, Hook.UNKNOWN


class Street:
    """A door and its poller. ``sensor(seconds since the attempt began, pulses so far)`` is what its sensor reads."""

    def __init__(self, watch: DoorWatch | None = None) -> None:
        self.watch = watch or DoorWatch()
        self.mono = 100.0
        self.pulses: list[float] = []
        self.happened: list[Happening] = []

    def read(self, hook: Hook, seconds: float = POLL) -> list[Happening]:
        """Poll ``hook`` for so long; returns what was told in that time."""
        told: list[Happening] = []
        for _ in range(max(1, round(seconds / POLL))):
            self.mono += POLL
            told += self.watch.observe(hook, self.mono)
        self.happened += told
        return told

    def open(self, sensor: Callable[[float, int], Hook]) -> Done:
        """An attempt, driven as the service drives it."""
        self.watch.begin(self.mono)
        return self.follow(sensor)

    def follow(self, sensor: Callable[[float, int], Hook]) -> Done:
        begun = self.mono
        while True:
            step = self.watch.next_step(self.mono)
            if isinstance(step, Done):
                return step
            if isinstance(step, Pulse):
                assert step.number == len(self.pulses) + 1
                self.pulses.append(self.mono)
                self.watch.pulsed(self.mono)
            else:
                assert step.until > self.mono
            self.read(sensor(self.mono + POLL - begun, len(self.pulses)))


@pytest.fixture
def street() -> Street:
    """A street whose door has been seen closed."""
    street = Street()
    street.read(CLOSED, 0.5)
    street.happened.clear()
    return street


def test_a_door_is_unknown_until_a_reading_has_been_repeated():
    watch = DoorWatch()
    assert watch.observe(CLOSED, 1.0) == []
    assert watch.observe(CLOSED, 1.04) == []
    assert watch.state is DoorState.UNKNOWN
    assert watch.observe(CLOSED, 1.06) == [Happening.FOUND_CLOSED]
    assert watch.hook is CLOSED


def test_a_door_that_springs_open_needs_one_pulse(street):
    assert street.open(lambda t, n: OPEN if t > 0.3 else CLOSED) == Done(Outcome.OPENED)
    assert len(street.pulses) == 1
    assert street.happened == [Happening.OPENED]
    assert street.watch.state is DoorState.OPEN
    assert street.read(CLOSED, 0.2) == [Happening.CLOSED]


def test_a_stuck_door_gets_three_pulses_two_seconds_apart_and_is_jammed(street):
    begun = street.mono
    assert street.open(lambda t, n: CLOSED) == Done(Outcome.JAMMED)
    assert [at - begun for at in street.pulses] == [0.0, 2.0, 4.0]
    assert street.mono - begun == 5.5
    assert street.watch.state is DoorState.JAMMED
    assert street.happened == []


def test_a_door_that_only_the_second_pulse_frees_gets_no_third(street):
    assert street.open(lambda t, n: OPEN if n == 2 else CLOSED) == Done(Outcome.OPENED)
    assert len(street.pulses) == 2


@pytest.mark.parametrize(("reading", "doubt"), [(UNKNOWN, Doubt.NO_ANSWER), (OPEN, Doubt.UNSTEADY)])
def test_one_reading_that_is_not_closed_forbids_another_pulse(street, reading, doubt):
    done = street.open(lambda t, n: reading if t == 0.5 else CLOSED)
    assert done == Done(Outcome.UNKNOWN, doubt)
    assert len(street.pulses) == 1


def test_no_pulse_follows_when_readings_stay_away(street):
    street.watch.begin(street.mono)
    street.watch.pulsed(street.mono)
    assert street.watch.next_step(street.mono + 1.9) == Wait(street.mono + 2.0)
    assert street.watch.next_step(street.mono + 2.0) == Done(Outcome.UNKNOWN, Doubt.NO_ANSWER)


def test_readings_from_before_the_wait_was_over_do_not_allow_another_pulse(street):
    street.watch.begin(street.mono)
    street.watch.pulsed(street.mono)
    street.read(CLOSED, 1.0)
    assert isinstance(street.watch.next_step(street.mono + 1.5), Done)


def test_an_opening_during_a_silence_right_after_the_pulse_is_seen(street):
    assert street.open(lambda t, n: UNKNOWN if t < 1.0 else OPEN) == Done(Outcome.OPENED)


def test_an_opening_whose_first_reading_comes_late_is_still_confirmed(street):
    assert street.open(lambda t, n: CLOSED if t < 1.55 else OPEN) == Done(Outcome.OPENED)


def test_an_opening_found_when_a_long_silence_ends_is_ours_if_the_silence_began_with_our_pulse(street):
    assert street.open(lambda t, n: UNKNOWN).outcome is Outcome.UNKNOWN
    street.read(UNKNOWN, 60.0)
    assert street.read(OPEN, 0.3) == [Happening.OPENED]


def test_a_pulse_into_a_silence_makes_no_proof_and_no_alarm(street):
    street.read(UNKNOWN, 60.0)
    street.open(lambda t, n: UNKNOWN)
    assert street.read(OPEN, 0.3) == [Happening.FOUND_OPEN]


def test_one_opening_is_told_once_even_if_the_board_falls_silent_meanwhile(street):
    street.open(lambda t, n: OPEN)
    assert street.read(UNKNOWN, 0.5) == [Happening.SILENT]
    assert street.read(OPEN, 0.5) == [Happening.FOUND_OPEN]


def test_the_time_that_a_commit_takes_between_reading_and_pulse_is_no_gap(street):
    street.mono += 0.5
    assert street.open(lambda t, n: OPEN) == Done(Outcome.OPENED)


def test_a_sensor_stuck_at_open_gets_its_one_pulse_and_no_opening_is_claimed():
    street = Street()
    street.read(OPEN, 0.5)
    street.happened.clear()
    assert street.open(lambda t, n: OPEN) == Done(Outcome.UNKNOWN, Doubt.ALREADY_OPEN)
    assert len(street.pulses) == 1
    assert Happening.OPENED not in street.happened + street.read(OPEN, 1.0)


def test_a_door_that_stood_open_counts_as_opened_only_after_it_closed_and_opened():
    street = Street()
    street.read(OPEN, 0.5)
    assert street.open(lambda t, n: CLOSED if 0.3 < t < 0.7 else OPEN) == Done(Outcome.OPENED)


def test_a_silent_board_gets_its_one_pulse_and_the_outcome_is_unknown():
    street = Street()
    assert street.open(lambda t, n: UNKNOWN) == Done(Outcome.UNKNOWN, Doubt.NO_ANSWER)
    assert len(street.pulses) == 1


def test_an_opening_that_may_be_older_than_the_pulse_is_no_proof(street):
    street.read(UNKNOWN, 60.0)
    assert street.open(lambda t, n: OPEN) == Done(Outcome.UNKNOWN, Doubt.NO_ANSWER)
    assert street.read(OPEN, 0.5) == [Happening.FOUND_OPEN]


def test_an_old_reading_says_nothing_about_now(street):
    street.mono += 60.0
    assert street.watch.standing(street.mono) is UNKNOWN
    assert street.open(lambda t, n: OPEN).outcome is Outcome.UNKNOWN


def test_a_door_pulled_open_just_before_the_pulse_is_no_proof(street):
    street.read(OPEN)
    assert street.open(lambda t, n: OPEN).outcome is Outcome.UNKNOWN
    assert Happening.OPENED not in street.happened


def test_a_jammed_door_that_gives_way_later_was_opened_by_us(street):
    street.open(lambda t, n: CLOSED)
    street.read(CLOSED, 2.0)
    assert street.read(OPEN, 0.3) == [Happening.OPENED]


def test_a_jammed_door_that_is_pried_open_much_later_was_forced(street):
    street.open(lambda t, n: CLOSED)
    street.read(CLOSED, 11.0)
    assert street.read(OPEN, 0.3) == [Happening.FORCED]


def test_a_door_that_opens_unasked_is_forced_and_stays_so_until_it_closes(street):
    assert street.read(OPEN, 0.3) == [Happening.FORCED]
    assert street.read(OPEN, 400.0) == []
    assert street.watch.state is DoorState.FORCED
    assert street.read(CLOSED, 0.3) == [Happening.CLOSED]


def test_a_door_pried_open_while_its_cable_was_cut_is_forced_as_soon_as_it_is_seen(street):
    assert street.read(UNKNOWN, 0.3) == [Happening.SILENT]
    street.read(UNKNOWN, 600.0)
    assert street.read(OPEN, 0.3) == [Happening.FORCED]


def test_a_door_found_open_at_start_is_no_alarm():
    street = Street()
    assert street.read(OPEN, 0.3) == [Happening.FOUND_OPEN]
    assert street.watch.state is DoorState.OPEN


def test_bounce_tells_nothing(street):
    for _ in range(20):
        assert street.read(OPEN) == []
        assert street.read(CLOSED) == []


def test_an_open_door_chimes_after_a_minute_and_alarms_after_five(street):
    street.open(lambda t, n: OPEN)
    opened = street.mono
    assert street.read(OPEN, 59.0) == []
    assert street.read(OPEN, 2.0) == [Happening.CHIME]
    assert street.read(OPEN, 300.0 - (street.mono - opened) - 0.5) == []
    assert street.read(OPEN, 1.0) == [Happening.AJAR]
    assert street.read(OPEN, 600.0) == []
    assert street.watch.state is DoorState.AJAR


def test_a_pulse_that_never_left_touched_nothing(street):
    street.watch.begin(street.mono)
    street.watch.pulsed(street.mono)
    street.watch.unsent()
    assert street.watch.next_step(street.mono) == Done(Outcome.UNSENT)
    assert not street.watch.attempting
    street.read(CLOSED, 0.3)
    assert street.read(OPEN, 0.3) == [Happening.FORCED]


def test_a_second_pulse_that_never_left_does_not_undo_the_first(street):
    street.watch.begin(street.mono)
    street.watch.pulsed(street.mono)
    street.read(CLOSED, 2.0)
    assert street.watch.next_step(street.mono) == Pulse(2)
    street.watch.pulsed(street.mono)
    street.watch.unsent()
    assert street.watch.next_step(street.mono) == Done(Outcome.UNKNOWN, Doubt.NO_ANSWER)
    assert street.read(OPEN, 0.3) == [Happening.OPENED]


def test_nobody_pulses_without_being_asked(street):
    with pytest.raises(TransitionError):
        street.watch.pulsed(street.mono)
    street.watch.begin(street.mono)
    street.watch.pulsed(street.mono)
    with pytest.raises(TransitionError):
        street.watch.pulsed(street.mono)


def test_two_attempts_at_one_door_cannot_run_together(street):
    street.watch.begin(street.mono)
    with pytest.raises(TransitionError):
        street.watch.begin(street.mono)


@pytest.mark.parametrize(
    ("before", "now", "done"),
    [
        (CLOSED, OPEN, Done(Outcome.OPENED)),
        (CLOSED, CLOSED, Done(Outcome.UNKNOWN, Doubt.RESTARTED)),
        (CLOSED, UNKNOWN, Done(Outcome.UNKNOWN, Doubt.RESTARTED)),
        (OPEN, OPEN, Done(Outcome.UNKNOWN, Doubt.RESTARTED)),
        (UNKNOWN, OPEN, Done(Outcome.UNKNOWN, Doubt.RESTARTED)),
    ],
)
def test_after_a_crash_the_door_is_read_and_never_pulsed(before, now, done):
    street = Street()
    street.watch.resume(before, street.mono)
    assert street.follow(lambda t, n: now) == done
    assert street.pulses == []


def test_after_an_unknown_outcome_a_new_attempt_may_pulse_again(street):
    street.open(lambda t, n: UNKNOWN)
    street.pulses.clear()
    street.read(CLOSED, 0.3)
    assert street.open(lambda t, n: OPEN) == Done(Outcome.OPENED)


def test_what_the_table_does_not_have_is_refused():
    with pytest.raises(TransitionError, match="closed"):
        move(DoorState.CLOSED, DoorInput.LEFT_OPEN)
    assert {state for state, _ in TRANSITIONS} == set(DoorState)


def proves(pulse: float, seen: list[tuple[float, Hook]]) -> bool:
    """Whether the door read closed when pulsed, or after it, and first read open after that."""
    before = [(at, hook) for at, hook in seen if at <= pulse]
    after = [hook for at, hook in seen if at > pulse]
    first_open = len(after) - next((n for n, hook in enumerate(reversed(after)) if hook is not OPEN), len(after))
    return bool(before and before[-1][1] is CLOSED and OPEN in after) or CLOSED in after[:first_open]


readings = st.lists(
    st.tuples(
        st.sampled_from([CLOSED, CLOSED, OPEN, UNKNOWN]), st.sampled_from([1 / 64, 1 / 16, 1 / 8, 0.5, 2.0, 16.0])
    ),
    min_size=1,
    max_size=40,
)


@given(readings, readings, st.booleans())
def test_whatever_a_sensor_says_pulses_are_few_justified_and_openings_have_an_edge(first, second, fails):
    """The watch is driven by arbitrary readings; what it may do is judged from the raw readings alone."""
    watch, mono = DoorWatch(), 10.0
    seen: list[tuple[float, Hook]] = []
    pulses: list[float] = []
    for hook, gap in first:
        mono += gap
        seen.append((mono, hook))
        watch.observe(hook, mono)
    watch.begin(mono)
    for hook, gap in second:
        step = watch.next_step(mono)
        if isinstance(step, Pulse) and fails and pulses:
            watch.pulsed(mono)
            watch.unsent()
        elif isinstance(step, Pulse):
            since = [each for at, each in seen if pulses and at > pulses[0]]
            assert not pulses or (since and set(since) == {CLOSED})
            assert not pulses or mono - pulses[-1] >= 2.0
            pulses.append(mono)
            watch.pulsed(mono)
        mono += gap
        seen.append((mono, hook))
        if Happening.OPENED in watch.observe(hook, mono):
            assert any(proves(pulse, seen) for pulse in pulses)
    assert len(pulses) <= 3
    step = watch.next_step(mono)
    if isinstance(step, Done) and step.outcome is Outcome.JAMMED:
        assert len(pulses) == 3


def test_a_hook_that_only_its_driven_coil_holds_open_is_no_opening() -> None:
    """A stuck door: the latch lets go while the coil is on and catches again. The code must stay good."""
    watch = DoorWatch()
    for mono in (0.0, 0.1, 0.2):
        watch.observe(Hook.CLOSED, mono)
    watch.begin(0.3)
    watch.pulsed(0.3)
    happened = [each for step in range(1, 5) for each in watch.observe(Hook.OPEN, 0.3 + 0.1 * step)]
    happened += [each for step in range(5, 30) for each in watch.observe(Hook.CLOSED, 0.3 + 0.1 * step)]
    assert happened == []
    assert watch.next_step(3.3) == Done(Outcome.UNKNOWN, Doubt.UNSTEADY)


def test_a_second_in_which_nobody_looked_forbids_a_further_pulse() -> None:
    """The door may have been opened, emptied and shut again meanwhile, all of it ours."""
    watch = DoorWatch()
    for mono in (0.0, 0.1, 0.2):
        watch.observe(Hook.CLOSED, mono)
    watch.begin(0.3)
    watch.pulsed(0.3)
    for mono in (0.4, 1.6, 1.7, 1.9, 2.1, 2.3, 2.4):
        watch.observe(Hook.CLOSED, mono)
    assert watch.next_step(2.4) == Done(Outcome.UNKNOWN, Doubt.NO_ANSWER)
