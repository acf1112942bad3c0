"""What cloud-sync does: it carries the role agent's events out and signed commands in, and keeps nothing of its own.

Two things come and go independently, the role agent behind the local socket and the broker. ``Agent.keep`` and
``_keep_broker`` hold on to one each; everything between them runs inside ``_one_connection``.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from cloud_sync.agent_asyncio import Agent
from cloud_sync.outgoing_asyncio import Outgoing
from cloud_sync.ports import (
    FAILURE,
    AgentLink,
    Broker,
    BrokerConnection,
    BrokerLost,
    BrokerRefused,
    Message,
    Progress,
    Trouble,
    Will,
    first_of,
)
from cloud_sync.presence_asyncio import PresenceKeeper
from cloud_sync.pump import Ask, Pacing, Pause, Pump, Send, SetAside
from cloud_sync.session import FIRST_PAUSE, LONGEST_PAUSE, STABLE_AFTER, LinkInput, LinkState, after
from cloud_sync.topics import Kind, NodeTopics, Topic, parse
from cloud_sync.waiting_asyncio import alone, within
from edge import link, log
from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import ConfigError, ProtocolError
from edge.link import Events, HeldAnswer, JournalView, LinkNumber, OfferAnswer, Out, Request, Wake, Welcome

PROGRESS_EVERY = 10.0
"""Seconds in which every part says at least once that it lives, whether there is something to do or not."""
PASSED_EVERY = 1.0
"""Seconds between two words to the role agent about what the broker has taken: each costs it a commit."""
FIRST_REQUEST = 1
"""The number of a socket's first request, which is HELLO."""
PROBE_TIMEOUT = 10.0
"""Seconds for our own message to come back: a satellite link needs 1.2 for the two ways."""
PROBE_AGAIN = 60.0
"""Seconds between probes while rights are missing: a person may be giving them now."""


class CloudSync:
    """One node's way to its broker. ``random`` gives floats in [0, 1); ``new_token`` an unguessable word."""

    def __init__(  # noqa: PLR0913  everything it touches is handed in
        self,
        *,
        open_agent: Callable[[], Awaitable[AgentLink]],
        broker: Broker,
        pacing: Pacing,
        clock: Clock,
        random: Callable[[], float],
        new_token: Callable[[], str],
        longest_pause: float = LONGEST_PAUSE,
        puback_ends: bool = False,
        progress: Progress = lambda _: None,
        trouble: Trouble = lambda _part, _what: None,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._random = random
        self._new_token = new_token
        self._longest_pause = longest_pause
        self._puback_ends = puback_ends
        self._progress = progress
        self._trouble = trouble
        self._log = log.get_logger("cloud_sync")
        self.pump = Pump(pacing)
        self.state = LinkState.WAITING
        self.dropped: Counter[str] = Counter()
        """Messages that came and were not passed on, by reason."""
        self._agent = Agent(
            open_agent=open_agent,
            clock=clock,
            random=random,
            on_welcome=self._welcomed,
            on_push=self._heed,
            on_change=self._changed,
            progress=progress,
        )
        self._outgoing = Outgoing(self._out_refused)
        self._presence = PresenceKeeper(
            self._agent, clock, lambda: self._outgoing.reported, progress, self._out_refused
        )
        self._epoch = ""
        """The newest that we have heard of."""
        self._pulled = 0
        """The number of the last answer with events on the present socket."""
        self._connection: BrokerConnection | None = None
        self._nudged = asyncio.Event()
        self._probe = ""
        self._probed = asyncio.Event()

    async def run(self) -> None:
        """Carry until cancelled; after a defect, once more from the beginning."""
        self.state, self._connection = LinkState.WAITING, None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._agent.keep(), name="keep-agent")
            tasks.create_task(self._keep_broker(), name="keep-broker")

    # The role agent.

    async def _welcomed(self, welcome: Welcome) -> None:
        self.pump.wake()
        if welcome.n <= FIRST_REQUEST:
            self._pulled = 0  # a socket of its own
        if welcome.n >= self._pulled:
            # Else events were pulled after this was said, and read before it: it would look as if the file went back.
            await self._take_journals(welcome.journals)

    async def _take_journals(self, journals: Sequence[JournalView]) -> None:
        """Follow what the role agent says of its epochs. A new one needs a new connection; see ``_outdated``."""
        self.pump.journals(journals, self._clock.mono())
        self._nudged.set()
        self._epoch = journals[-1].epoch if journals else ""
        if self._connection and self._outdated():
            await self._connection.close()

    def _changed(self) -> None:
        self._presence.change()

    def _outdated(self) -> bool:
        """Whether a new epoch has begun: it counts its links anew, and the will at the broker names the old one."""
        return self._epoch not in ("", self._presence.link.epoch)

    def _heed(self, push: Wake | Out) -> None:
        match push:
            case Wake():
                self.pump.wake()
                self._nudged.set()
            case Out():
                self._outgoing.put(push, connected=self._connection is not None)

    # The broker.

    async def _keep_broker(self) -> None:
        backoff = Backoff(self._random, first_s=FIRST_PAUSE, cap_s=self._longest_pause, stable_s=STABLE_AFTER)
        while True:
            await self._idle(math.inf, self._agent.there)
            self._change(LinkInput.AGENT_READY)
            began = self._clock.mono()
            try:
                await alone(self._one_connection())
            except* (BrokerLost, ProtocolError, ConfigError) as lost:
                # Certificates are read anew for each connection: one that is missing now may be on its way.
                error = first_of(lost)
                self._log.warning("broker_lost", what=str(error), refused=isinstance(error, BrokerRefused))
                self._trouble("broker", f"not connected: {error}")
            self._connection = None
            lasted = self._clock.mono() - began if self.state is not LinkState.CONNECTING else 0.0
            self._change(LinkInput.LOST)
            await self._idle(backoff.after(lasted))
            self._change(LinkInput.PAUSED)

    async def _idle(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Wait, and say all the while that there is nothing to do."""
        event = event or asyncio.Event()
        end = self._clock.mono() + seconds
        while not event.is_set() and (left := end - self._clock.mono()) > 0:
            self._progress("events")
            self._progress("broker")
            await within(self._clock, min(left, PROGRESS_EVERY), event)

    async def _one_connection(self) -> None:
        self._presence.link = await self._agent.ask(link.Link, LinkNumber)
        if self._outdated():
            # An epoch began while nobody heard its answer, which went down with the last connection.
            await self._take_journals((await self._agent.ask(link.Hello, Welcome)).journals)
        welcome = cast("Welcome", self._agent.welcome)
        topics = NodeTopics(welcome.tenant, welcome.node)
        connection = await self._broker.connect(Will(topics.presence, self._presence.payload(online=False)))
        self._connection = connection
        try:
            self._change(LinkInput.ACCEPTED)
            if self._outdated():
                raise BrokerLost("the role agent began a new epoch", remedy="connected again with a new link number")
            denied = await self._subscribe(connection, topics)
            self.pump.connected(connection.window, connection.max_packet)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_inbox(connection), name="inbox")
                tasks.create_task(self._prove_rights(connection, topics, denied), name="probe")
                tasks.create_task(self._presence.keep(connection, topics), name="presence")
                tasks.create_task(self._outgoing.carry(connection, topics), name="out")
                tasks.create_task(self._carry_events(connection, topics), name="events")
                tasks.create_task(self._nudge(), name="nudge")
                if self._puback_ends:
                    tasks.create_task(self._tell_passed(), name="passed")
        finally:
            await self._presence.say_goodbye(connection, topics)

    async def _subscribe(self, connection: BrokerConnection, topics: NodeTopics) -> list[str]:
        """The filters that the broker refused."""
        codes = await connection.subscribe(topics.inward())
        return [name for name, code in zip(topics.inward(), codes, strict=False) if code >= FAILURE]

    async def _prove_rights(self, connection: BrokerConnection, topics: NodeTopics, denied: list[str]) -> None:
        """Write to ourselves until it comes back: a broker may take every message, pass on none, and say nothing."""
        while True:
            self._probe = self._new_token()
            self._probed.clear()
            code = await (await connection.send(topics.probe, self._probe.encode()))
            came = code < FAILURE and await within(self._clock, PROBE_TIMEOUT, self._probed)
            self.pump.proven()
            self._nudged.set()
            if came and not denied:
                self._change(LinkInput.PROVEN)
                self._log.info("online", link=self._presence.link.link)
                self._progress("rights")
                return
            if self.state is LinkState.PROBING:
                self._change(LinkInput.DENIED)
            remedy = f"give {self._node()} its topic rights"
            self._log.error("rights_missing", probe="came" if came else "lost", denied=denied, remedy=remedy)
            self._trouble("rights", f"the broker passes nothing on to us, or refuses {denied}; {remedy}")
            await self._clock.sleep(PROBE_AGAIN)
            denied = await self._subscribe(connection, topics)

    # Outwards.

    async def _carry_events(self, connection: BrokerConnection, topics: NodeTopics) -> None:
        """The heart: ask the pump, do what it says, tell it what came of it."""
        while True:
            self._progress("events")
            self._nudged.clear()
            step = self.pump.next_step(self._clock.mono())
            match step:
                case Ask():
                    await self._pull(step)
                case Send():
                    await self._send(connection, topics, step)
                case SetAside():
                    await self._tell_unsendable(step)
                case Pause(math.inf):
                    # A full window, mostly: a timer for every PUBACK would cost more than the sending.
                    await self._nudged.wait()
                case Pause(seconds):
                    await within(self._clock, seconds, self._nudged)

    async def _nudge(self) -> None:
        """Let the carrier look up now and then, so that it says that it lives."""
        while True:
            await self._clock.sleep(PROGRESS_EVERY)
            self._nudged.set()

    async def _pull(self, step: Ask) -> None:
        def request(n: int) -> link.Pull:
            return link.Pull(n, step.epoch, step.event_class.value, step.after, step.limit)

        try:
            events = await self._agent.ask(request, Events)
        except ProtocolError as error:
            # The epoch is held and gone, or the agent began another one: its next word says so.
            self._log.warning("pull_refused", epoch=step.epoch, what=error.what)
            events = Events(0, (), step.after)
        self._pulled = max(self._pulled, events.n)
        self.pump.pulled(step, events.bodies, events.upto, self._clock.mono())

    async def _send(self, connection: BrokerConnection, topics: NodeTopics, step: Send) -> None:
        topic = topics.batch(step.event_class) if step.batch else topics.event(step.event_class)
        answer = asyncio.ensure_future(await connection.send(topic, step.payload))

        def delivered(done: asyncio.Future[int]) -> None:
            if not done.cancelled() and done.exception() is None:
                self.pump.delivered(step.ticket, done.result(), self._clock.mono())
                if done.result() >= FAILURE:
                    self._tell_refused(step, done.result())
                self._nudged.set()

        answer.add_done_callback(delivered)

    def _tell_refused(self, step: Send, code: int) -> None:
        self._log.warning("event_refused", event_class=step.event_class.value, code=hex(code), bytes=len(step.payload))
        for name, word in self.pump.denied.items():
            self._trouble("rights", f"the broker refuses {name} events: {word}; give {self._node()} its topic rights")

    async def _tell_unsendable(self, step: SetAside) -> None:
        """The role agent keeps or gives up what the broker will not take, and tells of it in audit."""
        name = step.event_class.value
        remedy = "raise the broker's limits to 64 KiB a message, or look at what it checks"
        self._log.error("event_unsendable", event_class=name, seq=step.seq, reason=step.reason, remedy=remedy)

        def told(n: int) -> link.Unsendable:
            return link.Unsendable(n, step.epoch, name, step.seq, step.reason)

        await self._tell(told)

    async def _tell_passed(self) -> None:
        """Where the operator lets a PUBACK end state and telemetry: say how far the broker has come."""
        while True:
            await self._clock.sleep(PASSED_EVERY)
            for epoch, name, upto in self.pump.passed():
                await self._tell(functools.partial(link.Passed, epoch=epoch, event_class=name, upto=upto))

    async def _tell(self, make: Callable[[int], Request]) -> None:
        try:
            answer = await self._agent.ask(make, HeldAnswer)
        except ProtocolError as error:
            self._log.warning("agent_refused", what=error.what)
            return
        if answer.refused:
            self._log.warning("agent_refused", what=answer.refused)
        await self._take_journals(answer.journals)

    def _out_refused(self, kind: str, code: int) -> None:
        """A result, presence or ``reported`` that the broker did not take: nobody hears it, so a person must."""
        self.dropped[kind if code < FAILURE else f"{kind}_refused"] += 1
        if code >= FAILURE:
            self._log.error("refused", kind=kind, code=hex(code), remedy=f"give {self._node()} its topic rights")
            self._trouble("rights", f"the broker refuses {kind} ({code:#x}); give {self._node()} its topic rights")

    # Inwards.

    async def _read_inbox(self, connection: BrokerConnection) -> None:
        """In the order of arrival; a message is acknowledged only when the role agent has dealt with it."""
        while True:
            (message,) = await connection.next_messages(1)
            self._progress("inbox")
            try:
                await self._take(message)
            except ProtocolError as error:
                self.dropped["refused"] += 1
                self._log.warning("message_refused", topic=message.topic, what=error.what)
            connection.ack(message)

    async def _take(self, message: Message) -> None:
        topic = parse(message.topic)
        if topic.node != self._node():
            self.dropped["foreign"] += 1
        elif topic.kind is Kind.PROBE:
            if message.payload == self._probe.encode():
                self._probed.set()
        elif topic.kind is Kind.PRESENCE:
            self._presence.heard(message)
        elif len(message.payload) > link.MAX_TOKEN_BYTES:
            self.dropped["oversized"] += 1
        elif topic.kind is Kind.ACK:
            await self._take_ack(topic, message)
        elif topic.kind is Kind.COMMAND and message.retain:
            # A kept command would be carried out again at every reconnect.
            self.dropped["retained_command"] += 1
        elif topic.kind in (Kind.COMMAND, Kind.DESIRED, Kind.ISSUERS):
            await self._offer(topic, message)
        else:
            self.dropped["unknown"] += 1

    async def _take_ack(self, topic: Topic, message: Message) -> None:
        answer = await self._agent.ask(lambda n: link.Held(n, topic.name, message.payload), HeldAnswer)
        # Also one that is refused may have shown the node that its file went back: then a new epoch has begun.
        await self._take_journals(answer.journals)
        if answer.refused:
            self.dropped[f"ack_{answer.refused}"] += 1
        self.pump.want(answer.want)

    async def _offer(self, topic: Topic, message: Message) -> None:
        answer = await self._agent.ask(
            lambda n: link.Offer(n, topic.kind.value, topic.name, message.payload), OfferAnswer
        )
        for command_id, result in answer.results:
            self._outgoing.put(Out("res", command_id, result), connected=True)

    def _node(self) -> str:
        return self._agent.welcome.node if self._agent.welcome else ""

    def _change(self, happened: LinkInput) -> None:
        self.state = after(self.state, happened)
