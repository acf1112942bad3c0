"""What others do with the same events over the same broker; each is a process of its own and prints its rate.

``paho``: the library bare, one event a message, QoS 1, 20 in flight, nobody subscribed: the most that a node which
keeps nothing could reach. ``thingsboard``: the SQLite event storage of ThingsBoard Gateway as published, filled with
the same bytes and emptied as the gateway does it, in messages of its default 8,196 bytes, over paho.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

WINDOW = 20
PACK_BYTES = 8196
"""``maxPayloadSizeBytes`` of ThingsBoard Gateway 3.8."""
REQUIREMENTS = Path(__file__).with_name("peers.txt")
PEERS = Path(__file__).parents[1] / ".cache" / "peers"


class Publisher:
    """paho with its own thread, and never more than ``WINDOW`` messages without their PUBACK."""

    def __init__(self, port: int, ca: str, certificate: str, key: str) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, "peer", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set(ca, certificate, key)
        self._client.max_inflight_messages = WINDOW
        self._room = threading.Semaphore(WINDOW)
        self._client.on_publish = lambda *_: self._room.release()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        while not self._client.is_connected():
            time.sleep(0.01)

    def publish(self, payloads: Iterable[bytes]) -> None:
        """Return when every one has its PUBACK."""
        for payload in payloads:
            self._room.acquire()
            self._client.publish("peer", payload, qos=1)
        for _ in range(WINDOW):
            self._room.acquire()
        for _ in range(WINDOW):
            self._room.release()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def bodies_of(database: str, count: int) -> list[bytes]:
    sql = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    found = [body for (body,) in sql.execute("SELECT body FROM event WHERE class = 0 ORDER BY place LIMIT ?", (count,))]
    sql.close()
    return found


def paho(publisher: Publisher, bodies: list[bytes]) -> float:
    began = time.perf_counter()
    publisher.publish(bodies)
    return len(bodies) / (time.perf_counter() - began)


class _Log(logging.Logger):
    """The gateway's loggers have a level of their own."""

    def trace(self, *_: Any) -> None: ...


def thingsboard(publisher: Publisher, bodies: list[bytes]) -> float:
    sys.path.insert(0, str(PEERS))
    from thingsboard_gateway.storage.sqlite.sqlite_event_storage import (  # type: ignore[import-not-found]
        SQLiteEventStorage,
    )

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        log = _Log("thingsboard", logging.CRITICAL)
        storage = SQLiteEventStorage({"data_file_path": f"{folder}/"}, log, threading.Event())
        for body in bodies:
            storage.put(body.decode())
        rows = 0
        while rows < len(bodies):
            time.sleep(0.05)
            with sqlite3.connect(f"{folder}/data.db") as sql:
                (rows,) = sql.execute("SELECT count(*) FROM messages").fetchone()
        began, sent = time.perf_counter(), 0
        while sent < len(bodies):
            pack = storage.get_event_pack()
            publisher.publish(_grouped(pack))
            storage.event_pack_processing_done()
            sent += len(pack)
            if not pack:
                time.sleep(0.001)
        took = time.perf_counter() - began
        storage.stop()
    return len(bodies) / took


def _grouped(pack: Iterable[str]) -> Iterable[bytes]:
    group: list[Any] = []
    size = 2
    for text in pack:
        if group and size + len(text) > PACK_BYTES:
            yield json.dumps(group).encode()
            group, size = [], 2
        group.append(json.loads(text))
        size += len(text)
    if group:
        yield json.dumps(group).encode()


def install() -> str:
    """Fetch the peers into a directory of their own, by their hashes; why it did not work, "" when it did."""
    stamp = PEERS / REQUIREMENTS.name
    if stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text():
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--target", str(PEERS), "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120.0)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed"
    stamp.write_text(REQUIREMENTS.read_text())
    return ""


def main() -> None:
    name, database, count, port, *files = sys.argv[1:]
    publisher = Publisher(int(port), *files)
    bodies = bodies_of(database, int(count))
    print({"paho": paho, "thingsboard": thingsboard}[name](publisher, bodies), flush=True)
    publisher.close()


if __name__ == "__main__":
    main()
