"""A person who leaves a door open hears it and reads it, until the door is closed."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from locker.kiosk import SessionState as S
from tests.browser.conftest import Kiosk, OpenPage
from tests.browser.gallery import type_code

pytestmark = pytest.mark.asyncio(loop_scope="session")

COUNT_TONES = """() => {
    window.tones = 0;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (when) { window.tones++; return start.call(this, when); };
}"""


async def test_a_door_left_open_chimes_and_says_so_until_it_is_closed(kiosk: Kiosk, open_page: OpenPage) -> None:
    page = await open_page(kiosk.url)
    await page.evaluate(COUNT_TONES)
    await type_code(page)
    await expect(page.get_by_text("Go to door")).to_be_visible()
    await kiosk.desk.move("s1", S.OPEN)
    await expect(page.get_by_text("Take your parcel and close the door")).to_be_visible()
    assert await page.evaluate("tones") == 0
    await kiosk.desk.leave_open("s1")
    await expect(page.get_by_text("Please close the door", exact=True)).to_be_visible()
    assert await page.evaluate("tones") == 2
    await kiosk.desk.move("s1", S.CLOSED)
    await expect(page.get_by_text("Thank you")).to_be_visible()
