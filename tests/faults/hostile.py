"""Somebody with every right at the broker: records all messages, repeats them in any order, and invents others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from typing import Any, Self

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.ports import BrokerLost, Message
from edge import jose
from edge.keys import SigningKey
from tests.faults.yard import Yard

EVERYTHING = ("lm/v1/+/+/evt/#", "lm/v1/+/+/res/+", "lm/v1/+/+/ack/+", "lm/v1/+/+/cmd/+", "lm/v1/+/+/presence")
RETRY_S = 0.05
MOST = 40
"""Messages in one burst."""
OWN_KEY = SigningKey(b"x" * 32)


class Hostile:
    """Use as an async context manager."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._heard: dict[tuple[str, bytes], Message] = {}
        self._connection: MqttConnection | None = None
        self.sent = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _listen(self) -> None:
        settings = BrokerSettings("127.0.0.1", "somebody", self._yard.broker.port, session_expiry=0)
        while True:
            try:
                connection = await MqttBroker(settings).connect(None)
                try:
                    await connection.subscribe(EVERYTHING)
                    self._connection = connection
                    await self._record(connection)
                finally:
                    self._connection = None
                    await connection.close()
            except BrokerLost:
                await asyncio.sleep(RETRY_S)

    async def _record(self, connection: MqttConnection) -> None:
        while True:
            for message in await connection.next_messages(100):
                self._heard.setdefault((message.topic, message.payload), message)
                connection.ack(message)

    async def replay(self, chance: random.Random) -> None:
        """A shuffled part of all that was ever sent, some of it twice; commands also as retained."""
        heard = [message for message in self._heard.values() if not message.topic.endswith("/presence")]
        chosen = chance.choices(heard, k=min(MOST, 2 * len(heard))) if heard else []
        for message in chosen:
            retain = "/cmd/" in message.topic and chance.random() < 0.3
            await self._send(message.topic, message.payload, retain=retain)

    async def forge(self, chance: random.Random) -> None:
        """Changed events, acks and commands: of another content under true numbers, and under another key."""
        heard = list(self._heard.values())
        for message in chance.choices(heard, k=min(MOST, len(heard))) if heard else []:
            await self._send(message.topic, _forged(message, chance))

    async def _send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        connection = self._connection
        if connection is None or not payload:
            return
        with contextlib.suppress(BrokerLost, TimeoutError):
            async with asyncio.timeout(1.0):
                _ = await connection.send(topic, payload, retain=retain)
                self.sent += 1


def _forged(message: Message, chance: random.Random) -> bytes:
    """ "" where there is nothing to gain."""
    if "/evt/audit" in message.topic:
        return _forged_event(message, chance)
    if message.topic.endswith("/presence"):
        told = json.loads(message.payload)
        # Of a connection that is over: the highest one is the broker's to lie about.
        return json.dumps({**told, "online": False, "link": max(told["link"] - 1, 0)}).encode()
    return _forged_token(message.payload, chance) if "/evt/" not in message.topic else b""


def _forged_event(message: Message, chance: random.Random) -> bytes:
    told: Any = json.loads(message.payload)
    for event in told if isinstance(told, list) else [told]:
        match chance.randrange(3):
            case 0:
                event["data"] = {**event["data"], "door": "99"}
            case 1:
                event["seq"] += chance.randrange(1, 50)
            case 2:
                event["prev"] = "00" * 32
    return json.dumps(told).encode()


def _forged_token(token: bytes, chance: random.Random) -> bytes:
    head, body, signature = token.split(b".")
    claims = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    for epoch in claims.get("journals", {}).values():
        for place in epoch.values():
            place[0] += 1000
    claims["subject"] = "01" if "subject" in claims else ""
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    if chance.random() < 0.5:
        return b".".join((head, changed, signature))
    kind = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))["typ"]
    return jose.sign(claims, kind, OWN_KEY)
