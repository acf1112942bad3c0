"""The examples are what the programs read, and they fit the units beside them."""

from __future__ import annotations

import re

import msgspec

from agents.document_file import DesiredFile, EditionFile
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
