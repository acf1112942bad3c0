"""The real processes go on where they can: among broken hardware and files, a full disk, and foreign messages."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents import issuer, processes
from agents.demo_broker import choose_broker, free_port
from agents.demo_world import World
from agents.site import Site
from edge.errors import DeviceSilent
from locker.sim_control_socket import SimControl
from tests.agents.damage import copied, fill, garbage, overwritten, truncated
from tests.agents.people import People, all_held, ask, log_of, one_line_of, stopped, told_serving, typed, unplugged
from tests.hostile.relay import publisher

pytestmark = [pytest.mark.xdist_group("locker-process"), pytest.mark.timeout(120)]

bookings = (f"booking-{n}" for n in itertools.count(1))


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """Processes of the world are started anew by one test and used by the next; ``world`` ends them all."""


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


@pytest.fixture(autouse=True)
def nothing_is_lost_and_nothing_opens_by_itself(world: World, people: People) -> Iterator[None]:
    yield
    world.until("the collector to hold the whole journal", lambda: all_held(world), 40.0)
    assert people.physically_opened() == people.openings


def restarted(world: World, meanwhile: Callable[[], None], *, again: int = 0) -> None:
    """Kill the agent, let something happen to it, and start it as the service manager does: once more where it ends
    itself, at most ``again`` times. Returns when its kiosk answers.
    """
    world.kill("locker")
    meanwhile()
    world.run("locker")
    left = again

    def answers() -> bool:
        nonlocal left
        if left and world._running["locker"].poll() is not None:
            left -= 1
            world.run("locker")
        with contextlib.suppress(DeviceSilent):
            return world.kiosk.call("GET", "/api/doors")[0] == 200
        return False

    world.until("the kiosk to answer", answers)


def out_of_service(people: People) -> None:
    """Nothing can be opened, and the kiosk says so instead of promising a door."""
    status, answer = people.try_deposit(next(bookings))
    assert (status, answer["reason"]) == (409, "out_of_service")


def serves_again(world: World, people: People) -> None:
    world.until_serving()
    people.collect(people.deposit(next(bookings)))


# Hardware.


def test_without_its_port_the_agent_starts_and_serves_when_the_port_appears(world, people):
    restarted(world, lambda: unplug(world.board))
    out_of_service(people)
    world.board.call("plug")
    serves_again(world, people)


def unplug(board: SimControl) -> None:
    board.call("unplug")


def test_a_port_that_another_process_holds_is_named_and_used_once_it_is_free(world, people):
    other = os.open(world.site.port, os.O_RDWR | os.O_NOCTTY)
    try:
        restarted(world, lambda: fcntl.flock(other, fcntl.LOCK_EX))
        out_of_service(people)
        world.until("the log to name the port", lambda: "in use" in str(log_of(world, "locker")[-20:]))
    finally:
        os.close(other)
    serves_again(world, people)


def test_at_a_wrong_baud_nothing_opens_and_the_right_one_serves(world, people):
    told = world.site.node_toml.read_text()

    def wrong() -> None:
        world.site.node_toml.write_text(told.replace('port = "run/bus"\n', 'port = "run/bus"\nbaud = 9600\n'))

    restarted(world, wrong)
    out_of_service(people)
    restarted(world, lambda: restore(world.site.node_toml, told))
    serves_again(world, people)


def restore(path: Path, text: str) -> None:
    path.write_text(text)


# Files.


@pytest.mark.parametrize("damage", [overwritten, truncated, garbage], ids=lambda each: each.__name__)
def test_a_damaged_database_is_set_aside_and_codes_still_work(world, people, damage):
    code = people.deposit(next(bookings))
    world.until("the collector to hold it", lambda: all_held(world))
    before = {event["epoch"] for event in world.held()}
    # Damage that the first start did not look at ends the agent; the next start looks at every page.
    restarted(world, lambda: damage(world.site.database), again=1)
    world.until_serving()
    people.collect(code)
    serves_again(world, people)
    world.until("the collector to hold it", lambda: all_held(world))
    assert len({event["epoch"] for event in world.held()} - before) == 1
    assert list(world.site.database.parent.glob("*quarantined*"))
    assert people.type(code.code)[1]["reason"] == "used"


def test_an_old_copy_of_the_database_begins_a_new_epoch_and_codes_are_as_they_were(world, people, tmp_path):
    """Somebody puts yesterday's copy back: no number is given twice, and what was collected since stays collected."""
    database, copy = world.site.database, tmp_path / "yesterday.db"
    waiting, collected = (people.deposit(next(bookings)) for _ in range(2))
    copied(database, copy)
    people.collect(collected)
    later = people.deposit(next(bookings))
    world.until("the collector to hold it", lambda: all_held(world))
    held = world.held()

    def rolled_back() -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, database)

    restarted(world, rolled_back)
    world.until_serving()
    assert people.type(collected.code)[1]["reason"] == "used"
    people.collect(waiting)
    people.collect(later)
    world.until("a new epoch to be held", lambda: len(world.held()) > len(held) and all_held(world))
    assert {event["epoch"] for event in world.held()} - {event["epoch"] for event in held}
    numbers = [(event["epoch"], event["seq"]) for event in world.held()]
    assert len(set(numbers)) == len(numbers)


@contextlib.contextmanager
def small_disk(world: World) -> Iterator[Path]:
    """The store on a disk of 6 MiB for the length of the block; the agent is killed before and after."""
    directory = world.site.database.parent
    aside = directory.with_name("aside")
    world.kill("locker")
    shutil.copytree(directory, aside)
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(directory)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode != 0:
        world.run("locker")
        pytest.fail("only root may put a small disk there: run the tests as root, or in a container of your own")
    try:
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        with contextlib.closing(sqlite3.connect(directory / world.site.database.name)) as connection:
            # A log that former tests have made long would take what comes now without asking the disk for space.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        world.run("locker")
        yield directory
    finally:
        world.kill("locker")
        shutil.rmtree(aside)
        shutil.copytree(directory, aside)
        subprocess.run(["umount", str(directory)], check=True)
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        world.run("locker")


def test_on_a_full_disk_deposits_are_refused_and_collections_go_on(world, people):
    codes = [people.deposit(next(bookings), "M") for _ in range(2)]
    world.until("the collector to hold it", lambda: all_held(world))
    for quarantined in world.site.database.parent.glob("*quarantined*"):
        quarantined.unlink()
    with small_disk(world) as store:
        world.until_serving()
        fill(store / "of-somebody-else")
        out_of_service(people)
        for code in codes:
            people.collect(code)
        (store / "of-somebody-else").unlink()
    serves_again(world, people)


# The broker and what it brings.


def test_foreign_messages_are_counted_and_change_nothing(world, people):
    """Somebody else on the same broker: unknown topics, noise, and a message as large as the broker takes."""
    root = "lm/v1/demo/demo_corner"
    topics = [f"{root}/{rest}" for rest in ("evt/audit", "evt/audit/batch", "evt/noise", "presence", "res/x", "x")]
    topics += [f"{root}/{rest}" for rest in ("ack/hub", "cmd/open", "desired", "issuers", "probe")]
    topics += ["lm/v1/other/demo_corner/evt/audit", "lm/v1/demo/demo_nobody/evt/audit", "lm/v1", "lm/v2/a/b/c"]
    with publisher(world.broker.port) as publish:
        for topic in topics:
            for payload in (b"", b"{", b"\xff\xfe", b"[" * 20_000, b"x" * 300_000):
                publish(topic, payload)
    people.collect(people.deposit(next(bookings)))
    counted = ask(world.site.collected, "SELECT DISTINCT reason FROM refused")
    assert {"malformed", "unknown_topic", "unknown_node", "malformed_presence", "forged_result"} <= {
        reason for (reason,) in counted
    }


@contextlib.contextmanager
def second_cloud_sync(world: World, name: str, change: Callable[[str], str]) -> Iterator[Path]:
    """Another cloud-sync of the node with a changed configuration; yields its log."""
    config, told = world.site.directory / f"{name}.toml", world.site.directory / f"{name}.log"
    config.write_text(change(world.site.node_toml.read_text()))
    with told.open("wb") as out:
        process = subprocess.Popen(
            [*processes.COMMAND, "run", "cloud-sync", "--config", str(config)], stdout=out, stderr=out
        )
    try:
        yield told
        assert process.poll() is None, told.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_a_wrong_broker_and_missing_certificates_are_named_and_tried_again(world, people):
    """The locker goes on meanwhile; nothing waits for the network."""
    port = f"port = {world.broker.port}\n"
    last = 'protocol = "5"\n'
    tls = '[broker.tls]\nca = "no/ca.pem"\ncertificate = "no/node.pem"\nkey = "no/node.key"\n'
    nobody = free_port()
    with (
        second_cloud_sync(world, "wrong", lambda text: text.replace(port, f"port = {nobody}\n")) as wrong,
        second_cloud_sync(world, "bare", lambda text: text.replace(last, last + tls)) as bare,
    ):
        world.until("the wrong broker to be named", lambda: str(nobody) in wrong.read_text())
        world.until("the missing files to be named", lambda: "no/ca.pem" in bare.read_text())
        people.collect(people.deposit(next(bookings)))
        assert "died" not in bare.read_text() + wrong.read_text()


# Staff.


def staff_toml(world: World, name: str, key: str) -> Path:
    path = world.site.directory / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\nkey = "keys/{key}.pem"\n[broker]\nhost = "127.0.0.1"\nport = {world.broker.port}\n'
        '[[nodes]]\ntenant = "demo"\nname = "corner"\nrole_key = "keys/role.jwk"\n'
    )
    return path


def test_a_new_issuer_opens_a_door_after_the_restart_that_reads_the_document(world, people):
    site = world.site
    told = typed(
        *("issuer", "new", "night-desk", "--scope", "open", "--scope", "nonce", "--nodes", "demo_*"),
        *("--dir", site.key(""), "--root", site.key("root.pem"), "--document", site.key("issuers.jws")),
    )
    assert told.returncode == 0, told
    restarted(world, lambda: None)
    world.until_serving()
    desk = staff_toml(world, "night-desk", "night-desk")

    def opened() -> bool:
        """Not while the broker still has the presence of the agent that was killed."""
        told = typed("command", "open", site.node, "16", "--as", desk)
        assert told.stdout in ("done: opened\n", "rejected: wrong_session\n"), told
        return told.returncode == 0

    world.until("the new issuer's command", opened)
    people.walk_up_to("16")


def test_commands_are_refused_with_their_reason(world, people):
    node, staff = world.site.node, staff_toml(world, "staff", "issuer")
    badges = staff_toml(world, "badges", "badges")
    assert typed("command", "open", node, "99", "--as", staff).stdout == "rejected: no_such_door\n"
    assert typed("command", "open", node, "16", "--as", badges).stdout == "rejected: wrong_scope\n"
    assert typed("command", "open", node, "99", "--as", staff).returncode == 1
    assert "demo_nowhere" in one_line_of(typed("command", "open", "demo_nowhere", "16", "--as", staff))


def test_no_more_than_three_doors_a_minute_open_by_command(world, people):
    """Whoever signs. Those of the minute before count as well."""
    node, staff = world.site.node, staff_toml(world, "staff", "issuer")
    for door in ("15", "14", "13", "12"):
        told = typed("command", "open", node, door, "--as", staff)
        if told.returncode != 0:
            break
        people.walk_up_to(door)
    assert told.stdout == "rejected: capped\n", told


def test_a_node_that_is_offline_is_said_to_be(world, people, monkeypatch):
    monkeypatch.setattr(issuer, "PRESENCE_S", 1.0)
    world.kill("cloud-sync")
    try:
        told = typed("command", "open", world.site.node, "16", "--as", staff_toml(world, "staff", "issuer"))
        assert "not online" in one_line_of(told)
    finally:
        world.run("cloud-sync")


# The journal, read by a person.


def test_the_journal_is_shown_and_a_changed_byte_is_found(world, tmp_path):
    database, role_key = world.site.database, world.site.key("role.jwk")
    assert len(typed("journal", "tail", database, "-n", 5).stdout.splitlines()) == 5
    sound = typed("journal", "verify", database, "--role-key", role_key)
    assert (sound.returncode, sound.stdout.splitlines()[-1]) == (0, "  chain and seals hold"), sound
    copy = tmp_path / "state.db"
    copied(database, copy)
    raw = copy.read_bytes()
    copy.write_bytes(raw.replace(b'"type":"parcel.deposited"', b'"type":"parcel.Deposited"', 1))
    changed = typed("journal", "verify", copy, "--role-key", role_key)
    assert changed.returncode == 1
    assert "FAULT" in changed.stdout
    foreign = typed("journal", "verify", database, "--role-key", world.site.key("badges.jwk"))
    assert (foreign.returncode, "role key's" in foreign.stdout) == (1, True)


@pytest.mark.parametrize("way", [stopped, unplugged])
def test_presence_tells_within_12_s_that_nobody_is_served(world, way):
    """A stopped agent's socket stays open, and a locker without its board has no door that opens."""
    world.until("presence to say that it serves", lambda: told_serving(world))
    with way(world):
        world.until("presence to say so", lambda: not told_serving(world), 12.0)
    world.until("presence to say that it serves again", lambda: told_serving(world))
