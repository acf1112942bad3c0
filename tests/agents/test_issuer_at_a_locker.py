"""An issuer's day at a real locker: new keys in force, bookings, two signatures, what is desired, an old key barred."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.demo_broker import choose_broker
from agents.demo_world import World
from agents.site import Site
from tests.agents.people import People, one_line_of, typed

pytestmark = [pytest.mark.xdist_group("issuer-at-a-locker"), pytest.mark.timeout(120)]

bookings = (f"booking-{n}" for n in itertools.count(1))


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """The world's processes live as long as the module; ``world`` ends them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    site = Site(tmp_path_factory.mktemp("street"))
    (site.directory / "logs").mkdir()
    world = World(site, choose_broker("mosquitto", site.directory), close_after_ms=None)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def people(world: World) -> People:
    return People(world)


class Office:
    """What two people type, at the operator's desk and at the safe."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.site = world.site
        self.document = self.site.key("issuers.jws")

    def toml(self, name: str) -> Path:
        path = self.site.directory / f"{name}.toml"
        path.write_text(
            f'name = "{name}"\nkey = "keys/{name}.pem"\n[broker]\nhost = "127.0.0.1"\nport = {self.world.broker.port}\n'
            '[[nodes]]\ntenant = "demo"\nname = "corner"\nrole_key = "keys/role.jwk"\n'
        )
        return path

    def new(self, name: str) -> Path:
        scopes = ("nonce", "open", "book", "clear", "audit", "voucher", "desired")
        words = [word for scope in scopes for word in ("--scope", scope)]
        self._done("issuer", "new", name, *words, "--nodes", "demo_*", "--dir", self.site.key(""), *self._root())
        return self.toml(name)

    def publish(self, document: Path, config: Path, *words: object) -> subprocess.CompletedProcess[str]:
        root = ("--root-key", self.site.key("root.jwk"))
        return typed("issuer", "publish", document, self.site.node, *root, "--as", config, "--wait", 20, *words)

    def at_the_safe(self, *words: object) -> None:
        self._done("issuer", *words, *self._root())

    def command(self, name: str, *words: object) -> subprocess.CompletedProcess[str]:
        return typed("command", name, *words)

    def _root(self) -> tuple[object, ...]:
        return ("--root", self.site.key("root.pem"), "--document", self.document)

    @staticmethod
    def _done(*words: object) -> None:
        told = typed(*words)
        assert told.returncode == 0, told


@pytest.fixture(scope="module")
def office(world: World) -> Office:
    return Office(world)


@pytest.fixture(scope="module")
def anna(office: Office) -> Path:
    """A new key, in force at the running node by the node's own word."""
    config = office.new("anna")
    office.new("boris")
    told = office.publish(office.document, config)
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "demo_corner in force"), told
    return config


def test_bookings_are_done_once_and_a_lower_revision_is_superseded(world, office, anna):
    node, booking = world.site.node, next(bookings)
    for words in (("expect", "--size", "S"), ("cancel",)):
        told = office.command(words[0], node, booking, *words[1:], "--as", anna)
        assert (told.returncode, told.stdout.split(":")[0].strip()) == (0, "done"), told
    told = office.command("cancel", node, booking, "--rev", 1, "--as", anna)
    assert (told.returncode, told.stdout) == (1, "rejected: superseded\n"), told


def test_a_booking_signed_while_the_node_is_off_is_done_when_it_is_back(world, office, anna):
    world.kill("locker")
    world.kill("cloud-sync")
    booking = next(bookings)
    told = office.command("expect", world.site.node, booking, "--size", "S", "--wait", 0.5, "--as", anna, "--json")
    assert told.returncode == 4, told
    kept = json.loads(told.stdout.splitlines()[-1])
    world.run("locker")
    world.until_serving()
    world.run("cloud-sync")
    told = office.command("resume", "--as", anna)
    assert (told.returncode, told.stdout) == (0, "every command has its last word\n"), told
    told = office.command("result", kept["id"], "--as", anna)
    assert (told.returncode, told.stdout.split(":")[0].strip()) == (0, "done"), told
    decided = [event["data"]["status"] for event in world.journalled() if event["data"].get("command") == kept["id"]]
    assert decided.count("done") == 1, "also in the node's own audit, however often the bytes came"


def test_a_parcel_is_handed_out_by_voucher_by_delegate_and_in_front_of_the_locker(world, office, anna, people):
    """What the hub signs for customers, typed as the hub would say it, at the real kiosk."""
    node = world.site.node
    by_voucher, by_delegate, in_front = (next(bookings) for _ in range(3))
    people.deposit(by_voucher)
    told = typed("issuer", "voucher", node, by_voucher, "--as", anna)
    assert told.returncode == 0, told
    status, answer = world.kiosk.call("POST", "/api/collect", {"voucher": told.stdout.strip()})
    assert status == 202, answer
    people.walk_up_to(answer["door"])
    status, answer = world.kiosk.call("POST", "/api/collect", {"voucher": told.stdout.strip()})
    assert (status, answer["reason"]) == (410, "used")

    own = people.deposit(by_delegate)
    told = office.command("delegate", node, by_delegate, "--as", anna)
    assert told.returncode == 0, told
    assert office.command("revoke", node, by_delegate, 2, "--as", anna).stdout == "rejected: no_such_code\n"
    neighbour = people.newest_code(by_delegate)
    assert neighbour.code != own.code
    people.collect(neighbour)
    assert people.type(own.code)[1]["reason"] == "used"

    people.deposit(in_front)
    door = people.door_of(in_front)
    shown = world.kiosk.call("GET", "/api/shown")[1]["shown"]
    wrong = "000000" if shown != "0000 00" else "111111"
    told = office.command("release", node, in_front, door, wrong, "--as", anna)
    assert (told.returncode, told.stdout) == (1, "rejected: not_in_front\n"), told
    shown = world.kiosk.call("GET", "/api/shown")[1]["shown"]
    told = office.command("release", node, in_front, door, shown, "--as", anna)
    assert (told.returncode, told.stdout) == (0, "done: opened\n"), told
    assert world.kiosk.call("GET", "/api/sessions/current")[1]["door"] == door
    people.walk_up_to(door)


def test_two_people_declare_a_compartment_sound_and_one_alone_cannot(world, office, anna):
    half = world.site.directory / "clear-16"
    told = office.command("clear", world.site.node, "16", "--cosign", half, "--as", anna)
    assert told.returncode == 0, told
    assert "signed by one person" in one_line_of(office.command("send", half, "--as", anna))
    boris = world.site.directory / "boris.toml"
    told = office.command("cosign", half, "--first-key", world.site.key("anna.jwk"), "--as", boris, "--yes")
    assert told.returncode == 0, told
    told = office.command("send", half, "--as", boris)
    assert told.stdout.split(":")[0].strip() in ("done", "rejected"), told
    assert told.stdout.strip() not in ("rejected: wrong_persons", "rejected: same_person"), told


def test_two_people_order_an_audit_and_a_service_badge_at_the_kiosk_carries_it_out(world, office, anna, people):
    half, boris = world.site.directory / "audit-1", world.site.directory / "boris.toml"
    told = office.command("audit", world.site.node, "--cosign", half, "--as", anna)
    assert told.returncode == 0, told
    badge = {"badge": world.service.badge, "pin": world.service.pin}
    assert world.kiosk.call("POST", "/api/staff/enter", badge)[1]["role"] == "service"
    told = office.command("cosign", half, "--first-key", world.site.key("anna.jwk"), "--as", boris, "--yes")
    assert told.returncode == 0, told
    told = office.command("send", half, "--as", boris)
    assert (told.returncode, told.stdout.split(":")[0].strip()) == (0, "done"), told
    status, visit = world.kiosk.call("POST", "/api/staff/enter", badge)
    assert (status, visit["role"]) == (200, "audit")
    act, door = f"/api/staff/{visit['visit']}", visit["tasks"][0]["door"]
    status, session = world.kiosk.call("POST", f"{act}/next", {})
    assert (status, session["door"]) == (202, door)
    people.walk_up_to(door)
    status, answer = world.kiosk.call("POST", f"{act}/found", {"door": door, "found": "empty"})
    if status != 200:
        assert answer["reason"] == "item_seen", answer
        status, answer = world.kiosk.call("POST", f"{act}/found", {"door": door, "found": "parcel"})
    assert (status, door in [each["door"] for each in answer["tasks"] if each["what"] == "look"]) == (200, False)
    assert world.kiosk.call("POST", f"{act}/leave", {}) == (200, {})


def test_what_is_called_back_goes_along_with_the_next_courier(world, office, anna, people):
    parcel = next(bookings)
    told = office.command("recall", world.site.node, parcel, "--as", anna)
    assert (told.returncode, told.stdout) == (1, "rejected: no_such_booking\n"), told
    people.deposit(parcel)
    door = people.door_of(parcel)
    told = office.command("recall", world.site.node, parcel, "--cause", "sender", "--as", anna)
    assert (told.returncode, told.stdout.split(":")[0].strip()) == (0, "done"), told
    badge = {"badge": world.courier.badge, "pin": world.courier.pin}
    visit = world.kiosk.call("POST", "/api/staff/enter", badge)[1]
    assert {"door": door, "what": "recalled", "parcel": parcel} in visit["tasks"]
    status, session = world.kiosk.call("POST", f"/api/staff/{visit['visit']}/recall", {"parcel": parcel})
    assert (status, session["door"]) == (202, door)
    people.walk_up_to(door)


def test_what_is_desired_is_in_force_or_refused_by_the_nodes_own_word(world, office, anna):
    wish, signed = world.site.directory / "wish.toml", world.site.directory / "desired.jws"
    sign = ("issuer", "sign", wish, "--document", signed, "--as", anna, "--node", world.site.node)
    wish.write_text("[body]\nhold_hours = 48\n")
    assert typed(*sign).returncode == 0
    told = office.publish(signed, anna)
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "demo_corner in force"), told
    wish.write_text('[body]\nout_of_service = ["no-such-door"]\n')
    assert typed(*sign).returncode == 0
    told = office.publish(signed, anna)
    assert (told.returncode, told.stdout.splitlines()[-1]) == (1, "demo_corner refused out_of_service no_such_door"), (
        told
    )
    wish.write_text("[body]\nbus = 3\n")
    assert "bus" in one_line_of(typed(*sign))


def test_a_key_is_rotated_and_the_old_one_barred_while_the_node_runs(world, office, anna, people):
    site = world.site
    office.at_the_safe("rotate", "anna", "--dir", site.key(""))
    early = office.command("expect", site.node, next(bookings), "--size", "S", "--wait", 1, "--as", anna)
    assert early.returncode == 4, "the node does not know the new key yet, and does not answer for it"
    assert office.publish(office.document, anna).returncode == 0
    told = office.command("resume", "--as", anna)
    assert told.returncode == 0, told
    told = office.command("open", site.node, "15", "--as", anna)
    assert (told.returncode, told.stdout) == (0, "done: opened\n"), told
    people.walk_up_to("15")
    office.at_the_safe("revoke", "anna")
    assert office.publish(office.document, world.site.directory / "boris.toml").returncode == 0
    told = office.command("open", site.node, "15", "--as", anna)
    assert (told.returncode, told.stdout) == (1, "rejected: revoked_key\n"), told
