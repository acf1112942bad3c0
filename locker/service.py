"""The locker's use cases, each told in order: collect, deposit, open by command, recover.

What a story decides is committed before anything moves or shows. Adapters (boards, store, codes) are handed in.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from edge.clock import Clock
from edge.errors import LastmileError, StoreError, StoreFull, VerificationError
from edge.journal import Need
from locker import badge as badges
from locker import depositing, settling
from locker.admission_asyncio import Admission
from locker.badge import Badge
from locker.cabinet_asyncio import Cabinet
from locker.commands import is_id
from locker.compartment import Size
from locker.contract import Cause, DoorState, Reason
from locker.desired import Wishes, utc
from locker.door import Done, Happening, Outcome
from locker.kiosk import Accepted, DoorView, Refused, SessionKind, SessionState, SessionView
from locker.latch import Hook
from locker.ledger import Ledger, Store, Unlocking
from locker.pickup_code import BUSY_RETRY, CodeHasher, Refusal, parse
from locker.sessions_asyncio import Sessions
from locker.settling import Attempt, Issue

T = TypeVar("T")

Choose = Callable[[Ledger, Attempt], "str | Refusal"]
"""In one transaction: choose a door and announce its pulse, or refuse."""
Ended = Callable[[Done], Awaitable[None]]

RETRY_S = 1.0
"""Between two tries to keep what has already happened at a door, while the disk refuses."""
WORD_S = badges.OWN_DEPOSIT
"""A courier's deposit that ended unknown waits so long for the word whether the parcel is inside."""

_SHOWN = {
    Outcome.JAMMED: SessionState.JAMMED,
    Outcome.UNSENT: SessionState.JAMMED,
    Outcome.UNKNOWN: SessionState.UNKNOWN,
}


class Terms(msgspec.Struct, frozen=True):
    """``hold_s`` is how long a parcel without a booking of its own waits for its customer.

    ``local`` turns wall seconds into the day of the week (1 is Monday) and the minute of the day where the locker is.
    """

    node: str
    hold_s: float = 3 * 86_400.0
    wishes: Wishes = Wishes()
    local: Callable[[float], tuple[int, int]] = utc

    def under(self, wishes: Wishes) -> Terms:
        """These terms, which are the configuration's, as ``wishes`` change them."""
        hold_s = self.hold_s if wishes.hold_hours is None else wishes.hold_hours * 3600.0
        return msgspec.structs.replace(self, hold_s=hold_s, wishes=wishes)

    def take_deposits(self, wall: float, *, trusted: bool) -> bool:
        """Whether this is an hour for deposits. Nobody is turned away on the word of a clock that nobody has set."""
        return not trusted or self.wishes.takes_deposits(*self.local(wall))


class LockerService:
    """``locker.kiosk.Desk``, and the answer to the command ``open``.

    ``read_badge`` verifies a badge's signature and returns its claims or raises ``VerificationError``. ``issue`` makes
    codes. ``background`` runs a task to its end; one that dies ends the process, and ``recover`` takes over.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        store: Store,
        sessions: Sessions,
        clock: Clock,
        hasher: CodeHasher,
        issue: Issue,
        read_badge: Callable[[str], Mapping[str, Any]],
        background: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self.terms = terms
        """Exchanged whole when the operator wants others."""
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._hasher = hasher
        self._issue = issue
        self._admission = Admission(store, clock, read_badge)
        self._background = background
        self._left_empty: set[str] = set()
        self._ended: dict[str, Callable[[Done], Awaitable[None]]] = {}
        self._under_way = 0  # attempts whose outcome is not kept yet
        self.cabinet: Cabinet

    def attach(self, cabinet: Cabinet) -> None:
        """Hand in the cabinet, whose readings come back to ``heard``."""
        self.cabinet = cabinet

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer types a code; the right door opens. ``_open_one`` tells what follows the verdict."""
        typed = parse(code, extension)

        def verdict(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return settling.judge_code(
                ledger,
                typed,
                hasher=self._hasher,
                serviceable=self.cabinet.serviceable,
                before=self.cabinet.standing,
                attempt=attempt,
                confirm=confirm,
            )

        return await self._open_one(SessionKind.COLLECT, verdict)

    async def deposit(self, badge: str, pin: str, booking: str, size: str, low: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A courier shows a badge and puts a parcel into the compartment that opens."""
        if not is_id(booking):
            return Refused(Reason.BOOKING_REFUSED)
        try:
            bearer = await self._admission.admit(badge, pin, self.terms.node)
            if not isinstance(bearer, Badge):
                return bearer
            asked = depositing.Asked(
                bearer=bearer,
                booking=booking,
                size=Size(size),
                low=low,
                open=self.terms.take_deposits(self._clock.wall(), trusted=self._clock.trusted()),
                shut=frozenset(self.terms.wishes.out_of_service),
            )
            return await self._open_one(
                SessionKind.DEPOSIT,
                lambda ledger, attempt: depositing.place(ledger, asked, self.cabinet.candidate, attempt),
            )
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    async def open_by_command(
        self,
        door: str,
        jti: str,
        take: Callable[[Ledger], object],
        ended: Callable[[Done], Awaitable[None]],
    ) -> None:
        """An admitted command opens one door. ``take`` keeps the command in the transaction that announces the pulse.

        Raises ``VerificationError`` (``busy``, ``capped``, ``no_such_door``): nothing was done. ``ended`` hears the
        outcome; where it raises ``StoreError`` it hears it again.
        """
        if door not in self.cabinet.compartments:
            raise VerificationError("no_such_door", f"no door {door}", remedy="name a door of this locker")

        def admit(ledger: Ledger, attempt: Attempt) -> str:
            settling.charge_remote_opening(ledger)
            take(ledger)
            announced = msgspec.structs.replace(attempt, before=self.cabinet.standing(door))
            settling.announce(ledger, door, announced, Cause.COMMAND, cause_id=jti)
            return door

        answer = await self._open_one(SessionKind.COLLECT, admit, ended)
        if isinstance(answer, Refused):
            raise VerificationError("busy", "another door is being opened", remedy="ask for a nonce and try again")

    async def _open_one(self, kind: SessionKind, choose: Choose, ended: Ended | None = None) -> Accepted | Refused:
        """One door at a time, so that nobody has to guard two. The story goes on by itself, whoever stops listening."""
        if self._under_way:
            return Refused(Reason.BUSY, BUSY_RETRY)
        self._under_way += 1
        answer: asyncio.Future[Accepted | Refused] = asyncio.get_running_loop().create_future()
        self._background("open", lambda: self._story(kind, choose, ended, answer))
        return await answer

    async def _story(
        self, kind: SessionKind, choose: Choose, ended: Ended | None, answer: asyncio.Future[Accepted | Refused]
    ) -> None:
        """From the question to the outcome, in order: commit, answer, pulse and follow, commit."""
        attempt = self._new_attempt()
        try:
            door = await self._commit(kind, choose, attempt, answer)
            if door is None:
                return
            if ended is not None:
                self._ended[attempt.attempt] = ended
            self._sessions.begin(attempt.session, kind, door)
            if kind is SessionKind.DEPOSIT and not await self._copied():
                await self._conclude(door, attempt.attempt, Done(Outcome.UNSENT))
                _tell(answer, Refused(Reason.OUT_OF_SERVICE))
                return
            _tell(answer, Accepted(attempt.session, door))
            done = await self.cabinet.attempt(door, functools.partial(self._announce_again, door, attempt.attempt))
            await self._conclude(door, attempt.attempt, done)
        finally:
            self._under_way -= 1
            answer.cancel()  # only where a defect has left it open

    async def _commit(
        self, kind: SessionKind, choose: Choose, attempt: Attempt, answer: asyncio.Future[Accepted | Refused]
    ) -> str | None:
        """The door whose pulse is now announced; None where the answer is a refusal, or the disk did not take it."""
        need = Need.DEPOSIT if kind is SessionKind.DEPOSIT else Need.COLLECTION
        try:
            chosen = await self._store.write(lambda ledger: choose(ledger, attempt), need)
        except LastmileError as error:
            if not answer.done():
                answer.set_exception(error)
            return None
        if isinstance(chosen, Refusal):
            _tell(answer, Refused(chosen.reason, chosen.retry_after))
            return None
        return chosen

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
            self._under_way += 1
            self._background(f"recover-{each.door}", functools.partial(self._find_out, each, outcome))
        return commands

    async def end(self, session: str, empty: bool) -> SessionView | None:  # noqa: FBT001 - the API's own word
        """The person is through. A closed or doubtful door ends the session now, an open one when it closes."""
        view = self._sessions.view(session)
        if view is None or view.state is SessionState.ENDED:
            return view
        if view.kind is SessionKind.DEPOSIT and empty:
            self._left_empty.add(session)
        if view.awaits_word:
            if self.cabinet.state(view.door) in {DoorState.OPEN, DoorState.AJAR}:
                return view
            await self._settle_closed(view.door, seen_open=False)
        if view.state in {SessionState.JAMMED, SessionState.UNKNOWN, SessionState.CLOSED}:
            self._end_session(view)
        return self._sessions.view(session)

    # -- what the page may look at ---------------------------------------------------------------------------------

    def session(self, session: str) -> SessionView | None:
        return self._sessions.view(session)

    def watch(self, session: str) -> AsyncIterator[SessionView]:
        return self._sessions.watch(session)

    def languages(self) -> tuple[str, ...]:
        return self.terms.wishes.languages or ()

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
            await self._heard_closed(door, seen_open=happening is Happening.CLOSED)
        elif happening is not Happening.CHIME:
            await self._keep_at(door, lambda ledger: settling.noticed(ledger, door, happening))

    async def _heard_open(self, door: str) -> None:
        unlocking = await self._keep_at(door, lambda ledger: settling.door_opened(ledger, door))
        if unlocking is not None:
            self._sessions.move(unlocking.session, SessionState.OPEN)
            self._tell_ended(unlocking.attempt, Done(Outcome.OPENED))

    async def _heard_closed(self, door: str, *, seen_open: bool) -> None:
        here = self._sessions.at(door)
        if not seen_open and any(view.awaits_word for view in here):
            return  # nothing was seen, and the courier who knows stands there
        await self._settle_closed(door, seen_open=seen_open)
        for view in here:
            if seen_open or view.state is SessionState.OPEN:
                self._sessions.move(view.session, SessionState.CLOSED)
                self._end_session(view)

    async def _settle_closed(self, door: str, *, seen_open: bool) -> None:
        empty = any(view.session in self._left_empty for view in self._sessions.at(door))
        item = self.cabinet.reading(door).item
        await self._keep_at(
            door,
            lambda ledger: settling.door_closed(
                ledger,
                door,
                seen_open=seen_open,
                empty=empty,
                item=item,
                issue=self._issue,
                hold_s=self.terms.hold_s,
            ),
        )

    # -- steps -----------------------------------------------------------------------------------------------------

    def _new_attempt(self) -> Attempt:
        return Attempt(attempt=self._sessions.new_id(), session=self._sessions.new_id(), before=Hook.UNKNOWN)

    async def _announce_again(self, door: str, attempt: str, pulses: int) -> None:
        await self._keep(lambda ledger: settling.announce_again(ledger, door, attempt, pulses))

    async def _copied(self) -> bool:
        """Whether a copy of the ledger knows of the deposit, so that its compartment is not offered after a loss."""
        try:
            await self._store.copied()
        except StoreError:
            return False
        return True

    async def _find_out(self, unlocking: Unlocking, outcome: Awaitable[Done]) -> None:
        try:
            await self._conclude(unlocking.door, unlocking.attempt, await outcome)
        finally:
            self._under_way -= 1

    async def _conclude(self, door: str, attempt: str, done: Done) -> None:
        """Keep and show an outcome. That the door opened was kept when its readings showed it."""
        if done.outcome is Outcome.OPENED:
            return
        hook = self.cabinet.standing(door)
        unlocking = await self._keep_at(door, lambda ledger: settling.attempt_ended(ledger, door, attempt, done, hook))
        if unlocking is None:
            return
        self._sessions.move(unlocking.session, _SHOWN[done.outcome])
        self._tell_ended(attempt, done)
        view = self._sessions.view(unlocking.session)
        if view is not None and view.awaits_word:
            self._background(f"word-{door}", lambda: self._wait_for_word(view.session))

    async def _wait_for_word(self, session: str) -> None:
        """A courier who says nothing has left the parcel inside, whatever the sensor says: it must stay collectable."""
        await self._clock.sleep(WORD_S)
        view = self._sessions.view(session)
        if view is not None and view.awaits_word:
            await self._settle_closed(view.door, seen_open=False)
            self._end_session(view)

    def _end_session(self, view: SessionView) -> None:
        self._sessions.move(view.session, SessionState.ENDED)
        self._left_empty.discard(view.session)

    def _tell_ended(self, attempt: str, done: Done) -> None:
        ended = self._ended.pop(attempt, None)
        if ended is not None:
            self._background(f"ended-{attempt}", lambda: self._persist(lambda: ended(done)))

    async def _keep(self, work: Callable[[Ledger], T]) -> T:
        return await self._persist(lambda: self._store.write(work))

    async def _persist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Keep what has already happened: the disk is asked until it takes it."""
        while True:
            try:
                return await act()
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


def _tell(answer: asyncio.Future[Accepted | Refused], what: Accepted | Refused) -> None:
    if not answer.done():  # whoever asked may have left
        answer.set_result(what)
