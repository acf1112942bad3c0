"""A whole locker and its staff: badges of every role, and doors that they open, look behind and shut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from edge import command
from locker import badge as badges
from locker.badge import Role
from locker.commands import ALL_DOORS
from locker.contract import Word
from locker.kiosk import Accepted, Refused
from locker.staff_asyncio import StaffDesk
from locker.staffing import VisitView
from tests.edge.trust import HUB, NODE, SECOND
from tests.locker.downlink_rig import DownlinkRig
from tests.locker.rig import PIN, badge

DONE = ("done", "")
SERVICE = "badge-service"
COURIER = "badge-1"


class StaffRig(DownlinkRig):
    """``visit`` is the one that was entered last."""

    visit: VisitView
    staff: StaffDesk

    async def start(self) -> list[str]:
        commands = await super().start()
        self.staff = StaffDesk(
            node=NODE.node,
            store=self.store,
            clock=self.clock,
            random=os.urandom,
            admission=self.service.admission,
            openings=self.service.openings,
            cabinet=self.cabinet,
            doors=self.service.door_facts,
        )
        return commands

    async def enter(self, role: Role = Role.COURIER, *, recall: Any = (), jti: str = "", pin: str = PIN) -> Any:
        """Somebody shows a badge and types the PIN; returns the visit, or the reason why not."""
        shown = badge(jti=jti or (SERVICE if role is Role.SERVICE else COURIER), role=role, recall=recall)
        answer = await self.staff.enter(shown, pin)
        if isinstance(answer, Refused):
            return answer.reason.value
        self.visit = answer
        return answer

    async def tasks(self) -> list[tuple[str, str, str]]:
        view = await self.staff.look(self.visit.visit)
        assert view is not None
        return [(each.door, each.what, each.parcel) for each in view.tasks]

    async def opened(self, answer: Accepted | Refused | None) -> Accepted:
        assert isinstance(answer, Accepted), answer
        await self.pass_time(1.0)
        return answer

    async def shut(self, door: str) -> None:
        self.bench.shut(door)
        await self.pass_time(1.0)

    async def take_back(self, parcel: str | None = None, *, word: Word = Word.NONE) -> str:
        """The courier opens the next door, takes out what is inside and shuts it; returns the door."""
        at = await self.opened(await self.staff.recall(self.visit.visit, parcel))
        self.bench.take(at.door)
        if word is not Word.NONE:
            await self.service.end(at.session, word)
        await self.shut(at.door)
        return at.door

    async def look_into(self, door: str) -> None:
        await self.opened(await self.staff.open(self.visit.visit, door))
        await self.shut(door)

    async def order_audit(self) -> tuple[str, str]:
        """Two persons sign that every door may be looked behind."""
        claims = self.claims("audit", ALL_DOORS, {}, nonce=await self.nonce("audit", ALL_DOORS))
        result = await self.hears(command.cosign(command.sign_first(claims, HUB), SECOND))
        return result.status.value, result.reason


def reason(answer: object) -> str:
    assert isinstance(answer, Refused), answer
    return answer.reason.value


@contextlib.asynccontextmanager
async def staffed(folder: Path, monkeypatch: Any, **how: Any) -> AsyncIterator[StaffRig]:
    monkeypatch.setattr(badges, "_SCRYPT_N", 2)  # guessing PINs is told elsewhere
    rig = StaffRig(folder, **how)
    rig.step = 0.2
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
