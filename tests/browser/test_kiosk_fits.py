"""Every screen fits the displays that lockers have, in every language, without scrolling and with keys for fingers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from edge.system_clock import SystemClock
from tests.browser.conftest import LOCALES
from tests.browser.gallery import SCREENS
from tests.locker.kiosk_rig import DOORS, TOKEN, ScriptedDesk, served
from web import KIOSK

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZES = [(800, 480), (1024, 600), (1280, 800)]

OUTSIDE = """() => [...document.querySelectorAll('main *, header *')].flatMap((element) => {
    const box = element.getBoundingClientRect();
    const out = box.left < -1 || box.top < -1 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1;
    const cut = element.scrollWidth > element.clientWidth + 2 && getComputedStyle(element).display !== 'inline'
        && !(element instanceof SVGElement) && element.tagName !== 'INPUT' && element.clientWidth > 0;
    return out || cut ? [`${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 30)}`] : [];
})"""

SMALL_KEYS = """() => [...document.querySelectorAll('button')].flatMap((key) => {
    const { width, height } = key.getBoundingClientRect();
    return width < 64 || height < 64 ? [`${key.textContent.trim()}: ${width} x ${height}`] : [];
})"""

OVERLAPS = """() => {
    const keys = [...document.querySelectorAll('main button, main input, main h1, main p')];
    return keys.flatMap((one, at) => keys.slice(at + 1).flatMap((other) => {
        const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
        const apart = a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
        return apart ? [] : [`${one.textContent.trim()} / ${other.textContent.trim()}`];
    }));
}"""


@dataclass
class Gallery:
    desk: ScriptedDesk
    url: str
    pages: dict[str, Page]


async def _faults(page: Page) -> list[str]:
    found = (("outside", OUTSIDE), ("small key", SMALL_KEYS), ("overlap", OVERLAPS))
    return [f"{fault}: {what}" for fault, script in found for what in await page.evaluate(script)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(browser: Browser) -> AsyncIterator[Gallery]:
    """One server and one browser page per language for all screens: starting them anew would take most of the time."""
    desk = ScriptedDesk()
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(served(desk, KIOSK, clock=SystemClock()))
        pages = {}
        for language, locale in LOCALES.items():
            context = await browser.new_context(locale=locale, reduced_motion="reduce")
            stack.push_async_callback(context.close)
            pages[language] = await context.new_page()
        yield Gallery(desk, f"http://{host}/#{TOKEN}", pages)


@pytest.mark.parametrize("language", LOCALES)
@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_fits(gallery: Gallery, tmp_path: Path, screen: str, language: str) -> None:
    """Nothing is cut off, nothing overlaps, and every key is at least 64 pixels wide and high.

    Where one does not, its picture is kept beside the test's other files.
    """
    page = gallery.pages[language]
    gallery.desk.door_views = DOORS if screen == "code-left-open" else []
    await page.set_viewport_size({"width": 800, "height": 480})
    await page.goto(gallery.url)
    await SCREENS[screen](page, gallery.desk)
    for width, height in SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        if faults := await _faults(page):
            picture = tmp_path / f"{screen}-{language}-{width}.png"
            await page.screenshot(path=picture)
            pytest.fail("\n".join([*faults, str(picture)]))
    await page.unroute_all()
    await page.goto("about:blank")  # or the next test's address would only change the fragment of this one
