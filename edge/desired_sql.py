"""The ``desired`` document in force, and the signed word, ``reported``, on what the node does of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from edge.clock import Clock
from edge.contract import desired_applied, desired_refused
from edge.document import Desired, RefusedMember, Reported, read_desired, sign_reported
from edge.identity import Identity
from edge.issuers import Issuers
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.keys import SigningKey
from edge.schema_sql import read_fact, write_fact

_DESIRED = "desired"
_REPORTED = "reported_version"

MAX_REFUSED = 32
"""Members of one document that are told as refused: whoever mends these hears of the others, and a word on thousands
would not fit what the node may sign."""


class Subject(Protocol):
    """The role, as far as a document changes it. Neither method may fail for what a document says."""

    def refusals(self, body: Mapping[str, Any]) -> tuple[RefusedMember, ...]:
        """The members of ``body`` that this node cannot have; none when all of it can be done."""
        ...

    def apply(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what the members that can be had say, at once; returns them as they are now in force."""
        ...


class _Held(msgspec.Struct, frozen=True):
    version: int
    digest: str
    body: dict[str, Any]


class HeldDesired:
    """One per role agent. ``push`` publishes what ``report`` has signed; ``issuers`` is the edition in force."""

    def __init__(
        self,
        *,
        identity: Identity,
        software: str,
        role_key: SigningKey,
        journal: SqlJournal,
        clock: Clock,
        subject: Subject,
        issuers: Callable[[], Issuers],
        push: Callable[[bytes], None],
    ) -> None:
        self._identity = identity
        self._software = software
        self._role_key = role_key
        self._journal = journal
        self._clock = clock
        self._subject = subject
        self._issuers = issuers
        self._push = push
        self._held = _Held(0, "", {})
        self._applied: Mapping[str, Any] = {}
        self._refused_version = 0
        self._refused_digest = ""
        self._refused: tuple[RefusedMember, ...] = ()
        self._reported = b""
        self._told = ("", "", 0)
        """What the last word was about; see ``_standing``."""

    @property
    def version(self) -> int:
        return self._held.version

    async def load(self) -> None:
        """Take up what an earlier run was given. What the configuration has made impossible since is left out."""
        kept = await self._journal.write(lambda transaction: read_fact(transaction.sql, _DESIRED))
        if kept is not None:
            self._held = msgspec.json.decode(kept, type=_Held)
            self._refused = self._subject.refusals(self._held.body)[:MAX_REFUSED]
            self._applied = self._subject.apply(self._held.body)
        self._told = self._standing()

    async def offer(self, token: bytes) -> None:
        """Take a newer document, whole or not at all. Raises ``VerificationError`` for any other. One at a time.

        The same bytes once more, as a broker brings them at every connection, are no news, unless the disk took the
        document and not the word on it.
        """
        digest = hashlib.sha256(token).hexdigest()
        if digest in {self._held.digest, self._refused_digest}:
            await self.report_news()
            return
        clock = self._clock
        desired = read_desired(
            token,
            self._issuers(),
            self._identity,
            held_version=self._held.version,
            wall=clock.wall() if clock.trusted() else None,
        )
        refused = self._subject.refusals(desired.body)[:MAX_REFUSED]
        if refused:
            await self._refuse(desired, digest, refused)
        else:
            await self._take(desired, digest)
        await self.report()

    async def report_news(self) -> None:
        """Report, unless the last word was about the same documents."""
        if self._standing() != self._told:
            await self.report()

    async def report(self) -> None:
        """Sign and publish how things stand: at start, and whenever something has changed."""
        standing = self._standing()
        version = await self._journal.write(lambda transaction: _next_version(transaction, self._clock.wall()))
        reported = Reported(
            iss=self._identity.audience,
            version=version,
            iat=int(self._clock.wall()),
            software=self._software,
            desired_version=self._held.version,
            issuers_version=self._issuers().version,
            applied=dict(self._applied),
            refused_version=self._refused_version,
            refused=self._refused,
        )
        self._reported = sign_reported(reported, self._role_key)
        self._push(self._reported)
        self._told = standing

    def report_again(self) -> None:
        """Say the same to one who has just come, and knows nothing yet."""
        if self._reported:
            self._push(self._reported)

    def _standing(self) -> tuple[str, str, int]:
        """The documents that are in force or were refused: digests, and the issuers' version."""
        return self._held.digest, self._refused_digest, self._issuers().version

    async def _take(self, desired: Desired, digest: str) -> None:
        held = _Held(desired.version, digest, desired.body)

        def work(transaction: SqlTransaction) -> None:
            write_fact(transaction.sql, _DESIRED, msgspec.json.encode(held).decode())
            transaction.append(desired_applied(version=desired.version, issuer=desired.iss))

        await self._journal.write(work)
        self._held = held
        self._applied = self._subject.apply(desired.body)
        self._refused_version, self._refused_digest, self._refused = 0, "", ()

    async def _refuse(self, desired: Desired, digest: str, refused: tuple[RefusedMember, ...]) -> None:
        event = desired_refused(version=desired.version, issuer=desired.iss, refused=refused)
        await self._journal.write(lambda transaction: transaction.append(event))
        self._refused_version, self._refused_digest, self._refused = desired.version, digest, refused


def _next_version(transaction: SqlTransaction, wall: float) -> int:
    """Above the last one; and not below the time, so that it goes on rising where a database was lost."""
    version = max(int(read_fact(transaction.sql, _REPORTED) or 0) + 1, int(wall))
    write_fact(transaction.sql, _REPORTED, str(version))
    return version
