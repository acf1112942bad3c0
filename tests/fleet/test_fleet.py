"""A simulated fleet runs the product's own cloud-sync: a broker that dies under it loses nothing and strands nobody."""

from __future__ import annotations

import random
from pathlib import Path

from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.collector import load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.fleet_sim import Fleet, FleetSettings, names
from edge.acks import sign_ack
from edge.keys import SigningKey
from edge.system_clock import SystemClock
from tests.authority import Certifier
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import running
from tests.edge import trust

NODES = 40
TENANT = "acme"
ROLE, ACK = SigningKey(b"r" * 32), SigningKey(b"a" * 32)


async def test_a_broker_that_dies_under_a_fleet_loses_nothing_and_strands_nobody(tmp_path: Path) -> None:
    authority = Certifier(tmp_path)
    served = authority.server()
    chosen = tuple(names(NODES))
    for name in chosen:
        authority.client(f"{TENANT}_{name}")
    mosquitto = Mosquitto(
        tmp_path,
        [
            f"cafile {authority.ca}",
            f"certfile {served.certificate}",
            f"keyfile {served.key}",
            "require_certificate true",
            "use_identity_as_username true",
            "tls_version tlsv1.3",
        ],
    )
    await mosquitto.start()
    issuers = trust.issuers(trust.entry(name="hub", jwk=ACK.public.jwk(), scopes=("ack",), nodes=(f"{TENANT}_*",)))
    settings = FleetSettings("127.0.0.1", mosquitto.port, TENANT, chosen, tmp_path, events_per_minute=60.0, ramp_s=0.2)
    fleet = Fleet(settings, ROLE, issuers, SystemClock())
    store = open_store(str(tmp_path / "collector.db"), consumer="hub", clock=SystemClock())
    await store.open()
    tls = authority.client("hub-1")
    collector = Collector(
        consumer="hub",
        client_id="hub-1",
        nodes=load_nodes([(TENANT, f"{TENANT}_{name}", (ROLE.public,)) for name in chosen]),
        broker=MqttBroker(mosquitto.settings("hub-1", tls=tls, receive_maximum=500)),
        store=store,
        sign=lambda ack: sign_ack(ack, ACK),
        clock=SystemClock(),
        random=lambda: random.random() / 20,
        new_token=lambda: "probe",
    )
    async with running(collector.run), running(fleet.run):
        await until(lambda: fleet.standing.online == NODES and fleet.standing.acked > NODES)
        mosquitto.kill()
        await until(lambda: fleet.standing.online == 0)
        await mosquitto.start()
        await until(lambda: fleet.standing.online == NODES)
        fleet.hush()
        await until(lambda: fleet.standing.acked == fleet.standing.produced)
        assert fleet.standing.handshakes == 2 * NODES
        assert fleet.standing.refused == 0
    rows = await store.rows("SELECT source, count(*) FROM held_event WHERE class = 'audit' GROUP BY source")
    assert {source.rsplit("/", 1)[1]: count for source, count in rows} == fleet.produced()
    await store.close()
    mosquitto.kill()
