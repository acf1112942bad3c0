"""Customers bring parcels, with a code of their own: a return, one that is sent, one for a neighbour, an exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused, SessionKind, SessionState
from locker.pickup_code import PickupCode
from tests.locker.downlink_rig import DownlinkRig, downlink

DONE = ("done", "")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(tmp_path) as rig:
        rig.step = 0.2
        yield rig


async def expected(rig: DownlinkRig, booking: str, kind: str, rev: int = 1, **more: object) -> PickupCode:
    """The shop has booked; its customer has a code."""
    assert await rig.say("expect", booking, rev, size="S", hold_hours=72, kind=kind, **more) == DONE
    return rig.codes[booking]


async def types(rig: DownlinkRig, code: PickupCode) -> Accepted | str:
    answer = await rig.service.collect(code.typed, None, False)
    if not isinstance(answer, Accepted):
        return answer.reason.value
    await rig.pass_time(1.0)
    return answer


async def opened(rig: DownlinkRig, code: PickupCode) -> Accepted:
    answer = await types(rig, code)
    assert isinstance(answer, Accepted), answer
    return answer


async def puts_in(rig: DownlinkRig, accepted: Accepted) -> None:
    assert rig.view(accepted).kind is SessionKind.DEPOSIT
    rig.bench.put(accepted.door)
    await shuts(rig, accepted)


async def takes(rig: DownlinkRig, accepted: Accepted) -> None:
    assert rig.view(accepted).kind is SessionKind.COLLECT
    rig.bench.take(accepted.door)
    await shuts(rig, accepted)


async def shuts(rig: DownlinkRig, accepted: Accepted) -> None:
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)


async def test_a_customer_returns_a_parcel(rig: DownlinkRig) -> None:
    """The code from the shop opens a free compartment once; nobody gets a code for what lies in it."""
    code = await expected(rig, "r1", "return")
    accepted = await opened(rig, code)
    await puts_in(rig, accepted)
    assert (rig.parcel("r1"), rig.compartment(accepted.door)) == ("stored", "occupied")
    assert [each["type"] for each in rig.events("locker.drop_code.issued", "locker.drop.accepted")] == [
        "locker.drop_code.issued",
        "locker.drop.accepted",
    ]
    assert rig.events("locker.code.issued") == []
    await rig.pass_time(121.0)
    assert await types(rig, code) == "used"


async def test_within_two_minutes_the_same_code_opens_the_own_return_again(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    first = await opened(rig, code)
    await puts_in(rig, first)
    again = await opened(rig, code)
    assert again.door == first.door
    rig.bench.take(again.door)
    await rig.service.end(again.session, Word.EMPTY)
    await shuts(rig, again)
    assert (rig.parcel("r1"), rig.compartment(first.door)) == ("withdrawn", "free")
    await puts_in(rig, await opened(rig, code))
    assert rig.parcel("r1") == "stored"


async def test_a_return_whose_reopened_door_jams_is_still_known_to_lie_there(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    first = await opened(rig, code)
    await puts_in(rig, first)
    rig.bench.ailment(first.door).stuck = -1
    again = await rig.service.collect(code.typed, None, False)
    assert isinstance(again, Accepted)
    await rig.pass_time(8.0)
    assert rig.view(again).state is SessionState.JAMMED
    assert (rig.parcel("r1"), rig.compartment(first.door)) == ("stored", "blocked")


async def test_a_jam_burns_no_drop_code(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    rig.bench.ailment("01").stuck = -1
    jammed = await rig.service.collect(code.typed, None, False)
    assert isinstance(jammed, Accepted)
    await rig.pass_time(8.0)
    await rig.service.end(jammed.session, Word.NONE)
    other = await opened(rig, code)
    assert other.door != jammed.door
    await puts_in(rig, other)
    assert rig.parcel("r1") == "stored"


async def test_a_parcel_for_a_neighbour_is_handed_over_through_the_locker(rig: DownlinkRig) -> None:
    drop = await expected(rig, "h1", "hand_over")
    await puts_in(rig, await opened(rig, drop))
    pickup = rig.codes["h1"]
    assert pickup.typed != drop.typed
    await takes(rig, await opened(rig, pickup))
    assert rig.parcel("h1") == "collected"


async def test_what_is_sent_elsewhere_waits_for_a_courier_and_has_no_code(rig: DownlinkRig) -> None:
    await puts_in(rig, await opened(rig, await expected(rig, "s1", "send")))
    assert (rig.parcel("s1"), rig.events("locker.code.issued")) == ("stored", [])
    assert await rig.say("reissue", "s1", 2) == ("rejected", "not_here")


async def test_what_the_customer_brings_does_not_fit_and_the_next_larger_opens(rig: DownlinkRig) -> None:
    first = await opened(rig, await expected(rig, "r1", "return"))
    await rig.service.end(first.session, Word.DOES_NOT_FIT)
    await shuts(rig, first)
    second = await rig.service.next(first.session)
    assert isinstance(second, Accepted)
    await rig.pass_time(1.0)
    assert second.door == "03"
    await puts_in(rig, second)
    assert rig.parcel("r1") == "stored"


async def test_an_exchange_gives_back_first_and_hands_out_then(rig: DownlinkRig) -> None:
    """The new device's code opens an empty compartment; once the old one is inside, the new one's door opens."""
    await expected(rig, "old", "return")
    assert await rig.say("expect", "new", 1, size="S", hold_hours=72, exchange="old") == DONE
    new_door = await rig.load("new")
    give = await opened(rig, rig.codes["new"])
    assert give.door != new_door
    assert rig.events("locker.drop.accepted")[0]["exchange"] == "new"
    await puts_in(rig, give)
    assert rig.view(give).next == "collect"
    get = await rig.service.next(give.session)
    assert isinstance(get, Accepted)
    await rig.pass_time(1.0)
    assert get.door == new_door
    await takes(rig, get)
    assert (rig.parcel("old"), rig.parcel("new")) == ("stored", "collected")


async def test_who_brings_the_old_one_without_the_code_of_the_new_one_is_not_handed_the_new_one(
    rig: DownlinkRig,
) -> None:
    """Neither a courier, nor whoever was given the drop code alone."""
    drop = await expected(rig, "old", "return")
    await rig.say("expect", "new", 1, size="S", hold_hours=72, exchange="old")
    new_door = await rig.load("new")
    brought = await opened(rig, drop)
    await puts_in(rig, brought)
    assert rig.view(brought).next == ""
    by_courier = await expected(rig, "older", "return")
    await rig.say("expect", "newer", 1, size="S", hold_hours=72, exchange="older")
    await rig.load("newer")
    accepted = await rig.deposit("older")
    await rig.pass_time(1.0)
    await puts_in(rig, accepted)
    assert (rig.parcel("older"), rig.view(accepted).next) == ("stored", "")
    assert await types(rig, by_courier) == "used"
    get = await opened(rig, rig.codes["new"])  # nothing is owed any more
    assert get.door == new_door
    await takes(rig, get)


async def test_a_return_is_not_put_beside_what_a_customer_collects(rig: DownlinkRig) -> None:
    """Whoever collected the one would be handed the other, and it would count as collected."""
    await expected(rig, "r1", "return")
    await expected(rig, "r2", "return")
    assert await rig.deposit("p1", "r1") == Refused(Reason.BOOKING_REFUSED)
    both = await rig.deposit("r1", "r2")
    assert isinstance(both, Accepted)
    await rig.pass_time(1.0)
    await puts_in(rig, both)
    assert (rig.parcel("p1"), rig.parcel("r1"), rig.parcel("r2")) == ("none", "stored", "stored")


async def test_who_gives_nothing_back_gets_nothing(rig: DownlinkRig) -> None:
    await expected(rig, "old", "return")
    await rig.say("expect", "new", 1, size="S", hold_hours=72, exchange="old")
    await rig.load("new")
    give = await opened(rig, rig.codes["new"])
    await rig.service.end(give.session, Word.EMPTY)
    await shuts(rig, give)
    assert rig.view(give).next == ""
    assert (rig.parcel("old"), rig.parcel("new")) == ("withdrawn", "stored")
    again = await opened(rig, rig.codes["new"])  # nothing was burned: what is owed is asked for again
    assert rig.view(again).kind is SessionKind.DEPOSIT
    await shuts(rig, again)


async def test_power_fails_in_the_middle_of_an_exchange_and_the_code_goes_on_where_it_was(rig: DownlinkRig) -> None:
    await expected(rig, "old", "return")
    await rig.say("expect", "new", 1, size="S", hold_hours=72, exchange="old")
    new_door = await rig.load("new")
    give = await opened(rig, rig.codes["new"])
    rig.bench.put(give.door)
    await rig.crash()
    rig.bench.shut(give.door)
    await rig.start()
    await rig.pass_time(1.0)
    assert rig.parcel("old") == "stored"
    get = await opened(rig, rig.codes["new"])
    assert get.door == new_door
    await takes(rig, get)


async def test_a_cancelled_return_opens_nothing_and_a_reissued_one_has_a_new_code(rig: DownlinkRig) -> None:
    first = await expected(rig, "r1", "return")
    assert await rig.say("reissue", "r1", 2) == DONE
    second = rig.codes["r1"]
    assert await types(rig, first) == "no_such_code"
    assert await rig.say("cancel", "r1", 3) == DONE
    assert await types(rig, second) == "no_such_code"


async def test_a_return_that_became_a_delivery_has_no_drop_code_any_more(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    assert await rig.say("cancel", "r1", 2) == DONE
    assert await rig.say("expect", "r1", 3, size="S", hold_hours=72) == DONE
    assert await types(rig, code) == "no_such_code"
    assert rig.bench.happened("pulse") == []


async def test_the_code_of_an_exchange_is_not_called_used_while_the_old_one_is_being_put_in(rig: DownlinkRig) -> None:
    await expected(rig, "old", "return")
    await rig.say("expect", "new", 1, size="S", hold_hours=72, exchange="old")
    await rig.load("new")
    give = await opened(rig, rig.codes["new"])
    assert await types(rig, rig.codes["new"]) == "busy"
    await puts_in(rig, give)
    assert rig.view(give).next == "collect"


async def test_the_drop_code_of_what_is_to_go_elsewhere_is_used_and_not_busy_for_ever(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    await puts_in(rig, await opened(rig, code))
    assert await rig.say("redirect", "r1", 2, to="locker-8") == DONE
    assert await types(rig, code) == "used"


async def test_a_full_locker_says_so_and_keeps_the_code(rig: DownlinkRig) -> None:
    code = await expected(rig, "r1", "return")
    doors = [await rig.load(f"p{number}") for number in range(4)]
    assert await types(rig, code) == Reason.NO_ROOM.value
    out = await rig.accepted("p0")
    await rig.pass_time(1.0)
    await takes(rig, out)
    accepted = await opened(rig, code)
    assert accepted.door == doors[0]
    await puts_in(rig, accepted)


async def test_what_a_customer_has_brought_for_a_courier_is_handed_out_to_no_customer(rig: DownlinkRig) -> None:
    """Not by a voucher with its booking, not from afar, and not behind another parcel of the same customer."""
    back = await opened(rig, await expected(rig, "r1", "return", group="anna"))
    await puts_in(rig, back)
    assert await rig.say("expect", "b1", 1, size="S", hold_hours=72, group="anna") == DONE
    await rig.load("b1")
    assert await rig.show(rig.voucher("r1")) == "not_here"
    assert await rig.release("r1", back.door, rig.read_screen()) == ("rejected", "not_here")
    collected = await opened(rig, rig.codes["b1"])
    await takes(rig, collected)
    assert rig.view(collected).next == ""
    assert rig.parcel("r1") == "stored"


async def test_whoever_is_sent_for_an_exchange_is_led_to_nothing_else(rig: DownlinkRig) -> None:
    await expected(rig, "old", "return", group="anna")
    for booking, more in (("new", {"exchange": "old"}), ("other", {})):
        assert await rig.say("expect", booking, 1, size="S", hold_hours=72, group="anna", **more) == DONE
        await rig.load(booking)
    assert await rig.say("delegate", "new", 2) == DONE
    give = await opened(rig, rig.codes["new"])
    await puts_in(rig, give)
    get = await rig.service.next(give.session)
    assert isinstance(get, Accepted)
    await rig.pass_time(1.0)
    await takes(rig, get)
    assert rig.view(get).next == ""
    assert (rig.parcel("new"), rig.parcel("other")) == ("collected", "stored")
