"""The operator changes a locker's terms while it serves; no document keeps a customer from a parcel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.document import RefusedMember
from locker.commands import MAX_HOLD_HOURS
from locker.desired import Span, Wishes, read_wishes, utc
from locker.kiosk import Accepted, Refused
from tests.locker.rig import LockerRig, running

DOORS = ("01", "02", "03", "04")
MONDAY = 1_799_625_600
"""2027-01-11 00:00 UTC."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


def wish(rig: LockerRig, **members: Any) -> None:
    wishes, refused = read_wishes(members, DOORS)
    assert refused == ()
    rig.service.terms = rig.service.terms.under(wishes)


def refused(body: dict[str, Any]) -> tuple[RefusedMember, ...]:
    return read_wishes(body, DOORS)[1]


async def test_doors_out_of_service_are_not_offered_and_are_collected_from_as_ever(rig: LockerRig) -> None:
    door = await rig.load("p1")
    others = [each for each in DOORS if each != door]
    wish(rig, out_of_service=[door, *others[:-1]])
    accepted = await rig.deposit("p2")
    assert isinstance(accepted, Accepted)
    assert accepted.door == others[-1]
    await rig.pass_time(1.0)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    wish(rig, out_of_service=list(DOORS))
    none_left = await rig.deposit("p3")
    assert isinstance(none_left, Refused)
    assert none_left.reason.value == "out_of_service"
    assert (await rig.accepted("p1")).door == door


async def test_outside_the_hours_deposits_are_refused_and_collections_are_not(rig: LockerRig) -> None:
    door = await rig.load("p1")
    day, _ = utc(rig.clock.wall())
    wish(rig, opening_hours=[{"days": [day % 7 + 1], "opens": "00:00", "closes": "24:00"}])
    closed = await rig.deposit("p2")
    assert isinstance(closed, Refused)
    assert closed.reason.value == "closed"
    assert (await rig.accepted("p1")).door == door


async def test_a_courier_may_reopen_the_own_deposit_also_after_hours(rig: LockerRig) -> None:
    door = await rig.load("p1")
    wish(rig, opening_hours=[])
    again = await rig.deposit("p1")
    assert isinstance(again, Accepted)
    assert again.door == door


async def test_on_a_clock_that_nobody_has_set_it_is_never_after_hours(rig: LockerRig) -> None:
    wish(rig, opening_hours=[])
    rig.clock.trust(False)
    assert isinstance(await rig.deposit("p1"), Accepted)


async def test_another_hold_time_is_for_parcels_that_come_and_not_for_those_that_lie_here(rig: LockerRig) -> None:
    await rig.load("p1")
    ((before,),) = rig.rows("SELECT expires FROM parcel WHERE parcel = 'p1'")
    wish(rig, hold_hours=1)
    await rig.load("p2")
    assert rig.rows("SELECT expires FROM parcel WHERE parcel = 'p1'") == [(before,)]
    ((shorter,),) = rig.rows("SELECT expires FROM parcel WHERE parcel = 'p2'")
    assert shorter == pytest.approx(rig.clock.wall() + 3600, abs=5)


async def test_what_a_later_document_does_not_name_is_as_configured(rig: LockerRig) -> None:
    terms = rig.service.terms
    assert terms.under(Wishes(hold_hours=1)).under(Wishes()).hold_s == 3600.0
    assert terms.under(Wishes()) == terms


@pytest.mark.parametrize(
    ("body", "member", "reason"),
    [
        ({"wiring": {}}, "wiring", "unknown_member"),
        ({"boards": []}, "boards", "unknown_member"),
        ({"issuers": []}, "issuers", "unknown_member"),
        ({"closed_bit": 0}, "closed_bit", "unknown_member"),
        ({"hold_hours": 0}, "hold_hours", "bad_value"),
        ({"hold_hours": MAX_HOLD_HOURS + 1}, "hold_hours", "bad_value"),
        ({"hold_hours": None}, "hold_hours", "bad_value"),
        ({"hold_hours": "72"}, "hold_hours", "bad_value"),
        ({"out_of_service": ["99"]}, "out_of_service", "no_such_door"),
        ({"out_of_service": ["01", "01"]}, "out_of_service", "bad_value"),
        ({"out_of_service": "01"}, "out_of_service", "bad_value"),
        ({"languages": []}, "languages", "bad_value"),
        ({"languages": ["en", "en"]}, "languages", "bad_value"),
        ({"languages": ["tlh"]}, "languages", "bad_value"),
        ({"log_level": "silent"}, "log_level", "bad_value"),
        ({"opening_hours": [{"days": [8], "opens": "08:00", "closes": "20:00"}]}, "opening_hours", "bad_value"),
        ({"opening_hours": [{"days": [1], "opens": "20:00", "closes": "08:00"}]}, "opening_hours", "bad_value"),
        ({"opening_hours": [{"days": [1], "opens": "8:00", "closes": "20:00"}]}, "opening_hours", "bad_value"),
        ({"opening_hours": [{"days": [1], "opens": "08:00", "closes": "24:01"}]}, "opening_hours", "bad_value"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(body: dict[str, Any], member: str, reason: str) -> None:
    assert refused(body) == (RefusedMember(member, reason),)
    assert refused({"log_level": "info", **body}) == refused(body)


def test_a_whole_document_is_read() -> None:
    body = {
        "hold_hours": 48,
        "opening_hours": [{"days": [1, 2, 3, 4, 5], "opens": "08:00", "closes": "20:30"}],
        "languages": ["ru", "en"],
        "out_of_service": ["02"],
        "log_level": "debug",
    }
    wishes, none = read_wishes(body, DOORS)
    assert none == ()
    assert wishes == Wishes(48, (Span((1, 2, 3, 4, 5), "08:00", "20:30"),), ("ru", "en"), ("02",), "debug")


def test_a_span_holds_from_the_minute_it_opens_until_the_minute_it_closes() -> None:
    wishes = Wishes(opening_hours=(Span((1,), "08:00", "20:30"), Span((1,), "23:00", "24:00")))
    open_at = [minute for minute in range(1440) if wishes.takes_deposits(1, minute)]
    assert open_at == [*range(480, 1230), *range(1380, 1440)]
    assert not any(wishes.takes_deposits(2, minute) for minute in range(1440))
    assert Wishes().takes_deposits(7, 0)


def test_days_and_minutes_of_wall_seconds() -> None:
    assert utc(MONDAY) == (1, 0)
    assert utc(MONDAY + 6 * 86_400 + 23 * 3600 + 59 * 60) == (7, 1439)
    assert utc(0) == (4, 0)


NAMES = st.text(max_size=60) | st.sampled_from([each.name for each in msgspec.structs.fields(Wishes)])
VALUES = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.sampled_from(["01", "en", 1]), max_size=2)


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_a_document_says_each_member_is_had_or_refused_by_name(body: dict[str, Any]) -> None:
    wishes, bad = read_wishes(body, DOORS)
    had = set(body) - {each.member for each in bad}
    assert all(getattr(wishes, member) is not None for member in had if len(member) <= 48)
    assert all(getattr(wishes, name) == getattr(Wishes(), name) for name in Wishes.__struct_fields__ if name not in had)
