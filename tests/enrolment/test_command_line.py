"""What an operator and an installer type, from `enrol init` to a node that `lastmile check` finds sound."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agents.collector import known_nodes
from agents.demo_broker import free_port
from agents.processes import COMMAND
from agents.settings import CollectorSettings
from agents.site import Site, make_keys, write_settings
from cloud_sync.enrolment_sql import Register
from cloud_sync.known_nodes import KnownKey
from cloud_sync.known_nodes import encode as encode_nodes
from edge.errors import ConfigError
from edge.identity_file import read_identity
from edge.keys import SigningKey
from edge.keys_file import read_verify_key
from edge.settings import parse_settings
from tests.agents.people import one_line_of, typed

pytestmark = pytest.mark.xdist_group("enrolment-command-line")


class Operator:
    """A server with the service as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "enrol.toml"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*COMMAND, "enrol", "serve", "--config", str(self.config)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["event"] == "enrolment.ready", told
        self.process = process

    def kill(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def does(self, *arguments: object) -> str:
        told = typed("enrol", *arguments, "--config", self.config)
        assert told.returncode == 0, told
        return told.stdout

    def claims(self, name: str) -> tuple[str, list[str]]:
        """The claim, and the pins that the command line shows beside it."""
        told = typed("enrol", "claim", "acme", name, "--config", self.config)
        words = told.stderr.split()
        pins = [
            each
            for at, each in enumerate(words)
            if "--ca" in words[at - 1 : at + 1] or "--root" in words[at - 1 : at + 1]
        ]
        return told.stdout.strip(), pins


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The operator's keys: root, issuers, hub."""
    site = Site(tmp_path_factory.mktemp("site"))
    make_keys(site, wall=time.time())
    return site


@pytest.fixture(scope="module")
def operator(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    assert typed("enrol", "init", "--dir", operator.folder, "--operator", "Acme").returncode == 0
    (operator.folder / "operator").mkdir()
    for name in ("root.jwk", "issuers.jws", "hub.jwk"):
        (operator.folder / "operator" / name).write_bytes(site.key(name).read_bytes())
    operator.config.write_text(operator.config.read_text() + f"\n[listen]\nport = {operator.port}\n")
    operator.start()
    yield operator
    operator.kill()


def enrols(operator: Operator, directory: Path, name: str):
    claim, pins = operator.claims(name)
    assert typed("identity", "new", "--dir", directory, "--tenant", "acme", "--name", name).returncode == 0
    url = f"https://localhost:{operator.port}"
    return claim, lambda: typed("identity", "enrol", "--dir", directory, "--url", url, *pins, "--claim", claim)


def test_from_a_claim_to_a_node_that_is_found_sound(operator, site, tmp_path):
    _, enrol = enrols(operator, tmp_path / "id", "l1")
    told = enrol()
    assert told.returncode == 0, told
    assert "believed on the service's word" not in told.stdout, "the root was pinned"
    assert "acme_l1 is enrolled: 90 days" in told.stdout
    shown = typed("identity", "show", "--dir", tmp_path / "id").stdout
    assert "none below 1" in shown
    checked = typed("check", node_toml(tmp_path, site))
    assert checked.returncode == 0, checked
    assert "certificate: CN=acme_l1, 90 days left, due for renewal on" in checked.stdout
    assert "acme_l1  role key" in operator.does("nodes")


def node_toml(folder: Path, site: Site) -> Path:
    """A node's whole configuration on the identity in ``folder``."""
    ours = Site(folder / "node", tenant="acme", name="l1")
    write_settings(ours, broker_port=1, kiosk_port=2, protocol="5", subscribe="shared", uid=os.getuid())
    text, role, tls = ours.node_toml.read_text(), "../id/current/role", "../id/current/tls"
    for theirs, mine in (
        ("keys/role.pem", f"{role}/role.pem"),
        ("keys/code.key", f"{role}/code.key"),
        ("keys/root.jwk", f"{role}/root-1.jwk"),
        ("keys/issuers.jws", f"{role}/issuers.jws"),
        ('hub = "keys/hub.jwk"', f'hub = "{role}/hub.jwk"\nenrolled = "{role}/enrolled.json"'),
    ):
        text = text.replace(theirs, mine)
    files = f'[broker.tls]\nca = "{tls}/ca.pem"\ncertificate = "{tls}/node.pem"\nkey = "{tls}/node.pem"\n\n[sync]'
    ours.node_toml.write_text(text.replace("[sync]", files))
    return ours.node_toml


def test_check_says_what_is_wrong_with_a_certificate(operator, site, tmp_path):
    _, enrol = enrols(operator, tmp_path / "id", "l1")
    assert enrol().returncode == 0
    config, pair = node_toml(tmp_path, site), tmp_path / "id" / "current" / "tls" / "node.pem"
    pair.chmod(0o640)
    os.chown(pair, -1, 1)
    assert "others can read" in one_line_of(typed("check", config))
    pair.chmod(0o600)
    config.write_text(config.read_text().replace('name = "l1"', 'name = "l2"'))
    assert "a certificate for 'acme_l1', not for 'acme_l2'" in one_line_of(typed("check", config))


def test_a_service_that_is_killed_while_a_node_asks_is_asked_again(operator, tmp_path):
    """The same command on the node finishes what a dead service left; a service that is told to stop ends in order."""
    other = Operator(tmp_path / "operator")
    shutil.copytree(operator.folder, other.folder)
    other.config.write_text(other.config.read_text().replace(f"port = {operator.port}", f"port = {other.port}"))
    _, enrol = enrols(other, tmp_path / "id", "l3")
    assert "refused" in one_line_of(enrol())
    assert (tmp_path / "id" / "next").is_symlink()
    other.start()
    try:
        assert enrol().returncode == 0
        assert read_identity(tmp_path / "id" / "current", wall=None).identity.node == "acme_l3"
        process = other.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        other.kill()


def test_a_claim_is_told_used_and_a_revoked_node_is_listed_so(operator, tmp_path):
    claim, enrol = enrols(operator, tmp_path / "one", "l4")
    assert enrol().returncode == 0
    assert typed("identity", "new", "--dir", tmp_path / "two", "--tenant", "acme", "--name", "l4").returncode == 0
    url, root = f"https://localhost:{operator.port}", operator.folder / "root.pem"
    second = typed(*("identity", "enrol", "--dir", tmp_path / "two", "--url", url), "--ca", root, "--claim", claim)
    assert "the claim was used" in one_line_of(second)
    assert "SIGHUP" in operator.does("revoke", "acme_l4")
    assert "acme_l4  revoked  no certificate" in operator.does("nodes")
    audit = operator.does("audit")
    assert "refused  acme_l4  claim_used  1 time(s)" in audit
    assert "revoked  acme_l4" in audit
    assert "never enrolled" in one_line_of(typed("enrol", "revoke", "acme_l9", "--config", operator.config))


def test_a_broker_and_a_consumer_get_certificates_and_lose_them(operator, tmp_path):
    operator.does("certificate", "broker", "--host", "localhost", "--host", "127.0.0.1", "--dir", tmp_path)
    operator.does("certificate", "hub", "--dir", tmp_path)
    assert stat.S_IMODE((tmp_path / "hub.pem").stat().st_mode) == 0o600
    again = typed("enrol", "certificate", "hub", "--dir", tmp_path, "--config", operator.config)
    assert "is there already" in one_line_of(again)
    node = typed("enrol", "certificate", "acme_l1", "--dir", tmp_path, "--config", operator.config)
    assert "lastmile enrol claim" in one_line_of(node)
    assert "revoked 1 certificate(s)" in operator.does("revoke", "hub")


def test_a_safe_without_its_root_makes_no_second_authority(operator, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "root.pem").write_bytes((operator.folder / "root.pem").read_bytes())
    assert "offline/root.key" in one_line_of(typed("enrol", "init", "--dir", copy))
    (copy / "offline" / "root.key").write_bytes((operator.folder / "offline" / "root.key").read_bytes())
    (copy / "offline" / "root.key").chmod(0o600)
    assert typed("enrol", "init", "--dir", copy).returncode == 0
    assert (copy / "issuing.pem").read_bytes() != (operator.folder / "issuing.pem").read_bytes()


def test_without_anything_to_hand_out_there_is_no_claim(operator, tmp_path):
    copy = tmp_path / "operator"
    shutil.copytree(operator.folder, copy)
    (copy / "operator" / "issuers.jws").unlink()
    assert "issuers.jws" in one_line_of(typed("enrol", "claim", "acme", "l1", "--config", copy / "enrol.toml"))


def test_a_collector_knows_the_enrolled_nodes_and_those_of_its_file(operator, site, tmp_path):
    _, enrol = enrols(operator, tmp_path / "id", "l5")
    assert enrol().returncode == 0
    text = f'name = "hub"\ndatabase = "c.db"\nnodes_file = "{operator.folder / "nodes.json"}"\n'
    text += '[broker]\nhost = "127.0.0.1"\n[keys]\nack = "ack.pem"\n'
    entry = f'[[nodes]]\ntenant = "acme"\nname = "{{}}"\nrole_key = "{site.key("role.jwk")}"\n'

    def nodes(more: str = "", base: str = text):
        return known_nodes(parse_settings(base + more, CollectorSettings, source="collector.toml"), tmp_path)

    assert nodes()["acme_l5"].keys.values() is not None
    assert nodes(entry.format("by-hand"))["acme_by-hand"].instance == read_verify_key(site.key("role.jwk")).kid
    with pytest.raises(ConfigError, match="acme_l5 is enrolled and stands in"):
        nodes(entry.format("l5"))
    with pytest.raises(ConfigError, match="without nodes"):
        nodes(base=text.replace(f'nodes_file = "{operator.folder / "nodes.json"}"\n', ""))


def test_a_collector_forgets_the_last_node_too_when_it_is_revoked(tmp_path):
    """Where it held on to the list before, a stolen card would go on being believed by a small operator."""
    listed = KnownKey(SigningKey(b"r" * 32).public.jwk(), since=1.0)
    text = 'name = "hub"\ndatabase = "c.db"\nnodes_file = "nodes.json"\n[broker]\nhost = "127.0.0.1"\n'
    settings = parse_settings(text + '[keys]\nack = "ack.pem"\n', CollectorSettings, source="collector.toml")
    list_file = tmp_path / "nodes.json"
    list_file.write_bytes(encode_nodes({"acme_l1": [listed]}, edition=1))
    assert list(known_nodes(settings, tmp_path)) == ["acme_l1"]
    list_file.write_bytes(encode_nodes({"acme_l1": [msgspec.structs.replace(listed, until=2.0)]}, edition=2))
    assert known_nodes(settings, tmp_path) == {}


def test_the_database_is_the_services_alone(operator):
    database = operator.folder / "enrol.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    with Register(database).transaction() as records:
        assert records.happenings(1)
