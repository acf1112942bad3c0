"""A real Chromium before the built page, and a kiosk server behind it whose desk answers by script."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from edge.system_clock import SystemClock
from locker.inputs_asyncio import Inputs
from locker.terminal import Key, Terminal
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served
from web import KIOSK

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",  # as the kiosk's own browser: a door may chime that nobody touched
]

LOCALES = {"en": "en-GB", "ru": "ru-RU"}
"""The page's languages, and the browser's setting that makes each the first one."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The distribution's Chromium; a machine without it fails, because an untested page is not tested."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.fail("Chromium is missing; install it with: apt-get install chromium")
    return found


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield running
        await running.close()


@dataclass(frozen=True)
class Kiosk:
    """A running kiosk: its address, the URL that pairs a page with it, the desk that answers, keypad and scanners."""

    host: str
    url: str
    desk: ScriptedDesk
    inputs: Inputs

    async def keys(self, *keys: Key | str) -> None:
        """Somebody uses the locker's own keypad, and the page hears of it."""
        await self.inputs.attended.wait()
        for key in keys:
            self.inputs.press(key)


@pytest_asyncio.fixture(loop_scope="session")
async def kiosk() -> AsyncIterator[Kiosk]:
    desk, inputs = ScriptedDesk(), Inputs(Terminal(os.urandom), SystemClock())
    async with served(desk, KIOSK, clock=SystemClock(), inputs=inputs) as host:
        yield Kiosk(host, f"http://{host}/#{TOKEN}", desk, inputs)


class OpenPage(Protocol):
    """Open a kiosk's URL as its screen would."""

    def __call__(
        self, url: str, *, language: str = "en", size: tuple[int, int] = (800, 480), calm: bool = False
    ) -> Awaitable[Page]: ...


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens pages, each a fresh kiosk screen whose clock can be moved on.

    Fails the test if one of them wrote an error to its console, such as a breach of its content policy.
    """
    errors: list[str] = []
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(
            url: str, *, language: str = "en", size: tuple[int, int] = (800, 480), calm: bool = False
        ) -> Page:
            context = await browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                locale=LOCALES[language],
                reduced_motion="reduce" if calm else "no-preference",
            )
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(10_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            await page.clock.install()
            await page.goto(url)
            return page

        yield open_one
    # A refusal of the API is an ordinary answer, and a locker that is away takes the socket of its inputs along;
    # Chromium reports both on the console all the same.
    ordinary = ("Failed to load resource", "WebSocket connection to")
    assert [error for error in errors if not error.startswith(ordinary)] == []
