"""Answers cloud-sync for any role: link numbers, events from the journal, acks, and whatever is offered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from edge.acks import read_ack
from edge.clock import Clock
from edge.command_desk import CommandDesk, Results
from edge.desired_sql import HeldDesired
from edge.errors import StoreCorrupt, VerificationError
from edge.identity import Identity
from edge.issuers import Issuers, read_issuers
from edge.journal_broker_sql import UnsendableBook, apply_puback
from edge.journal_keep_sql import apply_ack, next_link
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.keys import VerifyKey
from edge.link import (
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
    Passed,
    Pull,
    Request,
    Unsendable,
    Vouch,
    Vouched,
    Welcome,
)
from edge.schema_sql import read_fact, write_fact

T = TypeVar("T")

_ISSUERS = "issuers"


class RoleFacts(msgspec.Struct, frozen=True):
    """What this node tells of itself."""

    identity: Identity
    role: str
    software: str
    consumers: tuple[str, ...]


class HeldIssuers:
    """The issuers document in force: the newer of the configured one and the last that came by the broker."""

    def __init__(self, configured: Issuers, roots: Sequence[VerifyKey], journal: SqlJournal) -> None:
        self.now = configured
        self._roots = roots
        self._journal = journal

        self._token = b""

    async def load(self) -> None:
        """Take up what an earlier run was given, where that is newer.

        One that the present roots did not sign is left alone: the operator has pinned others since.
        """
        token = await self._journal.write(lambda transaction: read_fact(transaction.sql, _ISSUERS))
        if token is not None:
            with contextlib.suppress(VerificationError):
                self.now = read_issuers(token.encode(), self._roots, held_version=self.now.version)
                self._token = token.encode()

    async def offer(self, token: bytes) -> None:
        """Take a newer document; raises ``VerificationError`` for any other. One at a time.

        The same bytes once more, as a broker brings them at every connection, are no news.
        """
        if token == self._token:
            return
        fresh = read_issuers(token, self._roots, held_version=self.now.version)
        await self._journal.write(lambda transaction: write_fact(transaction.sql, _ISSUERS, token.decode()))
        self.now, self._token = fresh, token


class RoleLinkDesk:
    """``edge.link_socket.LinkDesk``. ``serving`` says whether the role can serve people now.

    ``desired`` is None for a role that no document changes. ``vouch`` signs with the role key that the node asks for a
    new certificate (``edge.enrolment.vouch_for``). ``puback_ends``: the broker's word ends state and telemetry.
    """

    def __init__(  # noqa: PLR0913  everything it touches is handed in
        self,
        *,
        facts: RoleFacts,
        journal: SqlJournal,
        reader: JournalReader,
        issuers: HeldIssuers,
        commands: CommandDesk,
        clock: Clock,
        serving: Callable[[], bool],
        desired: HeldDesired | None = None,
        vouch: Callable[[str], bytes] | None = None,
        puback_ends: bool = False,
    ) -> None:
        self._facts = facts
        self._journal = journal
        self._reader = reader
        self._issuers = issuers
        self._desired = desired
        self._commands = commands
        self._clock = clock
        self._serving = serving
        self._vouch = vouch
        self._puback_ends = puback_ends
        self._unsendable = UnsendableBook()
        self._one_offer = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self.receipt_at: float | None = None
        """Monotonic seconds when a consumer's signed receipt last came, None for never in this run."""
        self.refused: dict[str, int] = {}
        """Acks and documents that were not believed, by reason."""

    def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()

    async def answer(self, request: Request) -> Answer:
        match request:
            case Hello(n):
                answer: Answer = await self._welcome(n)
            case Link(n):
                answer = await self._link(n)
            case Pull(n, epoch, event_class, after, most):
                pulled = await self._in_thread(lambda: self._reader.pull(epoch, event_class, after, most))
                answer = Events(n, pulled.bodies, pulled.upto)
            case Held():
                answer = await self._held(request)
            case Passed() | Unsendable():
                answer = await self._held_answer(request.n, await self._heed_broker(request), ())
            case Offer():
                answer = await self._offer(request)
            case Vouch(n, digest):
                answer = Vouched(n, self._vouch(digest)) if self._vouch else Fault(n, "no_vouching")
        return answer

    async def _welcome(self, n: int) -> Welcome:
        facts, identity = self._facts, self._facts.identity
        if self._desired is not None:
            self._desired.report_again()
        return Welcome(
            n=n,
            tenant=identity.tenant,
            node=identity.node,
            role=facts.role,
            instance=identity.instance,
            session=self._journal.session,
            software=facts.software,
            serving=self._serving(),
            consumers=facts.consumers,
            journals=await self._views(),
        )

    async def _link(self, n: int) -> LinkNumber:
        def work(transaction: SqlTransaction) -> LinkNumber:
            epoch = transaction.head.epoch
            return LinkNumber(n, next_link(transaction, epoch), epoch)

        return await self._journal.write(work)

    async def _held(self, request: Held) -> HeldAnswer:
        facts, clock = self._facts, self._clock
        wall = clock.wall() if clock.trusted() else None
        try:
            ack = read_ack(request.token, self._issuers.now, facts.identity, consumers=facts.consumers, wall=wall)
        except VerificationError as error:
            return await self._held_answer(request.n, error.reason, ())
        outcome = await self._journal.write(lambda transaction: apply_ack(transaction, ack.iss, ack))
        if not outcome.refused:
            self.receipt_at = clock.mono()
        return await self._held_answer(request.n, outcome.refused, outcome.want)

    async def _heed_broker(self, request: Passed | Unsendable) -> str:
        """What the broker did, by cloud-sync's word; "" or the reason word of a refusal."""
        if isinstance(request, Unsendable):
            return await self._journal.write(lambda transaction: self._unsendable.note(transaction, request))
        if not self._puback_ends:
            return "receipts_only"
        return await self._journal.write(lambda transaction: apply_puback(transaction, request))

    async def _held_answer(self, n: int, refused: str, want: tuple[tuple[str, str, int, int], ...]) -> HeldAnswer:
        if refused:
            self._count(refused)
        return HeldAnswer(n, refused, await self._views(), want)

    async def _offer(self, request: Offer) -> OfferAnswer:
        async with self._one_offer:
            return OfferAnswer(request.n, await self._take(request))

    async def _take(self, request: Offer) -> Results:
        if request.kind == "cmd":
            return await self._commands.offer(request.token, self._issuers.now)
        try:
            await self._take_document(request)
        except VerificationError as error:
            self._count(error.reason)
        return ()

    async def _take_document(self, request: Offer) -> None:
        if request.kind == "desired" and self._desired is not None:
            await self._desired.offer(request.token)
        elif request.kind == _ISSUERS:
            await self._issuers.offer(request.token)
            if self._desired is not None:
                await self._desired.report_news()
        else:
            self._count("unknown_kind")

    async def _views(self) -> tuple[JournalView, ...]:
        return await self._in_thread(self._reader.views)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except StoreCorrupt as damage:
            self._journal.condemn(damage)
            raise

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1
