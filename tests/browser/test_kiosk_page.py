"""What people do at the kiosk, and what the page tells them: the whole of it in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from locker.contract import Reason
from locker.kiosk import Accepted, Refused, SessionState
from tests.browser.conftest import Kiosk, OpenPage
from tests.browser.gallery import BADGE, CODE, NO_WEBSOCKET, at, deposit, heading, key, type_code
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served
from web import KIOSK

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

S = SessionState


class TestCollecting:
    async def test_a_finger_types_the_code_and_the_door_opens(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        for digit in CODE:
            await key(page, digit)
        await key(page, "Open")
        await heading(page, "Go to door")
        await expect(page.locator(".plate")).to_have_text("A1")
        await kiosk.desk.move("s1", S.OPEN)
        await heading(page, "Door is open")
        await expect(page.get_by_text("Take your parcel and close the door")).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Thank you")
        assert kiosk.desk.asked == [("collect", CODE, None, False)]

    async def test_the_next_customer_begins_at_the_beginning(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await type_code(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await heading(page, "Door is open")
        await page.clock.run_for(300_000)
        await heading(page, "Door is open")
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Thank you")
        await page.clock.run_for(21_000)
        await heading(page, "Type the code from your message")

    async def test_a_keyboard_alone_is_enough(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        """Without a mouse: Tab reaches every key in order, and Enter presses the one that has the focus."""
        page = await open_page(kiosk.url)
        await at(page, "code")
        reached = []
        for _ in range(18):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText"))
        comforts = ["Larger text", "High contrast", "Keys lower down", "More time"]
        assert reached == [*comforts, "English", "Русский", "Courier", *"123456789", "Erase", "0"]
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("img", name="1 of 9 digits")).to_be_visible()

    async def test_a_touched_key_is_not_pressed_again_by_enter(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        for digit in CODE:
            await key(page, digit)
        await page.keyboard.press("Enter")
        await at(page, "door")
        assert kiosk.desk.asked == [("collect", CODE, None, False)]

    async def test_a_code_is_not_sent_before_it_is_whole(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await page.keyboard.type(CODE[:8])
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Open")).to_be_disabled()
        await page.keyboard.type(CODE[8:] + "99")
        await page.keyboard.press("Enter")
        await at(page, "door")
        assert kiosk.desk.asked == [("collect", CODE, None, False)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("reason", "english", "russian"),
        [
            (Reason.NO_SUCH_CODE, "No parcel here has this code", "Посылки с таким кодом здесь нет"),  # noqa: RUF001 - Russian
            (Reason.EXPIRED, "This code has run out", "Срок кода истёк"),
            (Reason.USED, "This code has been used", "Этот код уже использован"),
            (Reason.OUT_OF_SERVICE, "This door cannot be opened now", "Ячейку сейчас не открыть"),
            (Reason.BUSY, "Another door is being opened", "Открывается другая ячейка"),
        ],
    )
    async def test_each_says_why_in_both_languages(
        self, kiosk: Kiosk, open_page: OpenPage, reason: Reason, english: str, russian: str
    ) -> None:
        kiosk.desk.answer = Refused(reason)
        page = await open_page(kiosk.url)
        await type_code(page)
        await heading(page, english)
        await key(page, "Русский")
        await heading(page, russian)
        assert await page.evaluate("document.documentElement.lang") == "ru"

    async def test_a_typo_leaves_the_digits_to_be_mended(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.answer = Refused(Reason.TYPO)
        kiosk.desk.later = [Accepted("s1", "A1")]
        page = await open_page(kiosk.url)
        await type_code(page, "123456780")
        await expect(page.get_by_text("A digit is mistyped")).to_be_visible()
        await page.keyboard.press("Backspace")
        await page.keyboard.type("5")
        await page.keyboard.press("Enter")
        await at(page, "door")
        assert [asked[1] for asked in kiosk.desk.asked] == ["123456780", CODE]

    async def test_a_wait_counts_down_and_tries_again_by_itself(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.answer = Refused(Reason.WAIT, 30)
        kiosk.desk.later = [Accepted("s1", "A1")]
        page = await open_page(kiosk.url)
        await type_code(page)
        await expect(page.locator("output")).to_have_text("00:30")
        await page.clock.run_for(12_000)
        await expect(page.locator("output")).to_have_text(re.compile("00:1[5-8]"))
        await page.clock.run_for(19_000)
        await heading(page, "Go to door")
        assert [asked[1] for asked in kiosk.desk.asked] == [CODE, CODE]

    async def test_the_extension_is_asked_for_and_sent_with_the_code(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.answer = Refused(Reason.EXTENSION_NEEDED)
        kiosk.desk.later = [Accepted("s1", "A1")]
        page = await open_page(kiosk.url)
        await type_code(page)
        await heading(page, "Now the 4 digits beside your code")
        await page.keyboard.type("0042")
        await page.keyboard.press("Enter")
        await at(page, "door")
        assert kiosk.desk.asked[-1] == ("collect", CODE, "0042", False)

    async def test_a_new_attempt_after_an_unknown_one_is_confirmed_first(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        kiosk.desk.answer = Refused(Reason.CONFIRM_NEEDED)
        kiosk.desk.later = [Accepted("s2", "A1")]
        page = await open_page(kiosk.url)
        await type_code(page)
        await heading(page, "Is your parcel still inside?")
        await page.keyboard.press("Enter")  # a scanner's Enter must not confirm anything
        await heading(page, "Is your parcel still inside?")
        await key(page, "Yes, open the door")
        await at(page, "door")
        assert [asked[3] for asked in kiosk.desk.asked] == [False, True]


class TestDoorsThatDoNotOpen:
    async def test_a_jammed_door_is_tried_again_with_the_same_code(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await type_code(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.JAMMED)
        await heading(page, "Door A1 did not open")
        await expect(page.get_by_text("Your code stays valid")).to_be_visible()
        kiosk.desk.answer = Accepted("s2", "A1")
        await key(page, "Try again")
        await heading(page, "Go to door")
        assert kiosk.desk.asked[0] == kiosk.desk.asked[-1] == ("collect", CODE, None, False)

    async def test_leaving_a_jammed_door_frees_the_locker_for_the_next(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await type_code(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.JAMMED)
        async with page.expect_response("**/api/sessions/s1/end"):
            await key(page, "Finish")
        await at(page, "code")
        assert ("end", "s1", "") in kiosk.desk.asked

    async def test_an_unseen_door_asks_the_customer(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await type_code(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.UNKNOWN)
        await heading(page, "Is door A1 open?")
        kiosk.desk.answer = Accepted("s2", "A1")
        await key(page, "No, open it again")
        await heading(page, "Go to door")
        assert ("collect", CODE, None, True) in kiosk.desk.asked
        await kiosk.desk.move("s2", S.UNKNOWN)
        await key(page, "Yes, it is open")
        await heading(page, "Take your parcel and close the door")

    async def test_a_session_that_ends_unseen_is_not_called_a_success(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await type_code(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.ENDED)
        await heading(page, "Is door A1 open?")


class TestWhenTheLockerIsAway:
    async def test_the_page_polls_where_no_websocket_comes_through(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await page.evaluate(NO_WEBSOCKET)
        await type_code(page)
        await heading(page, "Go to door")
        await kiosk.desk.move("s1", S.OPEN)
        await page.clock.run_for(1_100)
        await heading(page, "Door is open")

    async def test_a_locker_that_stops_answering_says_so_and_comes_back(self, open_page: OpenPage) -> None:
        desk = ScriptedDesk()
        async with served(desk, KIOSK) as host:
            page = await open_page(f"http://{host}/#{TOKEN}")
            await type_code(page)
            await at(page, "door")
        await heading(page, "The locker does not answer")
        await expect(page.get_by_text("If door A1 is open")).to_be_visible()
        async with served(desk, KIOSK, port=int(host.split(":")[1])):
            await desk.move("s1", S.OPEN)
            await page.clock.run_for(2_000)
            await heading(page, "Door is open")

    async def test_a_restarted_locker_that_forgot_the_session_is_told_as_unknown(self, open_page: OpenPage) -> None:
        async with served(ScriptedDesk(), KIOSK) as host:
            page = await open_page(f"http://{host}/#{TOKEN}")
            await type_code(page)
            await at(page, "door")
        await heading(page, "The locker does not answer")
        async with served(ScriptedDesk(), KIOSK, port=int(host.split(":")[1])):
            await page.clock.run_for(2_000)
            await heading(page, "Is door A1 open?")

    async def test_an_idle_screen_does_not_pretend(self, open_page: OpenPage) -> None:
        """Nobody has to type a code to learn that the locker is dead."""
        async with served(ScriptedDesk(), KIOSK) as host:
            page = await open_page(f"http://{host}/#{TOKEN}")
            await at(page, "code")
        for _ in range(2):
            async with page.expect_event("requestfailed"):
                await page.clock.run_for(5_500)
        await heading(page, "This locker is not answering")
        async with served(ScriptedDesk(), KIOSK, port=int(host.split(":")[1])):
            await page.clock.run_for(5_500)
            await heading(page, "Type the code from your message")

    async def test_a_code_without_an_answer_promises_nothing(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await page.route("**/api/collect", lambda route: route.abort())
        await type_code(page)
        await heading(page, "The locker did not answer")
        await expect(page.get_by_text("If a door opens now")).to_be_visible()


class TestTheScreenItself:
    async def test_the_token_is_nowhere_to_be_read(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        assert page.url == f"http://{kiosk.host}/"
        assert TOKEN not in await page.content()
        await page.reload()
        await type_code(page)
        await at(page, "door")

    async def test_a_page_opened_by_a_stranger_is_not_connected(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(f"http://{kiosk.host}/")
        await heading(page, "This screen is not connected")

    async def test_a_page_that_is_given_the_token_later_connects(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(f"http://{kiosk.host}/")
        await heading(page, "This screen is not connected")
        await page.goto(kiosk.url)
        await heading(page, "Type the code from your message")
        await type_code(page)
        await at(page, "door")

    async def test_what_one_person_typed_is_gone_for_the_next(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await page.keyboard.type(CODE[:5])
        await page.clock.run_for(27_000)
        await expect(page.get_by_role("status")).to_contain_text("Still there?")
        await page.keyboard.type(CODE[5])
        await expect(page.get_by_role("status")).to_be_hidden()
        await page.clock.run_for(46_000)
        await expect(page.get_by_role("img", name="0 of 9 digits")).to_be_visible()

    async def test_the_language_goes_back_to_the_lockers_own(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url, language="ru")
        await heading(page, "Введите код из сообщения")
        await key(page, "English")
        await heading(page, "Type the code from your message")
        await page.clock.fast_forward(61_000)
        await heading(page, "Введите код из сообщения")

    async def test_the_operator_says_which_languages_are_offered(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.spoken = ("ru",)
        page = await open_page(kiosk.url)
        await heading(page, "Введите код из сообщения")
        await expect(page.get_by_role("button", name="English")).to_have_count(0)

    async def test_a_new_screen_is_read_from_its_heading(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.answer = Refused(Reason.EXPIRED)
        page = await open_page(kiosk.url)
        await type_code(page)
        await expect(page.get_by_role("heading", name="This code has run out")).to_be_focused()
        await expect(page.locator("main[aria-live=polite]")).to_contain_text("The time to collect is over")

    async def test_nothing_moves_for_who_asked_for_calm(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        for calm, moving in ((False, "running"), (True, "none")):
            page = await open_page(kiosk.url, calm=calm)
            await type_code(page)
            stripes = page.locator(".moving")
            style = await stripes.evaluate(
                "(e) => [getComputedStyle(e).animationName, e.getAnimations()[0]?.playState]"
            )
            assert (style[1] if style[0] != "none" else "none") == moving

    async def test_a_door_left_open_is_pointed_out(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await expect(page.get_by_text("Open: A2. Please close the door.")).to_be_visible()


class TestCouriers:
    async def test_a_parcel_is_deposited_and_the_next_needs_no_second_badge(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page, size="M")
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await expect(page.get_by_text("Put the parcel in and close the door")).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "The parcel is in")
        kiosk.desk.answer = Accepted("s2", "A2")
        await key(page, "Next parcel")
        for letter in "bk-2":
            await key(page, letter)
        await key(page, "Next")
        await page.get_by_role("button", name="Large").click()
        await page.get_by_role("button", name="Low door").click()
        await key(page, "Open a door")
        await expect(page.locator(".plate")).to_have_text("A2")
        assert kiosk.desk.asked == [
            ("deposit", BADGE, "2468", "bk-7f3a91", "M", False),
            ("deposit", BADGE, "2468", "bk-2", "L", True),
        ]

    async def test_a_parcel_that_does_not_fit_is_not_called_stored(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        async with page.expect_response("**/api/sessions/s1/end"):
            await key(page, "Something is wrong")
            await key(page, "I leave no parcel")
        await expect(page.get_by_text("Close the empty door")).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Nothing was stored")
        assert kiosk.desk.asked[-1] == ("end", "s1", "empty")

    async def test_a_full_size_is_changed_without_typing_all_again(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        kiosk.desk.answer = Refused(Reason.NO_ROOM)
        kiosk.desk.later = [Accepted("s1", "A1")]
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page, size="S")
        await heading(page, "No free door of this size")
        await key(page, "Try again")
        await page.get_by_role("button", name="Large").click()
        await key(page, "Open a door")
        await at(page, "door")
        assert [asked[4] for asked in kiosk.desk.asked] == ["S", "L"]

    async def test_badge_and_pin_are_forgotten_when_the_courier_has_left(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "The parcel is in")
        await page.clock.run_for(61_000)
        await at(page, "code")
        await key(page, "Courier")
        await expect(page.get_by_label("Scan your badge")).to_have_value("")
