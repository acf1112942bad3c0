"""What the page hears of keypad and scanners over its WebSocket, and that a token reaches the desk without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from edge.clock_sim import ManualClock
from locker.inputs_asyncio import Inputs
from locker.inputs_http import NEWER_PAGE
from locker.kiosk import SUBPROTOCOL
from locker.terminal import Key, Terminal
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served, tiny_page
from tests.locker.test_terminal import CODE, signed

BADGE = signed("lm-badge+jwt")


@pytest.fixture
def inputs() -> Inputs:
    return Inputs(Terminal(lambda size: b"\x07" * size), ManualClock())


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
async def host(desk: ScriptedDesk, inputs: Inputs, tmp_path: Path) -> AsyncIterator[str]:
    async with served(desk, tiny_page(tmp_path), inputs=inputs) as address:
        yield address


def page(host: str, *, token: str = TOKEN) -> websockets.connect:
    offers = [websockets.Subprotocol(SUBPROTOCOL), websockets.Subprotocol(f"token.{token}")]
    return websockets.connect(f"ws://{host}/api/inputs", subprotocols=offers)


async def heard(ws: websockets.ClientConnection) -> dict[str, object]:
    async with asyncio.timeout(5):
        told: dict[str, object] = json.loads(await ws.recv())
        return told


async def listening(inputs: Inputs) -> None:
    """Until the server has a page for the inputs."""
    async with asyncio.timeout(5):
        await inputs.attended.wait()


async def test_the_page_hears_keys_and_scans_in_their_order(host, inputs):
    async with page(host) as ws:
        await listening(inputs)
        inputs.press("4")
        inputs.press(Key.ERASE)
        inputs.scan(CODE.encode())
        inputs.scan(b"bk-7f3a")
        inputs.scan(b"https://example.com")
        told = [await heard(ws) for _ in range(5)]
    assert told == [
        {"key": "4"},
        {"key": "erase"},
        {"scan": "code", "ref": None, "text": CODE},
        {"scan": "booking", "ref": None, "text": "bk-7f3a"},
        {"scan": "foreign", "ref": None, "text": None},
    ]


async def test_a_badge_reaches_the_desk_by_its_reference_and_never_the_page(host, inputs, desk):
    async with page(host) as ws:
        await listening(inputs)
        inputs.scan(BADGE)
        raw = await ws.recv()
    assert BADGE.decode() not in raw
    told = json.loads(raw)
    assert told["scan"] == "badge"
    asked = {"badge": told["ref"], "pin": "12345678", "booking": "bk-1", "size": "S"}
    async with httpx.AsyncClient(base_url=f"http://{host}", headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        assert (await http.post("/api/deposit", json=asked)).status_code == 202
    assert desk.asked == [("deposit", BADGE.decode(), "12345678", "bk-1", "S", False)]


async def test_a_voucher_reaches_the_desk_by_its_reference_too(host, inputs, desk):
    voucher = signed("lm-voucher+jwt")
    async with page(host) as ws:
        await listening(inputs)
        inputs.scan(voucher)
        told = await heard(ws)
    assert (told["scan"], told["text"]) == ("voucher", None)
    async with httpx.AsyncClient(base_url=f"http://{host}", headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        assert (await http.post("/api/collect", json={"voucher": told["ref"]})).status_code == 202
    assert voucher.decode() in desk.asked[0]


async def test_a_badge_that_is_typed_into_a_tool_is_taken_as_it_is(host, desk):
    asked = {"badge": BADGE.decode(), "pin": "12345678", "booking": "bk-1", "size": "S"}
    async with httpx.AsyncClient(base_url=f"http://{host}", headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        await http.post("/api/deposit", json=asked)
    assert desk.asked[0][1] == BADGE.decode()


async def test_the_newest_page_hears_and_the_one_before_is_told(host, inputs):
    async with page(host) as old:
        await listening(inputs)
        async with page(host) as new:
            async with asyncio.timeout(5):
                await old.wait_closed()
            assert old.close_code == NEWER_PAGE
            inputs.press("1")
            assert await heard(new) == {"key": "1"}


async def test_a_page_that_has_gone_is_forgotten(host, inputs):
    async with page(host):
        await listening(inputs)
    async with asyncio.timeout(5):
        while inputs.attended.is_set():  # noqa: ASYNC110 - an event tells of what begins, not of what ends
            await asyncio.sleep(0)


async def test_a_page_has_nothing_to_say_there(host, inputs):
    async with page(host) as ws:
        await ws.send("1")
        async with asyncio.timeout(5):
            await ws.wait_closed()
        assert ws.close_code == 1003


async def test_a_stranger_hears_nothing(host):
    with contextlib.suppress(websockets.InvalidStatus):
        async with page(host, token="x" * 43):
            pytest.fail("let in")
