"""A customer sends somebody else: by a code of their own, which can be taken back. Codes stay few enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from locker import attempts
from locker.contract import CodeUse, Reason
from locker.kiosk import Accepted, Refused
from locker.ledger import HeldCode, Parcel
from locker.parcel import ParcelState
from locker.pickup_code import CodeHashes, PickupCode
from tests.locker.downlink_rig import DownlinkRig, downlink

DONE = ("done", "")


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


async def types(rig: DownlinkRig, code: PickupCode) -> Accepted | str:
    answer = await rig.service.collect(code.typed, None, False)
    return answer if isinstance(answer, Accepted) else answer.reason.value


async def sent(rig: DownlinkRig, booking: str, rev: int) -> PickupCode:
    """The code of one more person whom the customer sends."""
    assert await rig.say("delegate", booking, rev) == DONE
    return rig.codes[booking]


async def test_a_pickup_by_somebody_whom_the_customer_sends(rig: DownlinkRig) -> None:
    """The neighbour's code opens the door once; then neither that code nor the customer's opens anything."""
    door = await rig.load("b1")
    own = rig.codes["b1"]
    neighbour = await sent(rig, "b1", 1)
    assert neighbour.typed != own.typed
    accepted = await types(rig, neighbour)
    assert isinstance(accepted, Accepted)
    assert accepted.door == door
    await rig.pass_time(1.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert rig.parcel("b1") == "collected"
    assert [await types(rig, each) for each in (own, neighbour)] == ["used", "used"]
    assert [(each["parcel"], each["delegate"]) for each in rig.events("locker.code.issued")] == [("b1", 0), ("b1", 1)]
    assert [each["delegate"] for each in rig.events("locker.code.accepted")] == [1]
    assert [each["cause"] for each in rig.events("locker.unlock.requested")] == ["courier", "delegate"]


async def test_whoever_was_sent_for_one_parcel_is_not_led_to_the_others(rig: DownlinkRig) -> None:
    for booking in ("b1", "b2"):
        assert await rig.say("expect", booking, 1, size="S", hold_hours=24, group="anna") == DONE
        await rig.load(booking)
    accepted = await types(rig, await sent(rig, "b1", 2))
    assert isinstance(accepted, Accepted)
    await rig.pass_time(1.0)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    assert rig.view(accepted).next == ""
    assert await rig.service.next(accepted.session) == Refused(Reason.NOT_HERE)


async def test_a_code_that_was_taken_back_opens_nothing_and_the_others_go_on(rig: DownlinkRig) -> None:
    rig.bench.ailment(await rig.load("b1")).stuck = -1
    own = rig.codes["b1"]
    first, second = [await sent(rig, "b1", rev) for rev in (1, 2)]
    assert await rig.say("revoke", "b1", 3, which=1) == DONE
    assert await rig.say("revoke", "b1", 4, which=1) == ("rejected", "no_such_code")
    assert await types(rig, first) == "no_such_code"
    third = await sent(rig, "b1", 5)
    numbers = [each["delegate"] for each in rig.events("locker.booking.changed", "locker.code.issued")]
    assert numbers == [0, 1, 1, 2, 2, 1, 1, 1]
    for code in (own, second, third):
        assert isinstance(await types(rig, code), Accepted)
        await rig.pass_time(8.0)  # jammed: the code stays good


async def test_a_reissued_code_ends_all_that_there_were(rig: DownlinkRig) -> None:
    await rig.load("b1")
    former = [rig.codes["b1"], *[await sent(rig, "b1", rev) for rev in (1, 2, 3)]]
    assert await rig.say("delegate", "b1", 4) == ("rejected", "too_many_delegates")
    assert await rig.say("reissue", "b1", 5) == DONE
    assert [await types(rig, each) for each in former] == ["no_such_code"] * 4
    assert isinstance(await types(rig, rig.codes["b1"]), Accepted)


async def test_nobody_is_sent_for_what_is_not_here_or_is_being_collected(rig: DownlinkRig) -> None:
    assert await rig.say("delegate", "b1", 1) == ("rejected", "not_here")
    await rig.load("b1")
    await rig.accepted("b1")
    await rig.pass_time(1.0)
    assert await rig.say("delegate", "b1", 2) == ("rejected", "being_collected")
    assert await rig.say("revoke", "b1", 3, which=4) == ("rejected", "bad_args")


async def test_a_lost_database_forgets_no_delegate(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    neighbour = await sent(rig, "b1", 1)
    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()
    accepted = await types(rig, neighbour)
    assert isinstance(accepted, Accepted)
    assert accepted.door == door


async def test_codes_are_issued_only_while_guessing_stays_hopeless(rig: DownlinkRig) -> None:
    """The sum of ``locker.attempts`` holds because the ledger counts what lives, and stops in time."""
    await rig.load("b1")

    def crowd(ledger: Any, further: int, parcels: int) -> None:
        for number in range(further):
            hashes = CodeHashes(b"p%d" % number, b"e%d" % number)
            ledger.save_further_code(HeldCode("b1", CodeUse.PICKUP, 10 + number), hashes)
        for number in range(parcels):
            ledger.add_parcel(Parcel(parcel=f"x{number}", door="04", state=ParcelState.STORED, courier="c", run="r"))

    await rig.store.write(lambda ledger: crowd(ledger, attempts.MAX_FURTHER - 1, 0))
    await sent(rig, "b1", 1)
    assert await rig.say("delegate", "b1", 2) == ("rejected", "too_many_codes")
    await rig.store.write(lambda ledger: crowd(ledger, 0, attempts.MAX_CODES - attempts.MAX_FURTHER - 1))
    assert await rig.deposit("b2") == Refused(Reason.NO_ROOM)
    wrong = [await rig.service.collect("000000000", None, False) for _ in range(3)]
    assert [each.reason for each in wrong if isinstance(each, Refused)] == [
        *(Reason.NO_SUCH_CODE, Reason.NO_SUCH_CODE, Reason.EXTENSION_NEEDED),
    ]
