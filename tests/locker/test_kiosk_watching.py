"""Following a session over a WebSocket, on a real socket: who may, what is told, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge.errors import StoreError
from locker.kiosk import SUBPROTOCOL, SessionState, SessionView
from locker.kiosk_http import KioskLimits
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served, tiny_page

CODE = "123456785"


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
async def host(desk: ScriptedDesk, tmp_path: Path) -> AsyncIterator[str]:
    async with served(desk, tiny_page(tmp_path), limits=KioskLimits(watchers=2)) as address:
        yield address


def watcher(host: str, session: str, *, token: str = TOKEN, origin: str | None = None) -> connect:
    offers = [SUBPROTOCOL, f"token.{token}"]
    return connect(f"ws://{host}/api/sessions/{session}/watch", subprotocols=offers, origin=origin, proxy=None)  # type: ignore[arg-type]


async def heard(ws: ClientConnection) -> dict[str, object]:
    told: dict[str, object] = json.loads(await ws.recv())
    return told


class TestWatching:
    async def test_a_watcher_hears_every_change_until_the_end(self, host: str, desk: ScriptedDesk) -> None:
        await desk.collect(CODE, None, False)
        async with watcher(host, "s1") as ws:
            assert ws.subprotocol == SUBPROTOCOL
            states = [(await heard(ws))["state"]]
            for state in (SessionState.OPEN, SessionState.CLOSED, SessionState.ENDED):
                await desk.move("s1", state)
                states.append((await heard(ws))["state"])
            assert states == ["unlocking", "open", "closed", "ended"]
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1000

    async def test_a_watcher_that_leaves_is_forgotten(self, host: str, desk: ScriptedDesk) -> None:
        await desk.collect(CODE, None, False)
        async with watcher(host, "s1") as ws:
            await heard(ws)
        await asyncio.wait_for(desk.unwatched.wait(), 2)

    async def test_an_unknown_session_is_said_so(self, host: str) -> None:
        async with watcher(host, "none") as ws:
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 4404

    async def test_a_watcher_that_talks_is_shown_out(self, host: str, desk: ScriptedDesk) -> None:
        await desk.collect(CODE, None, False)
        async with watcher(host, "s1") as ws:
            await heard(ws)
            await ws.send("open sesame")
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1003

    async def test_there_is_room_for_so_many_watchers_and_no_more(self, host: str, desk: ScriptedDesk) -> None:
        await desk.collect(CODE, None, False)
        async with watcher(host, "s1") as one, watcher(host, "s1") as two:
            await heard(one)
            await heard(two)
            async with watcher(host, "s1") as three:
                with pytest.raises(ConnectionClosed):
                    await three.recv()
                assert three.close_code == 1013

    async def test_a_desk_that_fails_while_watched_ends_the_watch(
        self, host: str, desk: ScriptedDesk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await desk.collect(CODE, None, False)

        async def broken(session: str) -> AsyncIterator[SessionView]:
            yield desk.views[session]
            raise StoreError("the session cannot be read", remedy="look at the disk")

        monkeypatch.setattr(desk, "watch", broken)
        with structlog.testing.capture_logs():
            async with watcher(host, "s1") as ws:
                await heard(ws)
                with pytest.raises(ConnectionClosed):
                    await ws.recv()
        assert ws.close_code == 1011

    async def test_no_token_no_watching(self, host: str) -> None:
        for offers in ([SUBPROTOCOL], [SUBPROTOCOL, "token." + "y" * 40], [f"token.{TOKEN}"]):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(f"ws://{host}/api/sessions/s1/watch", subprotocols=offers, proxy=None)  # type: ignore[arg-type]
            assert refusal.value.response.status_code == 403

    async def test_another_sites_page_cannot_watch(self, host: str) -> None:
        with pytest.raises(InvalidStatus):
            await watcher(host, "s1", origin="http://evil.example")

    async def test_ending_lets_the_port_go_even_with_a_watcher(self, desk: ScriptedDesk, tmp_path: Path) -> None:
        async with served(desk, tiny_page(tmp_path)) as host:
            await desk.collect(CODE, None, False)
            ws = await watcher(host, "s1")
            await heard(ws)
        await ws.wait_closed()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(host.split(":")[1]))) != 0
