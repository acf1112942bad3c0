"""The examples are what the programs read, and they fit the units beside them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from agents.cabinet_check import check_cabinet
from agents.document_file import DesiredFile, EditionFile
from agents.enrol_settings import EnrolSettings
from agents.gpio_check import check_gpio, gpio_boards
from agents.settings import CollectorSettings, IssuerSettings, NodeSettings
from edge.settings import parse_settings
from tests.repository.source import ROOT

EXAMPLES = ROOT / "docs/examples"
SYSTEMD = ROOT / "systemd"


def test_the_node_example_fits_its_units() -> None:
    node = parse_settings((EXAMPLES / "node.toml").read_text(), NodeSettings, source="node.toml")
    made = (SYSTEMD / "lastmile.tmpfiles.conf").read_text()
    for path in (node.link.socket, node.locker.kiosk.token_file, f"{node.health}/role.sock"):
        assert f"d {path.rpartition('/')[0]} " in made
    kiosk = (SYSTEMD / "lastmile-kiosk.service").read_text()
    assert f"http://{node.locker.kiosk.host}:{node.locker.kiosk.port}/" in kiosk
    assert node.locker.kiosk.token_file in kiosk
    role = (SYSTEMD / "lastmile-locker.service").read_text()
    assert f"SocketBindAllow=ipv4:tcp:{node.locker.kiosk.port}\n" in role
    assert f"StateDirectory={node.store.directory.removeprefix('/var/lib/')}\n" in role
    assert f"User={node.link.users[0]}\n" in (SYSTEMD / "lastmile-cloud-sync.service").read_text()


def test_the_example_on_pins_is_safe_and_fits_its_units() -> None:
    whole = (EXAMPLES / "node.toml").read_text()
    text = whole[: whole.index("[[locker.buses]]")] + (EXAMPLES / "gpio.toml").read_text()
    node = parse_settings(text, NodeSettings, source="gpio.toml")
    (told,) = check_gpio(node.locker, "gpio.toml")
    assert told.startswith("pins: 13 wired")
    (board,) = gpio_boards(node.locker, "gpio.toml").values()
    made = (SYSTEMD / "lastmile.tmpfiles.conf").read_text()
    camera = node.locker.inputs.camera
    assert camera is not None
    assert camera.frame_bytes == 640 * 480 * 3 // 2
    for path, user in ((board.pulser, "lm-pulser"), (camera.socket, "lm-role")):
        assert f"d {path.rpartition('/')[0]} 2710 {user} " in made.replace("  ", " ")
    assert f"User={board.agent}\n" in (SYSTEMD / "lastmile-locker.service").read_text()
    assert f"User={camera.users[0]}\n" in (SYSTEMD / "lastmile-camera.service").read_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("boards-*.toml")), ids=lambda path: path.stem)
def test_the_boards_of_an_example_are_what_their_driver_reads(path: Path) -> None:
    """In the place of those in node.toml."""
    node = tomllib.loads((EXAMPLES / "node.toml").read_text())
    text = path.read_text()
    node["locker"] |= {"buses": [], **tomllib.loads(text)["locker"]}
    locker = msgspec.convert(node, NodeSettings).locker
    check_cabinet(locker, source=path.name, text=text)
    assert {board["kind"] for board in locker.boards} == {path.stem.removeprefix("boards-")}


def test_the_collector_example_fits_its_unit_and_the_node() -> None:
    collector = parse_settings((EXAMPLES / "collector.toml").read_text(), CollectorSettings, source="collector.toml")
    node = parse_settings((EXAMPLES / "node.toml").read_text(), NodeSettings, source="node.toml")
    unit = (SYSTEMD / "lastmile-collector.service").read_text()
    assert f"StateDirectory={collector.database.split('/')[3]}\n" in unit
    assert f"RuntimeDirectory={collector.health.removeprefix('/run/')}\n" in unit
    assert collector.name in node.node.consumers
    assert (node.node.tenant, node.node.name) in {(one.tenant, one.name) for one in collector.nodes}


def test_the_issuer_example_knows_the_nodes_of_the_collector() -> None:
    issuer = parse_settings((EXAMPLES / "issuer.toml").read_text(), IssuerSettings, source="issuer.toml")
    collector = parse_settings((EXAMPLES / "collector.toml").read_text(), CollectorSettings, source="collector.toml")
    assert issuer.nodes == collector.nodes
    assert issuer.outbox


def test_the_documents_written_by_hand_are_what_the_tool_reads() -> None:
    """Those that docs/commands.md shows."""
    edition, desired = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/commands.md").read_text(), re.DOTALL)
    assert msgspec.toml.decode(edition, type=EditionFile).keys[0].name == "staff"
    assert msgspec.toml.decode(desired, type=DesiredFile).body == {"hold_hours": 48}


def test_the_enrolment_example_fits_its_unit_its_nodes_and_its_broker() -> None:
    enrol = parse_settings((EXAMPLES / "enrol.toml").read_text(), EnrolSettings, source="enrol.toml")
    node = parse_settings((EXAMPLES / "node.toml").read_text(), NodeSettings, source="node.toml")
    unit = (SYSTEMD / "lastmile-enrol.service").read_text()
    assert f"SocketBindAllow=tcp:{enrol.listen.port}\n" in unit
    assert f"RuntimeDirectory={enrol.health.removeprefix('/run/')}\n" in unit
    public = enrol.nodes_file.rpartition("/")[0].removeprefix("/var/lib/")
    assert f"StateDirectory={enrol.database.split('/')[3]} {public}\n" in unit
    assert node.renewal is not None
    assert node.renewal.url == f"https://{enrol.hosts[0]}:{enrol.listen.port}"
    assert f"crlfile {enrol.revoked_file}\n" in (EXAMPLES / "mosquitto.conf").read_text()


def test_the_node_example_names_the_files_of_an_identity() -> None:
    node = parse_settings((EXAMPLES / "node.toml").read_text(), NodeSettings, source="node.toml")
    assert node.broker.tls is not None
    assert node.broker.tls.certificate == node.broker.tls.key, "or the pair could not be renewed in one step"
    keys = (node.keys.role, node.keys.code, *node.keys.roots, node.keys.issuers, node.keys.hub, node.keys.enrolled)
    home = "/var/lib/lastmile-identity/current"
    assert {path.rpartition("/")[0] for path in keys} == {f"{home}/role"}
    assert {node.broker.tls.ca, node.broker.tls.key} == {f"{home}/tls/ca.pem", f"{home}/tls/node.pem"}
    assert f"-{home.rpartition('/')[0]}\n" in (SYSTEMD / "lastmile-cloud-sync.service").read_text()
