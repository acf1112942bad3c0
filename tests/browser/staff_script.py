"""Staff's visits as the API answers them, by script; the doors that they open are the scripted desk's."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.async_api import Page, Route

from locker.kiosk import SessionKind, SessionState, SessionView
from tests.locker.kiosk_rig import ScriptedDesk

OPENING = {
    "recall": SessionKind.LOOK,
    "open": SessionKind.LOOK,
    "clean": SessionKind.LOOK,
    "next": SessionKind.LOOK,
}
"""What opens a door, and what its session is for."""


@dataclass
class ScriptedStaff:
    """``tasks`` are what the next answers tell, ``door`` is the one that opens, ``refusal`` is said instead."""

    desk: ScriptedDesk
    role: str
    tasks: list[dict[str, str]]
    door: str = "A1"
    refusal: str = ""
    asked: list[tuple[str, object]] = field(default_factory=list)

    async def stand_in(self, page: Page) -> None:
        await page.route("**/api/staff/**", self._answer)

    async def _answer(self, route: Route) -> None:
        act = route.request.url.rpartition("/")[2]
        self.asked.append((act, route.request.post_data_json if route.request.method == "POST" else None))
        if self.refusal:
            await route.fulfill(status=409, json={"reason": self.refusal, "retry_after": None})
        elif act in OPENING:
            session = f"{act}-{len(self.asked)}"
            view = SessionView(session, OPENING[act], self.door, SessionState.UNLOCKING, opened=False)
            self.desk.views[session] = view
            await route.fulfill(status=202, json={"session": session, "door": self.door})
        else:
            await route.fulfill(json={"visit": "v1", "role": self.role, "tasks": self.tasks, "expires_s": 600})

    def last(self) -> str:
        """The session of the door that was opened last."""
        return list(self.desk.views)[-1]
