"""The watchdog is fed by progress: waiting for somebody is none of our faults, a part that hangs is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agents.cloud_sync import PART_LIMIT_S, PARTS
from agents.demo_broker import free_port
from cloud_sync.session import LinkState
from edge.clock_sim import ManualClock
from edge.health import Health
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.rig import NODE, FastClock, cloud_sync, running


@pytest.fixture
def health() -> Health:
    health = Health()
    for part in PARTS:
        health.expect(part, mono=0.0, limit_s=PART_LIMIT_S)
    return health


async def quiet_minutes(clock: ManualClock, health: Health, minutes: int) -> None:
    for _ in range(minutes * 2):
        await clock.advance(30.0)
        assert health.late(clock.mono()) == ()


async def test_without_the_role_agent_all_is_well(broker, agent, health):
    await agent.stop()
    clock = ManualClock()
    async with running(cloud_sync(agent, broker.settings(NODE), clock=clock, health=health).run):
        await quiet_minutes(clock, health, 10)


async def test_before_a_role_agent_that_says_nothing_all_is_well(broker, agent, health):
    clock = ManualClock()
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock, health=health)
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        agent.mute()
        await quiet_minutes(clock, health, 10)
        agent.speak()


async def test_without_a_broker_all_is_well(broker, agent, health):
    clock = ManualClock()
    nobody = msgspec.structs.replace(broker.settings(NODE), port=free_port())
    sync = cloud_sync(agent, nobody, clock=clock, health=health)
    async with running(sync.run):
        for _ in range(20):
            await until(lambda: sync.state is LinkState.BACKING_OFF)
            await quiet_minutes(clock, health, 1)


async def test_with_nothing_to_do_all_is_well(broker, agent, health):
    clock = FastClock(100.0)
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock, health=health)
    for part in PARTS:
        health.expect(part, mono=clock.mono(), limit_s=PART_LIMIT_S)
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        end = clock.mono() + 2.5 * PART_LIMIT_S
        await until(lambda: clock.mono() > end or health.late(clock.mono()))
        assert health.late(clock.mono()) == ()


async def test_a_pump_that_hangs_is_noticed(broker, agent, health, monkeypatch):
    """Role agent and broker are there and answer, and still nothing is carried."""
    clock = FastClock(100.0)
    for part in PARTS:
        health.expect(part, mono=clock.mono(), limit_s=PART_LIMIT_S)
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock, health=health)
    monkeypatch.setattr(sync, "_pull", lambda _: asyncio.Event().wait())
    async with running(sync.run):
        await until(lambda: health.late(clock.mono()) == ("events",))
