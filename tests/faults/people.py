"""Customers, couriers and staff of a run, and the moments of their acts at which faults strike."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from agents.issuer import NoAnswer, Refused, at_desk
from cloud_sync.ports import BrokerLost
from edge.result import Result, Status
from edge.system_clock import SystemClock
from locker.pickup_code import check_digit
from tests.crash.bench import ASK_S, NotInTimeError
from tests.crash.history import lock_of
from tests.faults.plan import Act, Moment, Step
from tests.faults.yard import Yard

Strike = Callable[[Moment], Awaitable[None]]

AT_THE_KIOSK = frozenset({"locker", "disk", "door", "boundary"})
"""What may keep a customer from the parcel; nothing that befalls the network may, and no disk that is only full."""
BRINGING = AT_THE_KIOSK | {"full"}
BY_COMMAND = BRINGING | {"link-node", "broker", "cloud-sync", "presence"}
COMMAND_DOORS = ("12", "16")
MOST_COMMANDS = 3
"""The locker opens no more by command in a minute."""
AGAIN_S = 0.2
OUTCOME_S = 8.0
"""Staff wait so long for what became of their command."""
DOOR_S = 6.0
"""Three pulses and their waits, several times over."""


@dataclasses.dataclass
class Done:
    """``hit``: something struck that this act depends on. ``fine``: it went as it should on an honest day."""

    act: str
    hit: bool
    fine: bool
    told: str = ""


class People:
    """``done`` are all acts, ``results`` what commands were answered, None for no answer."""

    def __init__(self, yard: Yard, forgotten: set[str]) -> None:
        self._yard = yard
        self._forgotten = forgotten
        self._booked = 0
        self._door = 0
        self.done: list[Done] = []
        self.results: list[tuple[str, Result | None]] = []

    async def act(self, step: Step, strike: Strike) -> None:
        """One person from coming to leaving; every fault of the step has struck when this returns."""
        yard = self._yard
        await self._tidy()
        yard.touched = set(yard.struck)
        await strike(Moment.BEFORE)
        chance = random.Random(step.pick)
        match step.act:
            case Act.WRONG:
                await self._refused("wrong code", _nobodys(chance), (404, "no_such_code"), strike)
            case Act.USED if used := self._used():
                code = yard._letters.codes[chance.choice(used)].code
                await self._refused("used code", code, (410, "used"), strike)
            case Act.COMMAND if len(self.results) < MOST_COMMANDS:
                await self._command(strike)
            case Act.COLLECT if waiting := self.waiting():
                await self.collect(chance.choice(waiting), strike)
            case _:
                await self._deposit(strike)
        await strike(Moment.AFTER)

    # -- what lies where -----------------------------------------------------------------------------------------------

    def waiting(self) -> list[str]:
        """Parcels with a code whose door was not seen open since."""
        entries = self._yard.entries()
        used = self._yard.history(entries).used()
        codes = self._yard.codes(entries)
        return [parcel for parcel in codes if parcel not in used | self._forgotten]

    def _used(self) -> list[str]:
        entries = self._yard.entries()
        self._yard.codes(entries)
        return sorted(self._yard.history(entries).used() - self._forgotten)

    # -- acts ----------------------------------------------------------------------------------------------------------

    async def _deposit(self, strike: Strike) -> None:
        self._booked += 1
        await self._visit("deposit", self._yard.deposit(f"parcel-{self._booked}"), strike)

    async def collect(self, parcel: str, strike: Strike) -> None:
        confirm = self._yard.history().doubted(parcel)
        await self._visit("collect", self._yard.collect(parcel, confirm=confirm), strike)

    async def _visit(self, what: str, asking: Any, strike: Strike) -> None:
        yard, life = self._yard, self._yard.life
        asked = asyncio.ensure_future(asking)
        await asyncio.sleep(0.005)
        await strike(Moment.ASKED)
        call = await asked
        await strike(Moment.ANSWERED)
        told = f"{call.status} {call.answer.get('reason', '')}".strip()
        fine = False
        if call.status == 202:
            told = await self._outcome(call.answer["session"], life)
            fine = told not in ("jammed", "unlocking", "gone")
            await strike(Moment.OPENED)
            if lock_of(call.answer["door"]) in yard.open_locks():
                item = "put_item" if call.what == "deposit" else "take_item"
                yard.board.call(item, board=0, lock=lock_of(call.answer["door"]))
        else:
            await strike(Moment.OPENED)
        self._note(f"{what} of {call.parcel}", fine, told, BRINGING if what == "deposit" else AT_THE_KIOSK)
        await self._tidy()

    async def _outcome(self, session: str, life: object) -> str:
        """The session's state when it is no longer unlocking; "gone" when the agent has died."""
        yard, deadline, state = self._yard, time.monotonic() + DOOR_S, "unlocking"
        while yard.life is life and not yard.life.dead and time.monotonic() < deadline:
            status, view = await yard.ask("GET", f"/api/sessions/{session}")
            state = str(view.get("state", state)) if status == 200 else state
            if state != "unlocking":
                return state
            await asyncio.sleep(ASK_S)
        return state if yard.life is life and not yard.life.dead else "gone"

    async def _refused(self, what: str, code: str, wanted: tuple[int, str], strike: Strike) -> None:
        asked = asyncio.ensure_future(self._typed(code))
        await strike(Moment.ASKED)
        status, answer = await asked
        await strike(Moment.ANSWERED)
        await strike(Moment.OPENED)
        got = (status, str(answer.get("reason", "")))
        if status == 202:
            self._yard.faults.append(f"a {what} opened a door")
        self._note(what, got == wanted, f"{got[0]} {got[1]}", AT_THE_KIOSK)

    async def _typed(self, code: str) -> tuple[int, dict[str, Any]]:
        """The answer; where it is "busy" or "wait" the one after a moment, as at the kiosk's page."""
        deadline = time.monotonic() + DOOR_S
        while True:
            status, answer = await self._yard.ask("POST", "/api/collect", {"code": code, "confirm": True})
            if answer.get("reason") not in ("busy", "wait") or time.monotonic() > deadline:
                return status, answer
            await asyncio.sleep(AGAIN_S)

    async def try_used(self) -> None:
        """No code works twice, confirmed or not."""

        async def nothing(_: Moment) -> None: ...

        for parcel in self._used()[:2]:
            await self._refused(
                f"used code of {parcel}", self._yard._letters.codes[parcel].code, (410, "used"), nothing
            )

    async def _command(self, strike: Strike) -> None:
        door = COMMAND_DOORS[self._door % len(COMMAND_DOORS)]
        self._door += 1
        said: list[str] = []
        asked = asyncio.ensure_future(self._opened_by_command(door, said))
        await asyncio.sleep(0.005)
        await strike(Moment.ASKED)
        while not said and not asked.done():  # noqa: ASYNC110  the issuer tells by a plain call
            await asyncio.sleep(0.005)
        await strike(Moment.ANSWERED)
        result = await asked
        await strike(Moment.OPENED)
        self.results.append((door, result))
        told = f"{result.status.value} {result.reason}".strip() if result else "no answer"
        self._note(f"command for door {door}", result is not None and result.status is Status.DONE, told, BY_COMMAND)
        await self._tidy()

    async def _opened_by_command(self, door: str, said: list[str]) -> Result | None:
        """With an outbox of its own: what is asked in this act is not asked again in the next."""
        site = self._yard.site
        settings = msgspec.structs.replace(self._yard.issuer(), outbox=f"outbox-{self._door}.db")

        def say(step: str, **_facts: object) -> None:
            if step != "waiting":
                said.append(step)

        try:
            async with at_desk(
                settings, site.directory, clock=SystemClock(), random=os.urandom, say=say, only=site.node
            ) as desk:
                return (await desk.open(site.node, door, wait=OUTCOME_S)).word
        except Refused as refused:
            return refused.result
        except (NoAnswer, BrokerLost):
            return None

    def _note(self, act: str, fine: bool, told: str, depends: frozenset[str]) -> None:
        yard = self._yard
        hit = bool(depends & (yard.touched | set(yard.struck)))
        self.done.append(Done(act, hit, fine, told))

    # -- doors ---------------------------------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Shut every door, and wait until the locker has seen it, unless it is not well."""
        yard = self._yard

        async def seen() -> bool:
            for lock in yard.open_locks():  # one may spring open late, of a pulse just before a kill
                await yard.shut(f"{lock + 1:02d}")
            status, answer = await yard.ask("GET", "/api/doors")
            return status == 200 and all(one["state"] not in {"open", "unlocking"} for one in answer["doors"])

        in_time = await yard.until_true("the doors to be seen shut", seen, DOOR_S)
        if not in_time and not {"locker", "disk"} & set(yard.struck):
            raise NotInTimeError("the doors are not seen shut")


def _nobodys(chance: random.Random) -> str:
    """A well-formed code; that it is somebody's has a chance of one in ten million."""
    digits = f"{chance.randrange(10**8):08d}"
    return digits + check_digit(digits)
