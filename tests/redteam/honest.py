"""The honest people of a run: couriers and customers at the kiosk, two members of staff with their outboxes."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from agents.issuer import Desk, at_desk
from cloud_sync.outbox import Outcome
from edge.command import Claims, cosign, sign_command
from edge.errors import LastmileError
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.result import Status
from edge.system_clock import SystemClock
from tests.crash.history import lock_of
from tests.faults.people import People
from tests.redteam.attacker import payload_of
from tests.redteam.cast import GUARD, STAFF
from tests.redteam.stage import Stage

ROOM = 6
"""Parcels that lie here at most before a customer comes: a couple fewer than there are doors for them."""
OUTCOME_S = 20.0
"""Many times what an act takes: a busy machine must not count as an attack that succeeded."""


class Honest:
    """``failed`` names every act of an honest person that did not go as it should; ``commands`` what they signed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._people = People(stage, set())
        self._desks: dict[str, Desk] = {}
        self._booked = 0
        self.acts = 0
        self.failed: list[str] = []
        self.commands: set[str] = set()
        """Ids of the commands that may have been done."""
        self.by_command: Counter[str] = Counter()
        """The doors that such a command has opened, by the word of whoever saw it."""
        self.wishes: set[int] = set()
        """Versions of ``desired`` that the operator has signed and means."""

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Their outboxes are connected."""
        stage = self._stage
        async with contextlib.AsyncExitStack() as desks:
            for name in ("staff", "guard"):
                self._desks[name] = await desks.enter_async_context(
                    at_desk(
                        stage.person(name),
                        stage.site.directory,
                        clock=SystemClock(),
                        random=os.urandom,
                        say=lambda *_, **__: None,
                    )
                )
            yield

    # -- at the kiosk --------------------------------------------------------------------------------------------------

    async def deposit(self) -> None:
        """Ends when the code is issued: of a database that is put back before, there would be another."""
        self._booked += 1
        parcel, stage = f"parcel-{self._booked}", self._stage

        async def issued() -> bool:
            return parcel in stage.codes(stage.entries())

        await self._visit(self._people._visit("deposit", stage.deposit(parcel), _nothing))
        if self._people.done[-1].fine:
            await stage.until_true("the code", issued)

    async def collect(self) -> None:
        """Whatever waits longest."""
        await self._visit(self._people.collect(self._people.waiting()[0], _nothing))

    async def come(self) -> None:
        """Somebody, so that something happens: a courier while there is room, else a customer."""
        await (self.deposit() if len(self._people.waiting()) < ROOM else self.collect())

    async def make_room(self) -> None:
        while len(self._people.waiting()) > ROOM // 2:
            await self.collect()

    async def _visit(self, visit: Any) -> None:
        await visit
        done = self._people.done[-1]
        self._count(done.act, fine=done.fine, told=done.told)

    def parcel_and_door(self) -> tuple[str, str]:
        """A parcel that lies here, and where."""
        parcel = self._people.waiting()[0]
        return parcel, next(call.answer["door"] for call in self._stage.calls if call.parcel == parcel)

    # -- staff ---------------------------------------------------------------------------------------------------------

    async def open(self, door: str, *, who: str = "staff") -> None:
        """Open a door from afar, and shut it at the place."""
        self.by_command[door] += await self.ask_to_open(door, who=who) is not None
        await self.shut()

    async def empty(self, door: str) -> None:
        """Open a door from afar, and take out what lies behind it."""
        self.by_command[door] += await self.ask_to_open(door) is not None
        self._stage.board.call("take_item", board=0, lock=lock_of(door))
        await self.shut()

    async def ask_to_open(self, door: str, *, who: str = "staff") -> Outcome | None:
        """None where it did not end as done; which then counts as failed."""
        desk, node = self._desks[who], self._stage.site.node
        return await self._done(f"open {door}", desk.open(node, door, wait=OUTCOME_S))

    async def clear(self, door: str, parcel: str) -> Outcome | None:
        """Two persons declare that ``parcel`` is gone."""
        desk, node = self._desks["staff"], self._stage.site.node

        async def both() -> Outcome:
            half = await desk.half(node, "clear", door, {"door": door, "parcel": parcel})
            whole = cosign(half, GUARD)
            return await desk.submit(msgspec.convert(payload_of(whole), Claims), whole, wait=OUTCOME_S)

        outcome = await self._done(f"clear {door}", both())
        if outcome is not None:
            self._people._forgotten.add(parcel)
        return outcome

    async def book(self, name: str, booking: str, *, rev: int | None = None, **args: object) -> Outcome | None:
        desk, node = self._desks["staff"], self._stage.site.node
        work = desk.book(node, name, booking, args, days=1, rev=rev, wait=OUTCOME_S)
        return await self._done(f"{name} {booking}", work)

    def sign(self, name: str, subject: str, args: dict[str, object], **proof: Any) -> bytes:
        """A command of the staff that goes into nobody's outbox: what became of it, the attacker decides."""
        return signed(self._stage, STAFF, "staff", name, subject, args, **proof)

    async def _done(self, act: str, work: Any) -> Outcome | None:
        try:
            outcome: Outcome = await work
        except LastmileError as error:
            self._count(act, fine=False, told=str(error))
            return None
        word = outcome.word
        fine = word is not None and word.status is Status.DONE
        self._count(act, fine=fine, told=f"{outcome.state.value} {word.reason if word else ''}")
        self.commands.add(outcome.entry.jti)
        return outcome if fine else None

    def _count(self, act: str, *, fine: bool, told: str) -> None:
        self.acts += 1
        if not fine:
            self.failed.append(f"{act}: {told}")

    # -- doors ---------------------------------------------------------------------------------------------------------

    async def shut(self) -> None:
        """Shut all doors, and wait until the locker has seen it."""
        await self._people._tidy()

    def expected(self) -> Counter[str]:
        """How often each door should have opened: for whom the kiosk had accepted, and for the staff's commands."""
        kiosk = Counter(call.answer["door"] for call in self._stage.calls if call.status == 202)
        return kiosk + self.by_command


async def _nothing(_: object) -> None: ...


def signed(
    stage: Stage, key: SigningKey, iss: str, name: str, subject: str, args: dict[str, object], **proof: Any
) -> bytes:
    """A command by ``key`` under ``iss``; audience, id and time are true ones unless ``proof`` has others."""
    wall = time.time()
    members: dict[str, Any] = {
        "iss": iss,
        "aud": stage.audience,
        "jti": uuid7(wall, os.urandom(10)),
        "iat": int(wall),
        "name": name,
        "subject": subject,
        "args": args,
    }
    return sign_command(Claims(**(members | proof)), key)
