"""A broker that dies under a whole fleet: how soon all nodes are back, and that none is stranded and nothing is lost.

Simulated nodes (each runs the product's own cloud-sync, over mutual TLS 1.3 with a certificate of its own), a real
mosquitto, a real collector, each a process of its own, on one machine. The broker is killed, stays away, and comes back
having forgotten everything. Who is back is told by a watcher, a subscriber of its own that counts presences with a
newer link; what was produced by the nodes; what is held by the collector's database.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents.demo_broker import find_mosquitto, free_port
from agents.fleet_site import WATCHER, FleetSite
from benchmarks._report import Figure, report

OUTAGE_S = 6.0
"""Long enough that every node has noticed and tried in vain several times."""
REPEAT_S = 10.0
"""What the dead broker had acknowledged and not delivered goes again after it; three times as long by default."""
GOAL_S = 120.0
PATIENCE_S = 900.0
LASTMILE = [sys.executable, "-m", "agents"]
ROOT = Path(__file__).parents[1]


class Watcher:
    """Who is online, by the retained presences that reach a client of its own."""

    def __init__(self, site: FleetSite, port: int) -> None:
        self.links: dict[str, int] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=WATCHER, protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=str(site.certificates / "ca.pem"))
        context.load_cert_chain(site.certificates / f"{WATCHER}.pem", site.certificates / f"{WATCHER}.key")
        self._client.tls_set_context(context)
        self._client.on_connect = lambda client, *_: client.subscribe("lm/v1/+/+/presence", qos=1)
        self._client.on_message = self._heard
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def back(self, before: dict[str, int]) -> int:
        """Nodes that are online on a newer link than ``before`` says."""
        return sum(link > before.get(node, 0) for node, link in list(self.links.items()))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        presence = json.loads(message.payload)
        if presence["online"]:
            self.links[message.topic.split("/")[3]] = presence["link"]


class FleetProcess:
    """``lastmile simulate fleet`` and what it says of itself."""

    def __init__(self, site: FleetSite, nodes: int, port: int) -> None:
        ramp = max(2.0, nodes / 300)
        arguments = ["simulate", "fleet", str(site.directory), "--nodes", str(nodes), "--port", str(port)]
        arguments += ["--json", "--ramp", str(ramp), "--repeat", str(REPEAT_S)]
        self._path = site.directory / "fleet.out"
        with self._path.open("wb") as out, (site.directory / "fleet.log").open("wb") as log:
            self.process = subprocess.Popen([*LASTMILE, *arguments], cwd=ROOT, stdout=out, stderr=log)

    def said(self) -> list[dict[str, Any]]:
        """Its standing, second by second."""
        return [json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}")]

    def hush(self) -> Callable[[], bool]:
        """Have the nodes tell nothing new; returns whether, since then, all that was told is held and all are there."""
        before = len(self.said())
        self.process.send_signal(signal.SIGUSR1)

        def settled() -> bool:
            said = self.said()
            standing = said[-1]
            # The first word after the signal may have been on its way before it.
            return len(said) > before + 1 and (standing["acked"], standing["online"]) == (
                standing["produced"],
                standing["nodes"],
            )

        return settled

    def handshakes(self) -> float:
        """The most in a second; a busy fleet says less often how it stands."""
        words = [(each["at"], each["handshakes"]) for each in self.said()]
        rates = ((after - before) / (end - begin) for (begin, before), (end, after) in itertools.pairwise(words))
        return round(max(rates, default=0.0), 1)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(120)


def until(what: str, true: Callable[[], bool]) -> float:
    """Seconds until ``true()``."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def until_settled(fleet: FleetProcess) -> int:
    """How many nodes are there in the end; patience for the last of them ends as for everything."""
    with contextlib.suppress(TimeoutError):
        until("every receipt", fleet.hush())
    return int(fleet.said()[-1]["online"])


def start_broker(site: FleetSite, port: int) -> subprocess.Popen[bytes]:
    mosquitto = find_mosquitto()
    if mosquitto is None:
        sys.exit("mosquitto is not here. Run: apt-get install mosquitto")
    with (site.directory / "broker.log").open("ab") as log:
        broker = subprocess.Popen([mosquitto, "-c", str(site.mosquitto_conf)], stdout=log, stderr=log)
    until("the broker", lambda: listens(port) or broker.poll() is not None)
    if broker.poll() is not None:
        sys.exit((site.directory / "broker.log").read_text())
    return broker


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def storm(site: FleetSite, nodes: int, port: int) -> list[Figure]:
    with contextlib.ExitStack() as running:
        broker = start_broker(site, port)
        running.callback(end, broker)
        collecting = [*LASTMILE, "run", "collector", "--config", str(site.collector_toml)]
        with (site.directory / "collector.log").open("wb") as log:
            running.callback(end, subprocess.Popen(collecting, cwd=ROOT, stdout=log, stderr=log))
        fleet = FleetProcess(site, nodes, port)
        running.callback(end, fleet.process)
        watcher = Watcher(site, port)
        running.callback(watcher.close)
        until("the whole fleet", lambda: watcher.back({}) >= nodes)
        before = dict(watcher.links)
        broker.kill()
        broker.wait()
        time.sleep(OUTAGE_S)
        running.callback(end, start_broker(site, port))
        back = until("the fleet after the storm", lambda: watcher.back(before) >= nodes)
        stuck = nodes - until_settled(fleet)
    return [
        Figure(f"{nodes} nodes back after a broker's restart", back, "s", None, None, GOAL_S),
        Figure("TLS handshakes in the busiest second", fleet.handshakes(), "/s", None, None),
        Figure("nodes that are stuck", stuck, "", None, None, 0),
        Figure("events lost or held twice", losses(site), "", None, None, 0),
    ]


def losses(site: FleetSite) -> int:
    """Events that a node told and the collector does not hold, or holds without that they were told."""
    told: dict[str, int] = json.loads(site.produced.read_text())
    sql = sqlite3.connect(f"file:{site.collected}?mode=ro", uri=True)
    held = dict(sql.execute("SELECT source, count(*) FROM held_event WHERE class = 'audit' GROUP BY source"))
    sql.close()
    return sum(abs(count - held.get(f"/lm/v1/{site.tenant}/{node}", 0)) for node, count in told.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 nodes, under 50 s")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="no table before the last line")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    nodes = 500 if arguments.quick else arguments.nodes
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        site, port = FleetSite(Path(folder) / "fleet"), free_port()
        command = [*LASTMILE, "simulate", "fleet", str(site.directory), "--nodes", str(nodes), "--port", str(port)]
        subprocess.run([*command, "--make"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        found = storm(site, nodes, port)
    report(found, arguments)


if __name__ == "__main__":
    main()
