"""A hung screen looks well: the page has to say that it draws, and the agent has to miss it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from edge.clock_sim import ManualClock
from edge.health import Health
from edge.system_clock import SystemClock
from locker.kiosk_page import QUIET_S, Drawn
from locker.page_http import page_routes
from locker.speech import Saying
from tests.browser.conftest import OpenPage
from tests.browser.gallery import at, key, type_code
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served
from web import KIOSK

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

HANG = "() => { let sum = 0; for (let turn = 0; turn < 4e9; turn++) sum += turn; return sum; }"
"""Run in the page: its only thread is busy for some seconds, as in a page that has lost itself."""


async def test_a_page_that_hangs_is_told_and_the_agent_goes_on(open_page: OpenPage) -> None:
    clock, health = ManualClock(), Health()
    alive = asyncio.Event()

    def progress() -> None:
        health.progress("screen", clock.mono())
        alive.set()

    health.expect("screen", mono=clock.mono(), limit_s=QUIET_S, vital=False)
    async with served(ScriptedDesk(), KIOSK, clock=SystemClock(), page=page_routes(Drawn(progress), None)) as host:
        page = await open_page(f"http://{host}/#{TOKEN}")
        await at(page, "code")
        await clock.advance(QUIET_S - 1)
        await page.clock.run_for(5_100)
        await alive.wait()
        await clock.advance(QUIET_S - 1)
        assert health.report(clock.mono()).healthy
        alive.clear()
        hung = asyncio.create_task(page.evaluate(HANG))
        waited = asyncio.create_task(page.clock.run_for(5_100))
        await clock.advance(2)
        assert not health.report(clock.mono()).healthy
        assert health.healthy(clock.mono())
        assert not alive.is_set()
        await asyncio.gather(hung, waited)
        await alive.wait()
        assert health.report(clock.mono()).healthy


async def test_each_screen_is_read_out_to_who_asked_and_the_door_to_headphones_alone(open_page: OpenPage) -> None:
    said: asyncio.Queue[Saying] = asyncio.Queue()
    desk = ScriptedDesk()
    async with served(desk, KIOSK, clock=SystemClock(), page=page_routes(Drawn(lambda: None), said.put)) as host:
        page = await open_page(f"http://{host}/#{TOKEN}")
        await key(page, "Read aloud")
        first = await said.get()
        assert first.aloud.startswith("Type the code from your message.")
        await type_code(page)
        await expect(page.locator(".plate")).to_have_text("A1")
        heard = [await said.get()]
        while "Go to door" not in heard[-1].aloud:
            heard.append(await said.get())
        assert heard[-1].private.startswith("A1. Go to door. It is opening.")
        assert not any("A1" in each.aloud or "1234" in each.aloud + each.private for each in heard)
