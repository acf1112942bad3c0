"""cloud-sync's hold on the role agent: there, silent or gone; asked, and heard when it speaks unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cloud_sync.ports import AgentLink, Progress, expected, first_of
from cloud_sync.topics import NodeTopics
from cloud_sync.waiting_asyncio import alone
from edge import link, log
from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import DeviceError, ProtocolError
from edge.link import Out, Request, Serving, Wake, Welcome

T = TypeVar("T")

AGENT_PAUSE = 0.2
LONGEST_AGENT_PAUSE = 5.0
"""Seconds between tries of the local socket: the role agent starts again within ten."""
LOOK_EVERY = 5.0
"""Seconds between two looks whether the role agent still answers; an answer costs it a few reads."""
SILENT_AFTER = 5.0
"""Seconds without that answer. So presence says within ten that an agent which is stopped or hangs serves nobody."""


class Agent:
    """``on_welcome`` hears what it says of itself, at the beginning and at every look; ``on_push`` what it says
    unasked; ``on_change`` that ``serving`` may be another.
    """

    def __init__(
        self,
        *,
        open_agent: Callable[[], Awaitable[AgentLink]],
        clock: Clock,
        random: Callable[[], float],
        on_welcome: Callable[[Welcome], Awaitable[None]],
        on_push: Callable[[Wake | Out], None],
        on_change: Callable[[], None],
        progress: Progress,
    ) -> None:
        self._open = open_agent
        self._clock = clock
        self._random = random
        self._on_welcome = on_welcome
        self._on_push = on_push
        self._on_change = on_change
        self._progress = progress
        self._log = log.get_logger("cloud_sync")
        self._link: AgentLink | None = None
        self._serving = False
        self._silent = False
        self.welcome: Welcome | None = None
        """What it said last, also when it is gone."""
        self.there = asyncio.Event()
        """Set while it has been greeted and its socket is open."""

    @property
    def serving(self) -> bool:
        """Whether it serves people, as far as one that is silent or gone can be said to."""
        return self._serving and not self._silent and self._link is not None

    async def keep(self) -> None:
        """Hold on to it for ever."""
        backoff = Backoff(self._random, first_s=AGENT_PAUSE, cap_s=LONGEST_AGENT_PAUSE, stable_s=LONGEST_AGENT_PAUSE)
        while True:
            began = self._clock.mono()
            try:
                await alone(self._serve())
            except* (DeviceError, ProtocolError) as gone:
                error = first_of(gone)
                self._log.warning("agent_gone", what=getattr(error, "what", str(error)))
            self._idle()
            await self._clock.sleep(backoff.after(self._clock.mono() - began))

    async def ask(self, make: Callable[[int], Request], kind: type[T]) -> T:
        """The role agent's answer, also when it has to come back first. Raises ``ProtocolError`` for a refusal."""
        while True:
            await self.there.wait()
            held = self._link
            if held is None:
                continue
            try:
                return expected(await held.ask(make), kind)
            except DeviceError:
                self._left(held)

    async def _serve(self) -> None:
        opened = await self._open()
        try:
            await self._greet(opened, await self._look(opened))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(opened), name="agent-hear")
                tasks.create_task(self._watch(opened), name="agent-watch")
        finally:
            self._left(opened)
            await opened.close()

    async def _greet(self, opened: AgentLink, welcome: Welcome) -> None:
        NodeTopics(welcome.tenant, welcome.node)
        self._log.info("agent_here", node=welcome.node, role=welcome.role, session=welcome.session)
        self._link = opened
        await self._take(welcome)
        self.there.set()
        self._on_change()

    async def _take(self, welcome: Welcome) -> None:
        changed = welcome.serving is not self._serving
        self.welcome, self._serving = welcome, welcome.serving
        await self._on_welcome(welcome)
        if changed:
            self._on_change()

    async def _hear(self, opened: AgentLink) -> None:
        while True:
            push = await opened.next_push()
            if isinstance(push, Serving):
                self._serving = push.serving
                self._on_change()
            else:
                self._on_push(push)

    async def _watch(self, opened: AgentLink) -> None:
        """Ask again and again: a socket stays open while the process behind it is stopped."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            await self._take(await self._look(opened))

    async def _look(self, opened: AgentLink) -> Welcome:
        """HELLO's answer, however long it takes; meanwhile the agent counts as silent."""
        asked = asyncio.ensure_future(opened.ask(link.Hello))
        try:
            while not asked.done():
                patience = asyncio.ensure_future(self._clock.sleep(SILENT_AFTER))
                try:
                    await asyncio.wait({asked, patience}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    patience.cancel()
                if not asked.done():
                    self._mark_silent()
                    self._idle()
            welcome = expected(asked.result(), Welcome)
        finally:
            asked.cancel()
        self._progress("agent")
        if self._silent:
            self._silent = False
            self._log.info("agent_answers_again")
            self._on_change()
        return welcome

    def _mark_silent(self) -> None:
        if not self._silent:
            self._silent = True
            self._log.error("agent_silent", remedy="look at the role agent's log; its watchdog restarts one that hangs")
            self._on_change()

    def _left(self, opened: AgentLink) -> None:
        if self._link is opened:
            self._link = None
            self.there.clear()
            self._on_change()

    def _idle(self) -> None:
        """Without the agent nothing can be done, and that is no fault of this process."""
        for part in ("agent", "broker", "events"):
            self._progress(part)
