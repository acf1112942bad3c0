"""What the operator tells the locker from afar and opens no door: bookings, and what was found behind a door."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import VerificationError
from locker import auditing, bookings, clearing
from locker.bookings import Order
from locker.cabinet_asyncio import Cabinet
from locker.commands import Clear
from locker.issuing import Issue
from locker.ledger import Ledger, Store

Take = Callable[[Ledger], object]
"""Spends the command in the transaction that does what it says."""


class Office:
    """Carries out admitted commands. Each raises ``VerificationError`` where it is refused: nothing was done then."""

    def __init__(self, store: Store, cabinet: Cabinet, issue: Issue) -> None:
        self._store = store
        self._cabinet = cabinet
        self._issue = issue

    async def book(self, booking: str, order: Order, rev: int, take: Take) -> None:
        """All that ``locker.bookings`` carries out, for its reasons."""

        def work(ledger: Ledger) -> None:
            bookings.carry_out(ledger, booking, order, rev, self._issue)
            take(ledger)

        await self._store.write(work)

    async def clear(self, order: Clear, jti: str, take: Take) -> None:
        """``clear``; the reasons are those of ``locker.clearing``, and ``no_such_door``."""
        if order.door not in self._cabinet.compartments:
            raise VerificationError("no_such_door", f"no door {order.door}", remedy="name a door of this locker")
        reading = self._cabinet.reading(order.door)

        def work(ledger: Ledger) -> None:
            clearing.clear(ledger, order, reading, command=jti)
            take(ledger)

        await self._store.write(work)

    async def audit(self, jti: str, take: Take) -> None:
        """``audit``: from now on a service badge may look behind every door; ``locker.auditing`` says how."""

        def work(ledger: Ledger) -> None:
            auditing.begin(ledger, jti, self._cabinet.compartments)
            take(ledger)

        await self._store.write(work)
