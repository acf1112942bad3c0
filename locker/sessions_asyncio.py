"""Sessions at the kiosk: one attempt of one person at one door, followed by whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from edge.identifiers import Randomness
from locker.kiosk import SessionKind, SessionState, SessionView

KEPT = 200
"""Sessions remembered after their end, so that a page that comes late still hears how it went."""


class Sessions:
    """In memory only: what must outlive the process stands in the ledger."""

    def __init__(self, random: Randomness) -> None:
        self._random = random
        self._views: dict[str, SessionView] = {}
        self._remote = ""
        self.newest = ""
        """The session that was begun last."""
        self._changed: dict[str, asyncio.Event] = {}

    def new_id(self) -> str:
        return self._random(12).hex()

    def begin(self, session: str, kind: SessionKind, door: str, count: int, *, remote: bool = False) -> None:
        """A door with ``count`` parcels is about to be opened for ``session``; ``remote``: by a command."""
        self.newest = session
        if remote:
            self._remote = session
        self._put(SessionView(session, kind, door, SessionState.UNLOCKING, opened=False, count=count))
        while len(self._views) > KEPT:
            self._forget()

    def _forget(self) -> None:
        """The oldest that has ended, if any: of one whose door stands open for days its closing is yet to be told."""
        ended = (session for session, view in self._views.items() if view.state is SessionState.ENDED)
        oldest = next(ended, None) or next(iter(self._views))
        del self._views[oldest]
        self._changed.pop(oldest).set()  # whoever watches it is let go

    def current(self) -> SessionView | None:
        """The newest that a command has begun, while it goes on."""
        view = self._views.get(self._remote)
        return None if view is None or view.state is SessionState.ENDED else view

    def view(self, session: str) -> SessionView | None:
        return self._views.get(session)

    def at(self, door: str) -> list[SessionView]:
        """The sessions at ``door`` that have not ended."""
        return [view for view in self._views.values() if view.door == door and view.state is not SessionState.ENDED]

    def move(self, session: str, state: SessionState) -> None:
        """Tell how far it has come. An ended or unknown session stays as it is."""
        view = self._views.get(session)
        if view is not None and view.state is not SessionState.ENDED:
            opened = view.opened or state is SessionState.OPEN
            shut = "" if state is SessionState.CLOSED else view.shut
            self._put(msgspec.structs.replace(view, state=state, opened=opened, shut=shut))

    def note(self, session: str, **more: Any) -> None:
        """Tell more of a session that goes on: its ``shut``, ``carry`` or ``next``."""
        view = self._views.get(session)
        if view is not None and view.state is not SessionState.ENDED:
            self._put(msgspec.structs.replace(view, **more))

    async def watch(self, session: str) -> AsyncIterator[SessionView]:
        """The session as it stands, then as it changes, until it has ended."""
        last: SessionView | None = None
        while (view := self._views.get(session)) is not None:
            changed = self._changed[session]
            if view is not last:
                last = view
                yield view
                continue
            if view.state is SessionState.ENDED:
                return
            await changed.wait()

    def _put(self, view: SessionView) -> None:
        self._views[view.session] = view
        before = self._changed.get(view.session)
        self._changed[view.session] = asyncio.Event()
        if before is not None:
            before.set()
