"""The command line as a person meets it when something is wrong: one line with the remedy, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import processes
from agents.demo_broker import free_port
from agents.site import Site, make_keys, write_settings
from edge.issuers import Issuers, read_issuers
from edge.keys import SigningKey
from edge.keys_file import read_verify_key, write_private_key
from tests.agents.people import lastmile, one_line_of, typed

pytestmark = pytest.mark.xdist_group("command-line")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Keys and configurations as they leave the workshop; tests break copies of them."""
    site = Site(tmp_path_factory.mktemp("made"))
    make_keys(site, wall=time.time())
    write_settings(
        site, broker_port=free_port(), kiosk_port=free_port(), protocol="5", subscribe="shared", uid=os.getuid()
    )
    return site


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    shutil.copytree(made.directory, tmp_path / "site")
    return Site(tmp_path / "site")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_sound_configuration_is_said_to_be_sound(site):
    told = typed("check", site.node_toml)
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "no fault found"), told


def test_broken_toml_is_named_by_file_and_line(site):
    change(site.node_toml, 'role = "locker"', 'role = "locker')
    assert "node.toml:4" in one_line_of(typed("check", site.node_toml))


def test_an_unknown_key_is_named_with_its_line(site):
    change(site.node_toml, 'role = "locker"', 'role = "locker"\nroll = "locker"')
    line = one_line_of(typed("check", site.node_toml))
    assert "node.toml:5" in line
    assert "roll" in line


def test_a_latch_wired_twice_is_named(site):
    change(site.node_toml, "0:4..7", "0:3..6")
    assert "board 0 lock 3" in one_line_of(typed("check", site.node_toml))


def test_a_missing_file_is_named(site):
    assert "nowhere.toml" in one_line_of(typed("check", site.directory / "nowhere.toml"))
    site.key("role.pem").unlink()
    assert "keys/role.pem" in one_line_of(typed("check", site.node_toml))


def test_a_private_key_that_others_can_read_is_refused_with_the_command_that_mends_it(site):
    site.key("role.pem").chmod(0o644)
    assert f"chmod 600 {site.key('role.pem')}" in one_line_of(typed("check", site.node_toml))


def test_issuers_of_another_root_are_refused(site):
    site.key("root.jwk").write_bytes(site.key("badges.jwk").read_bytes())
    assert "root" in one_line_of(typed("check", site.node_toml))


def test_a_broker_beyond_the_loopback_needs_tls(site):
    change(site.node_toml, 'host = "127.0.0.1"', 'host = "broker.example"')
    assert "TLS" in one_line_of(typed("check", site.node_toml))


def test_a_process_does_not_start_on_a_broken_configuration(site):
    change(site.node_toml, "port = ", "prot = ")
    assert "prot" in one_line_of(lastmile("run", "locker", "--config", site.node_toml))
    assert "prot" in one_line_of(typed("run", "cloud-sync", "--config", site.node_toml))


@pytest.fixture
def taken(site: Site) -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_kiosk_port_in_use_ends_the_agent_with_the_remedy(site, taken):
    text = site.node_toml.read_text()
    (line,) = [line for line in text.split("[locker.kiosk]")[1].splitlines() if line.startswith("port = ")]
    site.node_toml.write_text(text.replace(line, f"port = {taken}"))
    told = lastmile("run", "locker", "--config", site.node_toml)
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    ended = json.loads((told.stdout + told.stderr).splitlines()[-1])
    assert str(taken) in ended["what"]
    assert ended["remedy"]


def test_a_store_that_cannot_be_used_ends_the_agent_with_the_remedy(site):
    (site.directory / "store").rmdir()
    (site.directory / "store").write_text("a file where a directory belongs")
    told = lastmile("run", "locker", "--config", site.node_toml)
    assert told.returncode != 0
    assert "Traceback" not in told.stderr + told.stdout
    assert "store" in told.stdout + told.stderr


def test_a_process_that_serves_is_spared_what_only_people_at_a_terminal_need(site):
    (site.directory / "store").rmdir()
    (site.directory / "store").write_text("so that it ends when it has loaded all it needs")
    command = [*processes.COMMAND, "run", "locker", "--config", str(site.node_toml)]
    watched = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    told = subprocess.run(command, env=watched, capture_output=True, text=True, check=False, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if line.startswith("import time:")}
    assert "agents.locker" in loaded
    assert not {"typer.main", "rich.console", "pydantic.main"} & loaded


def issuers(site: Site) -> Issuers:
    return read_issuers(site.key("issuers.jws").read_bytes(), [read_verify_key(site.key("root.jwk"))], held_version=0)


def test_a_new_issuer_is_listed_by_the_root(site):
    before = issuers(site)
    arguments = ["issuer", "new", "night-desk", "--scope", "open", "--scope", "nonce", "--nodes", "demo_*"]
    files = ["--dir", site.key(""), "--root", site.key("root.pem"), "--document", site.key("issuers.jws")]
    told = typed(*arguments, *files)
    assert told.returncode == 0, told
    after = issuers(site)
    assert after.version == before.version + 1
    kid = read_verify_key(site.key("night-desk.jwk")).kid
    assert after.listed(kid).entry.scopes == ("open", "nonce")
    assert site.key("night-desk.pem").stat().st_mode & 0o077 == 0
    assert "is there already" in one_line_of(typed(*arguments, *files))


def test_a_new_issuer_by_another_root_leaves_nothing_behind(site):
    write_private_key(site.key("other.pem"), SigningKey(b"o" * 32))
    before = site.key("issuers.jws").read_bytes()
    told = typed(
        *("issuer", "new", "night-desk", "--scope", "open", "--nodes", "demo_*", "--dir", site.key("")),
        *("--root", site.key("other.pem"), "--document", site.key("issuers.jws")),
    )
    assert "not signed by this root" in one_line_of(told)
    assert site.key("issuers.jws").read_bytes() == before
    assert not site.key("night-desk.pem").exists()


def test_a_journal_that_is_not_there_is_named(site):
    assert "state.db" in one_line_of(typed("journal", "tail", site.directory / "state.db"))
