"""Every screen the kiosk has, each reached as a person or a fault would reach it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from locker.compartment import Place
from locker.contract import DoorState, Reason
from locker.kiosk import Accepted, DoorView, FrontView, Refused, SessionKind, SessionState
from tests.browser.staff_script import ScriptedStaff
from tests.locker.kiosk_rig import ScriptedDesk

CODE = "123456785"
BADGE = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJjLTE3In0.c2ln"

QUICK_KEYS = """async (keys) => {
    for (const key of keys) document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
}"""

SEALED = "eyJlbmMiOiJBMjU2R0NNIn0." + "Ab3_" * 120
"""As long as a sealed code in compact form."""

NO_WEBSOCKET = """() => {
    WebSocket = class {
        constructor() { queueMicrotask(() => this.onclose(new CloseEvent("close"))); }
        close() {}
    };
}"""
"""Run in the page: from now on every WebSocket fails at once, as behind a proxy that knows none."""


def cabinet(columns: int) -> tuple[list[DoorView], FrontView]:
    """``columns`` columns with six doors each, named by column and row, but for A1; the screen is in the second one."""
    rows = [(450, 350), (810, 240), (1060, 190), (1260, 190), (1460, 240), (1710, 240)]
    doors = []
    for column, (row, (bottom, height)) in itertools.product(range(columns), enumerate(rows)):
        place = Place(column, row, 460 * column, bottom, 450, height)
        name = "A1" if (column, row) == (0, 1) else f"{column}{row}"
        if (column, row) not in {(1, 2), (1, 3)}:
            doors.append(DoorView(name, "M", row < 2, DoorState.CLOSED, place))
    return doors, FrontView(460 * columns, 2000, Place(1, 2, 460, 1060, 450, 390))


def _drawn(columns: int, reach: Step) -> Step:
    """The same before a cabinet whose front is known."""

    async def reach_drawn(page: Page, desk: ScriptedDesk) -> None:
        desk.door_views, desk.front_view = cabinet(columns)
        await page.reload()
        await reach(page, desk)

    return reach_drawn


Step = Callable[[Page, ScriptedDesk], Awaitable[None]]


async def key(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def heading(page: Page, words: str) -> None:
    await expect(page.get_by_role("heading")).to_have_text(words)


async def at(page: Page, screen: str) -> None:
    await expect(page.locator(f"[data-screen={screen}]")).to_be_visible()


async def type_code(page: Page, code: str = CODE) -> None:
    await expect(page.locator("[data-screen=code]")).to_be_visible()
    await page.keyboard.type(code)
    await page.keyboard.press("Enter")


async def _quick_code(page: Page, desk: ScriptedDesk) -> None:
    """``type_code`` in one step: a gallery is for looking, and keys are pressed elsewhere."""
    await expect(page.locator("[data-screen=code]")).to_be_visible()
    await page.evaluate(QUICK_KEYS, [*CODE, "Enter"])


async def deposit(page: Page, *, size: str = "M") -> None:
    """A courier with a scanner that types and ends with Enter, and a finger for the rest."""
    await page.locator(".dock button").last.click()
    await page.keyboard.insert_text(BADGE)
    await page.keyboard.press("Enter")
    await page.keyboard.type("2468")
    await page.keyboard.press("Enter")
    await expect(page.locator(".booking")).to_be_visible()
    await page.keyboard.insert_text("bk-7f3a91")
    await page.keyboard.press("Enter")
    await page.locator(".sizes button", has=page.locator(f".box.{size}")).click()
    await page.locator("button[type=submit]").click()


async def come_in(page: Page) -> None:
    """Staff, by a scanner that types and a keyboard: badge and PIN."""
    await at(page, "code")
    await page.locator(".dock button").last.click()
    await page.keyboard.insert_text(BADGE)
    await page.keyboard.press("Enter")
    await page.keyboard.type("24681357")
    await page.keyboard.press("Enter")


def _visit(role: str, *tasks: tuple[str, str], press: str = "", closed: bool = False, refusal: str = "") -> Step:
    """Staff have come, and press ``press``; the door that this opens is shut again."""

    async def reach(page: Page, desk: ScriptedDesk) -> None:
        staff = ScriptedStaff(desk, role, [{"door": door, "what": what} for door, what in tasks], door=tasks[0][0])
        await staff.stand_in(page)
        desk.door_views, _ = cabinet(4)
        await page.reload()
        await come_in(page)
        await at(page, "staff")
        staff.refusal = refusal
        for key_ in press:
            await page.keyboard.press(key_)
        if closed:
            await at(page, "door")
            await desk.move(staff.last(), SessionState.OPEN)
            await desk.move(staff.last(), SessionState.CLOSED)
            await at(page, "staff")

    return reach


async def _code(page: Page, desk: ScriptedDesk) -> None:
    await expect(page.locator("[data-screen=code]")).to_be_visible()


async def _half_typed(page: Page, desk: ScriptedDesk) -> None:
    await page.keyboard.type(CODE[:5])


async def _complete(page: Page, desk: ScriptedDesk) -> None:
    await page.keyboard.type(CODE)


async def _left_open(page: Page, desk: ScriptedDesk) -> None:
    await expect(page.locator(".left-open")).to_be_visible()


def _refused(reason: Reason, retry_after: float | None = None, screen: str = "refused") -> Step:
    async def reach(page: Page, desk: ScriptedDesk) -> None:
        desk.answer = Refused(reason, retry_after)
        await _quick_code(page, desk)
        await expect(page.locator(f"[data-screen={screen}]")).to_be_visible()

    return reach


def _courier_refused(reason: Reason) -> Step:
    async def reach(page: Page, desk: ScriptedDesk) -> None:
        desk.answer = Refused(reason)
        await deposit(page)
        await expect(page.locator("[data-screen=refused]")).to_be_visible()

    return reach


def _session(*states: SessionState, courier: bool = False, door: str = "A1") -> Step:
    async def reach(page: Page, desk: ScriptedDesk) -> None:
        desk.answer = Accepted("s1", door)
        await (deposit(page) if courier else _quick_code(page, desk))
        await expect(page.locator("[data-screen=door]")).to_be_visible()
        for state in states:
            await desk.move("s1", state)
        await page.wait_for_timeout(50)

    return reach


def _said(word: int, *states: SessionState, courier: bool = False) -> Step:
    """At an open door somebody says what is wrong, by the number that stands on the screen."""

    async def reach(page: Page, desk: ScriptedDesk) -> None:
        await _session(SessionState.OPEN, courier=courier)(page, desk)
        await expect(page.locator(".tone-go")).to_be_visible()
        await page.keyboard.press("1")
        await page.keyboard.press(str(word))
        await expect(page.locator(".list")).to_be_hidden()
        for state in states:
            await desk.move("s1", state)
        await page.wait_for_timeout(50)

    return reach


def _told(*states: SessionState, kind: SessionKind = SessionKind.COLLECT, **more: object) -> Step:
    """A customer's door of which the desk tells ``more``, before the last of ``states``."""

    async def reach(page: Page, desk: ScriptedDesk) -> None:
        desk.kind = kind
        await _session(*states[:-1])(page, desk)
        await desk.tell("s1", **more)
        await desk.move("s1", states[-1])
        await page.wait_for_timeout(50)

    return reach


async def _telling(page: Page, desk: ScriptedDesk) -> None:
    await _session(SessionState.OPEN)(page, desk)
    await expect(page.locator(".tone-go")).to_be_visible()
    await page.keyboard.press("1")


async def _courier_telling(page: Page, desk: ScriptedDesk) -> None:
    await _session(SessionState.OPEN, courier=True)(page, desk)
    await expect(page.locator(".tone-go")).to_be_visible()
    await page.keyboard.press("1")


async def _next_jammed(page: Page, desk: ScriptedDesk) -> None:
    await _told(SessionState.OPEN, SessionState.CLOSED, next="collect")(page, desk)
    desk.answer = Accepted("s2", "A2")
    await at(page, "done")
    await page.keyboard.press("2")
    await expect(page.locator("[data-screen=door]")).to_be_visible()
    await desk.move("s2", SessionState.JAMMED)
    await page.wait_for_timeout(50)


async def _menu(page: Page, desk: ScriptedDesk) -> None:
    await page.keyboard.press("Escape")


async def _took_unseen(page: Page, desk: ScriptedDesk) -> None:
    await _session(SessionState.UNKNOWN)(page, desk)
    await page.locator("button.go").last.click()


def _courier_step(step: int) -> Step:
    async def reach(page: Page, desk: ScriptedDesk) -> None:
        await page.locator(".dock button").last.click()
        for at, typed in (("badge", BADGE), ("pin", "2468"), ("booking", "bk-7f3a91"))[:step]:
            if at == "booking":
                await expect(page.locator(".booking")).to_be_visible()
            await (page.keyboard.type(typed) if at == "pin" else page.keyboard.insert_text(typed))
            await page.keyboard.press("Enter")
        await expect(page.locator("[data-screen=courier]")).to_be_visible()

    return reach


async def _not_paired(page: Page, desk: ScriptedDesk) -> None:
    await page.evaluate("sessionStorage.setItem('token', 'x'.repeat(40))")
    await page.reload()
    await expect(page.locator("[data-screen=notPaired]")).to_be_visible()


async def _gone_asking(page: Page, desk: ScriptedDesk) -> None:
    await page.route("**/api/collect", lambda route: route.abort())
    await type_code(page)
    await expect(page.locator("[data-screen=gone]")).to_be_visible()


async def _lost(page: Page, desk: ScriptedDesk) -> None:
    await page.route("**/api/sessions/**", lambda route: route.abort())
    await page.evaluate(NO_WEBSOCKET)
    await _session()(page, desk)
    await expect(page.locator(".tone-silent")).to_be_visible()


def _carried(codes: int) -> Step:
    """A deposit while nobody is in reach."""

    async def reach(page: Page, desk: ScriptedDesk) -> None:
        await _session(SessionState.OPEN, courier=True)(page, desk)
        await desk.tell("s1", carry=" ".join([SEALED] * codes))
        await desk.move("s1", SessionState.CLOSED)
        await page.wait_for_timeout(50)

    return reach


S = SessionState
SCREENS: dict[str, Step] = {
    "code": _code,
    "code-half": _half_typed,
    "code-complete": _complete,
    "code-left-open": _left_open,
    "typo": _refused(Reason.TYPO, screen="code"),
    "extension": _refused(Reason.EXTENSION_NEEDED, screen="extension"),
    "no-such-code": _refused(Reason.NO_SUCH_CODE),
    "expired": _refused(Reason.EXPIRED),
    "used": _refused(Reason.USED),
    "wait": _refused(Reason.WAIT, 83),
    "busy": _refused(Reason.BUSY),
    "busy-counting": _refused(Reason.BUSY, 9),
    "out-of-service": _refused(Reason.OUT_OF_SERVICE),
    "confirm": _refused(Reason.CONFIRM_NEEDED),
    "voucher-refused": _refused(Reason.VOUCHER_REFUSED),
    "other-locker": _refused(Reason.OTHER_LOCKER),
    "too-early": _refused(Reason.TOO_EARLY),
    "superseded": _refused(Reason.SUPERSEDED),
    "not-here": _refused(Reason.NOT_HERE),
    "closed": _courier_refused(Reason.CLOSED),
    "unlocking": _session(),
    "unlocking-drawn": _drawn(4, _session()),
    "unlocking-drawn-wide": _drawn(9, _session()),
    "open-drawn": _drawn(2, _told(S.OPEN, S.OPEN, count=2, shut="alarm")),
    "open-drawn-wide": _drawn(9, _told(S.OPEN, S.OPEN, count=2, shut="alarm")),
    "unlocking-long-name": _session(door="NORTH-WING-07"),
    "open": _session(S.OPEN),
    "open-long-name": _session(S.OPEN, door="NORTH-WING-07"),
    "jammed": _session(S.JAMMED),
    "unknown": _session(S.UNKNOWN),
    "unknown-taken": _took_unseen,
    "taken": _session(S.OPEN, S.CLOSED),
    "lost": _lost,
    "gone-asking": _gone_asking,
    "not-paired": _not_paired,
    "courier-badge": _courier_step(0),
    "courier-pin": _courier_step(1),
    "courier-booking": _courier_step(2),
    "courier-size": _courier_step(3),
    "courier-open": _session(S.OPEN, courier=True, door="B12"),
    "menu": _menu,
    "several": _told(S.OPEN, count=3),
    "shut-chime": _told(S.OPEN, S.OPEN, shut="chime"),
    "shut-alarm": _told(S.OPEN, S.OPEN, shut="alarm"),
    "telling": _telling,
    "wrong-taken": _said(1),
    "wrong-left": _said(2),
    "will-not-close": _said(3),
    "claimed": _said(2, S.CLOSED),
    "next-parcel": _told(S.OPEN, S.CLOSED, next="collect"),
    "next-jammed": _next_jammed,
    "drop-off": _told(S.OPEN, kind=SessionKind.DEPOSIT),
    "drop-off-stored": _told(S.OPEN, S.CLOSED, kind=SessionKind.DEPOSIT),
    "drop-off-jammed": _told(S.JAMMED, kind=SessionKind.DEPOSIT),
    "exchange": _told(S.OPEN, S.CLOSED, kind=SessionKind.DEPOSIT, next="collect"),
    "look": _told(S.OPEN, kind=SessionKind.LOOK),
    "looked": _told(S.OPEN, S.CLOSED, kind=SessionKind.LOOK),
    "courier-telling": _courier_telling,
    "courier-leaves-nothing": _said(4, courier=True),
    "courier-left-nothing": _said(4, S.CLOSED, courier=True),
    "does-not-fit": _said(1, courier=True),
    "next-larger": _said(1, S.CLOSED, courier=True),
    "not-empty": _said(2, courier=True),
    "next-another": _said(2, S.CLOSED, courier=True),
    "courier-will-not-close": _said(3, courier=True),
    "staff-courier": _visit("courier", ("B2", "return"), ("B3", "expired"), ("C1", "redirected")),
    "staff-service": _visit("service", ("10", "unknown"), ("A1", "will_not_close")),
    "staff-door": _visit("service", ("10", "staff"), press="1"),
    "staff-audit": _visit("audit", *((f"{door}1", "look") for door in range(9))),
    "staff-found": _visit("audit", ("A1", "look"), press="2", closed=True),
    "staff-parcel-inside": _visit("service", ("10", "unknown"), press="11", refusal="parcel_inside"),
    "staff-look-first": _visit("service", ("10", "unknown"), press="13", refusal="look_first"),
    "staff-door-open": _visit("service", ("10", "unknown"), press="13", refusal="door_open"),
    "staff-item-seen": _visit("service", ("10", "unknown"), press="13", refusal="item_seen"),
    "staff-over": _visit("service", ("10", "unknown"), press="11", refusal="no_such_visit"),
    "carry": _carried(1),
    "carry-several": _carried(4),
    "courier-stored": _session(S.OPEN, S.CLOSED, courier=True),
    "courier-jammed": _session(S.JAMMED, courier=True),
    "courier-unknown": _session(S.UNKNOWN, courier=True),
    "not-allowed": _courier_refused(Reason.NOT_ALLOWED),
    "booking-refused": _courier_refused(Reason.BOOKING_REFUSED),
    "no-room": _courier_refused(Reason.NO_ROOM),
}
