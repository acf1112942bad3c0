"""A whole locker with its command desk: signed tokens in, signed results out, as the local socket brings them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from agents import locker_downlink
from edge import command
from edge.command import Claims
from edge.command_desk import CommandDesk
from edge.identifiers import uuid7
from edge.inbox_sql import SqlInbox
from edge.issuers import Entry, Issuers
from edge.keys import SigningKey
from edge.nonce import NonceBook
from edge.result import Result, read_result
from locker.commands import COMMANDS
from locker.office_asyncio import Office
from tests.edge.trust import DAY, HUB, NODE, ROLE, SECOND, entry, issuers
from tests.locker.rig import LockerRig


def person(key: SigningKey, name: str, wall: float, **changed: Any) -> Entry:
    span = {"not_before": int(wall) - DAY, "not_after": int(wall) + 400 * DAY}
    return entry(name=name, jwk=key.public.jwk(), **(span | changed))


class DownlinkRig(LockerRig):
    """``say`` signs and offers one command and returns what the node answered."""

    def __init__(self, folder: Path, **how: Any) -> None:
        super().__init__(folder, **how)
        self.listed: Issuers = issuers(
            person(HUB, "hub", self.clock.wall()), person(SECOND, "second", self.clock.wall())
        )
        self.late: list[tuple[str, bytes]] = []
        self._request = 0
        self.passed = 0.0

    async def start(self) -> list[str]:
        commands = await super().start()
        self.office = Office(self.store, self.cabinet, self.make_code)
        self.inbox = SqlInbox(self.journal)
        self.desk = CommandDesk(
            identity=NODE,
            session=self.journal.session,
            role_key=ROLE,
            clock=self.clock,
            nonces=NonceBook(os.urandom),
            inbox=self.inbox,
            rules=COMMANDS,
            acts=locker_downlink.acts(self.service, self.office),
            send=lambda jti, result: self.late.append((jti, result)),
            passed=lambda: self.passed,
        )
        return commands

    def claims(self, name: str, subject: str, args: dict[str, Any], **proof: Any) -> Claims:
        wall = self.clock.wall()
        members: dict[str, Any] = {
            "iss": "hub",
            "aud": NODE.audience,
            "jti": uuid7(wall, os.urandom(10)),
            "iat": int(wall),
            "name": name,
            "subject": subject,
            "args": args,
        }
        return Claims(**(members | proof))

    def booking(self, name: str, subject: str, rev: int, *, lies_s: int = 10 * DAY, **args: Any) -> bytes:
        claims = self.claims(name, subject, args, rev=rev, exp=int(self.clock.wall()) + lies_s)
        return command.sign_command(claims, HUB)

    async def hears(self, token: bytes) -> Result:
        ((jti, result),) = await self.desk.offer(token, self.listed)
        return read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")

    async def say(self, name: str, subject: str, rev: int, **args: Any) -> tuple[str, str]:
        """(status, reason) of a command for a booking."""
        result = await self.hears(self.booking(name, subject, rev, **args))
        return result.status.value, result.reason

    async def nonce(self, name: str, subject: str) -> str:
        self._request += 1
        args = {"name": name, "request": self._request}
        asked = self.claims("nonce", subject, args, session=self.journal.session)
        return str((await self.hears(command.sign_command(asked, HUB))).data["nonce"])

    async def clearing(self, door: str, parcel: str | None = None, also: Sequence[str] = ()) -> bytes:
        """Signed by two."""
        args = {"door": door} | ({"parcel": parcel} if parcel else {}) | ({"also": [*also]} if also else {})
        claims = self.claims("clear", door, args, nonce=await self.nonce("clear", door))
        return command.cosign(command.sign_first(claims, HUB), SECOND)

    async def clear(self, door: str, parcel: str | None = None, also: Sequence[str] = ()) -> tuple[str, str]:
        result = await self.hears(await self.clearing(door, parcel, also))
        return result.status.value, result.reason

    async def open(self, door: str) -> tuple[str, str]:
        """The operator opens a door from afar."""
        claims = self.claims("open", door, {"door": door}, nonce=await self.nonce("open", door))
        result = await self.hears(command.sign_command(claims, HUB))
        return result.status.value, result.reason

    async def release(self, parcel: str, door: str, shown: str, *, subject: str = "") -> tuple[str, str]:
        """The hub asks for a parcel's door, for a customer who has sent the digits ``shown``."""
        about = subject or parcel
        args = {"parcel": parcel, "door": door, "shown": shown}
        claims = self.claims("release", about, args, nonce=await self.nonce("release", about))
        result = await self.hears(command.sign_command(claims, HUB))
        return result.status.value, result.reason

    def read_screen(self) -> str:
        """The digits on the locker's screen, as a person types them."""
        return self.service.shown().shown.replace(" ", "")

    def state_of(self, booking: str) -> str:
        found = self.rows("SELECT state FROM booking WHERE booking = ?", booking)
        return str(found[0][0]) if found else "none"

    def changes(self, booking: str) -> list[str]:
        """What became of the booking, in order, by the journal."""
        return [str(each["change"]) for each in self.events("locker.booking.changed") if each["booking"] == booking]


@contextlib.asynccontextmanager
async def downlink(folder: Path, **how: Any) -> AsyncIterator[DownlinkRig]:
    rig = DownlinkRig(folder, **how)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
