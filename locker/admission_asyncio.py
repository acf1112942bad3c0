"""Who may do more here than collect: a courier, or somebody of service, with a good badge and its PIN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from edge.clock import Clock
from edge.errors import VerificationError
from edge.journal import Need
from locker import badge as badges
from locker import depositing
from locker.badge import Badge, BadgeFault, PinRefusal, Role
from locker.contract import Reason
from locker.kiosk import Refused
from locker.ledger import Store


class Admission:
    """Judges badges. ``read_badge`` verifies a signature and returns the claims or raises ``VerificationError``."""

    def __init__(self, store: Store, clock: Clock, read_badge: Callable[[str], Mapping[str, Any]]) -> None:
        self._store = store
        self._clock = clock
        self._read_badge = read_badge

    async def admit(self, token: str, pin: str, node: str, role: Role | None = None) -> Badge | Refused:
        """The bearer of a badge that is good at ``node`` and whose PIN is right; a try is charged before the PIN.

        ``role`` is the one that is asked for; None takes any.
        """
        try:
            bearer = badges.read_badge(self._read_badge(token))
        except VerificationError as error:
            return await self._turn_away(error.reason)
        fault = await self.fault(bearer, node)
        if fault is None and role not in {None, bearer.role}:
            fault = BadgeFault.WRONG_ROLE
        if fault is not None or not badges.well_formed(pin):
            return await self._turn_away(fault.value if fault else BadgeFault.WRONG_PIN.value)
        charge = await self._store.write(lambda ledger: depositing.charge(ledger, bearer), Need.DEPOSIT)
        if isinstance(charge, PinRefusal):
            return await self._turn_away(charge.fault.value, charge.retry_after)
        if not await asyncio.to_thread(badges.pin_matches, bearer, pin):
            return await self._turn_away(BadgeFault.WRONG_PIN.value)
        await self._store.write(lambda ledger: depositing.refund(ledger, bearer))
        return bearer

    async def fault(self, bearer: Badge, node: str) -> BadgeFault | None:
        """What speaks against a badge by now; one that was taken may have run out."""
        floor = await self._store.write(lambda ledger: ledger.floor(), Need.DEPOSIT)
        return badges.badge_fault(
            bearer, node=node, wall=self._clock.wall(), trusted=self._clock.trusted(), floor=floor
        )

    async def _turn_away(self, cause: str, retry_after: float | None = None) -> Refused:
        await self._store.write(lambda ledger: ledger.tally("badge", cause), Need.DEPOSIT)
        return Refused(Reason.NOT_ALLOWED if retry_after is None else Reason.WAIT, retry_after)
