"""``lastmile command`` against a real broker and a node that signs real answers: nobody signs twice in doubt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents import issuer as issuer_at_work
from agents import processes
from cloud_sync.outbox import Entry, entry_of
from edge import jose
from edge.claims import claims_as
from edge.command import Claims
from edge.keys import SigningKey
from edge.keys_file import write_private_key, write_public_key
from edge.result import Status
from tests.agents.people import one_line_of, typed
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.outbox_rig import HUB, NODE, ROLE, SECOND, ScriptedNode, word

pytestmark = pytest.mark.xdist_group("command-outbox")

TOML = """name = "{name}"
key = "{name}.pem"
outbox = "outbox.db"
[broker]
host = "127.0.0.1"
port = {port}
[[nodes]]
tenant = "acme"
name = "l1"
role_key = "role.jwk"
"""


class Office:
    """Two people's files, the broker, the node; ``say`` is what a person types."""

    def __init__(self, folder: Path, broker: Mosquitto, node: ScriptedNode) -> None:
        self.folder = folder
        self.broker = broker
        self.node = node
        self.hub = self._person("hub", HUB)
        self.second = self._person("second", SECOND)
        write_public_key(folder / "role.jwk", ROLE.public)

    def _person(self, name: str, key: SigningKey) -> Path:
        write_private_key(self.folder / f"{name}.pem", key)
        write_public_key(self.folder / f"{name}.jwk", key.public)
        path = self.folder / f"{name}.toml"
        path.write_text(TOML.format(name=name, port=self.broker.port))
        return path

    async def say(self, *words: object) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(typed, "command", *words)

    async def pending(self) -> list[dict[str, Any]]:
        told = await self.say("pending", "--as", self.hub, "--json")
        assert told.returncode == 0, told
        return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    broker = Mosquitto(tmp_path)
    await broker.start()
    node = ScriptedNode()
    await node.connect(broker.settings(NODE))
    yield Office(tmp_path, broker, node)
    await node.leave()
    broker.kill()


@contextlib.asynccontextmanager
async def process(*words: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command line in a process of its own, so that it can be stopped and killed."""
    started = await asyncio.create_subprocess_exec(
        *processes.COMMAND, "command", *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.communicate()


async def test_a_door_opens_and_each_step_is_told(office):
    told = await office.say("open", NODE, "A3", "--as", office.hub)
    assert (told.returncode, told.stdout) == (0, "done: taken\n"), told
    assert "gave a nonce for door A3" in told.stderr
    told = await office.say("open", NODE, "A4", "--as", office.hub, "--json")
    steps = [json.loads(line) for line in told.stdout.splitlines()]
    assert [step["step"] for step in steps][:3] == ["waiting", "nonce", "signed"]
    assert (steps[-1]["step"], steps[-1]["state"], steps[-1]["final"]) == ("outcome", "done", True)
    assert [name for name, _ in office.node.heard] == ["nonce", "open"] * 2
    assert await office.pending() == []


async def test_bookings_carry_a_revision_that_rises_per_booking_and_over_calls(office):
    for words in (
        ("expect", NODE, "booking-1", "--size", "M", "--hold-hours", 48, "--low"),
        ("extend", NODE, "booking-1", "--hours", 24),
        ("reissue", NODE, "booking-1"),
        ("cancel", NODE, "booking-1"),
    ):
        told = await office.say(*words, "--as", office.hub)
        assert (told.returncode, told.stdout) == (0, "done: taken\n"), told
    assert [name for name, _ in office.node.heard] == ["expect", "extend", "reissue", "cancel"]
    told = await office.say("cancel", NODE, "booking-1", "--rev", 7, "--as", office.hub)
    assert (told.returncode, told.stdout) == (1, "rejected: superseded\n")


async def test_what_no_node_would_take_is_not_signed(office):
    told = await office.say("expect", NODE, "b" * 97, "--size", "S", "--as", office.hub)
    assert "no node would take it" in one_line_of(told)
    told = await office.say("open", NODE, "no such/door", "--as", office.hub)
    assert told.returncode == 2
    assert office.node.heard == []
    assert await office.pending() == []


async def test_a_booking_for_a_node_that_is_away_is_kept_and_resumed(office):
    await office.node.leave()
    told = await office.say("expect", NODE, "booking-1", "--size", "S", "--wait", 1, "--as", office.hub)
    assert told.returncode == 4, told
    (kept,) = await office.pending()
    assert (kept["name"], kept["state"]) == ("expect", "sent")
    assert kept["id"] in told.stdout
    assert "lastmile command resume" in told.stdout
    await office.node.connect(office.broker.settings(NODE))
    told = await office.say("resume", "--as", office.hub)
    assert (told.returncode, told.stdout) == (0, "every command has its last word\n"), told
    assert office.node.effects == [kept["id"]]
    assert await office.pending() == []


async def test_in_doubt_the_same_command_is_asked_about_and_no_second_is_signed(office):
    """No last word in time: the tool says how to ask, refuses to sign another for the door, and hears the end later."""
    office.node.sees_no_end = True
    told = await office.say("open", NODE, "A3", "--wait", 0.5, "--as", office.hub)
    assert told.returncode == 4, told
    (kept,) = await office.pending()
    assert f"lastmile command result {kept['id']}" in told.stderr
    again = await office.say("open", NODE, "A3", "--as", office.hub)
    assert "has no outcome yet" in one_line_of(again)
    assert [name for name, _ in office.node.heard].count("nonce") == 1
    opened = next(token for name, token in office.node.heard if name == "open")
    office.node.finish(kept["id"], word(entry_in(opened), Status.UNKNOWN, "no_reading"))
    told = await office.say("result", kept["id"], "--as", office.hub)
    assert (told.returncode, told.stdout) == (3, "unknown: no_reading\n"), told
    assert {token for name, token in office.node.heard if name == "open"} == {opened}
    assert office.node.effects == [kept["id"]]


def entry_in(token: bytes) -> Entry:
    return entry_of(claims_as(jose.verify(token, jose.COMMAND, lambda _: HUB.public).claims, Claims), token)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
async def test_ctrl_c_and_kill_leave_one_signed_command_whose_outcome_is_asked_for(office, stop):
    office.node.sees_no_end = True
    async with process("open", NODE, "A3", "--as", office.hub) as started:
        await until(lambda: office.node.effects)
        started.send_signal(stop)
        _, err = await started.communicate()
    (jti,) = office.node.effects
    if stop is signal.SIGINT:
        assert started.returncode == 4
        assert f"lastmile command result {jti}" in err.decode()
        assert "Traceback" not in err.decode()
    opened = next(token for name, token in office.node.heard if name == "open")
    office.node.finish(jti, word(entry_in(opened), Status.DONE, "opened"))
    told = await office.say("result", jti, "--as", office.hub)
    assert (told.returncode, told.stdout) == (0, "done: opened\n"), told
    assert office.node.effects == [jti]


async def test_two_people_clear_a_compartment_and_one_alone_cannot(office):
    half = office.folder / "clear-A3"
    told = await office.say("clear", NODE, "A3", "--cosign", half, "--as", office.hub)
    assert told.returncode == 0, told
    assert "signed by one person" in one_line_of(await office.say("send", half, "--as", office.hub))
    same = await office.say("cosign", half, "--first-key", office.folder / "hub.jwk", "--as", office.hub, "--yes")
    assert "has signed it already" in one_line_of(same)
    stranger = await office.say("cosign", half, "--first-key", office.folder / "second.jwk", "--as", office.second)
    assert "signed by another key" in one_line_of(stranger)
    assert [name for name, _ in office.node.heard] == ["nonce"]
    told = await office.say("cosign", half, "--first-key", office.folder / "hub.jwk", "--as", office.second, "--yes")
    assert told.returncode == 0, told
    assert "command     clear A3" in told.stdout
    told = await office.say("send", half, "--as", office.second)
    assert (told.returncode, told.stdout) == (0, "done: taken\n"), told
    assert office.node.signers[-1] == (HUB.kid, SECOND.kid)


async def test_a_stale_presence_is_waited_out_before_anything_is_signed_that_opens(office, monkeypatch):
    """The agent has started again and the broker still names its former run."""
    monkeypatch.setattr(issuer_at_work, "PRESENCE_S", 5.0)
    office.node.session = "s2"
    asked = asyncio.create_task(office.say("open", NODE, "A3", "--as", office.hub))
    await until(lambda: office.node.heard)
    office.node.broker_has = "s2"
    await office.node.appear()
    told = await asked
    assert told.stdout == "done: taken\n", told
    assert [name for name, _ in office.node.heard] == ["nonce", "nonce", "open"]


async def test_a_broker_that_is_not_there_is_named_at_once(office):
    office.broker.kill()
    told = await office.say("open", NODE, "A3", "--as", office.hub)
    assert "Connection refused" in one_line_of(told)
    assert await office.pending() == []


def test_the_help_says_what_each_exit_status_means():
    told = subprocess.run(
        [sys.executable, "-m", "agents", "command", "open", "--help"], capture_output=True, text=True, check=True
    )
    for word_ in ("0 done", "1 rejected", "3 unknown", "4 no answer"):
        assert word_ in " ".join(told.stdout.split())
