"""Publishes a signed document to nodes, retained, and waits for each node's own signed word on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from cloud_sync.collector import Node
from cloud_sync.documents import Document, Standing, standing
from cloud_sync.ports import FAILURE, Broker, BrokerConnection, Message
from cloud_sync.topics import NodeTopics
from cloud_sync.waiting_asyncio import one_after_another
from edge import log
from edge.clock import Clock
from edge.document import Reported, read_reported
from edge.errors import ConfigError, LastmileError, VerificationError

MAX_MESSAGES = 100
"""Handled in one go."""
FILTERS = 100
"""In one SUBSCRIBE, so that it fits a small broker's packet."""


class Publisher:
    """One document for ``nodes``, by name. ``tell`` is called with a node's name at each change of its standing."""

    def __init__(
        self,
        document: Document,
        *,
        nodes: Mapping[str, Node],
        broker: Broker,
        clock: Clock,
        random: Callable[[], float],
        tell: Callable[[str, Standing], None] = lambda _node, _standing: None,
    ) -> None:
        for node in nodes.values():
            if document.audience not in ("", node.audience):
                raise ConfigError(
                    f"the document is for {document.audience}, not for {node.audience}",
                    remedy="sign one for each node; after a rebuild, with its new role key",
                )
        self._document = document
        self._nodes = nodes
        self._broker = broker
        self._clock = clock
        self._random = random
        self._tell = tell
        self._log = log.get_logger("documents")
        self._by_topic = {NodeTopics(each.tenant, each.name).reported: each for each in nodes.values()}
        self.reported: dict[str, Reported] = {}
        """The newest word of each node."""
        self.settled = asyncio.Event()
        """Every node has it in force, or has refused it."""
        self.interrupted: LastmileError | None = None

    def standings(self) -> dict[str, Standing]:
        """Of each node."""
        return {name: standing(self._document, self.reported.get(name)) for name in self._nodes}

    async def run(self) -> None:
        """Publish and listen until cancelled. Again after each loss of the broker: it may come back empty."""
        await one_after_another(self._one_connection, clock=self._clock, random=self._random, lost=self._lost)

    def _lost(self, cause: LastmileError) -> None:
        self._log.warning("publishing_interrupted", what=str(cause))
        self.interrupted = cause

    async def _one_connection(self) -> None:
        connection = await self._broker.connect(None)
        self.interrupted = None
        try:
            topics = list(self._by_topic)
            for at in range(0, len(topics), FILTERS):
                await connection.subscribe(topics[at : at + FILTERS])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publish(connection), name="documents-publish")
                tasks.create_task(self._read(connection), name="documents-read")
        finally:
            await connection.close()

    async def _publish(self, connection: BrokerConnection) -> None:
        for node in self._nodes.values():
            topic = self._document.topic(NodeTopics(node.tenant, node.name))
            code = await (await connection.send(topic, self._document.token, retain=True))
            if code >= FAILURE:
                self._log.error("document_refused", code=code, topic=topic, remedy="look at the issuer's rights there")

    async def _read(self, connection: BrokerConnection) -> None:
        while True:
            for message in await connection.next_messages(MAX_MESSAGES):
                self._hear(message)
                connection.ack(message)

    def _hear(self, message: Message) -> None:
        node = self._by_topic.get(message.topic)
        if node is None:
            return
        try:
            reported = read_reported(message.payload, node.keys[node.instance], audience=node.audience)
        except VerificationError as error:
            self._log.warning("passed_over", topic=message.topic, what=str(error))
            return
        known = self.reported.get(node.name)
        # A broker may bring an old word again.
        if known is None or reported.version > known.version:
            before = standing(self._document, known)
            self.reported[node.name] = reported
            now = standing(self._document, reported)
            if now is not before:
                self._tell(node.name, now)
        if set(self.standings().values()) <= {Standing.IN_FORCE, Standing.REFUSED}:
            self.settled.set()
