"""What staff do at the kiosk, each told in order: enter, take back, look after compartments, audit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge.clock import Clock
from edge.errors import StoreFull, VerificationError
from edge.identifiers import Randomness
from locker import auditing, recalling, servicing
from locker.admission_asyncio import Admission
from locker.announcing import Attempt, Purpose
from locker.badge import Badge, Role
from locker.cabinet_asyncio import Cabinet
from locker.collecting import Doors
from locker.contract import Cause, Found, Reason
from locker.kiosk import Accepted, Refused
from locker.latch import Reading
from locker.ledger import Audit, Ledger, Store
from locker.openings_asyncio import Choose, Openings
from locker.pickup_code import Refusal
from locker.staffing import VISIT_S, Task, VisitRole, VisitView


class _Visit(msgspec.Struct):
    """The one visit that there is. ``newest`` is the session that was the locker's newest when it was last used."""

    visit: str
    bearer: Badge
    used: float
    newest: str
    tried: list[str] = []
    """Doors that were opened in it, so that one that jams does not stand in the way of the next."""


class StaffDesk:
    """``locker.staffing.Staff``. A visit is kept in memory: whoever was in one enters again after a restart."""

    def __init__(
        self,
        *,
        node: str,
        store: Store,
        clock: Clock,
        random: Randomness,
        admission: Admission,
        openings: Openings,
        cabinet: Cabinet,
        doors: Callable[[], Doors],
    ) -> None:
        self._node = node
        self._store = store
        self._clock = clock
        self._random = random
        self._admission = admission
        self._openings = openings
        self._cabinet = cabinet
        self._doors = doors
        self._now: _Visit | None = None

    async def enter(self, badge: str, pin: str) -> VisitView | Refused:
        """Badge and PIN are judged as for a deposit, from the same budget of tries."""
        try:
            bearer = await self._admission.admit(badge, pin, self._node)
        except StoreFull:
            return Refused(Reason.OUT_OF_SERVICE)
        if isinstance(bearer, Refused):
            return bearer
        visit = self._now = _Visit(self._random(12).hex(), bearer, self._clock.mono(), self._openings.sessions.newest)
        return await self._view(visit)

    async def look(self, visit: str) -> VisitView | None:
        found = await self._find(visit)
        return None if found is None else await self._view(found)

    async def leave(self, visit: str) -> bool:
        known = await self._find(visit) is not None
        self._now = None if known else self._now
        return known

    # -- a courier -------------------------------------------------------------------------------------------------

    async def recall(self, visit: str, parcel: str | None) -> Accepted | Refused | None:
        """The next door with something to take along opens; ``locker.recalling`` says what that is."""
        found = await self._use(visit)
        if found is None:
            return None
        if found.bearer.role is not Role.COURIER:
            return Refused(Reason.NOT_ALLOWED)

        def choose(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return recalling.choose(
                ledger, found.bearer, parcel, after=found.tried, doors=self._doors(), attempt=attempt
            )

        return await self._open(found, Purpose.TAKE_BACK, choose)

    # -- service ---------------------------------------------------------------------------------------------------

    async def open(self, visit: str, door: str) -> Accepted | Refused | None:
        return await self._open_empty(visit, door, Cause.SERVICE)

    async def clean(self, visit: str, door: str) -> Accepted | Refused | None:
        return await self._open_empty(visit, door, Cause.CLEANING)

    async def out_of_service(self, visit: str, door: str, on: bool) -> VisitView | Refused | None:  # noqa: FBT001 - the API's own word
        """Taken out it is not offered, whatever its sensors say; what lies inside stays collectable."""

        def act(ledger: Ledger, bearer: Badge, reading: Reading) -> Refusal | None:
            if on:
                return servicing.take_out(ledger, door, bearer.jti)
            return servicing.put_back(ledger, door, bearer.jti, reading)

        return await self._do(visit, door, act)

    async def clear(self, visit: str, door: str) -> VisitView | Refused | None:
        return await self._do(
            visit, door, lambda ledger, bearer, reading: servicing.clear_seen(ledger, door, bearer.jti, reading)
        )

    # -- audit -----------------------------------------------------------------------------------------------------

    async def next(self, visit: str) -> Accepted | Refused | None:
        """The next door that nobody has looked behind yet. No cap counts it: somebody stands here."""
        found = await self._use(visit)
        if found is None:
            return None
        if found.bearer.role is not Role.SERVICE:
            return Refused(Reason.NOT_ALLOWED)

        def choose(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            audit = auditing.under_way(ledger)
            if audit is None:
                return Refusal(Reason.NOTHING_DUE)
            return auditing.open_next(
                ledger, audit, found.bearer.jti, after=found.tried, doors=self._doors(), attempt=attempt
            )

        return await self._open(found, Purpose.LOOK, choose)

    async def found(self, visit: str, door: str, found: Found, parcel: str | None) -> VisitView | Refused | None:
        """The ledger becomes what was seen."""

        def act(ledger: Ledger, bearer: Badge, reading: Reading) -> Refusal | None:
            audit = auditing.under_way(ledger)
            if audit is None:
                return Refusal(Reason.NOTHING_DUE)
            return auditing.reconcile(ledger, audit, door, found, parcel, by=bearer.jti, reading=reading)

        return await self._do(visit, door, act)

    # -- what they share -------------------------------------------------------------------------------------------

    async def _find(self, visit: str) -> _Visit | None:
        """The visit, unless it is over: too long without a word, somebody else came, or its badge has run out."""
        now = self._now
        if now is None or now.visit != visit:
            return None
        over = self._clock.mono() - now.used >= VISIT_S or self._openings.sessions.newest != now.newest
        if over or await self._admission.fault(now.bearer, self._node) is not None:
            self._now = None
            return None
        return now

    async def _use(self, visit: str) -> _Visit | None:
        found = await self._find(visit)
        if found is not None:
            found.used = self._clock.mono()
        return found

    async def _open(self, visit: _Visit, purpose: Purpose, choose: Choose) -> Accepted | Refused:
        answer = await self._openings.open_one(purpose, choose)
        if isinstance(answer, Accepted):
            visit.newest = answer.session
            visit.tried.append(answer.door)
        return answer

    async def _open_empty(self, visit: str, door: str, cause: Cause) -> Accepted | Refused | None:
        found = await self._use(visit)
        if found is None:
            return None
        refusal = self._refusal(found, door)
        if refusal is not None:
            return refusal

        def choose(ledger: Ledger, attempt: Attempt) -> str | Refusal:
            return servicing.open_empty(ledger, door, found.bearer.jti, cause, doors=self._doors(), attempt=attempt)

        return await self._open(found, Purpose.LOOK, choose)

    async def _do(
        self, visit: str, door: str, act: Callable[[Ledger, Badge, Reading], Refusal | None]
    ) -> VisitView | Refused | None:
        """One transaction that opens nothing; a refusal changes nothing."""
        found = await self._use(visit)
        if found is None:
            return None
        refusal = self._refusal(found, door)
        if refusal is not None:
            return refusal
        reading = self._cabinet.reading(door)
        try:
            refused = await self._store.write(lambda ledger: act(ledger, found.bearer, reading))
        except VerificationError as error:
            return Refused(servicing.REASONS[error.reason])
        return await self._view(found) if refused is None else Refused(refused.reason, refused.retry_after)

    def _refusal(self, visit: _Visit, door: str) -> Refused | None:
        if visit.bearer.role is not Role.SERVICE:
            return Refused(Reason.NOT_ALLOWED)
        return None if door in self._cabinet.compartments else Refused(Reason.NOT_HERE)

    async def _view(self, visit: _Visit) -> VisitView:
        role, tasks = await self._store.write(lambda ledger: _work(ledger, visit.bearer))
        left = VISIT_S - (self._clock.mono() - visit.used)
        return VisitView(visit.visit, role, tasks, left)


def _work(ledger: Ledger, bearer: Badge) -> tuple[VisitRole, list[Task]]:
    if bearer.role is Role.COURIER:
        return VisitRole.COURIER, [Task(each.door, each.why, each.parcel) for each in recalling.due(ledger, bearer)]
    looks = [Task(door, why) for door, why in servicing.to_look_at(ledger)]
    audit: Audit | None = auditing.under_way(ledger)
    if audit is None:
        return VisitRole.SERVICE, looks
    return VisitRole.AUDIT, [Task(door, "look") for door in auditing.left(audit)] + looks
