"""The machine: everything that can befall an event between ``append`` and a signed ack, in any order."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud_sync.topics import NodeTopics
from edge.acks import Ack, sign_ack
from edge.event import Draft, EventClass
from edge.journal_read_sql import JournalReader
from tests.conservation.faulty_broker import FaultyBroker
from tests.conservation.model import CLASSES, Holdings, Model
from tests.conservation.quiet import QuietClock, QuietLoop
from tests.conservation.world import CONSUMERS, KEYS, Carrier, Consumer, Files, RoleAgent
from tests.edge.trust import NODE

MEMORY = Path("/dev/shm")
"""Where it exists, the files lie there: what is killed here are processes, never the power."""
HEAL_STEP_S = 5.0
HEAL_LIMIT_S = 1200.0
"""Repeats double from 30 s each time they bring nothing; in the time a run can last they reach ten minutes."""
ANCHOR_S = 11.0
"""Within this time the anchor has followed the journal in every class; an older copy is noticed from then on."""

TOPICS = NodeTopics(NODE.tenant, NODE.node)
events = st.lists(st.tuples(st.sampled_from(EventClass), st.sampled_from(("1", "2", "3"))), min_size=1, max_size=6)
consumers = st.sampled_from(CONSUMERS)


class WholeWay(RuleBasedStateMachine):
    """Journal, socket, pump, broker and two consumers against ``Model``."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuietLoop()
        self.home = Path(tempfile.mkdtemp(prefix="lm-", dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = QuietClock()
        rng = random.Random(11)
        socket = self.home / "role.sock"
        self.broker = FaultyBroker()
        self.agent = RoleAgent(self.home, socket, self.clock, rng)
        self.carrier = Carrier(socket, self.broker, self.clock, rng)
        self.consumers = {name: Consumer(name, self.home, self.broker, self.clock, rng) for name in CONSUMERS}
        self.model = Model()
        self.numbers = itertools.count(1)
        self.node_copy: Files = {}
        self.consumer_copies: dict[str, Files] = {}
        self.sound = True

    def play(self, story: Coroutine[Any, Any, None]) -> None:
        """Run ``story`` until it and all that it set off have come to rest."""

        async def whole() -> None:
            await story
            await self.loop.quiet()
            self.model.learn(self.agent)

        try:
            self.loop.run_until_complete(whole())
        except BaseException:
            self.sound = False
            raise

    def drafts(self, wanted: list[tuple[EventClass, str]]) -> tuple[list[Draft], list[int]]:
        numbers = [next(self.numbers) for _ in wanted]
        return [
            Draft(event_class, "locker.door.state", f"door-{subject}", {"n": number})
            for (event_class, subject), number in zip(wanted, numbers, strict=True)
        ], numbers

    @initialize()
    def begin(self) -> None:
        self.play(self._begin())

    async def _begin(self) -> None:
        await self.agent.start()
        for consumer in self.consumers.values():
            await consumer.start()
        await self.carrier.start()
        await self.clock.advance(1.0)

    # What the node does.

    @rule(wanted=events)
    def append(self, wanted: list[tuple[EventClass, str]]) -> None:
        self.play(self._append(wanted))

    @rule(event_class=st.sampled_from(EventClass), count=st.sampled_from((20, 70)))
    def append_many(self, event_class: EventClass, count: int) -> None:
        """Enough for a batch, and for a seal that no clock asked for."""
        self.play(self._append([(event_class, "1")] * count))

    async def _append(self, wanted: list[tuple[EventClass, str]]) -> None:
        drafts, numbers = self.drafts(wanted)
        await asyncio.gather(*(self.agent.journal.append(draft) for draft in drafts))
        self.model.tell(numbers)

    @rule()
    def thin(self) -> None:
        self.play(self.agent.thin())

    @rule(unheard=events, turns=st.integers(0, 60))
    def kill_agent(self, unheard: list[tuple[EventClass, str]], turns: int) -> None:
        self.play(self._kill_agent(unheard, turns))

    async def _kill_agent(self, unheard: list[tuple[EventClass, str]], turns: int) -> None:
        drafts, numbers = self.drafts(unheard)
        files, told = await self.agent.kill(drafts, turns)
        self.model.tell(numbers[:told])
        await self.agent.start(files)

    @rule()
    def copy_node(self) -> None:
        self.play(self._copy_node())

    async def _copy_node(self) -> None:
        await self.loop.quiet()
        self.node_copy = self.agent.files()

    @precondition(lambda self: self.node_copy)
    @rule()
    def put_an_older_copy_of_the_node_back(self) -> None:
        self.play(self._roll_back())

    async def _roll_back(self) -> None:
        await self.clock.advance(ANCHOR_S)
        self.model.learn(self.agent)
        files, _ = await self.agent.kill()
        anchor = {name: content for name, content in files.items() if name.endswith(".anchor")}
        await self.agent.start(self.node_copy | anchor)
        self.model.node_went_back(self.agent)

    # What befalls the way.

    @rule(seconds=st.sampled_from((0.3, 1.0, 3.0, 12.0, 40.0)))
    def let_time_pass(self, seconds: float) -> None:
        self.play(self.clock.advance(seconds))

    @precondition(lambda self: self.broker.up)
    @rule(forget=st.booleans())
    def cut_the_broker(self, forget: bool) -> None:
        self.play(self._cut(forget=forget))

    async def _cut(self, *, forget: bool) -> None:
        self.broker.cut(forget=forget)

    @precondition(lambda self: not self.broker.up)
    @rule()
    def restore_the_broker(self) -> None:
        self.broker.restore()

    @rule(fault=st.sampled_from(("lose", "double", "swap", "mute")), count=st.integers(1, 5))
    def befall_the_next_messages(self, fault: str, count: int) -> None:
        setattr(self.broker.faults, fault, count)

    @rule()
    def kill_cloud_sync(self) -> None:
        self.play(self._restart_carrier())

    async def _restart_carrier(self) -> None:
        await self.carrier.stop()
        await self.carrier.start()

    @rule(which=st.integers(0, 1000))
    def deliver_an_old_ack_again(self, which: int) -> None:
        # No precondition: whether a collector has signed by now is a matter of threads, and an example must be the same
        # when it is played again.
        if self.broker.acks:
            self.play(self._publish(*self.broker.acks[which % len(self.broker.acks)]))

    @rule(name=consumers)
    def sign_for_another_history(self, name: str) -> None:
        """A consumer whose file was damaged: its key is the right one, its hash is not."""
        epoch, last = self.agent.journal.head.epoch, self.agent.journal.head.audit
        token = sign_ack(Ack(name, NODE.audience, {epoch: {"audit": (last, "0" * 64)}}), KEYS[name])
        self.play(self._publish(TOPICS.ack(name), token))

    async def _publish(self, topic: str, payload: bytes) -> None:
        self.broker.publish(topic, payload, qos=1)

    # What befalls a consumer.

    @rule(name=consumers)
    def stop_a_consumer(self, name: str) -> None:
        self.play(self.consumers[name].stop())

    @rule(name=consumers)
    def start_a_consumer(self, name: str) -> None:
        self.play(self._restart_consumer(name))

    async def _restart_consumer(self, name: str) -> None:
        await self.consumers[name].stop()
        await self.consumers[name].start()

    @rule(name=consumers)
    def copy_a_consumer(self, name: str) -> None:
        self.consumer_copies[name] = self.consumers[name].copy()

    @precondition(lambda self: self.consumer_copies)
    @rule(name=consumers)
    def put_an_older_copy_of_a_consumer_back(self, name: str) -> None:
        if name in self.consumer_copies:
            self.play(self._consumer_goes_back(name))

    async def _consumer_goes_back(self, name: str) -> None:
        consumer = self.consumers[name]
        await consumer.stop()
        before = Holdings(consumer)
        await consumer.go_back_to(self.consumer_copies[name])
        self.model.consumer_went_back(name, before, Holdings(consumer))

    # What must hold.

    @invariant()
    def nobody_believes_more_than_is_held(self) -> None:
        if not self.agent.alive:
            return
        parts: list[RoleAgent | Carrier | Consumer] = [self.agent, self.carrier, *self.consumers.values()]
        for part in parts:
            part.require_alive()
        held = {name: Holdings(consumer) for name, consumer in self.consumers.items()}
        for name, holdings in held.items():
            self.model.check_consumer(name, holdings)
        self.model.check_cursors(self.agent, held)

    def teardown(self) -> None:
        try:
            if self.sound and self.agent.alive:
                self.play(self._heal())
                self.nobody_believes_more_than_is_held()
                self._require_all_held()
        finally:
            self.loop.run_until_complete(self._stop())
            self.loop.close()
            shutil.rmtree(self.home)

    async def _heal(self) -> None:
        """End every fault, tell one more event of each class, and give the parts time to find out what they lack."""
        self.broker.calm()
        for name, consumer in self.consumers.items():
            if not consumer.running:
                await self._restart_consumer(name)
        await self._append([(event_class, "1") for event_class in EventClass])
        await self.loop.quiet()
        self.model.learn(self.agent)
        for _ in range(int(HEAL_LIMIT_S / HEAL_STEP_S)):
            await self.clock.advance(HEAL_STEP_S)
            if self._all_acknowledged():
                return

    def _all_acknowledged(self) -> bool:
        reader = JournalReader(self.agent.database, NODE.source, "", self.clock)
        try:
            views = reader.views()
        finally:
            reader.close()
        return len(views) == 1 and all(views[0].classes[name][0] == views[0].classes[name][1] for name in CLASSES)

    def _require_all_held(self) -> None:
        for name, consumer in self.consumers.items():
            self.model.check_end(name, Holdings(consumer), self.agent)
        assert self._all_acknowledged(), "something is left unacknowledged"

    async def _stop(self) -> None:
        await self.carrier.stop()
        for consumer in self.consumers.values():
            await consumer.stop()
        if self.agent.alive:
            await self.agent.stop()
        await self.loop.shutdown_default_executor()
