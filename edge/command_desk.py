"""Takes signed commands for a role: known ones are answered again, new ones admitted, done once, answered signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from edge.clock import Clock
from edge.command import NONCE_RULES, Command, NonceArgs, Present, Rule, admit, read_command
from edge.contract import decided
from edge.errors import VerificationError
from edge.event import Draft
from edge.identity import Identity
from edge.issuers import Issuers
from edge.keys import SigningKey
from edge.nonce import NonceBook
from edge.result import Result, Status, sign_result

Results = tuple[tuple[str, bytes], ...]
"""(command id, signed result), to be published on ``res/{id}``."""


class Known(msgspec.Struct, frozen=True):
    """A command that was taken before, and the signed answer it last got."""

    jti: str
    digest: str
    issuer: str
    name: str
    subject: str
    result: bytes


class _Asked(msgspec.Struct, frozen=True):
    """What answer and event tell of a command."""

    jti: str
    issuer: str
    name: str
    subject: str
    cosigner: str = ""


class Inbox(Protocol):
    """Where taken commands are kept; ``edge.inbox_sql`` keeps them in the node's database."""

    async def find(self, jti: str) -> Known | None: ...

    async def held_rev(self, subject: str) -> int:
        """The highest revision seen for a booking, 0 for none."""
        ...

    async def reject(self, command: Command, result: bytes, event: Draft, *, seen: bool) -> None:
        """Keep a command that was refused, and the event that tells of it.

        ``seen``: it was the role that refused it, so its revision is spent and no older one is done after it.
        """
        ...

    def take(self, transaction: Any, command: Command, status: Status, result: bytes, event: Draft) -> None:
        """Within a transaction of the role: the command is accepted or already done, its ``jti`` and ``rev`` spent."""
        ...

    async def finish(self, jti: str, status: Status, result: bytes, event: Draft) -> None: ...

    async def unfinished(self) -> list[Known]:
        """Commands that were accepted and whose outcome was never told."""
        ...


UNENTITLED = frozenset(
    {
        "unknown_command",
        "revoked_key",
        "key_expired",
        "key_not_yet_valid",
        "wrong_scope",
        "wrong_node",
        "wrong_persons",
        "same_person",
    }
)
"""Refusals that say nothing of the command, only that its signers may not send it: counted and answered, not kept.

The last two because a broker can bring a command of two persons with one signature, and must not use up its id.
"""


class Take(Protocol):
    """Spends the command in the role's own transaction, before anything moves.

    ``status`` is ``DONE`` where that transaction is all there is to do; then ``Ended`` is not called.
    """

    def __call__(self, transaction: Any, status: Status = Status.ACCEPTED) -> None: ...


Ended = Callable[[Status, str], Awaitable[None]]
Act = Callable[[Command, msgspec.Struct, Take, Ended], Awaitable[None]]
"""Does an admitted command: calls ``take`` in the transaction before anything moves, ``ended`` when it is over.

Raises ``VerificationError`` when the role's own rules refuse it; then nothing was done.
"""


class CommandDesk:
    """One per role agent.

    ``acts`` has what each command does, ``rules`` what it must carry; ``send`` publishes a late result. ``passed``
    tells the wall seconds that have surely gone by, also while the clock is not trusted.
    """

    def __init__(  # noqa: PLR0913  everything it touches is handed in
        self,
        *,
        identity: Identity,
        session: str,
        role_key: SigningKey,
        clock: Clock,
        nonces: NonceBook,
        inbox: Inbox,
        rules: Mapping[str, Rule],
        acts: Mapping[str, Act],
        send: Callable[[str, bytes], None],
        passed: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._identity = identity
        self._session = session
        self._role_key = role_key
        self._clock = clock
        self._nonces = nonces
        self._inbox = inbox
        self._rules = {**NONCE_RULES, **rules}
        self._acts = acts
        self._send = send
        self._passed = passed
        self.refused: dict[str, int] = {}
        """Tokens that were not even commands for this node, by reason: counted, never answered."""

    async def offer(self, token: bytes, issuers: Issuers) -> Results:
        """What to publish for ``token``, committed; nothing for what is no command of a listed issuer to this node.

        One at a time: two deliveries of one command must not both find that it is new.
        """
        try:
            command = read_command(token, issuers, self._identity)
        except VerificationError as error:
            self._count(error.reason)
            return ()
        known = await self._inbox.find(command.claims.jti)
        if known is not None:
            return self._answer_again(command, known)
        try:
            args = await self._admit(command, issuers)
            if isinstance(args, NonceArgs):
                return ((command.claims.jti, self._nonce(command, args)),)
        except VerificationError as error:
            return await self._reject(command, error.reason, seen=False)
        try:
            return await self._do(command, args)
        except VerificationError as error:
            return await self._reject(command, error.reason, seen=True)

    async def recover(self, outcome: Callable[[str], Awaitable[Status]]) -> None:
        """After a crash: give every command without outcome the one that ``outcome(jti)`` found out."""
        for known in await self._inbox.unfinished():
            await self._finish(_Asked(known.jti, known.issuer, known.name, known.subject), await outcome(known.jti), "")

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _answer_again(self, command: Command, known: Known) -> Results:
        """A repeat hears what became of the first; another command under the same id hears nothing of it."""
        if known.digest == command.digest:
            return ((command.claims.jti, known.result),)
        return ((command.claims.jti, self._result(_asked(command), Status.REJECTED, "id_used")),)

    async def _admit(self, command: Command, issuers: Issuers) -> msgspec.Struct:
        clock, claims = self._clock, command.claims
        present = Present(
            session=self._session,
            mono=clock.mono(),
            wall=clock.wall() if clock.trusted() else None,
            passed=self._passed(),
            held_rev=await self._inbox.held_rev(claims.subject) if claims.rev is not None else 0,
        )
        return admit(command, self._rules, issuers, self._identity.node, present=present, nonces=self._nonces)

    def _nonce(self, command: Command, args: NonceArgs) -> bytes:
        subject = command.claims.subject
        nonce = self._nonces.issue(command.kid, args.name, subject, args.request, self._clock.mono())
        return self._result(_asked(command), Status.DONE, "", {"nonce": nonce})

    async def _do(self, command: Command, args: msgspec.Struct) -> Results:
        asked = _asked(command)
        answer = self._result(asked, Status.ACCEPTED, "")

        def take(transaction: Any, status: Status = Status.ACCEPTED) -> None:
            nonlocal answer
            if status is not Status.ACCEPTED:
                answer = self._result(asked, status, "")
            self._inbox.take(transaction, command, status, answer, _event(asked, status, ""))

        async def ended(status: Status, reason: str) -> None:
            await self._finish(asked, status, reason)

        await self._acts[command.claims.name](command, args, take, ended)
        return ((asked.jti, answer),)

    async def _finish(self, asked: _Asked, status: Status, reason: str) -> None:
        final = self._result(asked, status, reason)
        await self._inbox.finish(asked.jti, status, final, _event(asked, status, reason))
        self._send(asked.jti, final)

    async def _reject(self, command: Command, reason: str, *, seen: bool) -> Results:
        asked = _asked(command)
        result = self._result(asked, Status.REJECTED, reason)
        if reason in UNENTITLED:
            # A revoked or foreign key gets no row for each try: it could fill the disk.
            self._count(reason)
        else:
            await self._inbox.reject(command, result, _event(asked, Status.REJECTED, reason), seen=seen)
        return ((asked.jti, result),)

    def _result(self, asked: _Asked, status: Status, reason: str, data: dict[str, str] | None = None) -> bytes:
        result = Result(
            iss=self._identity.audience,
            aud=asked.issuer,
            id=asked.jti,
            status=status,
            iat=int(self._clock.wall()),
            reason=reason,
            data=data or {},
        )
        return sign_result(result, self._role_key)


def _asked(command: Command) -> _Asked:
    claims = command.claims
    return _Asked(claims.jti, claims.iss, claims.name, claims.subject, command.cosigner)


def _event(asked: _Asked, status: Status, reason: str) -> Draft:
    return decided(
        command=asked.jti,
        name=asked.name,
        issuer=asked.issuer,
        cosigner=asked.cosigner,
        target=asked.subject,
        status=status.value,
        reason=reason,
    )
