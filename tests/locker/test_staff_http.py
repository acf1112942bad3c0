"""Staff over the kiosk's HTTP API: a whole locker behind the real server, and each route's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from locker.badge import Role
from tests.locker.kiosk_rig import TOKEN, served, tiny_page
from tests.locker.rig import PIN, badge
from tests.locker.staff_rig import DONE, SERVICE, StaffRig, staffed


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaffRig]:
    async with staffed(tmp_path, monkeypatch) as rig:
        yield rig


@pytest.fixture
async def page(rig: StaffRig, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "page").mkdir()
    async with (
        served(rig.service, tiny_page(tmp_path / "page"), clock=rig.clock, staff=rig.staff) as host,
        httpx.AsyncClient(base_url=f"http://{host}/api/staff", headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        yield client


async def say(page: httpx.AsyncClient, path: str, **body: Any) -> tuple[int, Any]:
    answer = await page.post(path, json=body)
    return answer.status_code, answer.json() if answer.content else None


async def enters(page: httpx.AsyncClient, role: Role) -> dict[str, Any]:
    status, view = await say(page, "/enter", badge=badge(jti=SERVICE, role=role), pin=PIN)
    assert status == 200
    return dict(view)


async def test_a_courier_enters_takes_back_and_leaves(rig: StaffRig, page: httpx.AsyncClient) -> None:
    door = await rig.load("p1")
    assert await rig.say("recall", "p1", 1) == DONE
    view = await enters(page, Role.COURIER)
    assert (view["role"], view["tasks"]) == ("courier", [{"door": door, "what": "recalled", "parcel": "p1"}])
    assert view["expires_s"] == 600.0
    visit = view["visit"]
    status, session = await say(page, f"/{visit}/recall")
    assert (status, session["door"]) == (202, door)
    await rig.pass_time(1.0)
    rig.bench.take(door)
    await rig.shut(door)
    assert (await page.get(f"/{visit}")).json()["tasks"] == []
    assert await say(page, f"/{visit}/recall", parcel="p1") == (404, {"reason": "nothing_due", "retry_after": None})
    assert await say(page, f"/{visit}/leave") == (200, {})
    gone = (404, {"reason": "no_such_visit", "retry_after": None})
    assert await say(page, f"/{visit}/recall") == await say(page, f"/{visit}/leave") == gone
    assert (await page.get(f"/{visit}")).status_code == 404


async def test_service_and_audit_by_their_routes(rig: StaffRig, page: httpx.AsyncClient) -> None:
    visit = (await enters(page, Role.SERVICE))["visit"]
    status, view = await say(page, f"/{visit}/out_of_service", door="04", on=True)
    assert (status, view["role"], view["tasks"]) == (200, "service", [{"door": "04", "what": "staff", "parcel": ""}])
    assert (await say(page, f"/{visit}/clear", door="04"))[1]["reason"] == "look_first"
    for act in ("open", "clean"):
        status, session = await say(page, f"/{visit}/{act}", door="04")
        assert (status, session["door"]) == (202, "04")
        await rig.pass_time(1.0)
        await rig.shut("04")
    assert (await say(page, f"/{visit}/clear", door="04"))[0] == 200
    assert await rig.order_audit() == DONE
    assert (await enters(page, Role.SERVICE))["role"] == "audit"
    visit = (await enters(page, Role.SERVICE))["visit"]
    status, session = await say(page, f"/{visit}/next")
    assert (status, session["door"]) == (202, "01")
    await rig.pass_time(1.0)
    await rig.shut("01")
    status, view = await say(page, f"/{visit}/found", door="01", found="empty")
    assert (status, [each["door"] for each in view["tasks"]]) == (200, ["02", "03", "04"])


async def test_a_scanned_badge_is_named_by_its_reference(rig: StaffRig, page: httpx.AsyncClient) -> None:
    rig.scans["scan:1"] = badge()
    assert (await say(page, "/enter", badge="scan:1", pin=PIN))[0] == 200
    refused = {"reason": "not_allowed", "retry_after": None}
    assert await say(page, "/enter", badge="scan:2", pin=PIN) == (403, refused)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/enter", {"badge": "b"}),
        ("/v/open", {"door": "1\n"}),
        ("/v/open", {"door": "01", "all": True}),
        ("/v/out_of_service", {"door": "01", "on": "yes"}),
        ("/v/found", {"door": "01", "found": "gold"}),
        ("/v/next", {"door": "01"}),
    ],
)
async def test_what_is_not_in_the_contract_is_refused_before_anybody_is_asked(
    page: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    assert await say(page, path, **body) == (400, {"reason": "bad_request", "retry_after": None})


async def test_without_the_pages_token_nobody_enters(page: httpx.AsyncClient) -> None:
    answer = await page.post("/enter", json={"badge": badge(), "pin": PIN}, headers={"Authorization": "Bearer no"})
    assert answer.status_code == 401
