"""The role agent of a simulated node: a journal in memory that is numbered, chained and sealed like a real one.

It keeps what is not acknowledged, answers cloud-sync as the local socket does, and believes an ack only by its
signature. Being the other end, it is also the witness of what was produced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from edge.acks import Ack, read_ack
from edge.clock import Clock
from edge.errors import VerificationError
from edge.event import (
    BEGUN,
    GENESIS,
    SEALED,
    Draft,
    Envelope,
    EventClass,
    JournalBegun,
    JournalSealed,
    Origin,
    Stamp,
    link_hash,
    with_signature,
)
from edge.identifiers import Randomness, uuid7
from edge.identity import Identity
from edge.issuers import Issuers
from edge.keys import SigningKey
from edge.link import (
    PULL_BYTES,
    Answer,
    Events,
    Fault,
    Held,
    HeldAnswer,
    Hello,
    JournalView,
    Link,
    LinkNumber,
    Offer,
    OfferAnswer,
    Out,
    Passed,
    Pull,
    Request,
    Serving,
    Unsendable,
    Vouch,
    Wake,
    Welcome,
)

_AUDIT: Final = "audit"


class Told(msgspec.Struct, frozen=True):
    """Data of what a simulated node tells: the ``n``-th turn of a door of its own."""

    door: str
    n: int


class SimAgent:
    """``cloud_sync.ports.AgentLink``, and the node behind it. ``issuers`` lists the consumers' keys."""

    def __init__(
        self,
        identity: Identity,
        role_key: SigningKey,
        issuers: Issuers,
        consumer: str,
        clock: Clock,
        random: Randomness,
    ) -> None:
        self.identity = identity
        self.produced = 0
        """Audit events, seals among them."""
        self.acked = 0
        self.refused = 0
        """Acks that were not believed."""
        self._key = role_key
        self._issuers = issuers
        self._consumer = consumer
        self._clock = clock
        self._random = random
        self._epoch = uuid7(clock.wall(), random(10))
        self._session = uuid7(clock.wall(), random(10))
        self._origin = Origin(identity.source, self._epoch, self._session)
        self._hash = GENESIS
        self._sealed = 0
        self._link = 0
        self._kept: deque[tuple[int, bytes, str]] = deque()
        """What is not acknowledged: seq, body, hash."""
        self._pushes: asyncio.Queue[Wake | Out | Serving] = asyncio.Queue()
        self._append(BEGUN, "journal", JournalBegun("", None, "new"))
        self._seal()

    def tell(self, door: str) -> None:
        """Something happened at ``door``; it is sealed with what came before it."""
        self._append("locker.door.opened", door, Told(door, self.produced))
        self._seal()
        self._pushes.put_nowait(Wake())

    async def ask(self, make: Callable[[int], Request]) -> Answer:  # noqa: PLR0911  one for each kind of request
        request = make(0)
        match request:
            case Hello(n):
                return self._welcome(n)
            case Link(n):
                self._link += 1
                return LinkNumber(n, self._link, self._epoch)
            case Pull():
                return self._pull(request)
            case Held():
                return self._held(request)
            case Offer(n):
                return OfferAnswer(n, ())
            case Passed(n) | Unsendable(n):
                return HeldAnswer(n, "", self._views(), ())
            case Vouch(n):
                return Fault(n, "no_vouching")

    async def next_push(self) -> Wake | Out | Serving:
        return await self._pushes.get()

    async def close(self) -> None:
        """There is nothing to close."""

    def _welcome(self, n: int) -> Welcome:
        identity, views = self.identity, self._views()
        return Welcome(
            n,
            identity.tenant,
            identity.node,
            "locker",
            identity.instance,
            self._session,
            "sim",
            True,
            (self._consumer,),
            views,
        )

    def _views(self) -> tuple[JournalView, ...]:
        return (JournalView(self._epoch, {_AUDIT: (self.acked, self.produced), "state": (0, 0), "telemetry": (0, 0)}),)

    def _pull(self, request: Pull) -> Events:
        bodies: list[bytes] = []
        size, upto = 0, request.after
        if request.event_class != _AUDIT:
            return Events(request.n, (), upto)
        for seq, body, _ in self._kept:
            if seq <= request.after:
                continue
            if len(bodies) >= request.max or size + len(body) > PULL_BYTES:
                break
            bodies.append(body)
            size, upto = size + len(body), seq
        return Events(request.n, tuple(bodies), upto)

    def _held(self, request: Held) -> HeldAnswer:
        refused, want = "", tuple[tuple[str, str, int, int], ...]()
        try:
            ack = read_ack(request.token, self._issuers, self.identity, consumers=(self._consumer,), wall=None)
            self._believe(ack)
            want = tuple(ack.want)
        except VerificationError as error:
            refused = error.reason
            self.refused += 1
        return HeldAnswer(request.n, refused, self._views(), want)

    def _believe(self, ack: Ack) -> None:
        """Let go of what is held, if the hash is that of our own chain."""
        seq, link = ack.journals.get(self._epoch, {}).get(_AUDIT, (0, None))
        if seq <= self.acked:
            return
        known = next((digest for at, _, digest in self._kept if at == seq), None)
        if known is None or known != link:
            raise VerificationError("wrong_hash", "an ack of another chain", remedy="look at the collector")
        self.acked = seq
        while self._kept and self._kept[0][0] <= seq:
            self._kept.popleft()

    def _seal(self) -> None:
        self._append(SEALED, "journal", JournalSealed(self._sealed + 1, self._key.kid, {self._consumer: 1}))

    def _append(self, kind: str, subject: str, data: msgspec.Struct) -> None:
        clock = self._clock
        seq = self.produced + 1
        envelope = Envelope(self._origin, Stamp(clock.wall(), clock.mono(), clock.trusted()))
        event_id = uuid7(clock.wall(), self._random(10))
        body = envelope.encode(
            Draft(EventClass.AUDIT, kind, subject, data), event_id=event_id, seq=seq, prev=self._hash
        )
        if isinstance(data, JournalSealed):
            body = with_signature(body, self._key.sign(body))
            self._sealed = seq
        self._hash = link_hash(self._hash, body)
        self._kept.append((seq, body, self._hash.hex()))
        self.produced = seq
