"""A desk that answers by script, and the kiosk's real server on loopback before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from starlette.routing import Route

from edge.clock import Clock
from edge.clock_sim import ManualClock
from edge.errors import LastmileError
from locker.contract import DoorState, Word
from locker.inputs_asyncio import Inputs
from locker.kiosk import (
    Accepted,
    Desk,
    DoorView,
    FrontView,
    Refused,
    SessionKind,
    SessionState,
    SessionView,
    ShownCode,
)
from locker.kiosk_http import KioskLimits, build_kiosk, listen_kiosk, serve_kiosk
from locker.staffing import Staff

ANOTHER = {Word.DOES_NOT_FIT, Word.NOT_EMPTY, Word.WILL_NOT_CLOSE}
"""After these words a deposit goes on behind another door."""

ASKED_WITHIN_S = 10.0
"""A page on a machine with much to do."""

TOKEN = "t0ken-of-this-boot_" + "x" * 24

DOORS = [
    DoorView(door="A1", size="S", low=False, state=DoorState.CLOSED),
    DoorView(door="A2", size="M", low=True, state=DoorState.OPEN),
]


@dataclass
class ScriptedDesk:
    """Says what the script says, keeps what it was asked, and moves sessions when the test tells it to."""

    answer: Accepted | Refused | LastmileError = field(default_factory=lambda: Accepted("s1", "A1"))
    later: list[Accepted | Refused] = field(default_factory=list)
    """Answers after the first one, each once; the last stays."""
    kind: SessionKind = SessionKind.COLLECT
    """What a code asks for: the customer's parcel, or room for one that the customer brings."""
    door_views: list[DoorView] = field(default_factory=lambda: [*DOORS])
    front_view: FrontView = field(default_factory=lambda: FrontView(900, 1600))
    spoken: tuple[str, ...] = ()
    asked: list[tuple[object, ...]] = field(default_factory=list)
    views: dict[str, SessionView] = field(default_factory=dict)
    remote: str | None = None
    """The session that was begun from afar."""

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()
        self._begun = asyncio.Event()
        self.unwatched = asyncio.Event()

    def begin_anew(self, doors: list[DoorView]) -> None:
        """Forget what was scripted and asked, as for a page that is opened for the first time."""
        self.answer, self.later, self.kind = Accepted("s1", "A1"), [], SessionKind.COLLECT
        self.door_views, self.front_view = doors, FrontView(900, 1600)
        self.remote = None
        self.asked.clear()
        self.views.clear()

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:
        self.asked.append(("collect", code, extension, confirm))
        return self._say(self.kind)

    async def collect_by_voucher(self, voucher: str, confirm: bool) -> Accepted | Refused:
        self.asked.append(("voucher", voucher, confirm))
        return self._say(SessionKind.COLLECT)

    async def deposit(
        self, badge: str, pin: str, bookings: tuple[str, ...], size: str, low: bool
    ) -> Accepted | Refused:
        self.asked.append(("deposit", badge, pin, *bookings, size, low))
        return self._say(SessionKind.DEPOSIT)

    async def next(self, session: str) -> Accepted | Refused | None:
        self.asked.append(("next", session))
        before = self.views.get(session)
        return None if before is None else self._say(SessionKind(before.next or before.kind.value))

    def current(self) -> SessionView | None:
        return None if self.remote is None else self.views[self.remote]

    def release(self, session: str, door: str) -> None:
        """Somebody before the screen has opened ``door`` with an app."""
        self.views[session] = SessionView(session, SessionKind.COLLECT, door, SessionState.UNLOCKING, opened=False)
        self.remote = session

    def shown(self) -> ShownCode:
        return ShownCode("4821 73", 41.5)

    def session(self, session: str) -> SessionView | None:
        return self.views.get(session)

    def languages(self) -> tuple[str, ...]:
        return self.spoken

    def doors(self) -> list[DoorView]:
        return self.door_views

    def front(self) -> FrontView:
        return self.front_view

    async def watch(self, session: str) -> AsyncIterator[SessionView]:
        self.unwatched.clear()
        try:
            told = None
            while told is None or told.state is not SessionState.ENDED:
                async with self._changed:
                    await self._changed.wait_for(lambda: self.views[session] != told)  # noqa: B023 - used at once
                    told = self.views[session]
                yield told
        finally:
            self.unwatched.set()

    async def end(self, session: str, word: Word) -> SessionView | None:
        self.asked.append(("end", session, word.value))
        view = self.views.get(session)
        if view is not None and view.kind is SessionKind.DEPOSIT and word in ANOTHER:
            await self.tell(session, next="deposit")
        if view is not None and (view.state is not SessionState.OPEN or word is Word.WILL_NOT_CLOSE):
            await self.move(session, SessionState.ENDED)
        return self.views.get(session)

    async def move(self, session: str, state: SessionState) -> None:
        """The session comes so far, once the page has asked for it."""
        async with asyncio.timeout(ASKED_WITHIN_S):
            while session not in self.views:
                self._begun.clear()
                await self._begun.wait()
        opened = self.views[session].opened or state is SessionState.OPEN
        await self.tell(session, state=state, opened=opened)

    async def tell(self, session: str, **more: object) -> None:
        """More of the session is known: its ``count``, ``shut``, ``next`` or ``carry``."""
        async with self._changed:
            self.views[session] = msgspec.structs.replace(self.views[session], **more)
            self._changed.notify_all()

    def _say(self, kind: SessionKind) -> Accepted | Refused:
        answer = self.answer
        if self.later:
            self.answer = self.later.pop(0)
        if isinstance(answer, LastmileError):
            raise answer
        if isinstance(answer, Accepted):
            view = SessionView(answer.session, kind, answer.door, SessionState.UNLOCKING, opened=False)
            self.views[answer.session] = view
            self._begun.set()
        return answer


def tiny_page(folder: Path) -> Path:
    """A page of two files in ``folder``, for tests of the server that need no browser."""
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>kiosk</title>")
    (folder / "assets" / "page-1a2b.js").write_text("export {}")
    return folder


@contextlib.asynccontextmanager
async def served(
    desk: Desk,
    static: Path,
    *,
    clock: Clock | None = None,
    limits: KioskLimits | None = None,
    inputs: Inputs | None = None,
    staff: Staff | None = None,
    page: Sequence[Route] = (),
    port: int = 0,
) -> AsyncIterator[str]:
    """The kiosk's server on a free port of the loopback (or on ``port``); gives its ``host:port``."""
    listener = listen_kiosk("127.0.0.1", port)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    hosts, clock = frozenset({host}), clock or ManualClock()
    app = build_kiosk(
        desk,
        token=TOKEN,
        static=static,
        hosts=hosts,
        clock=clock,
        limits=limits,
        inputs=inputs,
        staff=staff,
        page=page,
    )
    serving = asyncio.create_task(serve_kiosk(app, listener))
    try:
        yield host
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
