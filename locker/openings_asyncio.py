"""One door at a time: what is decided is committed before anything moves or shows, then pulsed, followed and kept.

Every use case that opens a door goes through ``Openings.open_one``; what doors show comes in by ``heard``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec

from edge.clock import Clock
from edge.errors import LastmileError, StoreError
from edge.journal import Need
from locker import announcing, saying, settling
from locker import badge as badges
from locker.announcing import BY_COMMAND, PURPOSES, Attempt, Purpose
from locker.cabinet_asyncio import Cabinet
from locker.contract import DoorState, Reason, Word
from locker.door import Done, Happening, Outcome
from locker.issuing import Issue
from locker.kiosk import Accepted, Refused, SessionKind, SessionState, SessionView
from locker.latch import Hook
from locker.ledger import Ledger, Store, Unlocking
from locker.pickup_code import BUSY_RETRY, Refusal
from locker.sessions_asyncio import Sessions
from locker.settling import Closed

T = TypeVar("T")

Choose = Callable[[Ledger, Attempt], "str | Refusal"]
"""In one transaction: choose a door and announce its pulse, or refuse."""
Ended = Callable[[Done], Awaitable[None]]


class Offer(msgspec.Struct, frozen=True):
    """Another door that belongs to the same visit: what the page calls it, what it is opened for, how it is chosen."""

    next: Literal["collect", "deposit"]
    purpose: Purpose
    choose: Choose


Follow = Callable[[Ledger, Closed], Offer | None]
"""In the transaction that settles a closed door: what its visit goes on with."""

RETRY_S = 1.0
"""Between two tries to keep what has already happened at a door, while the disk refuses."""
NEXT_S = 120.0
"""The next door of a visit is opened without a new proof for so long: time to put a parcel down and turn round. Whoever
begins anything else at this locker ends it earlier, so that no stranger is handed the rest. Where the door stood open
until it was an alarm there is no next one: its customer has gone, and whoever shuts it is somebody else."""
WORD_S = badges.OWN_DEPOSIT
"""A courier's deposit that ended unknown waits so long for the word whether the parcel is inside."""

_SHOWN = {
    Outcome.JAMMED: SessionState.JAMMED,
    Outcome.UNSENT: SessionState.JAMMED,
    Outcome.UNKNOWN: SessionState.UNKNOWN,
}

_SHUT = {Happening.CHIME: "chime", Happening.AJAR: "alarm"}

_KINDS = {
    Purpose.RELEASE: SessionKind.COLLECT,
    Purpose.DEPOSIT: SessionKind.DEPOSIT,
    Purpose.LOOK: SessionKind.LOOK,
    Purpose.TAKE_BACK: SessionKind.RECALL,
}


class Openings:
    """Attempts to open a door, with the session that each belongs to, from the question to the outcome.

    ``issue`` makes codes. ``hold_s`` says how long a parcel without a booking of its own waits. ``background`` runs a
    task to its end; one that dies ends the process, and ``recover`` takes over. ``follow`` says what a visit
    goes on with, ``offline`` whether what is told now may reach nobody for a while.
    """

    def __init__(
        self,
        *,
        store: Store,
        sessions: Sessions,
        clock: Clock,
        issue: Issue,
        hold_s: Callable[[], float],
        follow: Follow,
        offline: Callable[[], bool],
        background: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._store = store
        self.sessions = sessions
        self._clock = clock
        self._issue = issue
        self._hold_s = hold_s
        self._follow = follow
        self._offline = offline
        self._offer: tuple[str, Offer, float] | None = None
        self._background = background
        self._ended: dict[str, Ended] = {}
        self._under_way = 0  # attempts whose outcome is not kept yet
        self.cabinet: Cabinet

    async def open_one(self, purpose: Purpose, choose: Choose, ended: Ended | None = None) -> Accepted | Refused:
        """One door at a time, so that nobody has to guard two. The story goes on by itself, whoever stops listening.

        ``ended`` hears the outcome; where it raises ``StoreError`` it hears it again.
        """
        if self._under_way:
            return Refused(Reason.BUSY, BUSY_RETRY)
        self._under_way += 1
        answer: asyncio.Future[Accepted | Refused] = asyncio.get_running_loop().create_future()
        self._background("open", lambda: self._story(purpose, choose, ended, answer))
        return await answer

    async def _story(
        self, purpose: Purpose, choose: Choose, ended: Ended | None, answer: asyncio.Future[Accepted | Refused]
    ) -> None:
        """From the question to the outcome, in order: commit, answer, pulse and follow, commit."""
        attempt = self._new_attempt()
        try:
            chosen = await self._commit(purpose, choose, attempt, answer)
            if chosen is None:
                return
            door, count, purpose = chosen
            self._offer = None
            if ended is not None:
                self._ended[attempt.attempt] = ended
            self.sessions.begin(attempt.session, _KINDS[purpose], door, count, remote=ended is not None)
            if purpose is Purpose.DEPOSIT and not await self._copied():
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
        self, purpose: Purpose, choose: Choose, attempt: Attempt, answer: asyncio.Future[Accepted | Refused]
    ) -> tuple[str, int, Purpose] | None:
        """The door whose pulse is now announced, how many parcels are behind it and what it is really opened for; None
        where the answer is a refusal, or the disk did not take it.
        """
        need = Need.DEPOSIT if purpose is Purpose.DEPOSIT else Need.COLLECTION

        def counted(ledger: Ledger) -> tuple[str, int, Purpose] | Refusal:
            door = choose(ledger, attempt)
            if isinstance(door, Refusal):
                return door
            announced = ledger.unlocking(door)
            # A code that asks for a parcel may first take one in, and that is no reason to use up the reserve.
            meant = purpose if announced is None else PURPOSES[announced.cause]
            if meant is Purpose.DEPOSIT:
                ledger.require(Need.DEPOSIT)
            return door, len(ledger.parcels_at(door)), meant

        try:
            chosen = await self._store.write(counted, need)
        except LastmileError as error:
            if not answer.done():
                answer.set_exception(error)
            return None
        if isinstance(chosen, Refusal):
            _tell(answer, Refused(chosen.reason, chosen.retry_after))
            return None
        return chosen

    async def open_next(self, session: str) -> Accepted | Refused:
        """Open the door that ``session`` was offered, while nobody has begun anything else."""
        if self._offer is None or self._offer[0] != session or self._clock.mono() >= self._offer[2]:
            return Refused(Reason.NOT_HERE)
        _, offer, _ = self._offer
        return await self.open_one(offer.purpose, offer.choose)

    async def recover(self, ended: Callable[[str, Done], Awaitable[None]]) -> list[str]:
        """After a crash, before the first reading: follow every attempt without outcome. Nothing is pulsed again.

        ``ended(jti, done)`` hears what became of a door that a command opened; returns the ids of these commands.
        """
        commands = []
        for each, count in await self._store.write(_unfinished):
            if each.door not in self.cabinet.compartments:
                continue
            by_command = each.cause in BY_COMMAND
            if by_command:
                commands.append(each.cause_id)
                self._ended[each.attempt] = functools.partial(ended, each.cause_id)
            self.sessions.begin(each.session, _KINDS[PURPOSES[each.cause]], each.door, count, remote=by_command)
            outcome = self.cabinet.resume(each.door, Hook(each.before))
            self._under_way += 1
            self._background(f"recover-{each.door}", functools.partial(self._find_out, each, outcome))
        return commands

    async def end(self, session: str, word: Word) -> SessionView | None:
        """The person is through. A closed or doubtful door ends the session now, an open one when it closes."""
        view = self.sessions.view(session)
        if view is None:
            return None
        if view.state is SessionState.ENDED:
            if word in settling.WRONG:  # found out when the door was shut already
                await self.keep(lambda ledger: saying.told_late(ledger, view.door, session, word))
            return view
        if word is not Word.NONE and not await self._said(view, word):
            return view
        if word is Word.WILL_NOT_CLOSE:
            self._end_session(view)
        if view.awaits_word:
            if self.cabinet.state(view.door) in {DoorState.OPEN, DoorState.AJAR}:
                return view
            await self._settle_closed(view.door, seen_open=False)
        if view.state in {SessionState.JAMMED, SessionState.UNKNOWN, SessionState.CLOSED}:
            self._end_session(view)
        return self.sessions.view(session)

    async def _said(self, view: SessionView, word: Word) -> bool:
        """Keep the word; False where somebody else is at that door by now."""

        def keep(ledger: Ledger) -> tuple[bool, Offer | None]:
            closed = saying.told(ledger, view.door, view.session, word)
            return closed is not None, None if closed is None else self._follow(ledger, closed)

        kept, offer = await self.keep(keep)  # no word moves a door: there is no new sight of it to keep
        if offer is not None:
            self.offer(view.session, offer)
        return kept

    async def heard(self, door: str, happening: Happening) -> None:
        """A reading has shown something. It is kept before anybody is told, however long the disk refuses."""
        if happening is Happening.OPENED:
            await self._heard_open(door)
        elif happening in {Happening.CLOSED, Happening.FOUND_CLOSED}:
            await self._heard_closed(door, seen_open=happening is Happening.CLOSED)
        elif happening is not Happening.CHIME:
            await self._keep_at(door, lambda ledger: settling.noticed(ledger, door, happening))
        if happening in _SHUT:
            for view in self.sessions.at(door):
                self.sessions.note(view.session, shut=_SHUT[happening])

    async def _heard_open(self, door: str) -> None:
        unlocking = await self._keep_at(door, lambda ledger: settling.door_opened(ledger, door))
        if unlocking is not None:
            self.sessions.move(unlocking.session, SessionState.OPEN)
            self._tell_ended(unlocking.attempt, Done(Outcome.OPENED))

    async def _heard_closed(self, door: str, *, seen_open: bool) -> None:
        here = self.sessions.at(door)
        if not seen_open and any(view.awaits_word for view in here):
            return  # nothing was seen, and the courier who knows stands there
        await self._settle_closed(door, seen_open=seen_open)
        for view in here:
            if seen_open or view.state is SessionState.OPEN:
                self.sessions.move(view.session, SessionState.CLOSED)
                self._end_session(view)

    async def _settle_closed(self, door: str, *, seen_open: bool) -> None:
        item = self.cabinet.reading(door).item

        def settle(ledger: Ledger) -> tuple[Closed, Offer | None]:
            closed = settling.door_closed(
                ledger, door, seen_open=seen_open, item=item, issue=self._issue, hold_s=self._hold_s()
            )
            return closed, self._follow(ledger, closed)

        closed, offer = await self._keep_at(door, settle)
        if closed.sealed and self._offline():
            self.sessions.note(closed.session, carry=" ".join(closed.sealed))
        view = self.sessions.view(closed.session)
        if offer is not None and view is not None and view.shut != "alarm":
            self.offer(closed.session, offer)

    def offer(self, session: str, offer: Offer) -> None:
        """What the visit of ``session`` may go on with."""
        self._offer = (session, offer, self._clock.mono() + NEXT_S)
        self.sessions.note(session, next=offer.next)

    def _new_attempt(self) -> Attempt:
        return Attempt(attempt=self.sessions.new_id(), session=self.sessions.new_id(), before=Hook.UNKNOWN)

    async def _announce_again(self, door: str, attempt: str, pulses: int) -> None:
        await self.keep(lambda ledger: announcing.announce_again(ledger, door, attempt, pulses))

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
        self.sessions.move(unlocking.session, _SHOWN[done.outcome])
        self._tell_ended(attempt, done)
        view = self.sessions.view(unlocking.session)
        if view is not None and view.awaits_word:
            self._background(f"word-{door}", lambda: self._wait_for_word(view.session))

    async def _wait_for_word(self, session: str) -> None:
        """A courier who says nothing has left the parcel inside, whatever the sensor says: it must stay collectable."""
        await self._clock.sleep(WORD_S)
        view = self.sessions.view(session)
        if view is not None and view.awaits_word:
            await self._settle_closed(view.door, seen_open=False)
            self._end_session(view)

    def _end_session(self, view: SessionView) -> None:
        self.sessions.move(view.session, SessionState.ENDED)

    def _tell_ended(self, attempt: str, done: Done) -> None:
        ended = self._ended.pop(attempt, None)
        if ended is not None:
            self._background(f"ended-{attempt}", lambda: self._persist(lambda: ended(done)))

    async def keep(self, work: Callable[[Ledger], T]) -> T:
        """One transaction about what has already happened: the disk is asked until it takes it."""
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

        return await self.keep(with_snapshot)


def _unfinished(ledger: Ledger) -> list[tuple[Unlocking, int]]:
    return [(each, len(ledger.parcels_at(each.door))) for each in ledger.open_unlockings()]


def _tell(answer: asyncio.Future[Accepted | Refused], what: Accepted | Refused) -> None:
    if not answer.done():  # whoever asked may have left
        answer.set_result(what)
