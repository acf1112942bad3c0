"""An issuer at work: signs a command once, puts it into the outbox, and waits for the node's own signed word."""

from __future__ import annotations

import asyncio
import contextlib
import random as chance
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agents.cloud_sync import broker_settings
from agents.settings import IssuerSettings
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.collector import Node, load_nodes
from cloud_sync.outbox import Outcome, entry_of
from cloud_sync.outbox_asyncio import Outbox
from cloud_sync.outbox_sql import OutboxStore, undecided
from edge.claims import claims_as
from edge.clock import Clock
from edge.command import Claims, Rule, sign_command, sign_first
from edge.errors import ConfigError, LastmileError, VerificationError
from edge.identifiers import Randomness, uuid7
from edge.keys import SigningKey
from edge.keys_file import read_signing_key, read_verify_key
from edge.result import Result, Status
from locker.commands import COMMANDS

PRESENCE_S = 10.0
"""For the broker's retained copy of the node's presence, which comes at once."""
ANSWER_S = 15.0
"""For a nonce: a mobile link's worst round trip, several times over."""
OUTCOME_S = 45.0
"""For the last word: a mobile link's round trip, and three pulses at a door, which take 6 s."""
DAY_S = 86_400


class Say(Protocol):
    """Hears how far it has got: a word for the step and what there is to tell of it."""

    def __call__(self, step: str, **facts: object) -> None: ...


class NoAnswer(LastmileError):
    """The node did not answer in time. What became of a command that is signed already is asked for by its id."""


class Refused(LastmileError):
    """The node refused the question that comes before a command; nothing was signed that could move anything."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.status.value}: {result.reason}", remedy="look at the issuer's rights")
        self.result = result


class Issuer(msgspec.Struct, frozen=True):
    """Who signs, and for which nodes."""

    name: str
    key: SigningKey
    nodes: dict[str, Node]

    def node(self, name: str) -> Node:
        """Raises ``ConfigError`` when it is not one of the configured ones."""
        if name not in self.nodes:
            raise ConfigError(
                f"no node {name!r} in the issuer's file", remedy="add it under [[nodes]] with its role key"
            )
        return self.nodes[name]


def read_issuer(settings: IssuerSettings, base: Path) -> Issuer:
    """The issuer of the file, with the keys it names. Raises ``ConfigError``."""
    nodes = load_nodes(
        (each.tenant, f"{each.tenant}_{each.name}", [read_verify_key(base / each.role_key)]) for each in settings.nodes
    )
    return Issuer(settings.name, read_signing_key(base / settings.key), nodes)


class Desk:
    """Where one issuer signs, each command once."""

    def __init__(
        self,
        issuer: Issuer,
        outbox: Outbox,
        store: OutboxStore,
        clock: Clock,
        random: Randomness,
        say: Say,
    ) -> None:
        self._issuer = issuer
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._random = random
        self._say = say

    async def open(self, node: str, door: str, *, wait: float = OUTCOME_S) -> Outcome:
        """Open one door and return the node's last word; raises what ``release`` raises."""
        return await self._move(node, "open", door, {"door": door}, wait)

    async def release(self, node: str, parcel: str, door: str, shown: str, *, wait: float = OUTCOME_S) -> Outcome:
        """Open the door of ``parcel`` for its customer, who has read ``shown`` on the screen; the node's last word.

        Raises ``NoAnswer``, ``Refused``, and ``ConfigError`` while an earlier one for this parcel has no outcome:
        nobody signs a second one in doubt.
        """
        return await self._move(node, "release", parcel, {"parcel": parcel, "door": door, "shown": shown}, wait)

    async def _move(self, node: str, name: str, subject: str, args: dict[str, object], wait: float) -> Outcome:
        aud = self._issuer.node(node).audience
        for entry, _ in await self._store.pending():
            if (entry.audience, entry.name, entry.subject) == (aud, name, subject):
                raise undecided(entry.jti, name, subject)
        claims = await self._with_nonce(node, name, subject, args)
        # Asked again in the transaction that keeps it: somebody else may have signed one while the node was asked.
        return await self.submit(claims, sign_command(claims, self._issuer.key), wait=wait, alone=True)

    async def book(
        self, node: str, name: str, booking: str, args: dict[str, object], *, days: int, rev: int | None, wait: float
    ) -> Outcome:
        """Sign a command about a booking, which may wait ``days`` for the node, and see how far it gets in ``wait`` s.

        What is returned may be short of final: the command stays in the outbox.
        """
        self._issuer.node(node)
        _arguments(COMMANDS[name], name, args)
        rev = rev if rev is not None else await self._store.next_rev(node, booking)
        now = self._clock.wall()
        claims = self._claims(node, name, booking, args, rev=rev, exp=int(now) + days * DAY_S)
        return await self.submit(claims, sign_command(claims, self._issuer.key), wait=wait)

    async def half(self, node: str, name: str, subject: str, args: dict[str, object]) -> bytes:
        """The first signature of a command that two people sign, with a nonce: there is a minute for the second.

        Raises ``NoAnswer`` and ``Refused``.
        """
        return sign_first(await self._with_nonce(node, name, subject, args), self._issuer.key)

    async def submit(self, claims: Claims, token: bytes, *, wait: float, alone: bool = False) -> Outcome:
        """Keep and publish signed bytes, once; an actuation without a last word within ``wait`` s is ``NoAnswer``.

        ``alone``: see ``OutboxStore.keep``.
        """
        self._issuer.node(claims.aud.partition("/")[0])
        entry = entry_of(claims, token)
        await self._outbox.keep(entry, alone=alone)
        self._say("signed", id=entry.jti, name=entry.name, subject=entry.subject)
        return await self.outcome(entry.jti, wait=wait, must=not entry.rev)

    async def outcome(self, jti: str, *, wait: float, must: bool = True) -> Outcome:
        """How a command stands after at most ``wait`` seconds. Raises ``NoAnswer`` when it must be final and is not."""
        try:
            return await asyncio.wait_for(self._outbox.final(jti), wait)
        except TimeoutError as error:
            if not must:
                return await self._outbox.outcome(jti)
            raise NoAnswer(
                f"no last word on {jti} within {wait:.0f} s",
                remedy=f"what was done is not known yet: lastmile command result {jti}",
            ) from error

    async def settle(self) -> None:
        """Go on publishing until every command in the outbox has its last word."""
        await self._outbox.idle()

    async def _with_nonce(self, node: str, name: str, subject: str, args: dict[str, object]) -> Claims:
        """A command that acts at once, ready to be signed."""
        self._issuer.node(node)
        _arguments(COMMANDS[name], name, args)
        self._say("waiting", node=node)
        session = await self._session(node)
        answer = await self._nonce(node, name, subject, session)
        if answer.reason == "wrong_session":
            # The broker's copy of the presence was older than the agent; nothing has been asked to move.
            with contextlib.suppress(NoAnswer):
                answer = await self._nonce(node, name, subject, await self._session(node, unlike=session))
        if answer.status is not Status.DONE:
            raise Refused(answer)
        self._say("nonce", node=node, door=args.get("door", subject))
        return self._claims(node, name, subject, args, nonce=str(answer.data["nonce"]))

    async def _session(self, node: str, *, unlike: str = "") -> str:
        try:
            return (await asyncio.wait_for(self._outbox.online(node, unlike=unlike), PRESENCE_S)).session
        except TimeoutError as error:
            raise NoAnswer(f"{node} is not online", remedy="look at the node; nothing was signed") from error

    async def _nonce(self, node: str, name: str, door: str, session: str) -> Result:
        asked = {"name": name, "request": int(self._clock.wall() * 1000)}
        claims = self._claims(node, "nonce", door, asked, session=session)
        question = entry_of(claims, sign_command(claims, self._issuer.key))
        try:
            return await asyncio.wait_for(self._outbox.ask(question), ANSWER_S)
        except TimeoutError as error:
            raise NoAnswer(
                f"{node} gave no nonce within {ANSWER_S:.0f} s",
                remedy="check that its issuers document lists this key; nothing was signed that opens a door",
            ) from error

    def _claims(self, node: str, name: str, subject: str, args: dict[str, object], **proof: Any) -> Claims:
        wall = self._clock.wall()
        members = {
            "iss": self._issuer.name,
            "aud": self._issuer.node(node).audience,
            "jti": uuid7(wall, self._random(10)),
            "iat": int(wall),
            "name": name,
            "subject": subject,
            "args": args,
            **proof,
        }
        try:
            return claims_as(members, Claims)
        except VerificationError as error:
            raise ConfigError(f"no node would take it: {error.what}", remedy="mend what is named there") from error


def _arguments(rule: Rule, name: str, args: dict[str, object]) -> None:
    """Refuse here what every node refuses."""
    try:
        msgspec.convert(args, rule.args)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}", remedy="say it as the contract has it") from error


@contextlib.asynccontextmanager
async def at_desk(
    settings: IssuerSettings,
    base: Path,
    *,
    clock: Clock,
    random: Randomness,
    say: Say,
    only: str = "",
) -> AsyncIterator[Desk]:
    """A desk with its outbox at work. ``only``: the one node to speak to, instead of all in the file."""
    issuer = read_issuer(settings, base)
    nodes = {only: issuer.node(only)} if only else issuer.nodes
    store = OutboxStore(str(base / settings.outbox), clock=clock)
    try:
        await store.open()
        client = broker_settings(settings.broker, f"{settings.name}-{random(4).hex()}", base, session_expiry=0)
        outbox = Outbox(
            nodes=nodes,
            broker=MqttBroker(client),
            store=store,
            clock=clock,
            random=chance.random,
            tell=_teller(say),
        )
        running = asyncio.create_task(outbox.run(), name="outbox")
        try:
            yield Desk(issuer, outbox, store, clock, random, say)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    finally:
        await store.close()


def _teller(say: Say) -> Callable[[Outcome], None]:
    def tell(outcome: Outcome) -> None:
        entry, word = outcome.entry, outcome.word
        say(
            outcome.state.value,
            id=entry.jti,
            name=entry.name,
            subject=entry.subject,
            reason=word.reason if word else "",
        )

    return tell
