"""The kiosk's HTTP contract, over real sockets: what a page and a tool can rely on, and what a stranger cannot do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import structlog

from edge.clock_sim import ManualClock
from edge.errors import StoreError
from locker.contract import Reason
from locker.kiosk import (
    Accepted,
    CollectRequest,
    DepositRequest,
    Desk,
    Refused,
    SessionState,
)
from locker.kiosk_http import KioskLimits, build_kiosk
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, served, tiny_page

CODE = "123456785"
PARCEL = {"badge": "b.a.d", "pin": "1234", "booking": "bk-1", "size": "S", "low": True}
HOST = "127.0.0.1:8080"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return tiny_page(tmp_path)


@pytest.fixture
def desk() -> ScriptedDesk:
    return ScriptedDesk()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


LIMITS = KioskLimits(requests_per_second=1.0, burst=20, watchers=2, body_seconds=0.2)


@pytest.fixture
async def host(desk: ScriptedDesk, static: Path) -> AsyncIterator[str]:
    """Where the real server listens, for what needs a real socket."""
    async with served(desk, static, limits=LIMITS) as address:
        yield address


@pytest.fixture
def transport(desk: ScriptedDesk, static: Path, clock: ManualClock) -> httpx.ASGITransport:
    app = build_kiosk(desk, token=TOKEN, static=static, hosts=frozenset({HOST}), clock=clock, limits=LIMITS)
    return httpx.ASGITransport(app)


@pytest.fixture
async def page(transport: httpx.ASGITransport) -> AsyncIterator[httpx.AsyncClient]:
    """What the kiosk's page is to the server: it has the token."""
    async with httpx.AsyncClient(base_url=f"http://{HOST}", headers=BEARER, transport=transport) as client:
        yield client


@pytest.fixture
async def stranger(transport: httpx.ASGITransport) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{HOST}", transport=transport) as client:
        yield client


class TestCollect:
    async def test_a_good_code_is_answered_with_the_session_and_the_door(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        answer = await page.post("/api/collect", json={"code": CODE})
        assert (answer.status_code, answer.json()) == (202, {"session": "s1", "door": "A1"})
        assert desk.asked == [("collect", CODE, None, False)]

    async def test_extension_and_confirmation_reach_the_desk(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        await page.post("/api/collect", json={"code": CODE, "extension": "0042", "confirm": True})
        assert desk.asked == [("collect", CODE, "0042", True)]

    @pytest.mark.parametrize(
        ("reason", "status"),
        [
            ("typo", 422),
            ("no_such_code", 404),
            ("expired", 410),
            ("used", 410),
            ("wait", 429),
            ("extension_needed", 422),
            ("busy", 409),
            ("out_of_service", 409),
            ("confirm_needed", 409),
        ],
    )
    async def test_every_refusal_has_its_reason_and_status(
        self, page: httpx.AsyncClient, desk: ScriptedDesk, reason: str, status: int
    ) -> None:
        desk.answer = Refused(Reason(reason))
        answer = await page.post("/api/collect", json={"code": CODE})
        assert (answer.status_code, answer.json()) == (status, {"reason": reason, "retry_after": None})

    async def test_a_voucher_is_shown_instead_of_a_code_and_never_beside_one(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        answer = await page.post("/api/collect", json={"voucher": "a.b.c", "confirm": True})
        assert (answer.status_code, desk.asked) == (202, [("voucher", "a.b.c", True)])
        for body in ({}, {"code": CODE, "voucher": "a.b.c"}, {"voucher": "a.b.c", "extension": "0042"}):
            assert (await page.post("/api/collect", json=body)).status_code == 400

    async def test_a_wait_says_for_how_long(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        desk.answer = Refused(Reason.WAIT, 11.5)
        answer = await page.post("/api/collect", json={"code": CODE})
        assert answer.json()["retry_after"] == 11.5
        assert answer.headers["Retry-After"] == "12"

    async def test_a_store_that_fails_is_out_of_service_and_not_an_accident(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        desk.answer = StoreError("the disk refused the row", remedy="replace the card")
        with structlog.testing.capture_logs() as logs:
            answer = await page.post("/api/collect", json={"code": CODE})
        assert (answer.status_code, answer.json()["reason"]) == (409, "out_of_service")
        assert [line["event"] for line in logs] == ["kiosk.desk_failed"]
        assert CODE not in str(logs)


class TestDeposit:
    async def test_a_courier_is_given_a_door(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        answer = await page.post("/api/deposit", json=PARCEL)
        assert (answer.status_code, answer.json()) == (202, {"session": "s1", "door": "A1"})
        assert desk.asked == [("deposit", "b.a.d", "1234", "bk-1", "S", True)]

    async def test_several_labels_go_behind_one_door(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        await page.post("/api/deposit", json={**PARCEL, "also": ["bk-2", "bk-3"]})
        assert desk.asked == [("deposit", "b.a.d", "1234", "bk-1", "bk-2", "bk-3", "S", True)]
        assert (await page.post("/api/deposit", json={**PARCEL, "also": ["bk"] * 8})).status_code == 400

    @pytest.mark.parametrize(("reason", "status"), [("not_allowed", 403), ("booking_refused", 409), ("no_room", 409)])
    async def test_its_own_refusals(
        self, page: httpx.AsyncClient, desk: ScriptedDesk, reason: str, status: int
    ) -> None:
        desk.answer = Refused(Reason(reason))
        answer = await page.post("/api/deposit", json=PARCEL)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)

    async def test_a_size_that_does_not_exist_is_a_bad_request(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        answer = await page.post("/api/deposit", json={**PARCEL, "size": "XXL"})
        assert (answer.status_code, answer.json()["reason"], desk.asked) == (400, "bad_request", [])


class TestSessions:
    async def test_a_session_tells_how_far_it_is(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        await page.post("/api/collect", json={"code": CODE})
        await desk.move("s1", SessionState.OPEN)
        answer = await page.get("/api/sessions/s1")
        assert answer.json() == {
            "session": "s1",
            "kind": "collect",
            "door": "A1",
            "state": "open",
            "opened": True,
            "count": 1,
            "carry": "",
            "shut": "",
            "next": "",
        }

    async def test_the_next_door_of_a_visit_is_asked_for_by_its_session(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        assert (await page.post("/api/sessions/none/next")).status_code == 404
        await page.post("/api/collect", json={"code": CODE})
        answer = await page.post("/api/sessions/s1/next")
        assert (answer.status_code, desk.asked[-1]) == (202, ("next", "s1"))
        desk.answer = Refused(Reason.NOT_HERE)
        answer = await page.post("/api/sessions/s1/next")
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_here")

    async def test_the_page_shows_digits_and_follows_a_door_that_is_opened_from_afar(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        assert (await page.get("/api/shown")).json() == {"shown": "4821 73", "until_s": 41.5}
        nothing = await page.get("/api/sessions/current")
        assert (nothing.status_code, nothing.content) == (204, b"")
        desk.release("far", "A2")
        assert (await page.get("/api/sessions/current")).json()["session"] == "far"

    async def test_a_session_nobody_knows_is_not_found(self, page: httpx.AsyncClient) -> None:
        for answer in (await page.get("/api/sessions/none"), await page.post("/api/sessions/none/end", json={})):
            assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_session")

    async def test_leaving_a_jammed_door_ends_its_session(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        await page.post("/api/collect", json={"code": CODE})
        await desk.move("s1", SessionState.JAMMED)
        answer = await page.post("/api/sessions/s1/end", json={})
        assert answer.json()["state"] == "ended"
        assert answer.json()["opened"] is False

    async def test_a_courier_can_say_that_nothing_stays_inside(
        self, page: httpx.AsyncClient, desk: ScriptedDesk
    ) -> None:
        await page.post("/api/deposit", json=PARCEL)
        await desk.move("s1", SessionState.OPEN)
        answer = await page.post("/api/sessions/s1/end", json={"word": "empty"})
        assert answer.json()["state"] == "open"
        assert desk.asked[-1] == ("end", "s1", "empty")

    async def test_the_doors_are_listed(self, page: httpx.AsyncClient) -> None:
        told = (await page.get("/api/doors")).json()
        assert told["languages"] == []
        place = dict.fromkeys(("column", "row", "x_mm", "y_mm", "width_mm", "height_mm"), 0)
        assert told["doors"][1] == {"door": "A2", "size": "M", "low": True, "state": "open", "place": place}
        assert told["front"] == {"width_mm": 900, "height_mm": 1600, "screen": None}


class TestStrangers:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Bearer {TOKEN[:-1]}"},
        ],
    )
    async def test_without_the_token_nothing_is_answered(
        self, stranger: httpx.AsyncClient, desk: ScriptedDesk, headers: dict[str, str]
    ) -> None:
        answer = await stranger.post("/api/collect", json={"code": CODE}, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (401, "token_needed")
        for path in ("/api/doors", "/api/sessions/s1", "/api", "/api/", "/api/what"):
            assert (await stranger.get(path, headers=headers)).status_code == 401
        assert desk.asked == []

    async def test_two_tokens_are_none(self, stranger: httpx.AsyncClient) -> None:
        headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
        assert (await stranger.get("/api/doors", headers=headers)).status_code == 401

    async def test_a_name_that_was_rebound_to_us_is_refused(self, page: httpx.AsyncClient) -> None:
        for path in ("/api/doors", "/", "/assets/page-1a2b.js"):
            answer = await page.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["reason"]) == (421, "wrong_host")

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
    async def test_another_sites_page_is_refused_even_with_the_token(
        self, page: httpx.AsyncClient, desk: ScriptedDesk, origin: str
    ) -> None:
        answer = await page.post("/api/collect", json={"code": CODE}, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["reason"]) == (403, "wrong_origin")
        assert desk.asked == []

    async def test_a_cross_site_fetch_is_refused(self, page: httpx.AsyncClient) -> None:
        answer = await page.get("/api/doors", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403

    async def test_the_page_itself_is_let_in(self, page: httpx.AsyncClient) -> None:
        headers = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
        assert (await page.post("/api/collect", json={"code": CODE}, headers=headers)).status_code == 202

    async def test_strangers_cannot_use_up_the_pages_rate(
        self, page: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        for _ in range(40):
            assert (await stranger.get("/api/doors")).status_code == 401
        assert (await page.get("/api/doors")).status_code == 200

    async def test_the_rate_is_bounded_and_comes_back_with_time(
        self, page: httpx.AsyncClient, clock: ManualClock
    ) -> None:
        statuses = [(await page.get("/api/doors")).status_code for _ in range(21)]
        assert statuses == [200] * 20 + [429]
        refusal = await page.get("/api/doors")
        assert refusal.json() == {"reason": "wait", "retry_after": 1.0}
        await clock.advance(1.0)
        assert (await page.get("/api/doors")).status_code == 200


class TestBadRequests:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b'"code"',
            b"{}",
            b'{"code": 123456785}',
            b'{"code": ""}',
            b'{"code": "1", "door": "A1"}',
            b'{"code": "1", "confirm": 1}',
            b'{"code": "' + b"1" * 33 + b'"}',
            b'{"code": "\xff\xfe"}',
            b"[" * 3000,
        ],
    )
    async def test_what_is_not_the_contract_never_reaches_the_desk(
        self, page: httpx.AsyncClient, desk: ScriptedDesk, body: bytes
    ) -> None:
        answer = await page.post("/api/collect", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()) == (400, {"reason": "bad_request", "retry_after": None})
        assert desk.asked == []

    async def test_only_json_is_read(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        for headers in ({"Content-Type": "text/plain"}, {}):
            answer = await page.post("/api/collect", content=json.dumps({"code": CODE}), headers=headers)
            assert (answer.status_code, answer.json()["reason"]) == (415, "json_only")
        assert desk.asked == []

    async def test_a_body_over_four_kibibytes_is_not_read(self, page: httpx.AsyncClient, desk: ScriptedDesk) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b" " * 1024

        headers = {"Content-Type": "application/json"}
        for body in (b" " * 4097, chunks()):
            answer = await page.post("/api/collect", content=body, headers=headers)
            assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
        assert desk.asked == []

    async def test_a_body_that_never_comes_is_given_up(self, host: str, desk: ScriptedDesk) -> None:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(
            f"POST /api/collect HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{".encode()
        )
        assert b"408" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert desk.asked == []

    async def test_unknown_paths_and_methods_are_json_too(self, page: httpx.AsyncClient) -> None:
        answer = await page.get("/api/open-all")
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")
        answer = await page.get("/api/collect")
        assert (answer.status_code, answer.json()["reason"]) == (405, "wrong_method")


class TestPage:
    async def test_page_and_api_are_served_over_a_real_socket(self, host: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{host}", headers=BEARER, trust_env=False) as page:
            assert (await page.get("/")).status_code == 200
            answer = await page.post("/api/collect", json={"code": CODE})
        assert (answer.status_code, answer.json()) == (202, {"session": "s1", "door": "A1"})
        assert "Server" not in answer.headers

    async def test_the_page_comes_without_a_token_and_holds_none(self, stranger: httpx.AsyncClient) -> None:
        answer = await stranger.get("/")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert TOKEN not in answer.text
        assert (await stranger.get("/nothing.js")).status_code == 404

    async def test_every_answer_is_guarded_by_its_headers(
        self, page: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        answers = [await stranger.get("/"), await stranger.get("/api/doors"), await page.get("/api/doors")]
        for answer in answers:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_only_hashed_files_may_be_kept_by_the_browser(self, page: httpx.AsyncClient) -> None:
        assert "immutable" in (await page.get("/assets/page-1a2b.js")).headers["Cache-Control"]
        assert (await page.get("/")).headers["Cache-Control"] == "no-cache"
        assert (await page.get("/api/doors")).headers["Cache-Control"] == "no-store"

    async def test_nothing_outside_the_pages_folder_is_served(self, host: str, static: Path) -> None:
        (static.parent / "secret").write_text("s")
        for path in ("/../secret", "/%2e%2e/secret", "/assets/..%2f..%2fsecret"):
            reader, writer = await asyncio.open_connection(*host.split(":"))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert b"404" in await reader.readline()
            writer.close()
            await writer.wait_closed()


def test_nothing_that_is_printed_shows_what_was_typed() -> None:
    asked = [CollectRequest(CODE, "0042"), DepositRequest("badge.of.courier", "9731", "bk-1", "S")]
    assert not any(secret in repr(asked) for secret in (CODE, "0042", "badge.of.courier", "9731"))


def test_the_scripted_desk_is_a_desk() -> None:
    """What the tests use in place of the locker has the shape that the locker must have."""
    desk: Desk = ScriptedDesk(answer=Accepted("s1", "A1"))
    assert desk.doors()
