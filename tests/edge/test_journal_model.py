"""The journal against a simple model: whatever is done in whatever order, what was told to be durable is there."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge.acks import Ack
from edge.event import DROPPED, EventClass, EventsDropped, decode
from edge.journal import Limits
from edge.journal_keep_sql import apply_ack, delete_acknowledged, thin
from edge.journal_sql import SqlJournal, SqlTransaction
from tests.edge.journal_rig import AUDIT, STATE, TELEMETRY, Store, append, draft
from tests.edge.trust import NODE

T = TypeVar("T")
CLASSES = st.sampled_from(EventClass)
SHORT = settings(max_examples=40, stateful_step_count=40, deadline=None)
LONG = settings(max_examples=1500, stateful_step_count=80, deadline=None)
TIGHT = Limits(max_bytes=0, audit_s=60.0, reserve_bytes=0)


class Refusal(Exception):
    """A caller's own reason to undo its work."""


class JournalMachine(RuleBasedStateMachine):
    """One node and one consumer. ``durable``: what callers were told is on the disk, per class and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp())
        (self.root / "node").mkdir()
        self.store = Store(self.root / "node")
        self.copies = 0
        self.next = 0
        self.durable: dict[EventClass, list[int]] = {each: [] for each in EventClass}
        self.held: dict[EventClass, dict[int, bytes]] = {each: {} for each in EventClass}
        self.gone: dict[EventClass, set[int]] = {each: set() for each in EventClass}
        self.acked = dict.fromkeys(EventClass, 0)
        self.journal: SqlJournal

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def open(self) -> None:
        self.journal = self.store.open().journal
        self.journal.start()

    @initialize()
    def begin(self) -> None:
        self.run(self.open())

    def numbers(self, many: int) -> list[int]:
        self.next += many
        return list(range(self.next - many, self.next))

    @rule(event_class=CLASSES, many=st.sampled_from([1, 2, 70]), subject=st.sampled_from("ab"))
    def append(self, event_class: EventClass, many: int, subject: str) -> None:
        numbers = self.numbers(many)
        self.run(append(self.journal, *numbers, event_class=event_class, subject=subject))
        self.durable[event_class] += numbers

    @rule(classes=st.lists(CLASSES, min_size=1, max_size=4), refuse=st.booleans(), beside=st.booleans())
    def work(self, classes: list[EventClass], refuse: bool, beside: bool) -> None:
        numbers, (lone,) = self.numbers(len(classes)), self.numbers(1)

        def work(transaction: SqlTransaction) -> None:
            for number, event_class in zip(numbers, classes, strict=True):
                transaction.append(draft(number, event_class))
            if refuse:
                raise Refusal

        async def both() -> list[BaseException | None]:
            waiting = [self.journal.write(work)]
            waiting += [self.journal.append(draft(lone))] if beside else []
            return await asyncio.gather(*waiting, return_exceptions=True)

        first, *_ = self.run(both())
        assert isinstance(first, Refusal) == refuse
        for number, event_class in zip(numbers, classes, strict=True):
            self.durable[event_class] += [] if refuse else [number]
        self.durable[AUDIT] += [lone] if beside else []

    @rule(seconds=st.sampled_from([0.5, 2.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        async def sealed() -> None:
            await self.store.clock.advance(seconds)
            await self.journal.seal_if_due()

        self.run(sealed())
        if seconds >= 2.0:
            assert self.journal.head.unsealed == 0

    @rule()
    def restart(self) -> None:
        self.run(self.journal.close())
        self.run(self.open())

    @rule(pending=st.integers(0, 3))
    def kill(self, pending: int) -> None:
        """What nobody was told is durable may be lost; here it is, because the writer had not begun."""

        async def cut() -> Path:
            for number in self.numbers(pending):
                self.journal.append(draft(number)).add_done_callback(lambda done: done.exception())
            self.copies += 1
            return self.store.copy(f"killed-{self.copies}")

        copy = self.run(cut())
        self.run(self.journal.close())
        self.store.put_back(copy)
        self.run(self.open())

    @rule(event_class=CLASSES, most=st.sampled_from([1, 7, 500]))
    def pull(self, event_class: EventClass, most: int) -> None:
        """The consumer reads all that follows what it has acknowledged."""
        with self.store.reader() as reader:
            after = self.acked[event_class]
            while (pulled := reader.pull(self.journal.head.epoch, event_class.value, after, most)).bodies:
                for body in pulled.bodies:
                    self.take(event_class, body)
                after = pulled.upto

    def take(self, event_class: EventClass, body: bytes) -> None:
        event = decode(body)
        if event.type == DROPPED:
            gap = msgspec.json.decode(event.data, type=EventsDropped)
            self.gone[event_class] |= set(range(gap.first, gap.last + 1))
        else:
            assert self.held[event_class].setdefault(event.seq, body) == body, "one number, one event"

    @precondition(lambda self: any(self.held.values()))
    @rule(event_class=CLASSES)
    def acknowledge(self, event_class: EventClass) -> None:
        """As far as the consumer holds all numbers, or knows them to be gone."""
        upto = self.acked[event_class]
        while upto + 1 in self.held[event_class] or upto + 1 in self.gone[event_class]:
            upto += 1
        with self.store.reader() as reader:
            hashes = {seq: digest.hex() for _, seq, _, digest in reader.audit()} if event_class is AUDIT else {}
        claim = (upto, hashes.get(upto) if upto else None)
        word = Ack("hub", NODE.audience, {self.journal.head.epoch: {event_class.value: claim}})
        assert self.run(self._write(lambda t: apply_ack(t, "hub", word))).refused == ""
        self.acked[event_class] = upto

    @rule()
    def delete(self) -> None:
        self.run(self._write(lambda t: delete_acknowledged(t, TIGHT)))

    @rule()
    def thin(self) -> None:
        self.run(self._write(lambda t: thin(t, TIGHT)))

    async def _write(self, work: Any) -> Any:
        return await self.journal.write(work)

    @invariant()
    def everything_is_accounted_for(self) -> None:
        """Rows, ranges and what was acknowledged make up all numbers that were ever given; nothing is there twice."""
        if not hasattr(self, "journal"):
            return
        events = self.store.events()
        self.account(AUDIT, {event.seq for event in events}, set())
        assert self.kept_numbers(AUDIT, [bytes(event.data) for event in events]) is not None
        for event_class in (STATE, TELEMETRY):
            rows, gaps = self.run(self._write(lambda t, kind=event_class: _stored(t, kind)))
            self.account(event_class, set(rows), gaps)
            assert self.kept_numbers(event_class, [bytes(decode(body).data) for body in rows.values()]) is not None

    def account(self, event_class: EventClass, rows: set[int], gaps: set[int]) -> None:
        last = self.journal.head.last[list(EventClass).index(event_class)]
        assert not rows & gaps
        assert rows | gaps | set(range(1, self.acked[event_class] + 1)) == set(range(1, last + 1))
        if event_class is AUDIT:
            assert gaps == set()

    def kept_numbers(self, event_class: EventClass, datas: list[bytes]) -> list[int]:
        """What the rows tell, in order, must be a part of what callers were told, in that order."""
        numbers = [told["n"] for told in map(msgspec.json.decode, datas) if "n" in told]
        durable = iter(self.durable[event_class])
        assert all(number in durable for number in numbers), "in the order in which they were told"
        if event_class is AUDIT and not self.acked[AUDIT]:
            assert numbers == self.durable[AUDIT]
        return numbers

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.run(self.journal.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


def _stored(transaction: SqlTransaction, event_class: EventClass) -> tuple[dict[int, bytes], set[int]]:
    kind = list(EventClass).index(event_class)
    rows = transaction.sql.execute("SELECT seq, body FROM event WHERE class = ? ORDER BY place", (kind,)).fetchall()
    spans = transaction.sql.execute("SELECT first, last FROM gap WHERE class = ?", (kind,)).fetchall()
    return dict(rows), {n for first, last in spans for n in range(first, last + 1)}


@pytest.mark.timeout(120)
def test_the_journal_does_what_its_model_does() -> None:
    run_state_machine_as_test(JournalMachine, settings=SHORT)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_journal_does_what_its_model_does_for_a_long_time() -> None:
    run_state_machine_as_test(JournalMachine, settings=LONG)
