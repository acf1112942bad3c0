"""Two persons who have looked may offer a compartment again; nothing opens, and no known parcel is lost by the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge import command
from edge.result import Status
from locker.contract import BlockCause
from locker.kiosk import Accepted, Refused
from locker.settling import block
from tests.edge.trust import HUB, SECOND
from tests.locker.downlink_rig import DownlinkRig, downlink


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(tmp_path) as rig:
        yield rig


async def blocked(rig: DownlinkRig, door: str) -> None:
    await rig.store.write(lambda ledger: block(ledger, door, BlockCause.STAFF))
    assert rig.compartment(door) == "blocked"


def pulses(rig: DownlinkRig) -> int:
    return sum(rig.sent.values())


async def test_a_blocked_compartment_is_offered_again_and_nothing_opens(rig: DownlinkRig) -> None:
    for door in ("01", "02", "03", "04"):
        await blocked(rig, door)
    refused = await rig.deposit("p1")
    assert isinstance(refused, Refused)
    assert await rig.clear("02") == ("done", "")
    assert pulses(rig) == 0
    assert rig.compartment("02") == "free"
    (released,) = rig.events("locker.compartment.released")
    assert released["door"] == "02"
    assert await rig.load("p1") == "02"


async def test_one_that_is_unknown_after_a_loss_is_offered_again_too(rig: DownlinkRig) -> None:
    await rig.crash()
    rig.database.write_bytes(b"\0" * 65536)
    for path in [*rig.folder.glob("state.ledger-*"), *rig.folder.glob("state.db-*")]:
        path.unlink()
    await rig.start()
    assert rig.compartment("01") == "unknown"
    assert await rig.clear("01") == ("done", "")
    assert rig.compartment("01") == "free"


async def test_a_parcel_that_is_known_to_be_inside_must_be_named_and_is_then_gone_with_its_code(
    rig: DownlinkRig,
) -> None:
    await rig.say("expect", "p1", 1, size="S", hold_hours=1)
    door = await rig.load("p1")
    assert await rig.clear(door) == ("rejected", "parcel_inside")
    assert await rig.clear(door, "p2") == ("rejected", "no_such_parcel")
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "occupied")
    assert await rig.clear(door, "p1") == ("done", "")
    assert (rig.parcel("p1"), rig.compartment(door), rig.state_of("p1")) == ("removed", "free", "ended")
    assert await rig.refused("p1") == "no_such_code"
    (removed,) = rig.events("parcel.removed")
    assert (removed["parcel"], removed["door"]) == ("p1", door)
    again = await rig.deposit("p1")
    assert isinstance(again, Refused)


async def test_a_stuck_parcel_is_let_go_whose_customer_has_it_long_since(rig: DownlinkRig) -> None:
    """The sensor never showed the door, so the parcel stays unconfirmed behind a door that is not offered."""
    door = await rig.load("p1")
    rig.bench.mute.add(0)
    accepted = await rig.type("p1")
    assert isinstance(accepted, Accepted)
    await rig.pass_time(12.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    rig.bench.mute.clear()
    await rig.pass_time(3.0)
    assert rig.parcel("p1") == "unconfirmed"
    assert await rig.clear(door, "p1") == ("done", "")
    assert (rig.parcel("p1"), rig.compartment(door)) == ("removed", "free")


async def test_what_the_sensors_or_a_running_attempt_speak_against_is_refused(rig: DownlinkRig) -> None:
    await blocked(rig, "01")
    rig.bench.force("01")
    await rig.pass_time(1.0)
    assert await rig.clear("01") == ("rejected", "door_open")
    rig.bench.shut("01")
    rig.bench.item_sensors = True
    rig.bench.force("01")
    rig.bench.put("01")
    rig.bench.shut("01")
    await rig.pass_time(1.0)
    assert await rig.clear("01") == ("rejected", "item_seen")
    door = (await rig.deposit("p1")).door
    assert await rig.clear(door, "p1") == ("rejected", "busy")
    assert await rig.clear("03") == ("rejected", "nothing_to_clear")
    assert await rig.clear("99") == ("rejected", "no_such_door")
    assert rig.compartment("01") == "blocked"


async def test_one_person_alone_clears_nothing_and_the_nonce_is_for_one_door(rig: DownlinkRig) -> None:
    for door in ("01", "02"):
        await blocked(rig, door)
    claims = rig.claims("clear", "01", {"door": "01"}, nonce=await rig.nonce("clear", "01"))
    alone = await rig.hears(command.sign_command(claims, HUB))
    assert (alone.status, alone.reason) == (Status.REJECTED, "wrong_persons")
    other = rig.claims("clear", "01", {"door": "02"}, nonce=await rig.nonce("clear", "01"))
    elsewhere = await rig.hears(command.cosign(command.sign_first(other, HUB), SECOND))
    assert (elsewhere.status, elsewhere.reason) == (Status.REJECTED, "bad_args")
    assert [rig.compartment(door) for door in ("01", "02")] == ["blocked", "blocked"]


async def test_the_audit_names_both_persons(rig: DownlinkRig) -> None:
    await blocked(rig, "01")
    await rig.clear("01")
    decided = [each for each in rig.events("node.command.decided") if each["name"] == "clear"]
    assert [(each["issuer"], each["cosigner"], each["status"]) for each in decided] == [("hub", "second", "done")]


async def test_a_repeat_hears_its_answer_and_does_not_clear_what_has_happened_since(rig: DownlinkRig) -> None:
    await blocked(rig, "01")
    token = await rig.clearing("01")
    assert (await rig.hears(token)).status is Status.DONE
    await blocked(rig, "01")
    assert (await rig.hears(token)).status is Status.DONE
    assert rig.compartment("01") == "blocked"


async def test_clearing_is_no_opening_so_the_caps_leave_it_alone_and_it_them(rig: DownlinkRig) -> None:
    for _ in range(4):
        await blocked(rig, "01")
        assert await rig.clear("01") == ("done", "")
    assert rig.rows("SELECT count(*) FROM remote_opening") == [(0,)]
