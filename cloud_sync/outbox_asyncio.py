"""The issuer's side of the broker: keeps signed commands, publishes the same bytes until the node's own last word.

It holds no key. Signed bytes are handed in; whoever signs does so once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from cloud_sync.collector import Node
from cloud_sync.outbox import FINAL, HEARD, Entry, Input, Outcome, Schedule, State
from cloud_sync.ports import FAILURE, Broker, BrokerConnection, BrokerLost, Message, Progress
from cloud_sync.presence import Presence, decode
from cloud_sync.topics import Kind, NodeTopics, parse
from cloud_sync.waiting_asyncio import one_after_another, within
from edge import log
from edge.clock import Clock
from edge.errors import ConfigError, LastmileError, ProtocolError, StoreError, VerificationError
from edge.result import Result, Status, read_result

PACE = 50.0
"""Publications a second: a fleet that comes back at once has all its commands due at once."""
PUBACK_S = 30.0
"""A broker that has not answered by then is left: its window is as good as lost."""
LOOK_S = 30.0
"""Between two looks at the file, for what another process has put in, and at what has expired."""
FILTERS = 100
"""In one SUBSCRIBE, so that it fits a small broker's packet."""
MAX_MESSAGES = 100
"""Handled in one go."""


class Store(Protocol):
    """Where commands are kept (``cloud_sync.outbox_sql``). Raises ``StoreError``; nothing was kept then."""

    async def keep(self, entry: Entry, *, alone: bool = False) -> None: ...

    async def record(self, jti: str, happened: Input, token: bytes = b"") -> State: ...

    async def find(self, jti: str) -> tuple[Entry, State, bytes] | None: ...

    async def pending(self) -> list[tuple[Entry, State]]: ...

    async def is_next(self, entry: Entry) -> bool: ...


class Outbox:
    """One issuer's way to its nodes. ``nodes`` are by name, with every role key they have had.

    ``tell`` is called with each new state of a command, and ``random`` gives floats in [0, 1).
    """

    def __init__(
        self,
        *,
        nodes: Mapping[str, Node],
        broker: Broker,
        store: Store,
        clock: Clock,
        random: Callable[[], float],
        tell: Callable[[Outcome], None] = lambda _: None,
        progress: Progress = lambda _: None,
    ) -> None:
        if not nodes:
            raise ConfigError("an outbox without nodes", remedy="name at least one node and its role's public key")
        self._nodes = nodes
        self._broker = broker
        self._store = store
        self._clock = clock
        self._random = random
        self._tell = tell
        self._progress = progress
        self._log = log.get_logger("outbox")
        self._schedule = Schedule(random)
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._questions: dict[str, Result | None] = {}
        self._told: dict[str, State] = {}
        self.interrupted: LastmileError | None = None
        """Why there is no connection now; None while there is one, and before the first."""
        self.listening = False
        """Whether the broker has taken our subscriptions."""
        self.passed_over = 0
        """Answers that the node had not signed."""

    async def run(self) -> None:
        """Publish and listen until cancelled."""
        await one_after_another(
            self._one_connection, clock=self._clock, random=self._random, lost=self._lost, between=self._between
        )

    def _lost(self, cause: LastmileError) -> None:
        self._log.warning("outbox_interrupted", what=str(cause))
        self.interrupted = cause
        self._stir()

    def _between(self) -> None:
        self.listening = False
        self._progress("broker")

    async def keep(self, entry: Entry, *, alone: bool = False) -> None:
        """Commit the command; from here on it goes out. Raises ``StoreError``: then it never does.

        ``alone``: raises ``ConfigError`` while another one of its name for the same subject has no last word.
        """
        await self._store.keep(entry, alone=alone)
        self._schedule.add(entry, State.SIGNED, self._clock.mono())
        self._wake.set()

    async def ask(self, question: Entry) -> Result:
        """The node's answer to what acts on nothing, such as the request for a nonce; it is kept nowhere."""
        self._questions[question.jti] = None
        self._schedule.add(question, State.SIGNED, self._clock.mono())
        self._wake.set()
        try:
            while (answer := self._questions[question.jti]) is None:
                await within(self._clock, LOOK_S, self._changed)
            return answer
        finally:
            del self._questions[question.jti]
            self._schedule.remove(question.jti, self._clock.mono())

    async def final(self, jti: str) -> Outcome:
        """The command's last state, as soon as it has one. Raises ``StoreError`` for one that is not kept here."""
        while True:
            changed = self._changed
            outcome = await self.outcome(jti)
            if outcome.final:
                return outcome
            await within(self._clock, LOOK_S, changed)

    async def outcome(self, jti: str) -> Outcome:
        """How the command stands. Raises ``StoreError`` for one that is not kept here."""
        found = await self._store.find(jti)
        if found is None:
            raise StoreError(f"no command {jti} in this outbox", remedy="ask with the outbox it was signed into")
        entry, state, token = found
        word = None
        with contextlib.suppress(VerificationError):  # none yet, or of a role key that nobody names any more
            word = self._word(entry, token)
        return Outcome(entry, state, word)

    async def online(self, node: str, *, unlike: str = "") -> Presence:
        """The node's presence once it says that it is there, in another run of its agent than ``unlike``.

        Raises what keeps us from the broker, when nothing does better meanwhile.
        """
        while True:
            presence = self._schedule.presence(node)
            if presence is not None and presence.online and presence.session != unlike:
                return presence
            if self.interrupted is not None:
                raise self.interrupted
            await within(self._clock, LOOK_S, self._changed)

    async def idle(self) -> None:
        """Return when every command in the file is final that its node can still take."""
        while True:
            # Another process may hear the last word too; the look at the file is what counts.
            changed = self._changed
            if not any(self._reachable(entry) for entry, _ in await self._store.pending()):
                return
            await within(self._clock, LOOK_S, changed)

    async def _one_connection(self) -> None:
        connection = await self._broker.connect(None)
        try:
            self.interrupted = None
            self._schedule.connected(self._clock.mono())
            await self._subscribe(connection)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection), name="outbox-read")
                tasks.create_task(self._send(connection, tasks), name="outbox-send")
                tasks.create_task(self._look(), name="outbox-look")
        finally:
            await connection.close()

    async def _subscribe(self, connection: BrokerConnection) -> None:
        topics = [NodeTopics(node.tenant, node.name) for node in self._nodes.values()]
        filters = [name for each in topics for name in (each.presence, each.results)]
        for at in range(0, len(filters), FILTERS):
            some = filters[at : at + FILTERS]
            codes = await connection.subscribe(some)
            denied = [name for name, code in zip(some, codes, strict=False) if code >= FAILURE]
            if denied:
                self._log.error("rights_missing", denied=denied, remedy="let the issuer read its nodes' answers")
        self.listening = True

    # What is in the file.

    async def _look(self) -> None:
        while True:
            await self._take_in()
            # A clock that nobody has set ends nothing: the node itself refuses what has expired.
            for jti in self._schedule.over(self._clock.wall()) if self._clock.trusted() else ():
                if jti not in self._questions:
                    await self._record(jti, Input.EXPIRED)
            self._wake.set()
            self._progress("look")
            await self._clock.sleep(LOOK_S)

    async def _take_in(self) -> None:
        for entry, state in await self._store.pending():
            if self._reachable(entry):
                self._schedule.add(entry, state, self._clock.mono())

    def _reachable(self, entry: Entry) -> bool:
        """Whether the node can take it: one that was rebuilt with a new role key honours nothing older."""
        node = self._nodes.get(entry.node)
        return node is not None and node.instance == entry.instance

    # Out.

    async def _send(self, connection: BrokerConnection, tasks: asyncio.TaskGroup) -> None:
        while True:
            for entry in list(self._schedule.due(self._clock.mono())):
                if not await self._may_go(entry):
                    continue
                node = self._nodes[entry.node]
                topic = NodeTopics(node.tenant, node.name).command(entry.name)
                answer = await connection.send(topic, entry.token)
                self._schedule.published(entry.jti, self._clock.mono())
                tasks.create_task(self._puback(entry, answer), name=f"outbox-puback {entry.jti}")
                await self._clock.sleep(1 / PACE)
            self._progress("send")
            await self._pause()

    async def _pause(self) -> None:
        due = self._schedule.next_due()
        seconds = LOOK_S if due is None else min(due - self._clock.mono(), LOOK_S)
        if seconds > 0:
            await within(self._clock, seconds, self._wake)
        self._wake.clear()

    async def _may_go(self, entry: Entry) -> bool:
        """Whether it is open and its turn: another process may have heard its last word, or kept one before it."""
        if entry.jti in self._questions:
            return True
        found = await self._store.find(entry.jti)
        if found is None or found[1] in FINAL:
            self._schedule.remove(entry.jti, self._clock.mono())
            self._stir()
            return False
        if not await self._store.is_next(entry):
            self._schedule.published(entry.jti, self._clock.mono())
            await self._take_in()
            return False
        return True

    async def _puback(self, entry: Entry, answer: Awaitable[int]) -> None:
        arrived = asyncio.Event()
        waiting = asyncio.ensure_future(answer)
        waiting.add_done_callback(lambda _: arrived.set())
        try:
            if not await within(self._clock, PUBACK_S, arrived):
                raise BrokerLost("the broker took a command and said nothing", remedy="sent again by itself")
            code = waiting.result()
        finally:
            waiting.cancel()
        if code >= FAILURE:
            self._log.error("command_refused", code=code, node=entry.node, remedy="look at the issuer's rights there")
            return
        if entry.jti in self._schedule:
            self._schedule.taken(entry.jti, self._clock.mono())
            if entry.jti not in self._questions:
                await self._record(entry.jti, Input.SENT)

    # In.

    async def _read(self, connection: BrokerConnection) -> None:
        while True:
            for message in await connection.next_messages(MAX_MESSAGES):
                await self._hear(message)
                # After the commit: a word that was lost with us comes again.
                connection.ack(message)
            self._progress("read")

    async def _hear(self, message: Message) -> None:
        try:
            topic = parse(message.topic)
            if topic.node not in self._nodes:
                return
            if topic.kind is Kind.PRESENCE:
                if self._schedule.heard(topic.node, decode(message.payload), self._clock.mono()):
                    self._wake.set()
                self._stir()
            elif topic.kind is Kind.RESULT:
                await self._hear_result(topic.name, topic.node, message.payload)
        except (ProtocolError, VerificationError) as error:
            self.passed_over += 1
            self._log.warning("passed_over", topic=message.topic, what=str(error))

    async def _hear_result(self, jti: str, node: str, token: bytes) -> None:
        """Raises ``VerificationError`` for what the node did not sign for this command."""
        entry = self._schedule.entry(jti)
        if entry is None:
            # Of another issuer, or late: a command that nobody asked for any more still learns what became of it.
            found = await self._store.find(jti)
            entry = None if found is None else found[0]
        if entry is None or entry.node != node:
            return
        word = self._word(entry, token)
        if jti in self._questions:
            self._questions[jti] = word
            self._stir()
        else:
            await self._record(jti, HEARD[word.status], token, word)

    def _word(self, entry: Entry, token: bytes) -> Result:
        node = self._nodes.get(entry.node)
        key = None if node is None else node.keys.get(entry.instance)
        if key is None:
            raise VerificationError("unknown_key", f"no role key of {entry.audience}", remedy="name it with the node")
        return read_result(token, key, audience=entry.audience, command_id=entry.jti, issuer=entry.issuer)

    async def _record(self, jti: str, happened: Input, token: bytes = b"", word: Result | None = None) -> None:
        entry = self._schedule.entry(jti)
        state = await self._store.record(jti, happened, token)
        now = self._clock.mono()
        if state in FINAL:
            self._schedule.remove(jti, now)
        elif word is not None and word.status is Status.ACCEPTED and entry is not None:
            self._schedule.accepted(jti, now)
        if entry is not None and self._told.get(jti) is not state:
            self._told[jti] = state
            self._tell(Outcome(entry, state, word))
        if state in FINAL:
            self._told.pop(jti, None)
        self._wake.set()
        self._stir()

    def _stir(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()
