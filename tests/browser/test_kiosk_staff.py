"""What staff do at the screen: take back, look after compartments, audit door by door."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from locker.kiosk import SessionState
from tests.browser.conftest import Kiosk, OpenPage
from tests.browser.gallery import BADGE, at, cabinet, come_in, heading, key
from tests.browser.staff_script import ScriptedStaff

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

S = SessionState

RETURN = {"door": "B2", "what": "return", "parcel": "p-1"}
EXPIRED = {"door": "B3", "what": "expired", "parcel": "p-2"}


async def through(kiosk: Kiosk, staff: ScriptedStaff, page: Page) -> None:
    """The door opens, and is shut again."""
    await at(page, "door")
    await kiosk.desk.move(staff.last(), S.OPEN)
    await heading(page, "Door is open")
    await kiosk.desk.move(staff.last(), S.CLOSED)


async def test_a_courier_takes_back_one_door_after_the_other(kiosk: Kiosk, open_page: OpenPage) -> None:
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "courier", [RETURN, EXPIRED], door="B2")
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "What do you want to do?")
    await expect(page.get_by_text("not collected")).to_be_visible()
    await key(page, "Take back (2)")
    staff.tasks = [EXPIRED]
    await through(kiosk, staff, page)
    await expect(page.get_by_role("button", name="Take back (1)")).to_be_visible()
    staff.tasks = []
    await key(page, "Take back (1)")
    await through(kiosk, staff, page)
    await expect(page.get_by_text("Nothing is waiting for you here.")).to_be_visible()
    await key(page, "Put parcels in")
    await heading(page, "Scan the label")
    assert staff.asked[0] == ("enter", {"badge": BADGE, "pin": "24681357"})


async def test_a_courier_with_nothing_to_take_goes_straight_to_the_label(kiosk: Kiosk, open_page: OpenPage) -> None:
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "courier", [])
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "Scan the label")


async def test_service_looks_into_a_compartment_and_offers_it_again(kiosk: Kiosk, open_page: OpenPage) -> None:
    """By the numbers on the keys, as on a keypad."""
    kiosk.desk.door_views, kiosk.desk.front_view = cabinet(2)
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "service", [{"door": "05", "what": "unknown"}], door="05")
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "Which door?")
    await page.keyboard.press("1")
    await heading(page, "Go to door 05")
    await page.keyboard.press("1")
    await through(kiosk, staff, page)
    await heading(page, "Which door?")
    await page.keyboard.press("1")
    staff.tasks = []
    await key(page, "It is empty: use it again")
    await heading(page, "Which door?")
    assert [asked for asked in staff.asked if asked[0] in {"open", "clear"}] == [
        ("open", {"door": "05"}),
        ("clear", {"door": "05"}),
    ]
    await key(page, "Leave")
    await at(page, "code")
    assert staff.asked[-1] == ("leave", {})


async def test_a_compartment_goes_out_of_service_and_comes_back(kiosk: Kiosk, open_page: OpenPage) -> None:
    kiosk.desk.door_views, kiosk.desk.front_view = cabinet(2)
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "service", [])
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "Which door?")
    await page.keyboard.press("2")
    staff.tasks = [{"door": "A1", "what": "staff"}]
    await key(page, "Out of service")
    await expect(page.get_by_text("out of service")).to_be_visible()
    await page.keyboard.press("1")
    await key(page, "Back in service")
    taken = [asked for asked in staff.asked if asked[0] == "out_of_service"]
    assert taken == [("out_of_service", {"door": "A1", "on": on}) for on in (True, False)]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("parcel_inside", "A parcel lies behind this door"),
        ("look_first", "Look inside first"),
        ("door_open", "The door stands open"),
        ("no_such_visit", "Your time is over"),
    ],
)
async def test_a_refusal_says_why_and_leads_back(kiosk: Kiosk, open_page: OpenPage, reason: str, words: str) -> None:
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "service", [{"door": "05", "what": "forced"}])
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "Which door?")
    await page.keyboard.press("1")
    staff.refusal = reason
    await key(page, "It is empty: use it again")
    await heading(page, words)
    staff.refusal = ""
    await key(page, "Start again" if reason == "no_such_visit" else "Back")
    await (at(page, "code") if reason == "no_such_visit" else heading(page, "Go to door 05"))


async def test_an_audit_asks_behind_each_door_what_lay_there(kiosk: Kiosk, open_page: OpenPage) -> None:
    page = await open_page(kiosk.url)
    staff = ScriptedStaff(kiosk.desk, "audit", [{"door": "A1", "what": "look"}, {"door": "A2", "what": "look"}])
    await staff.stand_in(page)
    await come_in(page)
    await heading(page, "Audit, door by door")
    await key(page, "Open the next door")
    await through(kiosk, staff, page)
    await heading(page, "What lies behind door A1?")
    staff.tasks = staff.tasks[1:]
    await key(page, "A parcel")
    await heading(page, "Audit, door by door")
    assert staff.asked[-1] == ("found", {"door": "A1", "found": "parcel"})
