"""A customer shows a signed QR instead of typing a code: no network is needed, and nothing is opened twice for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.kiosk import Accepted, SessionState
from tests.edge.trust import DAY, NODE, STRANGER
from tests.locker.downlink_rig import DownlinkRig, downlink
from tests.locker.rig import PIN, badge


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


async def opened(rig: DownlinkRig, token: str, *, confirm: bool = False) -> Accepted:
    answer = await rig.show(token, confirm=confirm)
    assert isinstance(answer, Accepted), answer
    return answer


async def taken_out(rig: DownlinkRig, door: str) -> None:
    await rig.pass_time(1.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)


async def test_a_pickup_by_voucher(rig: DownlinkRig) -> None:
    """The parcel lies here; its customer holds a QR before the scanner, the door opens, the parcel is gone."""
    door = await rig.load("b1")
    token = rig.voucher("b1", gen=3)
    accepted = await opened(rig, token)
    assert accepted.door == door
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    await taken_out(rig, door)
    assert (rig.parcel("b1"), rig.compartment(door)) == ("collected", "free")
    (told,) = rig.events("locker.voucher.accepted")
    assert (told["parcel"], told["door"], told["gen"]) == ("b1", door, 3)
    assert [each["cause"] for each in rig.events("locker.unlock.requested")] == ["courier", "voucher"]
    assert token not in str(rig.rows("SELECT body FROM event"))
    assert await rig.show(token) == "used"
    assert await rig.refused("b1") == "used"


async def test_what_the_scanner_has_read_is_named_by_its_reference(rig: DownlinkRig) -> None:
    rig.scans = {"scan:40": badge(), "scan:41": rig.voucher("b1")}
    accepted = await rig.service.deposit("scan:40", PIN, ("b1",), "S", False)
    assert isinstance(accepted, Accepted)
    await rig.pass_time(1.0)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    assert await rig.show("scan:42") == "voucher_refused"
    await opened(rig, "scan:41")


async def test_a_newer_voucher_takes_the_older_out_of_force_also_after_the_database_is_lost(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    assert await rig.say("expect", "b2", 1, size="S", hold_hours=24) == ("done", "")
    assert await rig.show(rig.voucher("b2", gen=2)) == "not_here"  # announced, not brought: kept all the same
    rig.bench.ailment(door).stuck = -1
    await opened(rig, rig.voucher("b1", gen=2))
    await rig.pass_time(8.0)
    assert await rig.show(rig.voucher("b1", gen=1)) == "superseded"
    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()
    assert [await rig.show(rig.voucher(each, gen=1)) for each in ("b1", "b2")] == ["superseded"] * 2
    rig.bench.ailment(door).stuck = 0
    assert (await opened(rig, rig.voucher("b1", gen=2))).door == door


async def test_a_jam_or_a_doubt_burns_no_voucher(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    token = rig.voucher("b1")
    rig.bench.mute.add(0)
    await rig.pass_time(1.0)
    await opened(rig, token)
    await rig.pass_time(4.0)
    rig.bench.shut(door)
    rig.bench.mute.clear()
    await rig.pass_time(2.0)
    assert await rig.show(token) == "confirm_needed"
    await opened(rig, token, confirm=True)
    await taken_out(rig, door)
    assert [each["confirmed"] for each in rig.events("locker.voucher.accepted")] == [False, True]


async def test_of_two_with_the_same_voucher_and_of_voucher_and_code_one_hears_busy(rig: DownlinkRig) -> None:
    await rig.load("b1")
    answers = await asyncio.gather(rig.show(rig.voucher("b1")), rig.show(rig.voucher("b1")), rig.refused("b1"))
    assert isinstance(answers[0], Accepted)
    assert [*answers[1:]] == ["busy", "busy"]


async def test_a_voucher_for_several_in_one_compartment_hands_out_all(rig: DownlinkRig) -> None:
    door = await rig.load("b1", "b2")
    await opened(rig, rig.voucher("b2"))
    await taken_out(rig, door)
    assert (rig.parcel("b1"), rig.parcel("b2")) == ("collected", "collected")


async def test_why_a_voucher_is_refused_is_told_and_counted_and_nothing_moves(rig: DownlinkRig) -> None:
    await rig.load("b1")
    pulses = len(rig.bench.happened("pulse"))
    forged = rig.voucher("b1").rsplit(".", 1)[0] + "." + "A" * 86
    answers = {
        "voucher_refused": [forged, "rubbish", rig.voucher("b1", iss=STRANGER.public.kid), rig.voucher("b1", gen=0)],
        "other_locker": [rig.voucher("b1", aud=f"{NODE.node}/another-instance"), rig.voucher("b1", aud="acme_other/x")],
        "too_early": [rig.voucher("b1", nbf=int(rig.clock.wall()) + 60)],
        "expired": [rig.voucher("b1", ends_s=0)],
        "not_here": [rig.voucher("never-heard-of")],
    }
    for reason, tokens in answers.items():
        assert [await rig.show(each) for each in tokens] == [reason] * len(tokens)
    assert len(rig.bench.happened("pulse")) == pulses
    counted = rig.rows("SELECT reason, count FROM tally WHERE kind = 'voucher'")
    assert dict(counted) == {reason: len(tokens) for reason, tokens in answers.items()}
    rig.clock.step_wall(60)
    rig._spawn("upkeep", lambda: rig.upkeep.sweep(rig.ledger_store, rig.cabinet.in_service))
    await rig.eventually(lambda: len(rig.events("locker.voucher.refused")) == len(answers))
    await opened(rig, rig.voucher("b1"))


async def test_a_clock_that_nobody_has_set_turns_no_voucher_away_and_ends_none(rig: DownlinkRig) -> None:
    await rig.load("b1")
    token = rig.voucher("b1", ends_s=DAY)
    rig.clock.step_wall(2 * DAY)
    assert await rig.show(token) == "expired"
    rig.clock.trust(False)
    await opened(rig, token)


async def test_editions_of_what_is_long_gone_are_not_kept_for_ever(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    await opened(rig, rig.voucher("b1"))
    await taken_out(rig, door)
    assert rig.rows("SELECT * FROM voucher") == [("b1", 1)]
    await rig.ledger_store.keep(lambda ledger: ledger.transaction.sql.execute("DELETE FROM parcel"))
    await rig.ledger_store.keep(lambda ledger: ledger.forget_old())
    assert rig.rows("SELECT * FROM voucher") == []
