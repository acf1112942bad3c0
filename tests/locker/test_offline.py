"""Without the hub: a week with no network, and a database that is destroyed while forty parcels lie inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker import badge as badges
from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused, SessionState
from tests.edge.trust import DAY
from tests.locker import rig as rigs
from tests.locker.downlink_rig import DownlinkRig, downlink
from tests.locker.rig import PIN

DONE = ("done", "")


@pytest.fixture
async def rig(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DownlinkRig]:
    monkeypatch.setattr(badges, "_SCRYPT_N", 2)  # guessing PINs is told elsewhere
    monkeypatch.setattr(rigs, "_BADGES", {})
    async with downlink(memory_path, boards=5, hold_s=30.0 * DAY) as rig:
        rig.step = 0.25
        rig.offline = True
        yield rig


async def handed_out(rig: DownlinkRig, answer: Accepted | Refused | str | None) -> str:
    """The door opens, its parcels are taken, it is shut; returns the door."""
    assert isinstance(answer, Accepted), answer
    await rig.pass_time(1.0)
    assert rig.view(answer).state is SessionState.OPEN
    rig.bench.take(answer.door)
    rig.bench.shut(answer.door)
    await rig.pass_time(0.5)
    return answer.door


async def opens(rig: DownlinkRig, parcel: str, *, by: str) -> str:
    if by == "voucher":
        return await handed_out(rig, await rig.show(rig.voucher(parcel, gen=2)))
    return await handed_out(rig, await rig.type(parcel))


async def test_the_database_is_destroyed_with_forty_parcels_inside_and_the_hub_is_out_of_reach(
    rig: DownlinkRig,
) -> None:
    """Codes, delegates' and vouchers still open each door; what is occupied, claimed or recalled is not offered."""
    inside: dict[str, tuple[str, ...]] = {}
    for number in range(12):
        inside[await rig.load(f"one-{number}")] = (f"one-{number}",)
    for number in range(4):
        together = tuple(f"seven-{number}-{each}" for each in range(7))
        inside[await rig.load(*together)] = together
    own = rig.codes["one-0"]
    assert await rig.say("delegate", "one-0", 1) == DONE
    assert await rig.say("redirect", "one-1", 1, to="acme_locker-8") == DONE
    claimed = await rig.accepted("one-2")
    await rig.pass_time(1.0)
    await rig.service.end(claimed.session, Word.WRONG_LEFT)
    rig.bench.shut(claimed.door)
    await rig.pass_time(1.0)
    rig.bench.mute.update(range(5))
    assert isinstance(await rig.show(rig.voucher("one-3", gen=2)), Accepted)  # of unknown outcome: it was seen
    await rig.pass_time(4.0)
    rig.bench.mute.clear()
    rig.bench.shut(next(door for door, parcels in inside.items() if "one-3" in parcels))
    await rig.pass_time(2.0)

    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()

    assert rig.rows("SELECT count(*) FROM parcel") == [(40,)]
    free = {each.door for each in rig.compartments} - set(inside)
    offered: set[str] = set()
    while isinstance(answer := await rig.deposit(f"new-{len(offered)}"), Accepted):
        offered.add(answer.door)
        await rig.pass_time(1.0)
        rig.bench.put(answer.door)
        rig.bench.shut(answer.door)
        await rig.pass_time(0.5)
    assert (answer, offered) == (Refused(Reason.NO_ROOM), free)

    assert [await rig.refused(each) for each in ("one-1", "one-2")] == ["no_such_code", "used"]
    assert await rig.show(rig.voucher("one-3", gen=1)) == "superseded"
    assert await rig.show(rig.voucher("one-3", gen=2)) == "confirm_needed"
    neighbour, rig.codes["one-0"] = rig.codes["one-0"], own
    doubted = next(door for door, parcels in inside.items() if "one-3" in parcels)
    assert await handed_out(rig, await rig.show(rig.voucher("one-3", gen=2), confirm=True)) == doubted
    for number, (door, parcels) in enumerate(inside.items()):
        if parcels[0] == "one-0":
            assert await handed_out(rig, await rig.service.collect(neighbour.typed, None, False)) == door
        elif parcels[0] not in {"one-1", "one-2", "one-3"}:
            by = "voucher" if number % 2 else "code"
            assert await opens(rig, parcels[number % len(parcels)], by=by) == door
            assert {rig.parcel(each) for each in parcels} == {"collected"}
    assert [rig.parcel(each) for each in ("one-1", "one-2")] == ["recalled", "claimed"]


async def test_a_week_without_a_network_and_half_of_it_without_a_clock(rig: DownlinkRig) -> None:
    """What was announced before is brought, handed out by code, voucher and delegate, and told to nobody yet."""
    for number in range(7):
        group = "anna" if number in {5, 6} else f"customer-{number}"
        args = {"size": "S", "hold_hours": 24 * 20, "group": group}
        assert await rig.say("expect", f"b{number}", 1, **args) == DONE
    await rig.load("waits")
    assert await rig.say("delegate", "waits", 1) == DONE
    vouchers = [rig.voucher(f"b{number}") for number in range(7)]
    for day in range(7):
        rig.clock.step_wall(DAY)
        if day == 3:
            await rig.crash()
            rig.clock.trust(False)
            await rig.start()
        badge = rig.badge_of_today(f"shift-{day}")
        accepted = await rig.service.deposit(badge, PIN, (f"b{day}",), "S", False)
        assert isinstance(accepted, Accepted), accepted
        await rig.pass_time(1.0)
        rig.bench.put(accepted.door)
        rig.bench.shut(accepted.door)
        await rig.pass_time(0.5)
        assert rig.view(accepted).carry == f"sealed:b{day}"
        if day < 5:
            by_voucher = await rig.show(vouchers[day]) if day % 2 else await rig.type(f"b{day}")
            assert await handed_out(rig, by_voucher) == accepted.door
    await handed_out(rig, await rig.type("waits"))
    first = await rig.show(vouchers[5])
    assert isinstance(first, Accepted)
    await handed_out(rig, first)
    await handed_out(rig, await rig.service.next(first.session))
    assert {rig.parcel(f"b{number}") for number in range(7)} == {"collected"}
    assert len(rig.events("parcel.collected")) == 8
    assert rig.rows("SELECT max(seq) - count(*) FROM event WHERE hash IS NOT NULL") == [(0,)]
    assert rig.rows("SELECT * FROM gap WHERE class = 0") == []
