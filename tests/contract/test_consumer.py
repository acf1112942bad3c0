"""Whoever reads the contract can write a consumer in any stack: the example in JavaScript holds what a node tells."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.demo_broker import Mosquitto, find_mosquitto, free_port
from agents.demo_world import World
from agents.site import Site
from tests.contract.node import PEERS, node
from tests.repository.source import ROOT

EXAMPLE = ROOT / "docs/examples/consumer.mjs"

pytestmark = pytest.mark.timeout(120)


def installed(directory: Path) -> Path:
    """The example as a reader has it after ``npm install mqtt`` beside it."""
    (directory / "node_modules").symlink_to(PEERS / "node_modules")
    return Path(shutil.copy(EXAMPLE, directory))


class OtherStack(World):
    """The demonstration's world with the example as its only consumer."""

    def run(self, name: str) -> None:
        if name == "collector":
            kid = json.loads(self.site.key("hub-ack.jwk").read_text())["kid"]
            example = installed(self.site.directory)
            arguments = [f"mqtt://127.0.0.1:{self.broker.port}", self.site.key("role.jwk"), "hub"]
            arguments += [self.site.key("hub-ack.pem"), kid]
            with (self.site.directory / "logs" / "consumer.log").open("ab") as out:
                self._running[name] = subprocess.Popen(
                    node(example, *arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
        else:
            super().run(name)

    def kept(self) -> list[dict[str, Any]]:
        """What the example says that it took, in order."""
        lines = (self.site.directory / "logs" / "consumer.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def acknowledged(self) -> int:
        """The audit event up to which the node has believed the example."""
        sql = sqlite3.connect(f"file:{self.site.database}?mode=ro", uri=True)
        try:
            (seq,) = sql.execute("SELECT seq FROM cursor WHERE consumer = 'hub' AND class = 0").fetchone()
        finally:
            sql.close()
        return int(seq)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OtherStack]:
    mosquitto = find_mosquitto()
    assert mosquitto, "mosquitto is not here. Run: apt-get install mosquitto"
    (tmp_path / "logs").mkdir()
    world = OtherStack(Site(tmp_path), Mosquitto(mosquitto, free_port(), tmp_path), close_after_ms=2500)
    try:
        world.start()
        yield world
    finally:
        world.stop()


def test_the_example_holds_what_the_node_tells_and_is_believed(world: OtherStack) -> None:
    courier = world.courier
    body = {"badge": courier.badge, "pin": courier.pin, "booking": "parcel-1", "size": "S"}
    status, answer = world.kiosk.call("POST", "/api/deposit", body)
    assert status == 202
    lock = int(answer["door"]) - 1
    world.until("the door", lambda: world.kiosk.call("GET", f"/api/sessions/{answer['session']}")[1]["state"] == "open")
    world.board.call("put_item", board=0, lock=lock)
    world.until("the deposit", lambda: any(each.get("type") == "parcel.deposited" for each in world.kept()))
    world.until("a proof of it", lambda: world.acknowledged() >= len(world.journalled()))
    kept, told = world.kept(), world.journalled()
    audit = [(each["seq"], each["type"]) for each in kept if each["type"] != "locker.door.state"]
    assert audit == [(event["seq"], event["type"]) for event in told]
    assert_events_fit_their_schemas(told)


def assert_events_fit_their_schemas(told: list[dict[str, Any]]) -> None:
    """What the node really said, held against the published schemas by another stack's validator."""
    assert {"parcel.deposited", "locker.door.opened", "node.journal.sealed"} <= {event["type"] for event in told}
    checked = subprocess.run(
        node(PEERS / "check_events.mjs", ROOT / "docs/schemas/events"),
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(checked.stdout) == []
