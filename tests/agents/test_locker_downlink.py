"""A running locker under orders: bookings, documents and two persons' words through its socket, and after a kill -9."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from agents.demo_broker import DemoBroker, free_port
from agents.demo_world import World
from agents.site import Site, make_keys, write_settings
from edge import command
from edge.command import Claims
from edge.document import Desired, Reported, read_reported, sign_desired
from edge.identifiers import uuid7
from edge.identity import Identity, identify
from edge.issuers import Entry, IssuersDocument, sign_issuers
from edge.keys import SigningKey
from edge.keys_file import read_signing_key
from edge.link import Hello, Offer, OfferAnswer, Out, Welcome
from edge.link_socket import LinkClient, connect
from edge.result import Result, read_result
from tests.agents.people import People, ask

pytestmark = [pytest.mark.xdist_group("locker-downlink"), pytest.mark.timeout(120)]

DAY = 86_400
SECOND = SigningKey(b"2" * 32)
SCOPES = ("nonce", "open", "book", "clear", "desired")


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """The locker's processes serve all tests of this file; ``world`` ends them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A locker and its boards, without a broker: the test stands where cloud-sync stands."""
    site = Site(tmp_path_factory.mktemp("street"))
    (site.directory / "logs").mkdir()
    world = World(site, cast("DemoBroker", None), close_after_ms=None)
    world.courier = make_keys(site, wall=time.time())
    write_settings(
        site, broker_port=free_port(), kiosk_port=world.kiosk.port, protocol="5", subscribe="plain", uid=os.getuid()
    )
    with site.node_toml.open("a") as settings:
        settings.write('\n[log]\nlevel = "warning"\n')
    world.run("lock-board")
    try:
        world.until("the simulated board", site.port.is_symlink)
        world.run("locker")
        world.until_serving()
        yield world
    finally:
        world.board.close()
        for process in reversed(world._running.values()):
            process.terminate()
            process.wait(10)


class Office:
    """Staff, with keys, at the other end of the local socket."""

    def __init__(self, world: World) -> None:
        self.world = world
        site = world.site
        self.staff = read_signing_key(site.key("issuer.pem"))
        self.role = read_signing_key(site.key("role.pem")).public
        self.identity: Identity = identify(site.tenant, site.name, self.role)
        self.people = People(world)
        self.session = ""
        self._request = int(time.monotonic() * 1000)
        self.socket: LinkClient

    async def connect(self) -> None:
        self.socket = await connect(self.world.site.socket)
        welcome = await self.socket.ask(Hello)
        assert isinstance(welcome, Welcome)
        self.session = welcome.session

    async def offer(self, kind: str, token: bytes) -> list[Result]:
        answer = await self.socket.ask(lambda n: Offer(n, kind, "x", token))
        assert isinstance(answer, OfferAnswer)
        return [
            read_result(result, self.role, audience=self.identity.audience, command_id=jti, issuer="staff")
            for jti, result in answer.results
        ]

    async def told(self, token: bytes) -> tuple[str, str]:
        (result,) = await self.offer("cmd", token)
        return result.status.value, result.reason

    async def reported(self, desired_version: int) -> Reported:
        """The node's word about a document, from what comes unasked."""
        async with asyncio.timeout(10):
            while True:
                push = await self.socket.next_push()
                if isinstance(push, Out) and push.kind == "reported":
                    said = read_reported(push.payload, self.role, audience=self.identity.audience)
                    if desired_version in {said.desired_version, said.refused_version}:
                        return said

    def claims(self, name: str, subject: str, args: dict[str, Any], **proof: Any) -> Claims:
        now = time.time()
        jti = uuid7(now, os.urandom(10))
        members: dict[str, Any] = {"iss": "staff", "aud": self.identity.audience, "jti": jti, "iat": int(now)}
        return Claims(**(members | {"name": name, "subject": subject, "args": args} | proof))

    def booking(self, name: str, booking: str, rev: int, **args: Any) -> bytes:
        return command.sign_command(self.claims(name, booking, args, rev=rev, exp=int(time.time()) + DAY), self.staff)

    async def clear(self, door: str, **args: Any) -> tuple[str, str]:
        self._request += 1
        wanted = {"name": "clear", "request": self._request}
        asked = command.sign_command(self.claims("nonce", door, wanted, session=self.session), self.staff)
        (given,) = await self.offer("cmd", asked)
        claims = self.claims("clear", door, {"door": door, **args}, nonce=given.data["nonce"])
        return await self.told(command.cosign(command.sign_first(claims, self.staff), SECOND))

    def desired(self, version: int, **body: Any) -> bytes:
        document = Desired("staff", self.identity.audience, version, int(time.time()), body)
        return sign_desired(document, self.staff)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return ask(self.world.site.database, query)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [each["data"] for each in self.world.journalled() if each["type"] == kind]


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    office = Office(world)
    await office.connect()
    await office.offer("issuers", _issuers(office))
    yield office
    await office.socket.close()


def _issuers(office: Office) -> bytes:
    """The second edition, as the root signs it: staff may do more, and there is a second person."""
    now = int(time.time())
    span: dict[str, Any] = {
        "not_before": now - DAY,
        "not_after": now + DAY,
        "nodes": (f"{office.world.site.tenant}_*",),
    }
    badges = read_signing_key(office.world.site.key("badges.pem")).public
    entries = (
        Entry(name="staff", jwk=office.staff.public.jwk(), scopes=SCOPES, **span),
        Entry(name="second", jwk=SECOND.public.jwk(), scopes=("clear",), **span),
        Entry(name="badges", jwk=badges.jwk(), scopes=("badge",), **span),
    )
    root = read_signing_key(office.world.site.key("root.pem"))
    return sign_issuers(IssuersDocument(2, now, entries), root)


async def killed_and_started(office: Office) -> None:
    await office.socket.close()
    await asyncio.to_thread(office.world.kill, "locker")
    office.world.run("locker")
    await asyncio.to_thread(office.world.until_serving)
    await office.connect()


async def test_a_booking_is_in_effect_once_whatever_is_sent_again_after_a_kill(office: Office) -> None:
    expect = office.booking("expect", "b1", 2, size="S", hold_hours=24)
    assert await office.told(expect) == ("done", "")
    await killed_and_started(office)
    assert await office.told(expect) == ("done", "")
    assert await office.told(office.booking("cancel", "b1", 1)) == ("rejected", "superseded")
    await asyncio.to_thread(office.people.deposit, "b1")
    (issued,) = [each["sealed"] for each in office.events("locker.code.issued") if each["parcel"] == "b1"]
    assert office.people.last_view["carry"] == issued, "nobody signs receipts here: the courier carries the code"
    assert office.rows("SELECT state FROM booking WHERE booking = 'b1'") == [("stored",)]
    assert await office.told(office.booking("reissue", "b1", 3)) == ("done", "")
    changes = [each["change"] for each in office.events("locker.booking.changed") if each["booking"] == "b1"]
    assert changes == ["expected", "stored", "reissued"]


async def test_a_document_changes_the_running_locker_and_stays_in_force_after_a_kill(office: Office) -> None:
    await asyncio.to_thread(office.people.deposit, "d1")
    doors = [row[0] for row in office.rows("SELECT door FROM compartment")]
    await office.offer("desired", office.desired(1, out_of_service=doors, log_level="info"))
    said = await office.reported(1)
    assert (said.issuers_version, said.applied["out_of_service"]) == (2, doors)
    for again in (False, True):
        if again:
            await killed_and_started(office)
            assert (await office.reported(1)).version > said.version
        status, answer = await asyncio.to_thread(office.people.try_deposit, "d2")
        assert (status, answer["reason"]) == (409, "out_of_service")
    code = office.people._code("d1")
    assert code is not None
    await asyncio.to_thread(office.people.collect, code)
    await office.offer("desired", office.desired(2, out_of_service=[], wiring={}))
    refused = await office.reported(2)
    assert (refused.desired_version, [each.member for each in refused.refused]) == (1, ["wiring"])
    status, _ = await asyncio.to_thread(office.people.try_deposit, "d2")
    assert status == 409
    await office.offer("desired", office.desired(3, hold_hours=1))
    assert (await office.reported(3)).applied == {"hold_hours": 1}
    await asyncio.to_thread(office.people.deposit, "d2")
    assert [each["version"] for each in office.events("node.desired.applied")] == [1, 3]
    assert [each["version"] for each in office.events("node.desired.refused")] == [2]


async def test_two_persons_free_a_compartment_whose_parcel_is_gone_and_one_alone_does_not(office: Office) -> None:
    await asyncio.to_thread(office.people.deposit, "c1")
    ((door,),) = office.rows("SELECT door FROM parcel WHERE parcel = 'c1'")
    await asyncio.to_thread(_rob, office, door)
    assert await office.clear(door) == ("rejected", "parcel_inside")
    opened = office.people.physically_opened()
    assert await office.clear(door, parcel="c1") == ("done", "")
    assert office.rows(f"SELECT state FROM compartment WHERE door = '{door}'") == [("free",)]
    assert office.people.physically_opened() == opened
    (removed,) = office.events("parcel.removed")
    assert removed["parcel"] == "c1"
    alone = office.claims("clear", door, {"door": door}, nonce="none")
    assert await office.told(command.sign_command(alone, office.staff)) == ("rejected", "wrong_persons")


def _rob(office: Office, door: str) -> None:
    """A thief takes the parcel: the compartment is kept for one that is not there any more."""
    world, lock = office.world, int(door) - 1
    world.board.call("force_door", board=0, lock=lock)
    world.board.call("take_item", board=0, lock=lock)
    world.until("the door to be seen open", lambda: office.people.door_state(door) != "closed")
    office.people._shut(lock)
    world.until("the door to be seen shut", lambda: office.people.door_state(door) == "closed")
