"""Staff at the kiosk: badge and PIN begin a visit, its role says what may be done, and nobody else finds it open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.badge import MAX_RECALLED, PINS_PER_BADGE, Role, read_badge
from locker.contract import Found
from locker.kiosk import Accepted
from locker.staffing import VISIT_S, VisitRole
from tests.locker.rig import badge
from tests.locker.staff_rig import DONE, StaffRig, reason, staffed

WRONG_PIN = "27182818"


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaffRig]:
    async with staffed(tmp_path, monkeypatch) as rig:
        yield rig


async def test_a_wrong_pin_opens_no_visit_and_is_counted_with_those_of_deposits(rig: StaffRig) -> None:
    assert await rig.enter(pin=WRONG_PIN) == "not_allowed"
    assert reason(await rig.deposit("p1", pin=WRONG_PIN)) == "not_allowed"
    for _ in range(PINS_PER_BADGE - 2):
        await rig.enter(pin=WRONG_PIN)
    assert await rig.enter() == "not_allowed"  # the right one now, and the badge is not taken any more
    assert (await rig.enter(jti="badge-2")).role is VisitRole.COURIER


async def test_a_badge_for_another_locker_or_of_yesterday_opens_no_visit(rig: StaffRig) -> None:
    other = await rig.staff.enter(badge(nodes="acme_elsewhere"), "31415926")
    assert reason(other) == "not_allowed"
    rig.clock.step_wall(5 * 3600.0)
    assert await rig.enter() == "not_allowed"


async def test_a_badge_that_runs_out_ends_its_visit(rig: StaffRig) -> None:
    await rig.enter()
    rig.clock.step_wall(5 * 3600.0)
    assert await rig.staff.recall(rig.visit.visit, None) is None


async def test_a_visit_in_which_nothing_is_asked_is_over_after_ten_minutes(rig: StaffRig) -> None:
    await rig.enter(Role.SERVICE)
    rig.step = 60.0
    await rig.pass_time(VISIT_S - 60.0)
    assert await rig.staff.clear(rig.visit.visit, "01") is not None  # asked, be it in vain
    await rig.pass_time(VISIT_S - 60.0)
    view = await rig.staff.look(rig.visit.visit)
    assert view is not None
    assert view.expires_s == pytest.approx(60.0)
    await rig.pass_time(60.0)
    assert await rig.staff.look(rig.visit.visit) is None
    assert await rig.staff.open(rig.visit.visit, "01") is None


async def test_whoever_comes_after_staff_does_not_find_their_visit_open(rig: StaffRig) -> None:
    await rig.load("p1")
    for ends in ("another", "leaves", "customer"):
        visit = (await rig.enter(Role.SERVICE)).visit
        if ends == "another":
            await rig.enter(Role.SERVICE, jti="badge-other")
        elif ends == "leaves":
            assert await rig.staff.leave(visit)
        else:
            await rig.accepted("p1")
        assert await rig.staff.open(visit, "03") is None
        assert not await rig.staff.leave(visit)


async def test_a_role_does_its_own_work_and_no_other(rig: StaffRig) -> None:
    door = await rig.load("p1")
    assert await rig.order_audit() == DONE
    courier = (await rig.enter()).visit
    for refused in (
        await rig.staff.open(courier, "03"),
        await rig.staff.clean(courier, "03"),
        await rig.staff.clear(courier, "03"),
        await rig.staff.out_of_service(courier, "03", True),
        await rig.staff.next(courier),
        await rig.staff.found(courier, "03", Found.EMPTY, None),
    ):
        assert reason(refused) == "not_allowed"
    service = (await rig.enter(Role.SERVICE, recall="expired")).visit
    assert reason(await rig.staff.recall(service, None)) == "not_allowed"
    of_service = badge(jti="badge-service", role=Role.SERVICE)
    assert reason(await rig.service.deposit(of_service, "31415926", ("p2",), "S", False)) == "not_allowed"
    assert sum(rig.sent.values()) == 1
    assert rig.compartment(door) == "occupied"


async def test_one_door_at_a_time_also_for_staff(rig: StaffRig) -> None:
    await rig.load("p1")
    visit = (await rig.enter(Role.SERVICE)).visit
    first = await rig.staff.open(visit, "03")
    assert isinstance(first, Accepted)
    assert reason(await rig.staff.open(visit, "04")) == "busy"
    assert reason(await rig.type("p1")) == "busy"


def test_a_badge_of_a_former_release_is_a_couriers_and_recalls_nothing() -> None:
    claims = json.loads(badge())
    del claims["role"], claims["recall"]
    old = read_badge(claims)
    assert (old.role, old.recall) == (Role.COURIER, ())


@pytest.mark.parametrize(
    "changed", [{"role": "boss"}, {"recall": "all"}, {"recall": ["two words"]}, {"recall": ["p"] * (MAX_RECALLED + 1)}]
)
def test_a_badge_that_claims_anything_else_is_none(changed: dict[str, object]) -> None:
    with pytest.raises(Exception, match="not a badge"):
        read_badge(json.loads(badge()) | changed)
