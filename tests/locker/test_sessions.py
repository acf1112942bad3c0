"""Sessions in memory: few are kept, and not those that go on are forgotten."""

from __future__ import annotations

import asyncio
import os

from locker.kiosk import SessionKind, SessionState, SessionView
from locker.sessions_asyncio import KEPT, Sessions


def one_more(sessions: Sessions, *, ended: bool) -> str:
    session = sessions.new_id()
    sessions.begin(session, SessionKind.COLLECT, "01", 1)
    if ended:
        sessions.move(session, SessionState.ENDED)
    return session


def test_a_door_that_stands_open_for_days_is_not_forgotten_for_those_who_came_and_went() -> None:
    sessions = Sessions(os.urandom)
    open_one, first = one_more(sessions, ended=False), one_more(sessions, ended=True)
    for _ in range(KEPT):
        one_more(sessions, ended=True)
    assert sessions.view(first) is None
    assert [view.session for view in sessions.at("01")] == [open_one]


async def test_whoever_watches_a_session_that_is_forgotten_is_let_go() -> None:
    sessions = Sessions(os.urandom)
    watched = one_more(sessions, ended=False)
    told: list[SessionView] = []

    async def watch() -> None:
        told.extend([view async for view in sessions.watch(watched)])

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    for _ in range(KEPT):
        one_more(sessions, ended=False)
    await asyncio.wait_for(task, 5.0)
    assert [view.session for view in told] == [watched]
