"""What waits for a connection: the oldest falls out of a full queue, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from cloud_sync.outgoing_asyncio import MAX_OUTGOING, Outgoing
from cloud_sync.ports import BrokerConnection
from cloud_sync.topics import NodeTopics
from edge.link import Out
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.rig import NODE, TENANT, running


class Crowded:
    """A connection that has no room for the first message until ``room`` is set."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.asked = 0
        self.sent: list[bytes] = []

    async def send(self, topic: str, payload: bytes) -> Awaitable[int]:
        assert topic.startswith(f"lm/v1/{TENANT}/{NODE}/res/")
        self.asked += 1
        await self.room.wait()
        self.sent.append(payload)
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        taken.set_result(0)
        return taken


async def test_a_result_that_comes_while_the_queue_is_full_costs_none_that_waits():
    outgoing = Outgoing(lambda *_: None)
    connection = Crowded()

    def say(number: int) -> None:
        outgoing.put(Out("res", f"id-{number}", b"%d" % number), connected=True)

    for number in range(MAX_OUTGOING):
        say(number)
    async with running(lambda: outgoing.carry(cast("BrokerConnection", connection), NodeTopics(TENANT, NODE))):
        await until(lambda: connection.asked)
        say(MAX_OUTGOING)
        connection.room.set()
        await until(lambda: b"%d" % MAX_OUTGOING in connection.sent)
    assert connection.sent == [b"%d" % number for number in range(MAX_OUTGOING + 1)]
