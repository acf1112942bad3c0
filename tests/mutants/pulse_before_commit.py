"""The store answers before its commit: a coil moves while nothing on the disk says so yet, for a second here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edge.journal import Need
from locker import announcing
from locker.ledger_sql import LedgerStore

SLOW_CARD_S = 1.0


def apply() -> None:
    announce, write = announcing.announce, LedgerStore.write
    announced: list[bool] = []
    kept: set[asyncio.Future[Any]] = set()

    def noted(*arguments: Any, **more: Any) -> None:
        announce(*arguments, **more)
        announced.append(True)

    async def early(store: LedgerStore, work: Callable[[Any], Any], need: Need = Need.COLLECTION) -> Any:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Any] = loop.create_future()

        def slow(ledger: Any) -> Any:
            result = work(ledger)
            if announced:
                announced.clear()
                loop.call_soon_threadsafe(told.set_result, result)
                time.sleep(SLOW_CARD_S)
            return result

        keeping = asyncio.ensure_future(write(store, slow, need))
        kept.add(keeping)
        keeping.add_done_callback(kept.discard)
        await asyncio.wait({told, keeping}, return_when=asyncio.FIRST_COMPLETED)
        return told.result() if told.done() else keeping.result()

    announcing.announce = noted
    LedgerStore.write = early  # type: ignore[assignment,method-assign]
