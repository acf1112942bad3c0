"""A hostile broker: two real ones, and between them somebody who reads, changes, keeps back and invents messages."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agents.demo_broker import Mosquitto, find_mosquitto, free_port

OUTWARD = ("lm/v1/+/+/evt/#", "lm/v1/+/+/presence", "lm/v1/+/+/res/+")
INWARD = ("lm/v1/+/+/ack/+", "lm/v1/+/+/cmd/+", "lm/v1/+/+/desired", "lm/v1/+/+/issuers")
CONNECT_S = 10.0

Post = tuple[str, bytes, bool]
"""topic, payload, retained"""
Rule = Callable[[Post], Iterable[Post]]
"""What becomes of one message on its way."""


def honest(post: Post) -> Iterable[Post]:
    return (post,)


class Relay:
    """Carries between the node's broker and the consumer's by ``outward`` and ``inward``; notes all that came."""

    def __init__(self) -> None:
        self.outward: Rule = honest
        self.inward: Rule = honest
        self.seen_outward: list[Post] = []
        self.seen_inward: list[Post] = []
        self._node = _client("relay-node")
        self._consumer = _client("relay-consumer")

    def start(self, node_port: int, consumer_port: int) -> None:
        self._attach(self._node, node_port, OUTWARD, self._carry_out)
        self._attach(self._consumer, consumer_port, INWARD, self._carry_in)

    def stop(self) -> None:
        for client in (self._node, self._consumer):
            client.disconnect()
            client.loop_stop()

    def to_consumer(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._consumer.publish(topic, payload, qos=1, retain=retain).wait_for_publish(CONNECT_S)

    def to_node(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._node.publish(topic, payload, qos=1, retain=retain).wait_for_publish(CONNECT_S)

    @contextlib.contextmanager
    def hostile(self, *, outward: Rule | None = None, inward: Rule | None = None) -> Iterator[None]:
        """Hostile for the length of the block, honest again afterwards."""
        self.outward, self.inward = outward or self.outward, inward or self.inward
        try:
            yield
        finally:
            self.outward = self.inward = honest

    def _attach(self, client: Client, port: int, filters: tuple[str, ...], carry: Callable[[Post], None]) -> None:
        ready = threading.Event()

        def connected(_client: Client, _data: Any, _flags: Any, _code: ReasonCode, _told: Properties | None) -> None:
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            client.subscribe([(name, options) for name in filters])

        def heard(_client: Client, _data: Any, came: MQTTMessage) -> None:
            carry((came.topic, bytes(came.payload), came.retain))

        client.on_connect, client.on_message = connected, heard
        client.on_subscribe = lambda *_: ready.set()
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert ready.wait(CONNECT_S)

    def _carry_out(self, post: Post) -> None:
        self.seen_outward.append(post)
        for topic, payload, retain in self.outward(post):
            self._consumer.publish(topic, payload, qos=1, retain=retain)

    def _carry_in(self, post: Post) -> None:
        self.seen_inward.append(post)
        for topic, payload, retain in self.inward(post):
            self._node.publish(topic, payload, qos=1, retain=retain)


def _client(name: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages = 1000
    return client


@contextlib.contextmanager
def publisher(port: int) -> Iterator[Callable[[str, bytes], None]]:
    """Somebody on the broker who may publish anything."""
    client = _client("somebody")
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield lambda topic, payload: client.publish(topic, payload, qos=1).wait_for_publish(CONNECT_S)
    finally:
        client.disconnect()
        client.loop_stop()


class TwoBrokers:
    """``agents.demo_broker.DemoBroker`` of a world whose collector is told of the other broker."""

    name = "two mosquittos and a relay"
    protocol = "5"
    subscribe = "shared"

    def __init__(self, directory: Path, collector_toml: Path) -> None:
        executable = find_mosquitto()
        assert executable is not None, "the hostile suite needs the distribution's mosquitto"
        for side in ("node-side", "consumer-side"):
            (directory / side / "logs").mkdir(parents=True, exist_ok=True)
        self._node_side = Mosquitto(executable, free_port(), directory / "node-side")
        self._consumer_side = Mosquitto(executable, free_port(), directory / "consumer-side")
        self._collector_toml = collector_toml
        self.port = self._node_side.port
        self.consumer_port = self._consumer_side.port
        self.relay = Relay()

    def start(self) -> None:
        told = self._collector_toml.read_text()
        self._collector_toml.write_text(told.replace(f"port = {self.port}\n", f"port = {self.consumer_port}\n"))
        self._node_side.start()
        self._consumer_side.start()
        self.relay.start(self.port, self.consumer_port)

    def stop(self) -> None:
        self.relay.stop()
        self._node_side.stop()
        self._consumer_side.stop()


def events_of(payload: bytes, topic: str) -> list[bytes]:
    """The events of a message, each as its own bytes."""
    if not topic.endswith("/batch"):
        return [payload]
    return [json.dumps(each, separators=(",", ":")).encode() for each in json.loads(payload)]
