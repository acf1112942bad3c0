"""``lastmile issuer``: editions of the issuers document, rotation, revocation, and documents published to nodes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents import issuer_file
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.documents import Document, Standing, standing
from edge.document import RefusedMember, Reported, sign_reported
from edge.issuers import Issuers, read_issuers
from edge.keys import SigningKey
from edge.keys_file import read_signing_key, read_verify_key, write_private_key, write_public_key
from tests.agents.people import one_line_of, typed
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.outbox_rig import AUDIENCE, FORGER, NODE, ROLE, TOPICS

pytestmark = pytest.mark.xdist_group("issuer-documents")

ROOT, SAFE = SigningKey(b"1" * 32), SigningKey(b"2" * 32)
DAY = 86_400
TOML = """name = "desk"
key = "desk.pem"
[broker]
host = "127.0.0.1"
port = {port}
[[nodes]]
tenant = "acme"
name = "l1"
role_key = "role.jwk"
"""


class Safe:
    """The folder with the roots, the document and the issuers' keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = folder / "issuers.jws"
        for name, key in (("root", ROOT), ("safe", SAFE)):
            write_private_key(folder / f"{name}.pem", key)
            write_public_key(folder / f"{name}.jwk", key.public)
        write_public_key(folder / "role.jwk", ROLE.public)

    def say(self, *words: object) -> list[str]:
        told = typed("issuer", *words)
        assert told.returncode == 0, told
        return told.stdout.splitlines()

    def refused(self, *words: object) -> str:
        """The refusal; every file is as it was."""
        before = self.files()
        line = one_line_of(typed("issuer", *words))
        assert self.files() == before
        return line

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}

    def new(self, name: str = "desk") -> None:
        self.say("new", name, "--scope", "open", "--scope", "nonce", "--nodes", "acme_*", *self.signs(), *self.at())

    def signs(self, root: str = "root") -> list[object]:
        return ["--root", self.folder / f"{root}.pem", "--document", self.document]

    def at(self) -> list[object]:
        return ["--dir", self.folder]

    def edition(self, held: int = 0) -> Issuers:
        """As a node that pins both roots reads it."""
        return read_issuers(self.document.read_bytes(), [ROOT.public, SAFE.public], held_version=held)

    def kid(self, name: str) -> str:
        return read_verify_key(self.folder / f"{name}.jwk").kid


@pytest.fixture
def safe(tmp_path: Path) -> Safe:
    return Safe(tmp_path)


def test_a_rotation_lists_the_new_key_beside_the_old_for_the_overlap_and_swaps_the_files(safe):
    safe.new()
    old = safe.kid("desk")
    told = safe.say("rotate", "desk", "--overlap-days", 7, *safe.signs(), *safe.at())
    new = safe.kid("desk")
    assert new != old
    assert read_signing_key(safe.folder / "desk.pem").kid == new
    assert read_signing_key(safe.folder / "desk.old.pem").kid == old
    assert any("publish" in line for line in told)
    edition, now = safe.edition(held=1), time.time()
    assert (edition.version, edition.listed(new).name) == (2, "desk")
    assert edition.listed(new).entry.scopes == ("open", "nonce")
    for kid in (old, new):
        assert edition.key_for(kid, "open", NODE, wall=now)
    assert edition.listed(old).entry.not_after == pytest.approx(now + 7 * DAY, abs=60)
    assert edition.listed(new).entry.not_after == pytest.approx(now + 365 * DAY, abs=60)
    assert not list(safe.folder.glob("*.next.*")) + list(safe.folder.glob("*.new"))


class Struck(BaseException):
    """The power fails."""


@pytest.mark.parametrize("blow", range(1, 12))
def test_a_rotation_that_is_struck_anywhere_goes_on_when_it_is_said_again(safe, monkeypatch, blow):
    """At every moment the key file is a whole listed key, and in the end the name has two keys, not three."""
    safe.new()
    strikes = iter(range(1, 100))

    def struck(call: Any) -> Any:
        def instead(*args: Any, **kwargs: Any) -> Any:
            if next(strikes) == blow:
                raise Struck
            return call(*args, **kwargs)

        return instead

    for name in (
        "write_private_key",
        "write_public_key",
        "write_whole",
        "read_signing_key",
        "sync_directory",
        "_swap_keys",
    ):
        monkeypatch.setattr(issuer_file, name, struck(getattr(issuer_file, name)))
    monkeypatch.setattr(os, "link", struck(os.link))
    monkeypatch.setattr(Path, "replace", struck(Path.replace))
    words = ("rotate", "desk", *safe.signs(), *safe.at())
    try:
        typed("issuer", *words)
    except Struck:
        monkeypatch.undo()
        assert safe.edition().listed(read_signing_key(safe.folder / "desk.pem").kid)
        if (
            safe.kid("desk") == read_signing_key(safe.folder / "desk.pem").kid
            and (safe.folder / "desk.old.pem").exists()
        ):
            return  # struck after the last swap: it is done
        safe.say(*words)
    monkeypatch.undo()
    current = read_signing_key(safe.folder / "desk.pem").kid
    assert safe.kid("desk") == current
    assert safe.edition().listed(current)
    lines = listed(safe)
    assert len(lines) == 2, lines


def listed(safe: Safe) -> list[dict[str, Any]]:
    roots = ["--root-key", safe.folder / "root.jwk", "--root-key", safe.folder / "safe.jwk"]
    return [json.loads(line) for line in safe.say("list", "--document", safe.document, *roots, "--json")]


def test_a_revoked_key_is_barred_and_stays_listed_so_that_nodes_still_answer_for_it(safe):
    safe.new()
    safe.new("night")
    safe.say("revoke", "desk", *safe.signs())
    edition = safe.edition(held=2)
    assert edition.listed(safe.kid("desk")).entry.revoked
    assert not edition.listed(safe.kid("night")).entry.revoked
    assert {line["name"]: line["state"] for line in listed(safe)} == {"desk": "revoked", "night": "valid"}
    assert "no key of desk" in safe.refused("revoke", "desk", *safe.signs())
    assert "not a living key" in safe.refused("rotate", "desk", *safe.signs(), *safe.at())


def test_one_key_of_a_name_can_be_revoked_alone(safe):
    safe.new()
    old = safe.kid("desk")
    safe.say("rotate", "desk", *safe.signs(), *safe.at())
    safe.say("revoke", "desk", "--kid", old, *safe.signs())
    assert safe.edition().listed(old).entry.revoked
    assert not safe.edition().listed(safe.kid("desk")).entry.revoked


def test_the_second_root_takes_over_when_it_is_told_of_the_first_and_no_third_does(safe):
    safe.new()
    first = ["--root-key", safe.folder / "root.jwk"]
    assert "not signed by this root" in safe.refused("revoke", "desk", *safe.signs("safe"))
    safe.say("revoke", "desk", *safe.signs("safe"), *first)
    assert safe.edition(held=1).version == 2
    write_public_key(safe.folder / "third.jwk", FORGER.public)
    third = ["--root-key", safe.folder / "third.jwk"]
    assert "3 root keys" in safe.refused("revoke", "desk", *safe.signs("safe"), *first, *third)


def test_the_table_shows_whose_keys_may_do_what(safe):
    safe.new()
    table = "\n".join(safe.say("list", "--document", safe.document, "--root-key", safe.folder / "root.jwk"))
    assert "version 1" in table
    for told in ("desk", "valid", "open nonce", "acme_*", safe.kid("desk")):
        assert told in table
    assert "not signed by this root" in safe.refused(
        "list", "--document", safe.document, "--root-key", safe.folder / "safe.jwk"
    )


EDITION = """
[[keys]]
name = "desk"
key = "desk.jwk"
scopes = ["open", "nonce", "book"]
nodes = ["acme_*"]
not_before = 2026-01-01T00:00:00Z
not_after = 2036-01-01T00:00:00Z
"""


def test_an_edition_is_signed_from_a_file_with_the_next_version(safe):
    safe.new()
    safe.new("night")
    (safe.folder / "edition.toml").write_text(EDITION)
    told = safe.say("sign", safe.folder / "edition.toml", *safe.signs())
    assert "night is listed no more" in told[0]
    edition = safe.edition(held=2)
    assert edition.listed(safe.kid("desk")).entry.scopes == ("open", "nonce", "book")
    assert edition.listed(safe.kid("desk")).entry.not_before == 1_767_225_600


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('nodes = ["acme_*"]', 'nodes = ["acme*1"]', "no node would take it"),
        ('name = "desk"', 'name = "Desk"', "no node would take it"),
        ("not_after = 2036-01-01T00:00:00Z", "not_after = 1960-01-01T00:00:00Z", "no node would take it"),
        ("[[keys]]", EDITION + "[[keys]]", "listed twice"),
        ('key = "desk.jwk"', 'key = "desk.pem"', "desk.pem"),
        ('name = "desk"', 'name = "desk"\nnote = "x"', "note"),
    ],
)
def test_what_every_node_would_refuse_is_refused_before_a_file_is_written(safe, old, new, told):
    safe.new()
    (safe.folder / "edition.toml").write_text(EDITION.replace(old, new, 1))
    assert told in safe.refused("sign", safe.folder / "edition.toml", *safe.signs())


def test_more_keys_than_a_node_takes_are_refused(safe):
    keys = []
    for number in range(65):
        write_public_key(safe.folder / f"key-{number}.jwk", SigningKey(number.to_bytes(32, "big")).public)
        keys.append(EDITION.replace("desk.jwk", f"key-{number}.jwk"))
    (safe.folder / "edition.toml").write_text("".join(keys))
    assert "no node would take it" in safe.refused("sign", safe.folder / "edition.toml", *safe.signs())


# Desired, and published.


class Street:
    """A node on a real broker that takes documents and says so as a real one does."""

    def __init__(self, broker: Mosquitto) -> None:
        self.broker = broker
        self.held: dict[str, int] = {"issuers": 0, "desired": 0}
        self.refuses: tuple[RefusedMember, ...] = ()
        self._version = 0

    def reported(self, key: SigningKey = ROLE, **changed: Any) -> bytes:
        self._version += 1
        members: dict[str, Any] = {
            "iss": AUDIENCE,
            "version": self._version,
            "iat": int(time.time()),
            "software": "1",
            "desired_version": self.held["desired"],
            "issuers_version": self.held["issuers"],
            "applied": {},
        }
        return sign_reported(Reported(**(members | changed)), key)

    async def say(self, token: bytes) -> None:
        connection = await MqttBroker(self.broker.settings(f"node-{self._version}", session_expiry=0)).connect(None)
        await (await connection.send(TOPICS.reported, token, retain=True))
        await connection.close()


@pytest.fixture
async def street(safe: Safe) -> AsyncIterator[Street]:
    broker = Mosquitto(safe.folder)
    await broker.start()
    (safe.folder / "desk.toml").write_text(TOML.format(port=broker.port))
    yield Street(broker)
    broker.kill()


async def published(safe: Safe, document: Path, *words: object) -> Any:
    arguments = (document, NODE, "--as", safe.folder / "desk.toml", "--json", *words)
    return await asyncio.to_thread(typed, "issuer", "publish", *arguments)


def lines(told: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.stdout.splitlines()]


async def test_a_document_is_in_force_when_the_node_itself_says_so(safe, street):
    """Retained for a node that comes later; neither an older word nor a forged one counts."""
    safe.new()
    root = ["--root-key", safe.folder / "root.jwk"]
    told = await published(safe, safe.document, *root, "--wait", 0.3)
    assert (told.returncode, lines(told)) == (4, [{"node": NODE, "standing": "silent"}]), told
    listener = await Listener.on(street.broker.settings("late"), TOPICS.issuers)
    await until(lambda: listener.heard)
    await listener.close()
    assert (listener.heard[0].retain, listener.heard[0].payload) == (True, safe.document.read_bytes())
    await street.say(street.reported())
    await street.say(street.reported(key=FORGER, issuers_version=1))
    told = await published(safe, safe.document, *root, "--wait", 0.3)
    assert (told.returncode, lines(told)[-1]["standing"]) == (4, "silent"), "the retained word is the forged one"
    waiting = asyncio.create_task(published(safe, safe.document, *root, "--wait", 10))
    await asyncio.sleep(0)
    street.held["issuers"] = 1
    await street.say(street.reported())
    told = await waiting
    assert (told.returncode, lines(told)) == (0, [{"node": NODE, "standing": "in force"}]), told


async def test_a_desired_document_is_signed_for_one_node_rises_and_its_refusal_is_told(safe, street):
    safe.new()
    wish, out = safe.folder / "wish.json", safe.folder / "desired.jws"
    wish.write_text('{"body": {"hold_hours": 48}}')
    who = ["--document", out, "--as", safe.folder / "desk.toml", "--node", NODE]
    await asyncio.to_thread(safe.say, "sign", wish, *who)
    await asyncio.to_thread(safe.say, "sign", wish, *who)
    version = issuer_version(out)
    assert version > int(time.time()) - 60
    lower = asyncio.to_thread(lambda: safe.refused("sign", wish, *who, "--version", 5))
    assert "leave --version out" in await lower
    refusal = (RefusedMember("hold_hours", "bad_value"),)
    await street.say(street.reported(refused_version=version, refused=refusal))
    told = await published(safe, out)
    assert told.returncode == 1
    assert lines(told)[-1] == {
        "node": NODE,
        "standing": "refused",
        "member": "hold_hours",
        "reason": "bad_value",
    }
    street.held["desired"] = version
    await street.say(street.reported())
    told = await published(safe, out)
    assert (told.returncode, lines(told)) == (0, [{"node": NODE, "standing": "in force"}])


def issuer_version(path: Path) -> int:
    from edge import jose

    key = read_verify_key(path.parent / "desk.jwk")
    return int(jose.verify(path.read_bytes(), jose.DESIRED, lambda _: key).claims["version"])


def test_a_document_that_its_nodes_would_refuse_is_not_published(safe):
    (safe.folder / "desk.toml").write_text(TOML.format(port=1))
    safe.new()
    words = [safe.document, NODE, "--as", safe.folder / "desk.toml"]
    assert "root" in safe.refused("publish", *words)
    assert "root" in safe.refused("publish", *words, "--root-key", safe.folder / "safe.jwk")
    (safe.folder / "nonsense.jws").write_bytes(b"a.b.c")
    assert "nonsense" in safe.refused("publish", safe.folder / "nonsense.jws", *words[1:])


@pytest.mark.parametrize(
    ("kind", "members", "expected"),
    [
        ("issuers", {"issuers_version": 3}, Standing.BEHIND),
        ("issuers", {"issuers_version": 4}, Standing.IN_FORCE),
        ("issuers", {"issuers_version": 5}, Standing.IN_FORCE),
        ("issuers", {"desired_version": 4, "refused_version": 4}, Standing.BEHIND),
        ("desired", {"desired_version": 4}, Standing.IN_FORCE),
        ("desired", {"desired_version": 3, "refused_version": 4}, Standing.REFUSED),
        ("desired", {"desired_version": 3, "refused_version": 3}, Standing.BEHIND),
    ],
)
def test_only_the_nodes_word_on_this_kind_of_document_counts(kind, members, expected):
    told = {"desired_version": 0, "issuers_version": 0} | members
    reported = Reported(iss=AUDIENCE, version=1, iat=1, software="1", applied={}, **told)
    document = Document(kind, 4, "", b"")
    assert standing(document, reported) is expected
    assert standing(document, None) is Standing.SILENT
