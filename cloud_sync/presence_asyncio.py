"""Keeps what the broker holds of a node's presence true, whoever or whatever puts something else there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

from cloud_sync.agent_asyncio import Agent
from cloud_sync.ports import FAILURE, BrokerConnection, BrokerLost, Message, Progress
from cloud_sync.presence import Presence, decode, encode
from cloud_sync.topics import NodeTopics
from cloud_sync.waiting_asyncio import within
from edge import log
from edge.clock import Clock
from edge.errors import ConfigError, ProtocolError
from edge.link import LinkNumber

PRESENCE_EVERY = 3600.0
"""Seconds after which retained copies are published again: brokers lose them."""
MEND_PAUSE = 1.0
"""Seconds between two corrections: whoever writes there without end is not answered without end."""
LOOK_EVERY = 60.0
"""Seconds in which this task says at least once that it lives."""


class PresenceKeeper:
    """``reported`` gives the document that is kept beside presence, None when there is none yet.

    ``refused`` hears which of the two the broker did not take, and its reason code.
    """

    def __init__(
        self,
        agent: Agent,
        clock: Clock,
        reported: Callable[[], bytes | None],
        progress: Progress,
        refused: Callable[[str, int], None],
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._reported = reported
        self._progress = progress
        self._refused = refused
        self._log = log.get_logger("cloud_sync")
        self._due = asyncio.Event()
        self._wrong = False
        self.link = LinkNumber(0, 0, "")
        """Of the connection that is or was last."""
        self.mended = 0
        """How often somebody else's presence stood under our name."""

    def change(self) -> None:
        """What presence says may be another now."""
        self._due.set()

    def payload(self, *, online: bool) -> bytes:
        welcome = self._agent.welcome
        if welcome is None:
            raise ConfigError("presence before the role agent's HELLO", remedy="report this as a defect")
        return encode(
            Presence(
                online=online,
                serving=online and self._agent.serving,
                link=self.link.link,
                session=welcome.session,
                epoch=self.link.epoch,
                role=welcome.role,
                version=welcome.software,
                at=datetime.fromtimestamp(self._clock.wall(), UTC),
            )
        )

    async def keep(self, connection: BrokerConnection, topics: NodeTopics) -> None:
        """Publish presence and ``reported`` now, on every change and hourly, as long as the connection lasts."""
        while True:
            self._due.clear()
            self._wrong = False
            await self._publish(connection, "presence", topics.presence, self.payload(online=True))
            reported = self._reported()
            if reported is not None:
                await self._publish(connection, "reported", topics.reported, reported)
            await self._until_due()
            if self._wrong:
                self.mended += 1
                await self._clock.sleep(MEND_PAUSE)

    async def _publish(self, connection: BrokerConnection, kind: str, topic: str, payload: bytes) -> None:
        code = await (await connection.send(topic, payload, retain=True))
        if code >= FAILURE:
            self._refused(kind, code)

    def heard(self, message: Message) -> None:
        """What somebody published under our presence: the broker itself, when a will comes late.

        A message with a higher link is of a newer connection than ours, so ours is the one that is over. The copy that
        came with the subscription is older than what we say first.
        """
        if message.retain:
            return
        try:
            told = decode(message.payload)
        except ProtocolError:
            told = None
        ours = told is not None and told.epoch == self.link.epoch
        if told is not None and ours and (told.link, told.online) >= (self.link.link, True):
            return
        self._log.warning("presence_mended", link=self.link.link, heard=told.link if told else None)
        self._wrong = True
        self._due.set()

    async def say_goodbye(self, connection: BrokerConnection, topics: NodeTopics) -> None:
        """A DISCONNECT keeps the will from being published, so what it says is said before."""
        with contextlib.suppress(BrokerLost):
            _ = await connection.send(topics.presence, self.payload(online=False), qos=0, retain=True)
        await connection.close()

    async def _until_due(self) -> None:
        again = self._clock.mono() + PRESENCE_EVERY
        while not self._due.is_set() and (left := again - self._clock.mono()) > 0:
            self._progress("broker")
            await within(self._clock, min(left, LOOK_EVERY), self._due)
