"""Keeps a node's certificate good: asks for the next one in time, tries it on the broker, and only then drops the old.

Whatever fails, the old pair stays where it is and goes on being used. The role agent vouches for each request, so a
stolen certificate alone cannot be renewed by the thief.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from cloud_sync.ports import Broker, BrokerConnection, BrokerLost, Will
from cloud_sync.renewal import (
    ANEW_S,
    CHECK_S,
    TRIALS,
    RenewalInput,
    RenewalState,
    after,
    alarming,
    due_at,
)
from edge import log
from edge.certificate import Certificate, TlsKey
from edge.clock import Clock
from edge.errors import ConfigError, LastmileError, StoreError

FIRST_LOOK_S = 60.0
"""After the start: connecting and draining come first."""


class Pair(Protocol):
    """A key with its certificate, and beside it perhaps the next one. Raises ``ConfigError`` or ``StoreError``."""

    def present(self) -> Certificate: ...

    def next(self) -> Certificate | None:
        """None when there is none, or none that can be used."""
        ...

    def keep_next(self, key: TlsKey, chain: str) -> None:
        """Phase one: beside the present pair. Checks that they belong together and carry the node's name."""
        ...

    def use_next(self) -> None:
        """Phase two: in one step, in the place of the present pair."""
        ...

    def drop_next(self) -> None:
        """Never raises: one that cannot be removed is tried again."""
        ...


Ask = Callable[[TlsKey], Awaitable[str]]
"""The chain (PEM) for a new key. Raises ``LastmileError``: the service, or the role agent, is away or says no."""


class Renewal:
    """``cloud_sync.ports.Broker`` that tries the next certificate first, and the task that gets it."""

    def __init__(
        self,
        *,
        present: Broker,
        trial: Broker,
        pair: Pair,
        ask: Ask,
        new_key: Callable[[], TlsKey],
        clock: Clock,
    ) -> None:
        """``present`` and ``trial`` connect with the present and with the next pair."""
        self._present = present
        self._trial = trial
        self._pair = pair
        self._ask = ask
        self._new_key = new_key
        self._clock = clock
        self._log = log.get_logger("cloud_sync.renewal")
        self.state = RenewalState.GOOD
        self._failed = 0
        self._connection: BrokerConnection | None = None
        self._asked_at = -ANEW_S

    async def connect(self, will: Will | None) -> BrokerConnection:
        """As ``Broker.connect``. The next pair proves itself here, by a connection that the broker accepts."""
        if self.state is not RenewalState.ASKING and self._pair.next() is not None:
            if self.state is RenewalState.GOOD:
                self.state = after(self.state, RenewalInput.FOUND)
            connection = await self._try(will)
            if connection is not None:
                return self._kept(connection)
        connection = await self._present.connect(will)
        if self.state is RenewalState.TRYING:
            # The way to the broker is there, so it was the new pair that failed.
            self._count_failure()
        return self._kept(connection)

    async def run(self) -> None:
        """Look after the certificate until cancelled."""
        await self._clock.sleep(FIRST_LOOK_S)
        while True:
            try:
                await self._look()
            except LastmileError as error:
                self._log.warning("renewal.postponed", what=error.what, remedy=error.remedy)
            await self._clock.sleep(CHECK_S)

    async def _look(self) -> None:
        own = self._pair.present()
        if self._clock.trusted() and alarming(own, self._clock.wall()):
            days = round(own.days_left(self._clock.wall()), 1)
            self._log.error("certificate.expires", days=days, remedy="look at the enrolment service; then a new claim")
        if self.state is RenewalState.GOOD and self._due(own):
            await self._renew()
        if self.state is RenewalState.TRYING and self._connection is not None:
            # The next connection, which comes by itself at once, is made with the new pair.
            await self._connection.close()

    def _due(self, own: Certificate) -> bool:
        if self._clock.trusted():
            return self._clock.wall() >= due_at(own)
        return self._clock.mono() - self._asked_at >= ANEW_S

    async def _renew(self) -> None:
        self.state = after(self.state, RenewalInput.DUE)
        self._asked_at = self._clock.mono()
        key = self._new_key()
        granted = False
        try:
            self._pair.keep_next(key, await self._ask(key))
            granted = True
        finally:
            self.state = after(self.state, RenewalInput.GRANTED if granted else RenewalInput.REFUSED)
        self._failed = 0
        self._log.info("renewal.granted")

    async def _try(self, will: Will | None) -> BrokerConnection | None:
        try:
            connection = await self._trial.connect(will)
        except (BrokerLost, ConfigError) as error:
            self._log.warning("renewal.not_accepted", what=error.what, remedy=error.remedy)
            return None
        try:
            self._pair.use_next()
        except StoreError as error:
            # Both pairs are good and on the disk; the next connection tries to put them in order again.
            self._log.error("renewal.not_kept", what=error.what, remedy=error.remedy)
            return connection
        self.state = after(self.state, RenewalInput.PROVEN)
        self._log.info("renewal.done")
        return connection

    def _count_failure(self) -> None:
        self._failed += 1
        if self._failed < TRIALS:
            return
        self._pair.drop_next()
        self._failed = 0
        self.state = after(self.state, RenewalInput.FAILED)
        self._log.error("renewal.dropped", remedy="the broker takes the old certificate alone: look at its `cafile`")

    def _kept(self, connection: BrokerConnection) -> BrokerConnection:
        self._connection = connection
        return connection
