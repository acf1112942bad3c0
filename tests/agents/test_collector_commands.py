"""``lastmile collector`` as an operator types it: schema, figures, a node that moves to another store."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from agents.collector import collector_store, known_nodes
from agents.demo_broker import free_port
from agents.settings import CollectorSettings
from agents.site import Site, make_keys, write_settings
from cloud_sync.collector import Batch, read_events
from cloud_sync.topics import Kind, Topic
from edge.event import EventClass
from edge.keys_file import read_signing_key
from edge.settings_file import read_settings
from edge.system_clock import SystemClock
from tests.agents.people import one_line_of, typed
from tests.cloud_sync.rig import Epoch

pytestmark = pytest.mark.xdist_group("command-line")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    make_keys(site, wall=time.time())
    write_settings(
        site, broker_port=free_port(), kiosk_port=free_port(), protocol="5", subscribe="shared", uid=os.getuid()
    )
    text = site.collector_toml.read_text()
    (tmp_path / "next.toml").write_text(text.replace('database = "collector.db"', 'database = "next.db"'))
    return site


def fill(site: Site, events: int) -> None:
    """What a collector would have taken in and settled."""
    settings = read_settings(site.collector_toml, CollectorSettings)
    node = known_nodes(settings, site.directory)[site.node]
    epoch = Epoch(read_signing_key(site.key("role.pem")), node.source)
    for _ in range(events):
        epoch.add(EventClass.AUDIT)
    epoch.seal()
    topic = Topic(site.tenant, site.node, Kind.BATCH, "audit")
    intake = read_events(node, topic, b"[" + b",".join(epoch.bodies()) + b"]")

    async def work() -> None:
        store = collector_store(settings, site.directory, SystemClock())
        await store.open()
        await store.take(Batch(events=[(node, intake)]))
        await store.settle([node.source])
        await store.close()

    asyncio.run(work())


def test_a_node_moves_and_is_seen_where_it_went(site):
    fill(site, 30)
    new = site.directory / "next.toml"
    assert "schema 2" in typed("collector", "migrate", new).stdout
    told = typed("collector", "move", site.collector_toml, new)
    assert told.returncode == 0, told
    assert f"{site.node}: 32 events held, 1 seals verified" in told.stderr
    figures = typed("collector", "figures", new).stdout
    assert "1 nodes, 32 numbers held, 0 rows pending" in figures
    assert (
        f"{site.node}: 0 rows pending for 0 s, 0 events missing"
        in typed("collector", "figures", new, "--node", site.node).stdout
    )
    assert typed("collector", "move", site.collector_toml, new).returncode == 0


def test_a_node_that_the_new_collector_does_not_know_is_named(site):
    new = site.directory / "next.toml"
    new.write_text(new.read_text().replace(f'name = "{site.name}"', 'name = "elsewhere"'))
    line = one_line_of(typed("collector", "move", site.collector_toml, new))
    assert "next.toml" in line
    assert site.node in line


def test_a_store_does_not_move_into_itself(site):
    assert "same store" in one_line_of(typed("collector", "move", site.collector_toml, site.collector_toml))
