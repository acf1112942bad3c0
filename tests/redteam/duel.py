"""What every scene has at hand, and the verdict after each: no door has opened but for honest people."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from cloud_sync.ports import Message
from cloud_sync.presence import encode
from edge.document import Desired, sign_desired
from edge.identity import identify
from edge.keys import SigningKey, VerifyKey
from edge.keys_file import read_verify_key
from edge.link_socket import LinkClosed
from edge.result import Result, Status, read_result
from tests.crash.bench import NotInTimeError
from tests.redteam.attacker import Attacker, payload_of
from tests.redteam.cast import STAFF
from tests.redteam.honest import Honest, signed
from tests.redteam.stage import Stage
from tests.redteam.verdict import deceptions, has_heard

DOORS = ("04", "08", "12", "16", "03", "07", "11")
"""L and M: what the couriers of a run bring is S."""
LATE_DOOR = "15"
"""For the one command that is kept back through the whole run."""
SOON_S = 10.0
PULSE_S = 0.12
"""A pulse that was sent has by then opened its door: the simulated one takes 7 ms, a round of the bus some more."""


@contextlib.asynccontextmanager
async def under_way(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """An honest act that goes on meanwhile, and is given up when the scene fails."""
    task = asyncio.create_task(work, name="honest-act")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Duel:
    """One attacker and the honest people of one node."""

    def __init__(self, stage: Stage, attacker: Attacker, honest: Honest, chance: random.Random) -> None:
        self.stage = stage
        self.attacker = attacker
        self.honest = honest
        self.chance = chance
        self.role: VerifyKey = read_verify_key(stage.site.key("role.jwk"))
        self._doors = list(DOORS)
        self._request = 10**15
        self._version = 0
        self.due: list[Any] = []
        """What scenes have begun that can only be seen at the end: called then."""

    def door(self) -> str:
        """The doors in turn, so that one scene's remains are not in the way of the next."""
        self._doors.append(self._doors.pop(0))
        return self._doors[-1]

    # -- what the attacker does ----------------------------------------------------------------------------------------

    async def try_all(self, tokens: Iterable[bytes], kind: str = "cmd", name: str = "open") -> list[Result]:
        """Offer every token; what the node answered. It may break the connection rather than answer."""
        told = []
        for token in tokens:
            with contextlib.suppress(LinkClosed):
                for jti, result in (await self.attacker.offer(token, kind, name)).items():
                    told.append(self.read(jti, result))
        return told

    async def try_all_or_die(self, tokens: Iterable[bytes]) -> list[Result]:
        """As ``try_all``; raises ``LinkClosed`` when the agent is gone."""
        told = []
        for token in tokens:
            told += [self.read(jti, result) for jti, result in (await self.attacker.offer(token)).items()]
        return told

    def read(self, jti: str, token: bytes) -> Result:
        """A result that the node has truly signed."""
        issuer = payload_of(token)["aud"]
        identity = identify(self.stage.site.tenant, self.stage.site.name, self.role)
        return read_result(token, self.role, audience=identity.audience, command_id=jti, issuer=issuer)

    def signed(self, key: SigningKey, iss: str, name: str, subject: str, **more: Any) -> bytes:
        args = more.pop("args", {"door": subject})
        return signed(self.stage, key, iss, name, subject, args, **more)

    async def nonce(self, key: SigningKey, iss: str, door: str, *, name: str = "open", **more: Any) -> str:
        """A nonce by the node, "" where it gives none."""
        self._request += 1
        asked = {"session": self.attacker.welcome.session} | more
        token = self.signed(key, iss, "nonce", door, args={"name": name, "request": self._request}, **asked)
        told = await self.try_all([token], name="nonce")
        return str(told[0].data.get("nonce", "")) if told else ""

    async def two_steps(self, key: SigningKey, iss: str, door: str) -> list[Result]:
        """What whoever has a key would do to open a door."""
        nonce = await self.nonce(key, iss, door)
        return await self.try_all([self.signed(key, iss, "open", door, nonce=nonce or "A" * 22)])

    # -- honest acts under attack --------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def an_open_kept_back(self, door: str) -> AsyncIterator[tuple[Message, dict[str, Any]]]:
        """A member of staff has signed an open, with a living nonce, and the attacker has it. At the end it is passed
        on, and it has to be done as if nothing had happened.
        """
        async with self.attacker.catching("cmd/open") as caught, under_way(self.honest.open(door)) as asked:
            message = await asyncio.wait_for(caught.get(), SOON_S)
            yield message, payload_of(message.payload)
            await self.attacker.pass_on(message)
            await asked

    async def desire(self, body: dict[str, Any], **changed: Any) -> Desired:
        """A document of the operator, who means it, brought into force by the node's own signed word."""
        document = self.wish(body, **changed)
        self.honest.wishes.add(document.version)
        await self.attacker._put(self.attacker.topics.desired, sign_desired(document, STAFF), retain=True)
        await self.until("the document to be in force", lambda: self.reported()["desired_version"] == document.version)
        return document

    def wish(self, body: dict[str, Any], **changed: Any) -> Desired:
        self._version += 10
        now = int(time.time())
        members: dict[str, Any] = {
            "iss": "staff",
            "aud": self.stage.audience,
            "version": now + self._version,
            "issued_at": now,
        }
        return Desired(**(members | {"body": body} | changed))

    def reported(self) -> dict[str, Any]:
        """The node's last word on what is in force."""
        told = [each.payload for each in self.attacker.heard if each.topic == self.attacker.topics.reported]
        return max((payload_of(token) for token in told), key=lambda each: int(each["version"]))

    async def until(self, what: str, true: Any, patience: float = SOON_S) -> None:
        async def holds() -> bool:
            return bool(true())

        if not await self.stage.until_true(what, holds, patience):
            raise NotInTimeError(f"waited {patience:.0f} s for {what}")

    # -- the verdict ---------------------------------------------------------------------------------------------------

    async def nothing_opened(self) -> None:
        """Beyond what honest people asked for. Raises ``AssertionError``."""
        await asyncio.sleep(PULSE_S)
        self.stage.board.call("doors")
        opened, expected = Counter(self.stage.opened()), self.honest.expected()
        assert opened == expected, f"opened {dict(opened - expected)} too often, {dict(expected - opened)} too seldom"

    async def consumer_has_heard(self) -> None:
        """The consumer has taken in, and settled, everything that was published before."""
        marked, stage = encode(await self.attacker.mark()), self.stage
        await self.until("the consumer to have heard all", lambda: has_heard(stage.store, marked))

    async def nobody_is_deceived(self) -> None:
        """The consumer by no forgery, and the node by no word of somebody who may not say it. Raises
        ``AssertionError``.
        """
        await self.consumer_has_heard()
        found = deceptions(self.stage, self.attacker.recorded("ack/"))
        assert not found, "; ".join(found)

    async def paid(self, door: str, result: list[Result]) -> None:
        """A stolen key that may open has opened ``door`` as it might; somebody shuts it once that was seen."""
        assert [each.status for each in result] == [Status.ACCEPTED], f"the right command was answered {result}"
        jti = result[0].id
        await self.until("the outcome", lambda: self.read(jti, self.attacker.results[jti][-1]).status is Status.DONE)
        self.honest.commands.add(jti)
        self.honest.by_command[door] += 1
        await self.honest.shut()

    def cursor(self) -> dict[tuple[str, str], int]:
        return dict(self.stage.tables().cursors)

    def epochs(self) -> int:
        return len({epoch for epoch, _ in self.stage.tables().last})
