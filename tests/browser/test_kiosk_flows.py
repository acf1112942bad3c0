"""What a visit may hold beside one parcel and one code: more doors, something wrong, a scanner, an app, a picture."""

from __future__ import annotations

import base64

import pytest
import zxingcpp
from playwright.async_api import Page, expect

from locker.contract import Reason
from locker.kiosk import Accepted, Refused, SessionKind, SessionState
from locker.terminal import Key
from tests.browser.conftest import Kiosk, OpenPage
from tests.browser.gallery import CODE, SEALED, at, cabinet, deposit, heading, key, type_code

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

S = SessionState

NOTES = """() => {
    window.notes = [];
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (at) {
        notes.push(this.frequency.value);
        start.call(this, at);
    };
}"""
"""Run in the page: from now on ``notes`` holds the Hz of every tone that it plays."""


async def stand_open(page: Page, kiosk: Kiosk) -> None:
    """A customer has typed a code, and the door stands open."""
    await type_code(page)
    await at(page, "door")
    await kiosk.desk.move("s1", S.OPEN)
    await expect(page.get_by_role("heading")).to_have_text("Door is open")


class TestSeveralDoors:
    async def test_each_parcel_of_a_customer_is_led_to(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await stand_open(page, kiosk)
        await kiosk.desk.tell("s1", count=2)
        await expect(page.get_by_text("2 parcels")).to_be_visible()
        await kiosk.desk.tell("s1", next="collect")
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "There is more for you")
        kiosk.desk.answer = Accepted("s2", "B7")
        await key(page, "Open the next door")
        await expect(page.locator(".plate")).to_have_text("B7")
        await kiosk.desk.move("s2", S.OPEN)
        await kiosk.desk.move("s2", S.CLOSED)
        await heading(page, "Thank you")
        assert kiosk.desk.asked == [("collect", CODE, None, False), ("next", "s1")]

    async def test_a_next_door_that_jams_asks_for_that_parcels_own_code(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        """The code of the first parcel is spent: to try it again would be told as a stranger's misuse."""
        page = await open_page(kiosk.url)
        await stand_open(page, kiosk)
        await kiosk.desk.tell("s1", next="collect")
        await kiosk.desk.move("s1", S.CLOSED)
        kiosk.desk.answer = Accepted("s2", "B7")
        await key(page, "Open the next door")
        await at(page, "door")
        await kiosk.desk.move("s2", S.JAMMED)
        await expect(page.get_by_text("type the code of that parcel")).to_be_visible()
        await expect(page.get_by_role("button", name="Try again")).to_have_count(0)

    async def test_in_an_exchange_the_old_goes_in_before_the_new_comes_out(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        kiosk.desk.kind = SessionKind.DEPOSIT
        page = await open_page(kiosk.url)
        await stand_open(page, kiosk)
        await expect(page.get_by_text("Put the parcel in and close the door")).to_be_visible()
        await kiosk.desk.tell("s1", next="collect")
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Now your new parcel")
        kiosk.desk.answer = Accepted("s2", "C3")
        await key(page, "Open the next door")
        await kiosk.desk.move("s2", S.OPEN)
        await expect(page.get_by_text("Take your parcel and close the door")).to_be_visible()


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("says", "deed", "then"),
        [
            ("My parcel does not fit", "Close the empty door: a larger one is next", "Now a larger door"),
            ("Something is inside already", "Leave it inside and close the door", "Now another door"),
        ],
    )
    async def test_a_courier_is_shown_another_door(
        self, kiosk: Kiosk, open_page: OpenPage, says: str, deed: str, then: str
    ) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await key(page, "Something is wrong")
        await key(page, says)
        await expect(page.get_by_text(deed)).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, then)
        kiosk.desk.answer = Accepted("s2", "A2")
        await key(page, "Open the next door")
        await kiosk.desk.move("s2", S.OPEN)
        await kiosk.desk.move("s2", S.CLOSED)
        await heading(page, "The parcel is in")
        await expect(page.get_by_role("button", name="Next parcel")).to_be_visible()

    async def test_a_door_that_cannot_be_shut_keeps_nobody_waiting(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await stand_open(page, kiosk)
        await key(page, "Something is wrong")
        await key(page, "The door will not shut")
        await heading(page, "Leave the door as it is")
        assert kiosk.desk.asked[-1] == ("end", "s1", "will_not_close")

    async def test_what_is_wrong_may_be_found_out_behind_the_closed_door(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        await stand_open(page, kiosk)
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Thank you")
        await key(page, "Something is wrong")
        async with page.expect_response("**/api/sessions/s1/end"):
            await key(page, "Wrong or damaged: I take it along")
        await heading(page, "Thank you for telling us")
        assert kiosk.desk.asked[-1] == ("end", "s1", "wrong_taken")

    async def test_a_door_left_open_is_heard_and_then_heard_more(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await page.evaluate(NOTES)
        await stand_open(page, kiosk)
        await page.clock.run_for(7_000)
        assert await page.evaluate("notes") == []
        await kiosk.desk.tell("s1", shut="chime")
        await heading(page, "Please close the door")
        await page.clock.run_for(1_000)
        assert await page.evaluate("notes") == [880, 659]
        await kiosk.desk.tell("s1", shut="alarm")
        await heading(page, "Close the door! Staff have been told.")
        await page.clock.run_for(3_000)
        assert len(await page.evaluate("notes")) > 4


class TestScanner:
    VOUCHER = "eyJhbGciOiJFZDI1NTE5IiwidHlwIjoibG0tdm91Y2hlcitqd3QifQ.eyJwYXJjZWwiOiJwLTEifQ.c2ln"
    BADGE = "eyJhbGciOiJFZDI1NTE5IiwidHlwIjoibG0tYmFkZ2Urand0In0.eyJzdWIiOiJjLTE3In0.c2ln"

    async def test_a_voucher_opens_the_door_and_never_reaches_the_page(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await kiosk.keys()
        async with page.expect_request("**/api/collect") as sent:
            kiosk.inputs.scan(self.VOUCHER.encode())
        await heading(page, "Go to door")
        assert kiosk.desk.asked == [("voucher", self.VOUCHER, False)]
        body = (await sent.value).post_data or ""
        assert "scan:" in body
        assert self.VOUCHER not in body + await page.content()

    @pytest.mark.parametrize(
        ("reason", "english", "russian"),
        [
            (Reason.VOUCHER_REFUSED, "This QR code is not valid", "Этот QR-код не подходит"),
            (Reason.OTHER_LOCKER, "Your parcel is at another locker", "Ваша посылка в другом постамате"),
            (Reason.TOO_EARLY, "It is too early for this QR code", "Для этого QR-кода ещё рано"),
            (Reason.SUPERSEDED, "There is a newer QR code", "Есть новый QR-код"),
            (Reason.NOT_HERE, "Your parcel is not here", "Вашей посылки здесь нет"),
        ],
    )
    async def test_a_refused_voucher_says_why_in_both_languages(
        self, kiosk: Kiosk, open_page: OpenPage, reason: Reason, english: str, russian: str
    ) -> None:
        kiosk.desk.answer = Refused(reason)
        page = await open_page(kiosk.url)
        await kiosk.keys()
        kiosk.inputs.scan(self.VOUCHER.encode())
        await heading(page, english)
        await key(page, "Русский")
        await heading(page, russian)

    async def test_a_badge_on_the_first_screen_goes_straight_to_the_pin(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        await kiosk.keys()
        kiosk.inputs.scan(self.BADGE.encode())
        await heading(page, "Type your PIN")
        await kiosk.keys(*"2468", Key.ENTER)
        await heading(page, "Scan the label")
        kiosk.inputs.scan(b"bk-7f3a91")
        await heading(page, "How large is the parcel?")

    async def test_anything_else_is_told_to_be_no_code_of_ours(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await kiosk.keys()
        kiosk.inputs.scan(b"https://example.org/?code=123456785")
        await expect(page.get_by_text("That is no code of this locker")).to_be_visible()
        assert kiosk.desk.asked == []


class TestKeypadAlone:
    async def test_a_parcel_is_collected_and_something_wrong_is_told(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await kiosk.keys(*CODE[:4], "9", Key.ERASE, *CODE[4:], Key.ENTER)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await heading(page, "Door is open")
        await kiosk.keys("1")
        await heading(page, "What is wrong?")
        await kiosk.keys("2")
        await expect(page.get_by_text("Leave it inside and close the door")).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Thank you for telling us")
        await kiosk.keys("1")
        await at(page, "code")
        assert kiosk.desk.asked == [("collect", CODE, None, False), ("end", "s1", "wrong_left")]

    async def test_language_and_comfort_are_chosen_by_number(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await at(page, "code")
        await kiosk.keys(Key.CANCEL)
        await heading(page, "What would you like?")
        await kiosk.keys("1", "2")
        await expect(page.locator(".kiosk.large.contrast")).to_be_visible()
        await kiosk.keys("5")
        await heading(page, "Что вам нужно?")
        await kiosk.keys("7")
        await heading(page, "Введите код из сообщения")


class TestComfort:
    async def test_it_stays_for_the_visit_and_is_gone_for_the_next_person(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        for comfort in ("Larger text", "High contrast", "Keys lower down"):
            await key(page, comfort)
        await stand_open(page, kiosk)
        await expect(page.locator(".kiosk.large.contrast.low")).to_be_visible()
        await kiosk.desk.move("s1", S.CLOSED)
        await key(page, "Finish")
        await expect(page.locator(".kiosk.large")).to_be_visible()
        await page.clock.fast_forward(61_000)
        await expect(page.locator(".kiosk.large")).to_have_count(0)

    async def test_whoever_needs_time_gets_ten_times_as_much(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        page = await open_page(kiosk.url)
        await key(page, "More time")
        await page.keyboard.type(CODE[:5])
        await page.clock.fast_forward(440_000)
        await expect(page.get_by_role("img", name="5 of 9 digits")).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("Still there?")
        await page.clock.fast_forward(11_000)
        await expect(page.get_by_role("img", name="0 of 9 digits")).to_be_visible()


class TestThePicture:
    @pytest.mark.parametrize(
        ("door", "where"), [("A1", "left of this screen"), ("21", "right of this screen"), ("14", "above this screen")]
    )
    async def test_it_marks_the_door_and_says_where_it_is(
        self, kiosk: Kiosk, open_page: OpenPage, door: str, where: str
    ) -> None:
        kiosk.desk.answer = Accepted("s1", door)
        doors, kiosk.desk.front_view = cabinet(4)
        kiosk.desk.door_views = doors
        page = await open_page(kiosk.url)
        await type_code(page)
        picture = page.get_by_role("img", name=f"The locker from the front, with door {door} marked")
        await expect(picture).to_be_visible()
        await expect(page.locator("figcaption")).to_contain_text(where)
        place = next(each.place for each in doors if each.door == door)
        assert await page.locator("rect.goal").get_attribute("x") == str(place.x_mm)
        assert await page.locator("rect.goal").get_attribute("y") == str(2000 - place.y_mm - place.height_mm)


class TestFromAfar:
    async def test_a_door_opened_with_an_app_is_shown_to_whoever_stands_here(
        self, kiosk: Kiosk, open_page: OpenPage
    ) -> None:
        page = await open_page(kiosk.url)
        await expect(page.get_by_text("For the app: 4821 73")).to_be_visible()
        kiosk.desk.release("far", "A2")
        await page.clock.run_for(1_500)
        await expect(page.locator(".plate")).to_have_text("A2")
        await kiosk.desk.move("far", S.OPEN)
        await heading(page, "Door is open")
        await kiosk.desk.move("far", S.CLOSED)
        await heading(page, "Thank you")
        await key(page, "Finish")
        await page.clock.run_for(3_000)
        await at(page, "code")


class TestCarrying:
    async def test_the_sealed_code_can_be_read_off_the_screen(self, kiosk: Kiosk, open_page: OpenPage) -> None:
        """By a decoder of another make, from what the smallest display shows."""
        page = await open_page(kiosk.url)
        await at(page, "code")
        await deposit(page)
        await at(page, "door")
        await kiosk.desk.move("s1", S.OPEN)
        await kiosk.desk.tell("s1", carry=SEALED)
        await kiosk.desk.move("s1", S.CLOSED)
        await heading(page, "Take this along")
        (read,) = zxingcpp.read_barcodes(await _grey(await open_page("about:blank"), await page.screenshot()))
        assert read.text == SEALED


async def _grey(page: Page, png: bytes) -> memoryview:
    """A picture as rows of grey pixels, unpacked by a page of its own."""
    packed = base64.b64encode(png).decode()
    width, height, pixels = await page.evaluate(
        """async (packed) => {
            const image = await createImageBitmap(await (await fetch('data:image/png;base64,' + packed)).blob());
            const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
            canvas.drawImage(image, 0, 0);
            const { data } = canvas.getImageData(0, 0, image.width, image.height);
            const grey = Array.from({ length: data.length / 4 }, (_, at) => String.fromCharCode(data[4 * at + 1]));
            return [image.width, image.height, btoa(grey.join(''))];
        }""",
        packed,
    )
    return memoryview(base64.b64decode(pixels)).cast("B", (height, width))
