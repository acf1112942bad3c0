"""What a consumer does: takes in every event of its nodes, and signs for what a seal proves.

The broker hears that a message arrived once it is committed as unproven; the node hears that an event is held only when
it is proven, by a signed ack. In between the node keeps it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from cloud_sync.collector import Batch, Node, Standing, check_result, read_events
from cloud_sync.ports import FAILURE, Broker, BrokerConnection, Message, Progress
from cloud_sync.presence import decode
from cloud_sync.topics import CONSUMED, Kind, NodeTopics, consumer_probe, parse, shared
from cloud_sync.waiting_asyncio import one_after_another, within
from edge import log
from edge.acks import MAX_JOURNALS, Ack
from edge.clock import Clock
from edge.errors import ConfigError, LastmileError, ProtocolError

MAX_MESSAGES = 500
"""Messages in one commit."""
LARGE = 8 * 1024 * 1024
"""Bytes in one commit; and of one node's events, after which it is settled without waiting for ``SWEEP``. A store takes
64 MiB of a node that is not settled, and what it refuses comes again only after half a minute."""
SWEEP = 1.0
"""Seconds between two looks at what is held now; the first after a quiet time, or a flood, comes at once."""
SETTLE_SOURCES = 200
"""Nodes settled in one transaction."""
PROBE_TIMEOUT = 5.0
"""Seconds for our own message to come back."""

Way = Literal["shared", "plain", "amqp"]
"""How messages reach us: ``shared``, by a shared subscription that the workers of a consumer divide; ``plain``, by one
of our own, for a broker without those; ``amqp``, by a queue of the broker's own protocol, divided among the workers."""


class Store(Protocol):
    """Where events are kept, by us and perhaps by other workers. Raises ``StoreError``; nothing was kept then."""

    lives: int
    """Connections made so far. Behind a new one there may be an older copy: a standby, a restored file."""

    async def take(self, batch: Batch) -> None: ...

    async def due(self) -> Sequence[str]: ...

    async def settle(self, sources: Iterable[str], *, ask_all: bool = False) -> Mapping[str, Standing]: ...


class Collector:
    """One consumer. ``sign`` makes a signed ack; ``nodes`` are by name; ``client_id`` is unique in the group."""

    def __init__(  # noqa: PLR0913  everything it touches is handed in
        self,
        *,
        consumer: str,
        client_id: str,
        nodes: Mapping[str, Node],
        broker: Broker,
        store: Store,
        sign: Callable[[Ack], bytes],
        clock: Clock,
        random: Callable[[], float],
        new_token: Callable[[], str],
        subscribe: Way = "shared",
        progress: Progress = lambda _: None,
    ) -> None:
        if not nodes:
            raise ConfigError("a collector without nodes", remedy="name at least one node and its role's public key")
        self._consumer = consumer
        self._nodes = nodes
        self._broker = broker
        self._store = store
        self._sign = sign
        self._clock = clock
        self._random = random
        self._new_token = new_token
        self._wish = subscribe
        self._progress = progress
        self._log = log.get_logger("collector")
        self._sources = {node.source: node for node in nodes.values()}
        self._probe_topic = consumer_probe(next(iter(nodes.values())).tenant, client_id)
        self._probe = ""
        self._probed = asyncio.Event()
        self._came = asyncio.Event()
        self._unsettled: Counter[str] = Counter()
        """Bytes by node that were taken in since the last look at what is due."""
        self._much = asyncio.Event()
        self._lives = 0
        """The store's life that was seen last."""
        self._behind: set[str] = set()
        """Nodes that were not asked yet for what follows in that life, as far as the broker has said."""
        self.subscribed: Literal["", "shared", "plain", "amqp"] = ""
        """How it listens now; "" while it is not known to hear anything."""
        self._unheard: dict[str, asyncio.Future[int] | None] = {}
        """The last ack to each node that the broker has not taken, or not yet; None: it was not even handed over."""
        self.acks = 0
        self.wants = 0
        """Ranges asked for."""

    def know(self, nodes: Mapping[str, Node]) -> None:
        """From now on take events of these nodes alone; what is held of others stays held."""
        self._nodes = nodes
        self._sources.update({node.source: node for node in nodes.values()})

    async def run(self) -> None:
        """Collect until cancelled."""
        await one_after_another(
            self._one_connection, clock=self._clock, random=self._random, lost=self._lost, between=self._between
        )

    def _lost(self, cause: LastmileError) -> None:
        self._log.warning("collector_interrupted", what=str(cause))

    def _between(self) -> None:
        self.subscribed = ""
        self._progress("broker")

    async def _one_connection(self) -> None:
        connection = await self._broker.connect(None)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection), name="collector-read")
                tasks.create_task(self._sweep(connection), name="collector-sweep")
                tasks.create_task(self._listen(connection), name="collector-listen")
        finally:
            await connection.close()

    async def _listen(self, connection: BrokerConnection) -> None:
        """Subscribe in the way that works here: a broker without shared subscriptions takes one and sends nothing."""
        together = [shared(self._consumer, name) for name in CONSUMED]
        if self._wish == "amqp":
            heard = await self._hears(connection, self._probe_topic)
            await self._subscribe(connection, together)
            self.subscribed = "amqp" if heard else ""
        elif self._wish == "shared" and await self._hears(connection, shared(self._consumer, self._probe_topic)):
            await self._subscribe(connection, together)
            self.subscribed = "shared"
        else:
            if self._wish == "shared":
                self._log.warning("no_shared_subscription", remedy="one collector is enough here; run no second one")
            heard = await self._hears(connection, self._probe_topic)
            await self._subscribe(connection, CONSUMED)
            self.subscribed = "plain" if heard else ""
        self._log.info("listening", how=self.subscribed or "not proven")

    async def _hears(self, connection: BrokerConnection, topic_filter: str) -> bool:
        """Whether a message to ourselves comes back through ``topic_filter``."""
        self._probe = self._new_token()
        self._probed.clear()
        codes = await connection.subscribe([topic_filter])
        code = await (await connection.send(self._probe_topic, self._probe.encode()))
        if max(code, *codes) >= FAILURE:
            return False
        return await within(self._clock, PROBE_TIMEOUT, self._probed)

    async def _subscribe(self, connection: BrokerConnection, filters: Sequence[str]) -> None:
        codes = await connection.subscribe(filters)
        denied = [name for name, code in zip(filters, codes, strict=False) if code >= FAILURE]
        if denied:
            self._log.error("rights_missing", denied=denied, remedy="let the collector read its nodes' topics")

    # In.

    async def _read(self, connection: BrokerConnection) -> None:
        """Read and check one batch while the one before it is committed."""
        committing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        committing.set_result(None)
        async with asyncio.TaskGroup() as tasks:
            while True:
                messages = await connection.next_messages(MAX_MESSAGES)
                self._progress("read")
                for some in _portions(messages):
                    batch = self._sorted(some)
                    await committing
                    committing = tasks.create_task(self._commit(connection, some, batch), name="collector-commit")

    async def _commit(self, connection: BrokerConnection, messages: Sequence[Message], batch: Batch) -> None:
        if batch.events or batch.presences or batch.results or batch.strays:
            await self._store.take(batch)
            self._came.set()
            for node, intake in batch.events:
                self._unsettled[node.source] += sum(len(row.body) for row in intake.rows)
            if any(size >= LARGE for size in self._unsettled.values()):
                self._much.set()
        for message in messages:
            connection.ack(message)

    def _sorted(self, messages: Sequence[Message]) -> Batch:
        batch = Batch()
        for message in messages:
            self._sort(message, batch)
        return batch

    def _sort(self, message: Message, batch: Batch) -> None:
        if message.topic == self._probe_topic:
            if message.payload == self._probe.encode():
                self._probed.set()
            return
        try:
            topic = parse(message.topic)
        except ProtocolError:
            batch.strays.append("unknown_topic")
            return
        node = self._nodes.get(topic.node)
        if node is None:
            batch.strays.append("unknown_node")
        elif topic.kind in (Kind.EVENT, Kind.BATCH):
            batch.events.append((node, read_events(node, topic, message.payload)))
        elif topic.kind is Kind.PRESENCE:
            self._sort_presence(node, message, batch)
        elif topic.kind is Kind.RESULT:
            if check_result(node, topic.name, message.payload):
                batch.results.append((node, topic.name, message.payload))
            else:
                batch.strays.append("forged_result")

    def _sort_presence(self, node: Node, message: Message, batch: Batch) -> None:
        try:
            batch.hear_presence(node, decode(message.payload))
        except ProtocolError:
            batch.strays.append("malformed_presence")

    # Held.

    async def _sweep(self, connection: BrokerConnection) -> None:
        """Settle what is due, whichever worker took it in. Every second, and the first after a quiet time at once."""
        while True:
            if self._store.lives != self._lives:
                self._lives, self._behind = self._store.lives, set(self._sources)
            again = {source for source, answer in self._unheard.items() if answer is None or answer.done()}
            # Before the look: what comes from here on, it may miss.
            self._came.clear()
            self._much.clear()
            self._unsettled.clear()
            behind = self._behind - (self._unheard.keys() - again)
            due = {*await self._store.due(), *again} - behind
            for sources, ask_all in ((sorted(behind), True), (sorted(due), False)):
                for at in range(0, len(sources), SETTLE_SOURCES):
                    await self._settle(connection, sources[at : at + SETTLE_SOURCES], again, ask_all=ask_all)
            self._progress("sweep")
            if behind or due:
                await within(self._clock, SWEEP, self._much)
            await within(self._clock, SWEEP, self._came)

    async def _settle(
        self, connection: BrokerConnection, sources: Sequence[str], again: Collection[str], *, ask_all: bool
    ) -> None:
        """Settle these and tell those that have something to hear. ``again``: the broker did not take the ack before.

        Once settled they are due no more, so what is owed is noted before the first is sent.
        """
        standings = await self._store.settle(sources, ask_all=ask_all)
        owed = {}
        for source in sources:
            standing = standings.get(source)
            if standing is not None and self._has_to_hear(source, standing, again=source in again):
                owed[source] = standing
                self._unheard[source] = None
            else:
                self._behind.discard(source)
                if source in again:
                    del self._unheard[source]
        for source, standing in owed.items():
            await self._acknowledge(connection, source, standing, asked=self._lives if ask_all else 0)

    def _has_to_hear(self, source: str, standing: Standing, *, again: bool) -> bool:
        node = self._sources.get(source)
        if node is None:
            return False  # of an earlier configuration
        if standing.alarms:
            self._log.error("quarantined", node=node.name, rows=standing.alarms, remedy="look at who can publish as it")
        return bool(standing.want or ((standing.fresh or again) and standing.journals))

    async def _acknowledge(self, connection: BrokerConnection, source: str, standing: Standing, *, asked: int) -> None:
        """Sign what the transaction that held the node's lock has committed. An ack that is late moves nothing: a
        node's cursors only rise. ``asked``: the store's life for which this also asks for all that follows; 0: it does
        not.
        """
        node = self._sources[source]
        # The latest epochs; an earlier one has its turn again when more of it comes.
        journals = dict(list(standing.journals.items())[-MAX_JOURNALS:])
        token = self._sign(Ack(self._consumer, node.audience, journals, tuple(standing.want)))  # type: ignore[arg-type]
        answer = asyncio.ensure_future(
            await connection.send(NodeTopics(node.tenant, node.name).ack(self._consumer), token)
        )
        self._unheard[source] = answer
        answer.add_done_callback(lambda done: self._heard(source, done, asked))
        self.acks += 1
        self.wants += len(standing.want)

    def _heard(self, source: str, answer: asyncio.Future[int], asked: int) -> None:
        fine = not answer.cancelled() and answer.exception() is None and answer.result() < FAILURE
        if fine and asked == self._lives:
            self._behind.discard(source)
        if fine and self._unheard.get(source) is answer:
            del self._unheard[source]


def _portions(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Runs of them with ``LARGE`` bytes, the last message's share beyond it included."""
    first, size = 0, 0
    for at, message in enumerate(messages, 1):
        size += len(message.payload)
        if size >= LARGE or at == len(messages):
            yield messages[first:at]
            first, size = at, 0
