"""A customer's app asks for the door while its customer stands before it: the digits on the screen prove that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import VerificationError
from edge.result import read_result
from locker.kiosk import SessionKind, SessionState
from locker.shown import Shown
from tests.edge.trust import NODE, ROLE
from tests.locker.downlink_rig import DownlinkRig, downlink

ACCEPTED = ("accepted", "")


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


def last_words(rig: DownlinkRig) -> list[tuple[str, str]]:
    read = [
        read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")
        for jti, result in rig.late
    ]
    return [(each.status.value, each.reason) for each in read]


async def test_a_pickup_by_the_customers_app_in_front_of_the_locker(rig: DownlinkRig) -> None:
    """The customer reads six digits on the screen, the hub signs, the door opens and the screen shows which."""
    door = await rig.load("b1")
    assert rig.service.current() is None
    assert await rig.release("b1", door, rig.read_screen()) == ACCEPTED
    view = rig.service.current()
    assert view is not None
    assert (view.door, view.kind, view.state) == (door, SessionKind.COLLECT, SessionState.UNLOCKING)
    await rig.pass_time(1.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert rig.service.current() is None
    assert (rig.parcel("b1"), rig.compartment(door)) == ("collected", "free")
    await rig.eventually(lambda: last_words(rig) == [("done", "opened")])
    (told,) = rig.events("locker.release.accepted")
    (asked,) = [each for each in rig.events("locker.unlock.requested") if each["cause"] == "release"]
    assert told["command"] == asked["cause_id"]
    assert await rig.refused("b1") == "used"


async def test_from_anywhere_else_nothing_opens_and_guessing_is_paced(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    pulses = len(rig.bench.happened("pulse"))
    right = rig.read_screen()
    wrong = "000000" if right != "000000" else "111111"
    assert [await rig.release("b1", door, wrong) for _ in range(5)] == [("rejected", "not_in_front")] * 5
    assert await rig.release("b1", door, right) == ("rejected", "wait")
    await rig.pass_time(61.0)
    assert await rig.release("b1", door, right) == ACCEPTED  # the one before, within its half minute
    assert len(rig.bench.happened("pulse")) == pulses + 1


async def test_only_the_named_parcel_behind_the_named_door_is_handed_out(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    shown = rig.read_screen()
    assert await rig.release("b1", "04", shown) == ("rejected", "not_here")
    assert await rig.release("b2", door, shown) == ("rejected", "not_here")
    assert await rig.release("b1", door, shown, subject="b2") == ("rejected", "bad_args")
    assert await rig.release("b1", door, "12345") == ("rejected", "bad_args")
    assert await rig.say("redirect", "b1", 1, to="acme_locker-8") == ("done", "")
    assert await rig.release("b1", door, shown) == ("rejected", "recalled")


async def test_after_a_doubt_a_new_command_is_a_new_try_and_a_crash_tells_its_issuer(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    rig.bench.mute.add(0)
    assert await rig.release("b1", door, rig.read_screen()) == ACCEPTED
    await rig.pass_time(4.0)
    await rig.eventually(lambda: last_words(rig) == [("unknown", "no_answer")])
    rig.bench.shut(door)
    rig.bench.mute.clear()
    rig.bench.ailment(door).stuck = -1
    await rig.pass_time(2.0)
    assert await rig.release("b1", door, rig.read_screen()) == ACCEPTED
    assert [each["confirmed"] for each in rig.events("locker.release.accepted")] == [False, True]
    await rig.crash()
    (jti,) = await rig.start()
    await rig.pass_time(4.0)
    await rig.eventually(lambda: [(each, done.outcome.value) for each, done in rig.told] == [(jti, "unknown")])
    assert rig.parcel("b1") == "unconfirmed"


def test_digits_live_a_minute_and_half_a_minute_more_and_were_seen_by_somebody() -> None:
    drawn = iter(range(1, 100))
    shown = Shown(lambda _: next(drawn).to_bytes(4, "big"))
    assert shown.now(100.0) == ("0000 01", 60.0)
    assert shown.now(159.0) == ("0000 01", 1.0)
    assert shown.now(160.0) == ("0000 02", 60.0)
    shown.require("000001", 189.9)
    shown.require("000002", 189.9)
    for late in (("000001", 190.0), ("000003", 191.0), ("0000 02", 192.0)):
        with pytest.raises(VerificationError, match="not the code"):
            shown.require(*late)
    assert shown.now(400.0) == ("0000 03", 60.0)  # nobody looked for two minutes: the one before is on no screen
    with pytest.raises(VerificationError, match="not the code"):
        shown.require("000002", 401.0)


def test_wrong_digits_are_paced_by_the_minute_and_by_the_day() -> None:
    shown = Shown(lambda count: b"\0" * count)
    wrong = 0
    for second in range(0, 86_400, 7):
        try:
            shown.require("999999", float(second))
        except VerificationError as error:
            wrong += error.reason == "not_in_front"
    assert wrong == 100
    with pytest.raises(VerificationError, match="too many"):
        shown.require("000000", 86_399.0)
    shown.require("000000", 2 * 86_400.0)
