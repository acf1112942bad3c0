"""Every screen fits the displays that lockers have, in every language, and whoever sees, reaches or reads badly can use
it: nothing scrolls, keys are made for fingers, and axe-core, which knows WCAG 2.2, finds nothing serious.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, ViewportSize

import web
from edge.system_clock import SystemClock
from tests.browser.conftest import LOCALES
from tests.browser.gallery import SCREENS
from tests.locker.kiosk_rig import DOORS, TOKEN, ScriptedDesk, served
from web import KIOSK

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser-fits")]

AXE_CORE = Path(web.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"

SIZES = [(800, 480), (1024, 600), (1280, 800)]
"""Of the displays that lockers have. On the smallest one everything is looked at, on the others whether it fits."""

MODES = ["large", "contrast", "low", "large low"]
"""What a person may ask for, as the classes that its buttons switch on; each is looked at on the smallest display."""

SMALLEST: ViewportSize = {"width": 800, "height": 480}

FAULTS = """(reach) => {
    const text = (element) => element.textContent.trim().slice(0, 30);
    const all = (selector) =>
        [...document.querySelectorAll(selector)].map((element) => [element, element.getBoundingClientRect()]);
    const faults = [];
    for (const [element, box] of all('main *, header *')) {
        const out = box.left < -1 || box.top < -1 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1;
        const cut = element.scrollWidth > element.clientWidth + 2 && getComputedStyle(element).display !== 'inline'
            && !(element instanceof SVGElement) && element.tagName !== 'INPUT' && element.clientWidth > 0;
        if (out || cut) faults.push(`outside: ${element.tagName}.${element.className}: ${text(element)}`);
    }
    for (const [key, { width, height }] of all('button'))
        if (width < 64 || height < 64) faults.push(`small key: ${text(key)}: ${width} x ${height}`);
    if (reach) for (const [key, { top }] of all('main button, main input'))
        if (top < innerHeight / 2 - 2) faults.push(`out of reach: ${text(key)}: ${top}`);
    const apart = (a, b) =>
        a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    const things = all('main button, main input, main h1, main p');
    things.forEach(([one, a], at) => {
        for (const [other, b] of things.slice(at + 1))
            if (!apart(a, b)) faults.push(`overlap: ${text(one)} / ${text(other)}`);
    });
    return faults;
}"""

AXE = """async (only) => {
    const { violations } = await axe.run({ runOnly: only, resultTypes: ['violations'] });
    return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact)).flatMap(({ id, nodes }) =>
        nodes.map(({ html, any }) => `axe ${id}: ${html.slice(0, 90)} ${any.map(({ message }) => message).join()}`));
}"""

LOOK = """async ([modes, reach]) => {
    const kiosk = document.querySelector('.kiosk');
    const wcag = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    const found = [['', [...faults(false), ...(await serious(wcag))]]];
    for (const mode of modes) {
        kiosk.classList.add(...mode.split(' '));
        const more = mode === 'contrast' ? await serious(['color-contrast']) : [];
        found.push([mode, [...faults(reach && mode.includes('low')), ...more]]);
        kiosk.classList.remove(...mode.split(' '));
    }
    return found.filter(([, those]) => those.length);
}""".replace("faults(", f"({FAULTS})(").replace("serious(", f"({AXE})(")
"""Everything at once, because each question to a browser takes longer than its answer."""

STAFF_ALONE = {"courier-badge", "courier-booking", "courier-size", "staff-service"}
"""Screens with more keys than half a display holds. Staff work standing, or with a scanner."""


@dataclass
class Gallery:
    desk: ScriptedDesk
    url: str
    pages: dict[str, Page]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(browser: Browser) -> AsyncIterator[Gallery]:
    """One server and one browser page per language for all screens: starting them anew would take most of the time."""
    desk = ScriptedDesk()
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(served(desk, KIOSK, clock=SystemClock()))
        pages = {}
        for language, locale in LOCALES.items():
            context = await browser.new_context(locale=locale, reduced_motion="reduce", viewport=SMALLEST)
            stack.push_async_callback(context.close)
            await context.add_init_script(path=AXE_CORE)
            pages[language] = await context.new_page()
        yield Gallery(desk, f"http://{host}", pages)


@pytest.mark.parametrize("language", [pytest.param("en", marks=pytest.mark.long), "ru"])
@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_fits_and_can_be_used(gallery: Gallery, tmp_path: Path, screen: str, language: str) -> None:
    """Nothing is cut off, nothing overlaps, and every key is at least 64 pixels wide and high, however it is shown.

    Russian words are the longer ones, so that what fits in Russian seldom does not in English.

    Where that is not so, its picture is kept beside the test's other files.
    """
    page = gallery.pages[language]
    gallery.desk.begin_anew(DOORS if screen == "code-left-open" else [])
    await page.goto(f"{gallery.url}/?{screen}#{TOKEN}")
    await SCREENS[screen](page, gallery.desk)
    shown = page.viewport_size
    for width, height in SIZES if shown is None or shown["width"] == SIZES[0][0] else reversed(SIZES):
        await page.set_viewport_size({"width": width, "height": height})
        if (width, height) != SIZES[0]:
            faults = [("", await page.evaluate(FAULTS, False))]
        else:
            faults = await page.evaluate(LOOK, [MODES, screen not in STAFF_ALONE])
        for mode, those in faults:
            if those:
                await _give_up(page, mode, tmp_path / f"{screen}-{language}-{width}-{mode}.png", those)
    await page.unroute_all()


async def _give_up(page: Page, mode: str, picture: Path, faults: list[str]) -> NoReturn:
    await page.evaluate("(mode) => document.querySelector('.kiosk').classList.add(...mode.split(' '))", mode or "plain")
    await page.screenshot(path=picture)
    pytest.fail("\n".join([*faults, str(picture)]))
