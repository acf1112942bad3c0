"""The locker's use cases, each told in order: collect, deposit, open by command.

What a story decides is committed before anything moves or shows; ``locker.openings_asyncio`` pulses, follows and keeps.
Adapters (boards, store, codes) are handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from edge.claims import refused
from edge.clock import Clock
from edge.errors import StoreFull, VerificationError
from edge.voucher import Voucher
from locker import announcing, depositing, dropping, grouping, saying, settling, vouchers
from locker.admission_asyncio import Admission
from locker.announcing import PURPOSES, Attempt, Purpose
from locker.badge import Badge, Role
from locker.cabinet_asyncio import Cabinet
from locker.collecting import Doors, admit_release, judge_code
from locker.commands import Release, is_id
from locker.compartment import Size
from locker.contract import Cause, Reason, Word
from locker.crowd import Crowd
from locker.depositing import Asked, Placing
from locker.desired import Wishes, utc
from locker.door import Done, Happening
from locker.issuing import Issue
from locker.kiosk import Accepted, DoorView, FrontView, Refused, SessionView, ShownCode
from locker.latch import Hook
from locker.ledger import Ledger, Store
from locker.openings_asyncio import Choose, Ended, Offer, Openings
from locker.pickup_code import CodeHasher, Refusal, parse
from locker.sensors_asyncio import CabinetSensors
from locker.sessions_asyncio import Sessions
from locker.settling import Closed
from locker.shown import Shown

Take = Callable[[Ledger], object]
"""Keeps an admitted command, in the transaction that announces its pulse."""


class Terms(msgspec.Struct, frozen=True):
    """``hold_s`` is how long a parcel without a booking of its own waits for its customer.

    ``local`` turns wall seconds into the day of the week (1 is Monday) and the minute of the day where the locker is.
    """

    node: str
    hold_s: float = 3 * 86_400.0
    deposits_without_mains: bool = True
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

    ``badge`` and ``voucher`` verify the signature and all that needs no ledger, a typed code is found by its hash.
    ``shown`` are the digits on the screen. ``resolve`` returns what a reference to a scan stands for, and anything else
    as it is.
    """

    hasher: CodeHasher
    badge: Callable[[str], Mapping[str, Any]]
    voucher: Callable[[str], Voucher]
    shown: Shown
    resolve: Callable[[str], str] = str


class LockerService:
    """``locker.kiosk.Desk``, and the answer to the command ``open``.

    ``issue`` makes codes. ``offline``: what is told now may reach nobody for a while. ``background`` runs a task to its
    end; one that dies ends the process, and ``recover`` takes over.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        store: Store,
        sessions: Sessions,
        clock: Clock,
        issue: Issue,
        readers: Readers,
        offline: Callable[[], bool],
        background: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self.terms = terms
        """Exchanged whole when the operator wants others."""
        self._clock = clock
        self._store = store
        self._readers = readers
        self.admission = Admission(store, clock, lambda shown: readers.badge(readers.resolve(shown)))
        self.openings = Openings(
            store=store,
            sessions=sessions,
            clock=clock,
            issue=issue,
            hold_s=lambda: self.terms.hold_s,
            follow=self._what_follows,
            offline=offline,
            background=background,
        )
        self._crowd = Crowd()
        self.cabinet: Cabinet
        self.sensors: CabinetSensors | None = None
        self._placing: Placing

    def attach(self, cabinet: Cabinet, sensors: CabinetSensors | None = None) -> None:
        """Hand in the cabinet, whose readings come back to ``heard``, and its sensors where it has any."""
        self.cabinet = self.openings.cabinet = cabinet
        self.sensors = sensors
        self._placing = Placing(cabinet.candidate, self._takes_deposits, self._shut)

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer types a code; the right door opens. ``open_one`` tells what follows the verdict."""
        typed = parse(code, extension)

        def verdict(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return judge_code(
                ledger, typed, hasher=self._readers.hasher, doors=self.door_facts(), attempt=attempt, confirm=confirm
            )

        return await self._hand_out(verdict)

    async def collect_by_voucher(self, voucher: str, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """A customer shows a signed QR; the right door opens. Neither a code nor a network is needed."""
        try:
            shown = self._readers.voucher(self._readers.resolve(voucher))
        except VerificationError as error:
            reason = vouchers.FAULTS.get(error.reason, Reason.VOUCHER_REFUSED)
            refusal = await self._store.write(lambda ledger: vouchers.refuse(ledger, reason))
            return Refused(refusal.reason)

        def verdict(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return vouchers.judge_voucher(ledger, shown, doors=self.door_facts(), attempt=attempt, confirm=confirm)

        return await self._hand_out(verdict)

    async def _hand_out(self, verdict: Choose) -> Accepted | Refused:
        """What is brought, by a drop code or in exchange, may be too much for the disk when handing out is not."""
        try:
            return await self.openings.open_one(Purpose.RELEASE, verdict)
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    def _what_follows(self, ledger: Ledger, closed: Closed) -> Offer | None:
        """After a door: the customer's other parcels, or another compartment for what did not go in."""
        if closed.cause is not None and PURPOSES[closed.cause] is Purpose.DEPOSIT:
            return self._after_deposit(ledger, closed)
        doors = self.door_facts()
        group = grouping.rest_of(ledger, closed, doors)
        if not group:
            return None

        def choose(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return grouping.judge_next(ledger, group, closed.session, doors=doors, attempt=attempt)

        return Offer("collect", Purpose.RELEASE, choose)

    async def next(self, session: str) -> Accepted | Refused | None:
        """Whoever was just at a door is shown to the next one that belongs to the same visit."""
        try:
            return await self.openings.open_next(session) if self.session(session) is not None else None
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    def _shut(self) -> frozenset[str]:
        """The doors that take no parcel now: by the operator's wish, for their temperature, or without mains."""
        closed = frozenset(self.terms.wishes.out_of_service)
        if self.sensors is None:
            return closed
        if self.sensors.mains_lost() and not self.terms.deposits_without_mains:
            return frozenset(self.cabinet.compartments)
        return closed | self.sensors.shut()

    def _takes_deposits(self) -> bool:
        return self.terms.take_deposits(self._clock.wall(), trusted=self._clock.trusted())

    def door_facts(self) -> Doors:
        return Doors(self.cabinet.serviceable, self.cabinet.standing, self._placing)

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
            bearer = await self.admission.admit(badge, pin, self.terms.node, Role.COURIER)
            if not isinstance(bearer, Badge):
                return bearer
            asked = Asked(
                by=bearer.depositor,
                bookings=bookings,
                size=Size(size),
                low=low,
            )
            return await self._place(asked)
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)

    async def _place(self, asked: Asked) -> Accepted | Refused:
        return await self.openings.open_one(
            Purpose.DEPOSIT, lambda ledger, attempt: self._placing.place(ledger, asked, attempt)
        )

    def _after_deposit(self, ledger: Ledger, closed: Closed) -> Offer | None:
        """Another compartment for what did not go in; or what is handed out in exchange."""
        if closed.word in saying.ANOTHER:
            return self._another_door(closed)
        parcel = dropping.handed_out_for(ledger, closed, self._placing.asked_in(closed.session))
        doors = self.door_facts()
        if not parcel:
            return None
        return Offer(
            "collect",
            Purpose.RELEASE,
            lambda ledger, attempt: grouping.hand_out(ledger, parcel, closed.session, doors=doors, attempt=attempt),
        )

    def _another_door(self, closed: Closed) -> Offer | None:
        """The deposit goes on behind another door; what was too large for the largest has none."""
        asked = self._placing.asked_in(closed.session)
        size: Size | None = asked.size if asked is not None else None
        if closed.word is Word.DOES_NOT_FIT:
            size = self.cabinet.of(closed.door).size.larger
        if asked is None or size is None:
            return None
        more = msgspec.structs.replace(asked, size=size)
        return Offer("deposit", Purpose.DEPOSIT, lambda ledger, attempt: self._placing.place(ledger, more, attempt))

    async def release_by_command(self, order: Release, jti: str, take: Take, ended: Ended) -> None:
        """An admitted command opens a stored parcel's door for its customer, who has just read our screen.

        Raises ``VerificationError``: a reason of ``Shown.require`` or ``collecting.admit_release``, or ``busy``; then
        nothing was done. ``take`` and ``ended`` as with ``open_by_command``. The caps on openings from afar are not for
        these: each proves that somebody stands here.
        """
        self._readers.shown.require(order.shown, self._clock.mono())

        def admit(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return admit_release(ledger, order, jti, take, doors=self.door_facts(), attempt=attempt)

        if isinstance(await self.openings.open_one(Purpose.RELEASE, admit, ended), Refused):
            raise _busy()

    async def open_by_command(
        self,
        door: str,
        jti: str,
        take: Take,
        ended: Ended,
    ) -> None:
        """An admitted command opens one door. ``take`` keeps the command in the transaction that announces the pulse.

        Raises ``VerificationError`` (``busy``, ``capped``, ``no_such_door``; ``being_served`` where somebody is by
        right at the open door): nothing was done. ``ended`` hears the outcome; where it raises ``StoreError`` it hears
        it again.
        """
        if door not in self.cabinet.compartments:
            raise VerificationError("no_such_door", f"no door {door}", remedy="name a door of this locker")

        def admit(ledger: Ledger, attempt: Attempt) -> str:
            if self.cabinet.standing(door) is Hook.OPEN and settling.being_served(ledger.parcels_at(door)):
                # Another pulse moves nothing, and what the person there says would be forgotten with their attempt.
                raise refused("being_served", f"{door} is open, and somebody is at it", "wait until they are through")
            announcing.charge_remote_opening(ledger)
            take(ledger)
            announced = msgspec.structs.replace(attempt, before=self.cabinet.standing(door))
            announcing.announce(ledger, door, announced, Cause.COMMAND, cause_id=jti)
            return door

        if isinstance(await self.openings.open_one(Purpose.LOOK, admit, ended), Refused):
            raise _busy()

    async def recover(self, ended: Callable[[str, Done], Awaitable[None]]) -> list[str]:
        """``Openings.recover``."""
        return await self.openings.recover(ended)

    async def heard(self, door: str, happening: Happening) -> None:
        """``Openings.heard``; and whether more doors stand open now than anybody opens."""
        await self.openings.heard(door, happening)
        many = self._crowd.saw(self.cabinet.standing_open())
        if many is not None:
            await self.openings.keep(lambda ledger: announcing.tell(ledger, many))

    async def end(self, session: str, word: Word) -> SessionView | None:
        """``Openings.end``."""
        return await self.openings.end(session, word)

    # -- what the page may look at ---------------------------------------------------------------------------------

    def session(self, session: str) -> SessionView | None:
        return self.openings.sessions.view(session)

    def current(self) -> SessionView | None:
        return self.openings.sessions.current()

    def shown(self) -> ShownCode:
        return ShownCode(*self._readers.shown.now(self._clock.mono()))

    def watch(self, session: str) -> AsyncIterator[SessionView]:
        return self.openings.sessions.watch(session)

    def languages(self) -> tuple[str, ...]:
        return self.terms.wishes.languages or ()

    def doors(self) -> list[DoorView]:
        cabinet = self.cabinet
        return [
            DoorView(door, each.size.value, each.low, cabinet.state(door), each.place)
            for door, each in sorted(cabinet.compartments.items())
        ]

    def front(self) -> FrontView:
        return self.cabinet.front


def _busy() -> VerificationError:
    return VerificationError("busy", "another door is being opened", remedy="ask for a nonce and try again")
