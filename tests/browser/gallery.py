"""Every screen the kiosk has, each reached as a person or a fault would reach it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from locker.contract import Reason
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.kiosk_rig import ScriptedDesk

CODE = "123456785"
BADGE = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJjLTE3In0.c2ln"

NO_WEBSOCKET = """() => {
    WebSocket = class {
        constructor() { queueMicrotask(() => this.onclose()); }
        close() {}
    };
}"""
"""Run in the page: from now on every WebSocket fails at once, as behind a proxy that knows none."""

Step = Callable[[Page, ScriptedDesk], Awaitable[None]]


async def type_code(page: Page, code: str = CODE) -> None:
    await expect(page.locator("[data-screen=code]")).to_be_visible()
    await page.keyboard.type(code)
    await page.keyboard.press("Enter")


async def deposit(page: Page, *, size: str = "M") -> None:
    """A courier with a scanner that types and ends with Enter, and a finger for the rest."""
    await page.locator(".dock button").last.click()
    await page.keyboard.type(BADGE)
    await page.keyboard.press("Enter")
    await page.keyboard.type("2468")
    await page.keyboard.press("Enter")
    await page.keyboard.type("bk-7f3a91")
    await page.keyboard.press("Enter")
    await page.locator(".sizes button", has=page.locator(f".box.{size}")).click()
    await page.locator("button[type=submit]").click()


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
        await type_code(page)
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
        await (deposit(page) if courier else type_code(page))
        await expect(page.locator("[data-screen=door]")).to_be_visible()
        for state in states:
            await desk.move("s1", state)
        await page.wait_for_timeout(100)

    return reach


async def _courier_leaves_nothing(page: Page, desk: ScriptedDesk) -> None:
    await _session(SessionState.OPEN, courier=True)(page, desk)
    await page.locator(".say button").click()


async def _took_unseen(page: Page, desk: ScriptedDesk) -> None:
    await _session(SessionState.UNKNOWN)(page, desk)
    await page.locator("button.go").last.click()


def _courier_step(step: int) -> Step:
    async def reach(page: Page, desk: ScriptedDesk) -> None:
        await page.locator(".dock button").last.click()
        for typed in (BADGE, "2468", "bk-7f3a91")[:step]:
            await page.keyboard.type(typed)
            await page.keyboard.press("Enter")

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
    "unlocking": _session(),
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
    "courier-leaves-nothing": _courier_leaves_nothing,
    "courier-stored": _session(S.OPEN, S.CLOSED, courier=True),
    "courier-jammed": _session(S.JAMMED, courier=True),
    "courier-unknown": _session(S.UNKNOWN, courier=True),
    "not-allowed": _courier_refused(Reason.NOT_ALLOWED),
    "booking-refused": _courier_refused(Reason.BOOKING_REFUSED),
    "no-room": _courier_refused(Reason.NO_ROOM),
}
