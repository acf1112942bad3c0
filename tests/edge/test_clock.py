"""Time is believed only where nothing speaks against it, and a restart forgets neither the floor nor a step."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock_sim import ManualClock
from edge.floored_clock import FLOOR_EVERY_S, STEP_S, FlooredClock, Memory
from edge.system_clock import SystemClock, boot_id
from edge.time_floor_sql import LOOK_EVERY_S, keep_time, resume_time
from tests.edge.journal_rig import Store

NOW = 1_800_000_000.0
HOUR = 3600.0


def resumed(inner: ManualClock, memory: Memory | None = None, boot: str = "b1") -> FlooredClock:
    clock = FlooredClock(inner, boot)
    clock.resume(memory or Memory())
    return clock


def test_before_anything_is_known_nobody_is_trusted() -> None:
    clock = FlooredClock(ManualClock(), "b1")
    assert not clock.trusted()
    assert clock.wall() == NOW


def test_a_synchronised_clock_is_trusted_and_raises_the_floor() -> None:
    clock = resumed(ManualClock())
    assert clock.trusted()
    assert clock.memory == Memory(floor=NOW, boot="b1", offset=NOW)


def test_an_untrusted_clock_raises_no_floor_and_never_shows_less_than_it() -> None:
    inner = ManualClock(wall=0.0, trusted=False)
    clock = resumed(inner, Memory(floor=NOW))
    assert not clock.trusted()
    assert clock.wall() == NOW
    inner.step_wall(2 * NOW)
    assert clock.wall() == 2 * NOW
    assert clock.memory.floor == NOW


async def test_the_first_synchronisation_of_a_boot_may_be_any_step() -> None:
    """A Pi without a battery begins where it was shut down."""
    inner = ManualClock(wall=NOW - 90 * 24 * HOUR, trusted=False)
    clock = resumed(inner, Memory(floor=NOW - 90 * 24 * HOUR, boot="before", offset=5.0))
    await inner.advance(60)
    inner.step_wall(90 * 24 * HOUR)
    inner.trust(True)
    assert clock.trusted()
    assert clock.wall() == inner.wall()


@pytest.mark.parametrize("step", [-STEP_S - 1, STEP_S + 1, 40 * 365 * 24 * HOUR])
async def test_a_step_against_the_running_clock_ends_the_trust_for_this_boot(step: float) -> None:
    inner = ManualClock()
    clock = resumed(inner)
    assert clock.trusted()
    await inner.advance(100)
    inner.step_wall(step)
    assert not clock.trusted()
    assert clock.wall() == NOW + 100, "time goes on from what was trusted"
    assert clock.memory.floor <= NOW + 100
    inner.step_wall(-step)
    assert not clock.trusted(), "a server that lied once is not believed again by itself"


@pytest.mark.parametrize("step", [-STEP_S + 1, STEP_S - 1])
def test_a_correction_is_no_step(step: float) -> None:
    inner = ManualClock()
    clock = resumed(inner)
    assert clock.trusted()
    inner.step_wall(step)
    assert clock.trusted()
    assert clock.wall() == NOW + step
    assert clock.memory.floor == max(NOW, NOW + step)


def test_many_small_corrections_do_not_add_up_to_a_step_unseen() -> None:
    inner = ManualClock()
    clock = resumed(inner)
    assert clock.trusted()
    for _ in range(3):
        inner.step_wall(STEP_S / 2)
    assert not clock.trusted()


def test_a_boot_far_below_the_floor_is_not_trusted_whatever_its_server_says() -> None:
    inner = ManualClock(wall=NOW - STEP_S - 1)
    clock = resumed(inner, Memory(floor=NOW))
    assert not clock.trusted()
    assert clock.wall() == NOW


def test_somebody_entitled_sets_it_right_and_may_lower_the_floor() -> None:
    inner = ManualClock(wall=NOW - 10 * HOUR)
    clock = resumed(inner, Memory(floor=NOW))
    assert not clock.trusted()
    clock.resume(clock.righted(NOW - 10 * HOUR))
    assert clock.trusted()
    assert clock.memory.floor == NOW - 10 * HOUR
    inner.step_wall(2 * HOUR)
    assert not clock.trusted(), "and is held against it from then on"


@given(st.lists(st.tuples(st.sampled_from(["pass", "step", "trust", "doubt"]), st.floats(-1e7, 1e7)), max_size=12))
def test_only_trusted_time_moves_the_floor_and_it_never_falls(story: list[tuple[str, float]]) -> None:
    inner = ManualClock(trusted=False)
    clock, floor = resumed(inner), 0.0
    for what, by in story:
        match what:
            case "pass":
                inner._move_to(inner.mono() + abs(by))
            case "step":
                inner.step_wall(by)
            case _:
                inner.trust(what == "trust")
        before = floor
        trusted, floor = clock.trusted(), clock.memory.floor
        assert floor >= before
        assert floor == before or trusted
        assert clock.wall() >= floor - STEP_S if trusted else clock.wall() >= floor


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


async def a_run(store: Store, inner: ManualClock, boot: str, *, looks: int = 1, step: float = 0.0) -> FlooredClock:
    """A process of that boot: resumes, keeps the time for a while, sees a step on the way, and is killed."""
    clock = FlooredClock(inner, boot)
    async with store.journal() as journal:
        await resume_time(journal, clock)
        task = asyncio.create_task(keep_time(journal, clock))
        for _ in range(looks):
            await inner.advance(LOOK_EVERY_S)
            await journal.write(lambda _: None)
        inner.step_wall(step)
        await inner.advance(LOOK_EVERY_S)
        await journal.write(lambda _: None)
        task.cancel()
        await asyncio.wait([task])
    return clock


async def test_a_step_is_remembered_by_the_next_process_of_the_boot(store: Store) -> None:
    inner = ManualClock()
    assert not (await a_run(store, inner, "b1", step=2 * HOUR)).trusted()
    assert not (await a_run(store, inner, "b1")).trusted()
    assert (await a_run(store, ManualClock(), "b2")).trusted()


async def test_a_step_between_two_processes_of_a_boot_is_seen(store: Store) -> None:
    inner = ManualClock()
    await a_run(store, inner, "b1")
    inner.step_wall(2 * HOUR)
    assert not (await a_run(store, inner, "b1")).trusted()


async def test_the_floor_outlives_the_boot_and_costs_few_writes(store: Store) -> None:
    inner, looks = ManualClock(), int(2 * FLOOR_EVERY_S / LOOK_EVERY_S)
    async with store.journal() as journal:
        await journal.write(lambda t: t.sql.execute("CREATE TABLE writes (x)"))
        await journal.write(
            lambda t: t.sql.execute("CREATE TRIGGER w AFTER INSERT ON fact BEGIN INSERT INTO writes VALUES (1); END")
        )
    await a_run(store, inner, "b1", looks=looks)
    async with store.journal() as journal:
        assert await journal.write(lambda t: t.sql.execute("SELECT count(*) FROM writes").fetchone()[0]) <= 4
    assert not (await a_run(store, ManualClock(wall=NOW - 2 * HOUR), "b2")).trusted()


def test_this_machine_names_its_boot() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


async def test_the_machines_clock_is_trusted_once_it_was_synchronised_in_this_boot(tmp_path: Path) -> None:
    clock = SystemClock(tmp_path / "synchronized")
    assert not clock.trusted()
    (tmp_path / "synchronized").touch()
    assert clock.trusted()
    before = clock.mono()
    await clock.sleep(-1.0)
    assert clock.mono() >= before
    assert clock.wall() > 1_700_000_000


async def test_a_clock_moved_by_hand_wakes_its_sleepers_in_their_order() -> None:
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.mono()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0)]
    await clock.advance(2.5)
    assert woken == [(1.0, 1.0), (2.0, 2.0)]
    await clock.advance(1.0)
    await asyncio.gather(*tasks)
    assert (clock.mono(), clock.wall()) == (3.5, NOW + 3.5)
