"""The locker's use cases, each told in order: collect, deposit, open by command, recover.

What a story decides is committed before anything moves or shows. Adapters (boards, store, codes) are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from edge.clock import Clock
from edge.errors import StoreError, StoreFull, VerificationError
from edge.identifiers import Randomness, uuid7
from edge.journal import Need
from locker import badge as badges
from locker import depositing, settling
from locker.badge import Badge, BadgeFault, PinRefusal
from locker.cabinet_asyncio import Cabinet
from locker.compartment import Size
from locker.contract import Cause, Reason
from locker.door import Done, Happening, Outcome
from locker.kiosk import Accepted, DoorView, Refused, SessionKind, SessionState, SessionView
from locker.latch import Hook
from locker.ledger import Ledger, Store, Unlocking
from locker.pickup_code import BUSY_RETRY, CodeHasher, Grant, parse
from locker.sessions_asyncio import Sessions
from locker.settling import Attempt, Issue

T = TypeVar("T")

RETRY_S = 1.0
"""Between two tries to keep what has already happened at a door, while the disk refuses."""
REMOTE_CAPS = ((60.0, 3), (86_400.0, 20))
"""At most so many doors opened by commands in so many running seconds, whoever signs (DESIGN: 3 a minute, 20 a day)."""

_SHOWN = {
    Outcome.JAMMED: SessionState.JAMMED,
    Outcome.UNSENT: SessionState.JAMMED,
    Outcome.UNKNOWN: SessionState.UNKNOWN,
}


class Terms(msgspec.Struct, frozen=True):
    """What the operator decides. ``hold_s`` is how long a parcel waits for its customer."""

    node: str
    hold_s: float = 3 * 86_400.0


class LockerService:
    """``locker.kiosk.Desk``, and the answer to the command ``open``.

    ``read_badge`` verifies a badge's signature and returns its claims or raises ``VerificationError``. ``issue`` makes codes.
    ``background`` keeps a task alive until it is done.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        store: Store,
        sessions: Sessions,
        clock: Clock,
        random: Randomness,
        hasher: CodeHasher,
        issue: Issue,
        read_badge: Callable[[str], Mapping[str, Any]],
        background: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._terms = terms
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._hasher = hasher
        self._issue = issue
        self._read_badge = read_badge
        self._background = background
        self._left_empty: set[str] = set()
        self._ended: dict[str, Callable[[Done], Awaitable[None]]] = {}
        self._busy = False
        self._handed_on = False
        self.cabinet: Cabinet

    def attach(self, cabinet: Cabinet) -> None:
        """Hand in the cabinet, whose readings come back to ``heard``."""
        self.cabinet = cabinet

    # -- the stories ---------------------------------------------------------------------------------------------

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer types a code; the right door opens."""
        if self._busy:
            return Refused(Reason.BUSY, BUSY_RETRY)
        with self._turn():
            attempt = self._new_attempt()
            typed = parse(code, extension)
            verdict = await self._store.write(
                lambda ledger: settling.judge_code(
                    ledger,
                    typed,
                    hasher=self._hasher,
                    serviceable=self.cabinet.serviceable,
                    before=self.cabinet.standing,
                    attempt=attempt,
                    confirm=confirm,
                )
            )
            if not isinstance(verdict, Grant):
                return Refused(verdict.reason, verdict.retry_after)
            return self._open(SessionKind.COLLECT, verdict.door, attempt)

    async def deposit(self, badge: str, pin: str, booking: str, size: str, low: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A courier shows a badge and puts a parcel into the compartment that opens."""
        bearer = await self._admit(badge, pin)
        if not isinstance(bearer, Badge):
            return bearer
        if self._busy:
            return Refused(Reason.BUSY, BUSY_RETRY)
        with self._turn():
            attempt = self._new_attempt()
            asked = depositing.Asked(bearer=bearer, booking=booking, size=Size(size), low=low)
            try:
                chosen = await self._store.write(
                    lambda ledger: depositing.place(ledger, asked, self.cabinet.candidate, attempt), Need.DEPOSIT
                )
            except StoreFull:
                return Refused(Reason.OUT_OF_SERVICE)
            if isinstance(chosen, Reason):
                return Refused(chosen)
            return self._open(SessionKind.DEPOSIT, chosen, attempt)

    async def open_by_command(
        self,
        door: str,
        jti: str,
        take: Callable[[Ledger], T],
        ended: Callable[[Done], Awaitable[None]],
    ) -> T:
        """An admitted command opens one door. ``take`` keeps the command in the transaction that announces the pulse.

        Raises ``VerificationError`` (``busy``, ``capped``, ``no_such_door``): nothing was done. ``ended`` hears the outcome.
        """
        if door not in self.cabinet.compartments:
            raise VerificationError("no_such_door", f"no door {door}", remedy="name a door of this locker")
        if self._busy:
            raise VerificationError("busy", "another door is being opened", remedy="ask for a nonce and try again")
        with self._turn():
            attempt = self._new_attempt()
            before = self.cabinet.standing(door)

            def work(ledger: Ledger) -> T:
                _require_below_caps(ledger)
                ledger.note_remote_opening()
                taken = take(ledger)
                announced = msgspec.structs.replace(attempt, before=before)
                settling.announce(ledger, door, announced, Cause.COMMAND, cause_id=jti)
                return taken

            taken = await self._store.write(work)
            self._ended[attempt.attempt] = ended
            self._open(SessionKind.COLLECT, door, attempt)
            return taken

    async def recover(self, ended: Callable[[str, Done], Awaitable[None]]) -> list[str]:
        """After a crash, before the first reading: follow every attempt without outcome. Nothing is pulsed again.

        ``ended(jti, done)`` hears what became of a door that a command opened; returns the ids of these commands.
        """
        commands = []
        for each in await self._store.write(lambda ledger: ledger.open_unlockings()):
            if each.door not in self.cabinet.compartments:
                continue
            if each.cause is Cause.COMMAND:
                commands.append(each.cause_id)
                self._ended[each.attempt] = functools.partial(ended, each.cause_id)
            kind = SessionKind.DEPOSIT if each.cause is Cause.COURIER else SessionKind.COLLECT
            self._sessions.begin(each.session, kind, each.door)
            outcome = self.cabinet.resume(each.door, Hook(each.before))
            self._background(f"recover-{each.door}", functools.partial(self._find_out, each, outcome))
        return commands

    async def end(self, session: str, empty: bool) -> SessionView | None:  # noqa: FBT001 - the API's own word
        """The person is through. A closed or doubtful door ends the session now, an open one when it closes."""
        view = self._sessions.view(session)
        if view is None:
            return None
        if view.kind is SessionKind.DEPOSIT and empty:
            self._left_empty.add(session)
        if view.state is SessionState.UNKNOWN and view.kind is SessionKind.DEPOSIT:
            await self._settle_closed(view.door, seen_open=False)
        if view.state in {SessionState.JAMMED, SessionState.UNKNOWN, SessionState.CLOSED}:
            self._sessions.move(session, SessionState.ENDED)
        return self._sessions.view(session)

    # -- what the page may look at ---------------------------------------------------------------------------------

    def session(self, session: str) -> SessionView | None:
        return self._sessions.view(session)

    def watch(self, session: str) -> AsyncIterator[SessionView]:
        return self._sessions.watch(session)

    def doors(self) -> list[DoorView]:
        cabinet = self.cabinet
        return [
            DoorView(door, each.size.value, each.low, cabinet.state(door))
            for door, each in sorted(cabinet.compartments.items())
        ]

    # -- what the doors tell ---------------------------------------------------------------------------------------

    async def heard(self, door: str, happening: Happening) -> None:
        """A reading has shown something. It is kept before anybody is told, however long the disk refuses."""
        if happening is Happening.OPENED:
            await self._heard_open(door)
        elif happening in {Happening.CLOSED, Happening.FOUND_CLOSED}:
            await self._settle_closed(door, seen_open=happening is Happening.CLOSED)
        elif happening is not Happening.CHIME:
            await self._keep_at(door, lambda ledger: settling.noticed(ledger, door, happening))

    async def _heard_open(self, door: str) -> None:
        unlocking = await self._keep_at(door, lambda ledger: settling.door_opened(ledger, door))
        if unlocking is not None:
            self._sessions.move(unlocking.session, SessionState.OPEN)
            await self._tell_ended(unlocking.attempt, Done(Outcome.OPENED))

    async def _settle_closed(self, door: str, *, seen_open: bool) -> None:
        view = self._sessions.latest_at(door)
        session = await self._keep_at(
            door,
            lambda ledger: settling.door_closed(
                ledger,
                door,
                seen_open=seen_open,
                empty=view is not None and view.session in self._left_empty,
                item=self.cabinet.reading(door).item,
                issue=self._issue,
                hold_s=self._terms.hold_s,
            ),
        )
        self._left_empty.discard(session)
        if seen_open:
            self._sessions.move(session, SessionState.CLOSED)
            self._sessions.move(session, SessionState.ENDED)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _new_attempt(self) -> Attempt:
        return Attempt(
            attempt=uuid7(self._clock.wall(), self._random(10)), session=self._sessions.new_id(), before=Hook.UNKNOWN
        )

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One door at a time, so that nobody has to guard two: from the commit until its attempt has an outcome."""
        self._busy = True
        self._handed_on = False
        try:
            yield
        finally:
            self._busy = self._handed_on

    def _open(self, kind: SessionKind, door: str, attempt: Attempt) -> Accepted:
        """The attempt is committed: show it, and let it go on without the caller."""
        self._handed_on = True
        self._sessions.begin(attempt.session, kind, door)
        self._background(f"open-{door}", lambda: self._attempt(door, attempt.attempt))
        return Accepted(attempt.session, door)

    async def _attempt(self, door: str, attempt: str) -> None:
        try:
            done = await self.cabinet.attempt(
                door, lambda pulses: self._keep(lambda ledger: settling.announce_again(ledger, door, pulses))
            )
        finally:
            self._busy = False
        await self._conclude(door, attempt, done)

    async def _find_out(self, unlocking: Unlocking, outcome: Awaitable[Done]) -> None:
        await self._conclude(unlocking.door, unlocking.attempt, await outcome)

    async def _conclude(self, door: str, attempt: str, done: Done) -> None:
        """Keep and show an outcome. That the door opened was kept when its readings showed it."""
        if done.outcome is Outcome.OPENED:
            return
        hook = self.cabinet.standing(door)
        unlocking = await self._keep_at(door, lambda ledger: settling.attempt_ended(ledger, door, done, hook))
        if unlocking is not None:
            self._sessions.move(unlocking.session, _SHOWN[done.outcome])
            await self._tell_ended(attempt, done)

    async def _tell_ended(self, attempt: str, done: Done) -> None:
        ended = self._ended.pop(attempt, None)
        if ended is not None:
            await ended(done)

    async def _keep(self, work: Callable[[Ledger], T]) -> T:
        """Keep what has already happened: the disk is asked until it takes it."""
        while True:
            try:
                return await self._store.write(work)
            except StoreError:
                await self._clock.sleep(RETRY_S)

    async def _keep_at(self, door: str, work: Callable[[Ledger], T]) -> T:
        """``_keep``, with the door as it stands now beside it."""
        state, reading = self.cabinet.state(door), self.cabinet.reading(door)

        def with_snapshot(ledger: Ledger) -> T:
            result = work(ledger)
            settling.snapshot(ledger, door, state, reading)
            return result

        return await self._keep(with_snapshot)

    async def _admit(self, token: str, pin: str) -> Badge | Refused:
        """The bearer of a badge that is good here and whose PIN is right."""
        try:
            bearer = badges.read_badge(self._read_badge(token))
        except VerificationError as error:
            return await self._turn_away(error.reason)
        floor = await self._store.write(lambda ledger: ledger.floor())
        fault = badges.badge_fault(
            bearer, node=self._terms.node, wall=self._clock.wall(), trusted=self._clock.trusted(), floor=floor
        )
        if fault is not None or not badges.well_formed(pin):
            return await self._turn_away(fault.value if fault else BadgeFault.WRONG_PIN.value)
        charge = await self._store.write(lambda ledger: depositing.charge(ledger, bearer))
        if isinstance(charge, PinRefusal):
            return await self._turn_away(charge.fault.value, charge.retry_after)
        if not await asyncio.to_thread(badges.pin_matches, bearer, pin):
            return await self._turn_away(BadgeFault.WRONG_PIN.value)
        await self._store.write(lambda ledger: depositing.refund(ledger, bearer))
        return bearer

    async def _turn_away(self, cause: str, retry_after: float | None = None) -> Refused:
        await self._store.write(lambda ledger: ledger.tally("badge", cause))
        return Refused(Reason.NOT_ALLOWED if retry_after is None else Reason.WAIT, retry_after)


def _require_below_caps(ledger: Ledger) -> None:
    for seconds, most in REMOTE_CAPS:
        if ledger.remote_openings(seconds) >= most:
            raise VerificationError(
                "capped", f"{most} doors were opened in {seconds:.0f} s", remedy="go there, or wait"
            )
