"""A customer at a real locker: Chromium, the built page, the role agent, its journal, and a board on a pty.

Only the board is simulated, in a process of its own, and its log says which door moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from agents.demo_broker import Mosquitto, find_mosquitto, free_port
from agents.demo_story import other_code
from agents.demo_world import SealedCode, World
from agents.site import Site
from tests.browser.conftest import OpenPage

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("real-locker")]

SHOTS = Path(".cache/shots")
"""Where the pictures of this run lie, for a person to look at."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    executable = find_mosquitto()
    if executable is None:
        pytest.fail("mosquitto is missing; install it with: apt-get install mosquitto")
    SHOTS.mkdir(parents=True, exist_ok=True)
    directory = tmp_path_factory.mktemp("locker")
    (directory / "logs").mkdir()
    world = World(Site(directory), Mosquitto(executable, free_port(), directory), close_after_ms=None)
    try:
        world.start()
        yield world
    finally:
        world.stop()


def deposit(world: World, booking: str) -> tuple[int, SealedCode]:
    """A courier puts a parcel in; returns the lock's number and the customer's code."""
    body = {"badge": world.courier.badge, "pin": world.courier.pin, "booking": booking, "size": "S"}
    status, answer = world.kiosk.call("POST", "/api/deposit", body)
    assert status == 202, answer
    lock = int(answer["door"]) - 1
    world.board.wait("opened", 0, lock)
    world.until("the courier's screen to say open", lambda: session_state(world, answer["session"]) == "open")
    world.board.call("put_item", board=0, lock=lock)
    shut(world, lock)
    return lock, world.until("the code", lambda: world.codes().get(booking))


def session_state(world: World, session: str) -> str:
    return str(world.kiosk.call("GET", f"/api/sessions/{session}")[1]["state"])


def shut(world: World, lock: int) -> None:
    def closed() -> bool:
        world.board.call("close_door", board=0, lock=lock)
        return bool(world.witness()[-1]["what"] == "closed" or not is_open(world, lock))

    world.until("the door to stay shut", closed)


def is_open(world: World, lock: int) -> bool:
    doors = world.board.call("doors")["doors"]
    assert isinstance(doors, list)
    return any(door["lock"] == lock and door["open"] for door in doors)


def openings(world: World, lock: int) -> int:
    return sum(line["what"] == "opened" and line["lock"] == lock for line in world.witness())


async def test_a_code_typed_on_the_page_opens_the_door_and_works_once(world: World, open_page: OpenPage) -> None:
    lock, code = await asyncio.to_thread(deposit, world, "parcel-a")
    before = openings(world, lock)
    page = await open_page(world.kiosk.url())

    swapped = str((int(code.code[0]) + 1) % 10) + code.code[1:]
    await page.keyboard.type(swapped)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("A digit is mistyped")).to_be_visible()
    for _ in swapped:
        await page.keyboard.press("Backspace")

    await page.keyboard.type(other_code(code.code))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading")).to_have_text("No parcel here has this code")
    assert openings(world, lock) == before
    await page.reload()

    for digit in code.code:
        await page.get_by_role("button", name=digit, exact=True).click()
    await page.screenshot(path=SHOTS / "real-code-800.png")
    await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.locator(".plate")).to_have_text(f"{lock + 1:02d}")
    await asyncio.to_thread(world.board.wait, "opened", 0, lock, count=before + 1)
    await expect(page.get_by_role("heading")).to_have_text("Door is open")
    await page.screenshot(path=SHOTS / "real-open-800.png")

    world.board.call("take_item", board=0, lock=lock)
    await asyncio.to_thread(shut, world, lock)
    await expect(page.get_by_role("heading")).to_have_text("Thank you")
    await page.screenshot(path=SHOTS / "real-taken-800.png")

    await page.reload()
    await page.keyboard.type(code.code)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading")).to_have_text("This code has been used")
    assert openings(world, lock) == before + 1


async def test_a_jam_tells_the_truth_and_the_code_stays_good(world: World, open_page: OpenPage) -> None:
    lock, code = await asyncio.to_thread(deposit, world, "parcel-b")
    before = openings(world, lock)
    world.board.call("fault", kind="stuck", board=0, lock=lock, pulses=3)
    page = await open_page(world.kiosk.url(), language="ru", size=(1280, 800))
    await page.keyboard.type(code.code)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading")).to_have_text(f"Ячейка {lock + 1:02d} не открылась", timeout=30_000)
    await page.screenshot(path=SHOTS / "real-jammed-1280.png")
    assert openings(world, lock) == before
    world.board.call("heal")
    status, answer = world.kiosk.call("POST", "/api/collect", {"code": code.code})
    assert status == 202
    await asyncio.to_thread(world.board.wait, "opened", 0, lock, count=before + 1)
    world.until("the door to be seen open", lambda: session_state(world, answer["session"]) == "open")
    await asyncio.to_thread(shut, world, lock)
