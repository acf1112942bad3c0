"""Sends signed commands: asks the node for a nonce, signs for it, and waits for the node's own signed word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from agents.cloud_sync import broker_settings
from agents.settings import IssuerSettings
from cloud_sync.client_mqtt import MqttBroker, MqttConnection
from cloud_sync.ports import Message
from cloud_sync.presence import Presence
from cloud_sync.presence import decode as decode_presence
from cloud_sync.topics import NodeTopics
from edge.clock import Clock
from edge.command import Claims, sign_command
from edge.errors import ConfigError, LastmileError, ProtocolError, VerificationError
from edge.identifiers import Randomness, uuid7
from edge.identity import Identity, identify
from edge.keys import SigningKey, VerifyKey
from edge.keys_file import read_signing_key, read_verify_key
from edge.result import Result, Status, read_result

PRESENCE_S = 10.0
"""For the broker's retained copy of the node's presence, which comes at once."""
ANSWER_S = 15.0
"""For a nonce or an ``accepted``: a mobile link's worst round trip, several times over."""
OUTCOME_S = 30.0
"""For a door's outcome: three pulses take 6 s."""

Say = Callable[[str], None]


class NoAnswer(LastmileError):
    """The node did not answer in time. Whether it acted is not known: ask for the same command's result again."""


class Issuer(msgspec.Struct, frozen=True):
    """Who signs, and for which node."""

    name: str
    key: SigningKey
    identity: Identity
    role_key: VerifyKey

    @property
    def topics(self) -> NodeTopics:
        return NodeTopics(self.identity.tenant, self.identity.node)

    def claims(
        self,
        *,
        jti: str,
        name: str,
        subject: str,
        args: dict[str, object],
        at: float,
        nonce: str | None = None,
        session: str | None = None,
    ) -> Claims:
        return Claims(
            iss=self.name,
            aud=self.identity.audience,
            jti=jti,
            iat=int(at),
            name=name,
            subject=subject,
            args=args,
            nonce=nonce,
            session=session,
        )


def read_issuer(settings: IssuerSettings, node: str, base: Path) -> Issuer:
    """Raises ``ConfigError`` when ``node`` is not one of the configured ones."""
    for each in settings.nodes:
        role_key = read_verify_key(base / each.role_key)
        identity = identify(each.tenant, each.name, role_key)
        if identity.node == node:
            return Issuer(settings.name, read_signing_key(base / settings.key), identity, role_key)
    raise ConfigError(f"no node {node!r} in the issuer's file", remedy="add it under [[nodes]] with its role key")


async def open_door(
    settings: IssuerSettings, node: str, door: str, *, base: Path, clock: Clock, random: Randomness, say: Say
) -> Result:
    """Open one door by command and return the node's final word.

    Raises ``NoAnswer`` when none came: the same command is not signed a second time by itself.
    """
    issuer = read_issuer(settings, node, base)
    client_id = f"{settings.name}-{random(4).hex()}"
    connection = await MqttBroker(broker_settings(settings.broker, client_id, base)).connect(None)
    try:
        return await _Exchange(issuer, connection, clock, random, say).open(door)
    finally:
        await connection.close()


class _Exchange:
    """One conversation with one node."""

    def __init__(self, issuer: Issuer, connection: MqttConnection, clock: Clock, random: Randomness, say: Say) -> None:
        self._issuer = issuer
        self._connection = connection
        self._clock = clock
        self._random = random
        self._say = say

    async def open(self, door: str) -> Result:
        topics = self._issuer.topics
        await self._connection.subscribe([topics.presence, f"{topics.source.removeprefix('/')}/res/+"])
        presence = await self._presence()
        nonce = await self._nonce(door, presence)
        if nonce.status is not Status.DONE:
            return nonce
        self._say(f"{self._issuer.identity.node} gave a nonce for door {door}")
        jti = self._new_id()
        claims = self._issuer.claims(
            jti=jti, name="open", subject=door, args={"door": door}, at=self._clock.wall(), nonce=nonce.data["nonce"]
        )
        await self._send("open", claims)
        result = await self._result(jti, ANSWER_S)
        if result.status is Status.ACCEPTED:
            self._say("accepted")
            result = await self._result(jti, OUTCOME_S)
        return result

    async def _presence(self) -> Presence:
        try:
            return await asyncio.wait_for(self._online(), PRESENCE_S)
        except TimeoutError as error:
            raise NoAnswer(f"{self._issuer.identity.node} is not online", remedy="look at the node") from error

    async def _online(self) -> Presence:
        topics = self._issuer.topics
        while True:
            message = await self._next()
            if message.topic == topics.presence and (presence := decode_presence(message.payload)).online:
                return presence

    async def _next(self) -> Message:
        (message,) = await self._connection.next_messages(1)
        self._connection.ack(message)
        return message

    async def _nonce(self, door: str, presence: Presence) -> Result:
        jti = self._new_id()
        claims = self._issuer.claims(
            jti=jti,
            name="nonce",
            subject=door,
            args={"name": "open", "request": int(self._clock.wall() * 1000)},
            at=self._clock.wall(),
            session=presence.session,
        )
        await self._send("nonce", claims)
        return await self._result(jti, ANSWER_S)

    async def _send(self, name: str, claims: Claims) -> None:
        await (await self._connection.send(self._issuer.topics.command(name), sign_command(claims, self._issuer.key)))

    async def _result(self, jti: str, seconds: float) -> Result:
        """The next word on ``jti`` that the node itself has signed."""
        try:
            return await asyncio.wait_for(self._signed_word(jti), seconds)
        except TimeoutError as error:
            raise NoAnswer(
                f"no answer to {jti} within {seconds:.0f} s", remedy="whether it was done is not known; look there"
            ) from error

    async def _signed_word(self, jti: str) -> Result:
        """Passes over whatever the node did not sign for this command."""
        issuer = self._issuer
        while True:
            message = await self._next()
            if message.topic != issuer.topics.result(jti):
                continue
            try:
                return read_result(
                    message.payload,
                    issuer.role_key,
                    audience=issuer.identity.audience,
                    command_id=jti,
                    issuer=issuer.name,
                )
            except (VerificationError, ProtocolError) as error:
                self._say(f"passed over what the node did not sign: {error.what}")

    def _new_id(self) -> str:
        return uuid7(self._clock.wall(), self._random(10))
