"""A dead task is restarted or ends the process, and is never unseen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge.backoff import Backoff
from edge.clock_sim import ManualClock
from edge.health import Health
from edge.supervisor import CAP_S, FIRST_WAIT_S, STABLE_S, STOP_S, OnDeath, Supervisor, TaskDied

ALMOST_ONE = 0.999_999


class Rig:
    """A supervisor on a clock moved by hand, with the longest possible waits."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health()
        self.supervisor = Supervisor(self.clock, lambda: ALMOST_ONE, self.health)
        self.starts: list[float] = []
        self.running = asyncio.create_task(self.supervisor.run())

    async def failing(self) -> None:
        self.starts.append(self.clock.mono())
        raise OSError("port gone")

    async def lasting(self) -> None:
        self.starts.append(self.clock.mono())
        await asyncio.Event().wait()

    def fault(self, name: str) -> str:
        return self.health.report(self.clock.mono()).parts[name].fault


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.supervisor.stop()
    await asyncio.wait({made.running}, timeout=5)


async def test_a_dead_task_is_told_and_comes_back_with_growing_waits(rig: Rig, logs: list[Any]) -> None:
    rig.supervisor.keep("bus", rig.failing)
    await rig.clock.advance(100)
    gaps = [later - earlier for earlier, later in zip(rig.starts, rig.starts[1:], strict=False)]
    assert gaps == pytest.approx([FIRST_WAIT_S, 1, 2, 4, 8, 16, CAP_S, CAP_S], rel=1e-5)
    died = [line for line in logs if line["event"] == "task.died"]
    assert len(died) == len(rig.starts)
    assert died[0]["log_level"] == "error"
    assert died[0]["task"] == "bus"
    assert isinstance(died[0]["exc_info"], OSError)
    assert rig.fault("bus") == "OSError: port gone"
    assert rig.health.report(0.0).parts["bus"].restarts == len(rig.starts) - 1


async def test_a_task_that_had_run_long_comes_back_at_once(rig: Rig) -> None:
    async def long_lived() -> None:
        rig.starts.append(rig.clock.mono())
        if len(rig.starts) <= 3:
            raise OSError("port gone")
        await rig.clock.sleep(STABLE_S)
        raise OSError("gone again")

    rig.supervisor.keep("bus", long_lived)
    await rig.clock.advance(STABLE_S + 10)
    assert rig.starts[4] - rig.starts[3] - STABLE_S == pytest.approx(FIRST_WAIT_S)


async def test_returning_is_dying_for_work_that_has_no_end(rig: Rig, logs: list[Any]) -> None:
    async def done() -> None:
        rig.starts.append(rig.clock.mono())

    rig.supervisor.keep("pump", done)
    await rig.clock.advance(1)
    assert len(rig.starts) == 2
    assert rig.fault("pump") == "returned"
    assert logs[0]["event"] == "task.died"


async def test_a_task_cancelled_from_within_has_died_too(rig: Rig) -> None:
    async def cancelled() -> None:
        rig.starts.append(rig.clock.mono())
        raise asyncio.CancelledError

    rig.supervisor.keep("bus", cancelled)
    await rig.clock.advance(1)
    assert len(rig.starts) == 2
    assert rig.fault("bus").startswith("CancelledError")


async def test_a_task_without_which_nothing_works_ends_the_process(rig: Rig, logs: list[Any]) -> None:
    rig.supervisor.keep("other", rig.lasting)
    rig.supervisor.keep("journal", rig.failing, on_death=OnDeath.END)
    with pytest.raises(TaskDied, match="journal died") as caught:
        await rig.running
    assert isinstance(caught.value.__cause__, OSError)
    assert len(rig.starts) == 2
    assert [line["event"] for line in logs] == ["task.died"]


async def test_a_piece_of_work_may_end(rig: Rig, logs: list[Any]) -> None:
    async def work() -> None:
        rig.starts.append(rig.clock.mono())

    rig.supervisor.spawn("pickup", work, fatal=True)
    await rig.clock.advance(100)
    assert rig.starts == [0.0]
    assert not rig.running.done()
    assert logs == []


async def test_a_failed_piece_of_work_is_told_and_not_repeated(rig: Rig, logs: list[Any]) -> None:
    rig.supervisor.spawn("pickup", rig.failing, fatal=False)
    await rig.clock.advance(100)
    assert len(rig.starts) == 1
    assert not rig.running.done()
    assert rig.fault("pickup") == "OSError: port gone"
    assert [line["event"] for line in logs] == ["task.died"]


async def test_a_fatal_piece_of_work_ends_the_process(rig: Rig) -> None:
    rig.supervisor.spawn("pickup", rig.failing, fatal=True)
    with pytest.raises(TaskDied, match="pickup died"):
        await rig.running


async def test_the_first_death_is_the_one_that_is_told(rig: Rig) -> None:
    rig.supervisor.spawn("cause", rig.failing, fatal=True)
    rig.supervisor.spawn("consequence", rig.failing, fatal=True)
    with pytest.raises(TaskDied, match="cause died"):
        await rig.running


async def test_work_that_has_ended_leaves_nothing_behind(rig: Rig) -> None:
    async def work() -> None:
        pass

    for number in range(100):
        rig.supervisor.spawn(f"pickup-{number}", work, fatal=True)
    await rig.clock.advance(0)
    assert rig.supervisor._tasks == []


async def test_a_code_in_an_error_does_not_reach_the_status(rig: Rig) -> None:
    async def leaking() -> None:
        raise ValueError("no such code 12345678")

    rig.supervisor.spawn("pickup", leaking, fatal=False)
    await rig.clock.advance(0)
    assert "12345678" not in rig.fault("pickup")


async def test_stopping_ends_the_youngest_first_and_waits_for_each(rig: Rig) -> None:
    order: list[str] = []

    async def tidy(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await rig.clock.sleep(1)
            order.append(name)

    for name in ("journal", "board", "kiosk"):
        rig.supervisor.keep(name, lambda name=name: tidy(name))  # type: ignore[misc]
    await rig.clock.advance(0)
    rig.supervisor.stop()
    await rig.clock.advance(10)
    await rig.running
    assert order == ["kiosk", "board", "journal"]


async def test_a_task_that_will_not_stop_is_named_and_left_behind(rig: Rig, logs: list[Any]) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    rig.supervisor.keep("stubborn", stubborn)
    await rig.clock.advance(0)
    rig.supervisor.stop()
    await rig.clock.advance(STOP_S)
    await rig.running
    assert logs[-1] == {
        "event": "task.will_not_stop",
        "task": "stubborn",
        "log_level": "error",
        "part": "edge.supervisor",
    }
    let_go.set()
    await rig.clock.advance(0)


async def test_cancelling_the_supervisor_ends_its_tasks(rig: Rig) -> None:
    rig.supervisor.keep("bus", rig.lasting)
    await rig.clock.advance(0)
    rig.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rig.running
    await rig.clock.advance(1000)
    assert len(rig.starts) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_orderly(number: signal.Signals) -> None:
    supervisor = Supervisor(ManualClock(), lambda: 0.0, Health())
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    supervisor.keep("work", work)
    running = asyncio.create_task(supervisor.run_until_signal())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(running, timeout=5)
    assert ended == ["work"]


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=80))
def test_waits_are_spread_from_nothing_to_a_bounded_ceiling(draws: list[float]) -> None:
    left = iter(draws)
    backoff = Backoff(lambda: next(left), first_s=1, cap_s=60, stable_s=300)
    trouble = 0.0
    for draw in draws:
        wait = backoff.after(2)
        trouble += 2
        assert wait == draw * min(60, 1 + trouble)
        trouble += wait
    left = iter([0.5])
    assert backoff.after(300) == 0.5  # recovered
