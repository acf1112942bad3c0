"""The locker's use cases, each told in order: collect, deposit, open by command.

What a story decides is committed before anything moves or shows; ``locker.openings_asyncio`` pulses, follows and keeps.
Adapters (boards, store, codes) are handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from edge.clock import Clock
from edge.errors import StoreFull, VerificationError
from edge.voucher import Voucher
from locker import announcing, depositing, vouchers
from locker.admission_asyncio import Admission
from locker.announcing import Attempt, Purpose
from locker.badge import Badge
from locker.cabinet_asyncio import Cabinet
from locker.collecting import Doors, judge_code
from locker.commands import is_id
from locker.compartment import Size
from locker.contract import Cause, Reason, Word
from locker.depositing import Asked
from locker.desired import Wishes, utc
from locker.door import Done, Happening
from locker.issuing import Issue
from locker.kiosk import Accepted, DoorView, Refused, SessionState, SessionView
from locker.ledger import Ledger, Store
from locker.openings_asyncio import Ended, Openings
from locker.pickup_code import BUSY_RETRY, CodeHasher, Refusal, parse
from locker.sessions_asyncio import Sessions

KEPT_DEPOSITS = 8
"""Deposits that may still need another door: one is under way at a time, and its courier decides at once."""
SCANNED = "scan:"
"""Begins a reference to what a scanner has read; the page never holds the thing itself."""


def _nothing_scanned(reference: str) -> str:
    raise VerificationError("unknown_scan", f"no scanner has read {reference}", remedy="scan it again")


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


class Readers(msgspec.Struct, frozen=True):
    """What proves the things that people show. Each raises ``VerificationError``.

    ``badge`` and ``voucher`` verify the signature and all that needs no ledger. ``resolve`` tells what a reference to
    a scan stands for.
    """

    badge: Callable[[str], Mapping[str, Any]]
    voucher: Callable[[str], Voucher]
    resolve: Callable[[str], str] = _nothing_scanned

    def scanned(self, shown: str) -> str:
        """What was shown: itself, or what the scanner has read under this reference."""
        return self.resolve(shown) if shown.startswith(SCANNED) else shown


class LockerService:
    """``locker.kiosk.Desk``, and the answer to the command ``open``.

    ``issue`` makes codes. ``background`` runs a task to its end; one that dies ends the process, and ``recover`` takes
    over.
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
        readers: Readers,
        background: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self.terms = terms
        """Exchanged whole when the operator wants others."""
        self._clock = clock
        self._hasher = hasher
        self._deposits: dict[str, Asked] = {}
        """What was asked for, by session, for whoever needs another door for it."""
        self._store = store
        self._readers = readers
        self._admission = Admission(store, clock, readers.badge)
        self.openings = Openings(
            store=store,
            sessions=sessions,
            clock=clock,
            issue=issue,
            hold_s=lambda: self.terms.hold_s,
            background=background,
        )
        self.cabinet: Cabinet

    def attach(self, cabinet: Cabinet) -> None:
        """Hand in the cabinet, whose readings come back to ``heard``."""
        self.cabinet = self.openings.cabinet = cabinet

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer types a code; the right door opens. ``open_one`` tells what follows the verdict."""
        typed = parse(code, extension)

        def verdict(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return judge_code(ledger, typed, hasher=self._hasher, doors=self._doors(), attempt=attempt, confirm=confirm)

        return await self.openings.open_one(Purpose.RELEASE, verdict)

    async def collect_by_voucher(self, voucher: str, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer shows a signed QR; the right door opens. Neither a code nor a network is needed."""
        try:
            shown = self._readers.voucher(self._readers.scanned(voucher))
        except VerificationError as error:
            reason = vouchers.FAULTS.get(error.reason, Reason.VOUCHER_REFUSED)
            refusal = await self._store.write(lambda ledger: vouchers.refuse(ledger, reason))
            return Refused(refusal.reason)

        def verdict(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return vouchers.judge_voucher(ledger, shown, doors=self._doors(), attempt=attempt, confirm=confirm)

        return await self.openings.open_one(Purpose.RELEASE, verdict)

    def _doors(self) -> Doors:
        return Doors(self.cabinet.serviceable, self.cabinet.standing)

    async def deposit(
        self,
        badge: str,
        pin: str,
        bookings: tuple[str, ...],
        size: str,
        low: bool,  # noqa: FBT001 - the API's own word
    ) -> Accepted | Refused:
        """A courier shows a badge and puts parcels, of one customer or one scan-in, into the compartment that opens."""
        if not depositing.well_formed(bookings) or not all(is_id(each) for each in bookings):
            return Refused(Reason.BOOKING_REFUSED)
        try:
            bearer = await self._admission.admit(badge, pin, self.terms.node)
            if not isinstance(bearer, Badge):
                return bearer
            asked = Asked(
                bearer=bearer,
                bookings=bookings,
                size=Size(size),
                low=low,
                open=self.terms.take_deposits(self._clock.wall(), trusted=self._clock.trusted()),
                shut=frozenset(self.terms.wishes.out_of_service),
            )
            return await self._place(asked)
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    async def _place(self, asked: Asked) -> Accepted | Refused:
        answer = await self.openings.open_one(
            Purpose.DEPOSIT,
            lambda ledger, attempt: depositing.place(ledger, asked, self.cabinet.candidate, attempt),
        )
        if isinstance(answer, Accepted):
            self._deposits[answer.session] = asked
            while len(self._deposits) > KEPT_DEPOSITS:
                del self._deposits[next(iter(self._deposits))]
        return answer

    async def next(self, session: str) -> Accepted | Refused | None:
        """The same visit goes on at another door: a deposit, where the compartment would not do."""
        view = self.openings.sessions.view(session)
        asked = self._deposits.get(session)
        if view is None or view.next != "deposit" or asked is None:
            return None
        if view.state is not SessionState.ENDED:
            return Refused(Reason.BUSY, BUSY_RETRY)
        if view.door in asked.too_small:
            larger = self.cabinet.of(view.door).size.larger
            if larger is None:
                return Refused(Reason.NO_ROOM)
            asked = msgspec.structs.replace(asked, size=larger)
        del self._deposits[session]
        try:
            return await self._place(asked)
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    async def open_by_command(
        self,
        door: str,
        jti: str,
        take: Callable[[Ledger], object],
        ended: Ended,
    ) -> None:
        """An admitted command opens one door. ``take`` keeps the command in the transaction that announces the pulse.

        Raises ``VerificationError`` (``busy``, ``capped``, ``no_such_door``): nothing was done. ``ended`` hears the
        outcome; where it raises ``StoreError`` it hears it again.
        """
        if door not in self.cabinet.compartments:
            raise VerificationError("no_such_door", f"no door {door}", remedy="name a door of this locker")

        def admit(ledger: Ledger, attempt: Attempt) -> str:
            announcing.charge_remote_opening(ledger)
            take(ledger)
            announced = msgspec.structs.replace(attempt, before=self.cabinet.standing(door))
            announcing.announce(ledger, door, announced, Cause.COMMAND, cause_id=jti)
            return door

        answer = await self.openings.open_one(Purpose.LOOK, admit, ended)
        if isinstance(answer, Refused):
            raise VerificationError("busy", "another door is being opened", remedy="ask for a nonce and try again")

    async def recover(self, ended: Callable[[str, Done], Awaitable[None]]) -> list[str]:
        """``Openings.recover``."""
        return await self.openings.recover(ended)

    async def heard(self, door: str, happening: Happening) -> None:
        """``Openings.heard``."""
        await self.openings.heard(door, happening)

    async def end(self, session: str, word: Word) -> SessionView | None:
        """``Openings.end``; a deposit that does not fit goes on with what is larger."""
        view = await self.openings.end(session, word)
        asked = self._deposits.get(session)
        if view is not None and asked is not None and view.next and word is Word.DOES_NOT_FIT:
            self._deposits[session] = msgspec.structs.replace(asked, too_small=asked.too_small | {view.door})
        return view

    # -- what the page may look at ---------------------------------------------------------------------------------

    def session(self, session: str) -> SessionView | None:
        return self.openings.sessions.view(session)

    def watch(self, session: str) -> AsyncIterator[SessionView]:
        return self.openings.sessions.watch(session)

    def languages(self) -> tuple[str, ...]:
        return self.terms.wishes.languages or ()

    def doors(self) -> list[DoorView]:
        cabinet = self.cabinet
        return [
            DoorView(door, each.size.value, each.low, cabinet.state(door))
            for door, each in sorted(cabinet.compartments.items())
        ]
