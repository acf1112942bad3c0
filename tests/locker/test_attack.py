"""Somebody guesses for a day, by every way the kiosk's real API offers and many at a time, while customers come and go.

What a guess is worth follows from the sizes of the spaces alone. Only guesses that the locker really looked at count,
and the witnesses are outside of what is tested: the hash that every look-up needs, and the check of every PIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import locker.badge
from locker.attempts import DAY
from locker.badge import Badge
from locker.compartment import LedgerState
from locker.kiosk_http import KioskLimits
from locker.ledger import Ledger, Parcel
from locker.parcel import ParcelState
from locker.pickup_code import CodeHasher, check_digit, issue
from tests.locker.kiosk_rig import TOKEN, served, tiny_page
from tests.locker.rig import LockerRig, badge

GOAL = 1e-5
LIVE_CODES = 100
PLAIN, EXTENDED, PIN = LIVE_CODES / 10**8, LIVE_CODES / 10**12, 1 / 10**8
PACE = 10.0
"""Seconds between two waves of guesses: as often as a code with extension is looked up."""
AT_ONCE = 6
BADGES = 40
"""Stolen ones, each good at this locker, whose PINs are guessed: more than their budgets together allow."""
OPEN_LIMITS = KioskLimits(requests_per_second=1e6, burst=10**6)
"""The server's own pace is taken away: what is left must hold."""


class Witness(CodeHasher, frozen=True):
    """Notes what every look-up was worth, by running time."""

    def plain(self, digits: str) -> bytes:
        SPENT.append((RUNNING[0], PLAIN))
        return super().plain(digits)

    def extended(self, digits: str, extension: str) -> bytes:
        SPENT.append((RUNNING[0], EXTENDED))
        return super().extended(digits, extension)


SPENT: list[tuple[float, float]] = []
RUNNING = [0.0]


class Siege:
    """The locker, its server, and the guesser before it. ``restart`` kills the agent; the guesser does not notice."""

    def __init__(self, folder: Path, page: Path) -> None:
        self.rig = LockerRig(folder, boards=2)
        self.rig.step = PACE
        self.rig.hasher = Witness(b"k" * 32)
        self._page = page
        self._dice = random.Random(7)
        self.honest = 0
        self.began = self.rig.clock.mono()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[httpx.AsyncClient]:
        """The agent runs and its server listens."""
        await self.rig.start()
        try:
            async with (
                served(self.rig.service, self._page, clock=self.rig.clock, limits=OPEN_LIMITS) as host,
                httpx.AsyncClient(base_url=f"http://{host}", headers={"Authorization": f"Bearer {TOKEN}"}) as page,
            ):
                yield page
        finally:
            await self.rig.crash()

    async def load(self) -> None:
        """A hundred parcels wait. Only their codes matter here, so they share eight doors."""
        await self.rig.ledger_store.write(self._put)

    def _put(self, ledger: Ledger) -> None:
        plain = CodeHasher(self.rig.hasher.key)
        for number in range(LIVE_CODES):
            parcel, door = f"p{number}", self.rig.compartments[number % 8].door
            row = Parcel(parcel=parcel, door=door, state=ParcelState.STORED, courier="c", run="r")
            ledger.add_parcel(row)
            ledger.set_compartment(door, LedgerState.OCCUPIED)
            code = self.rig.codes[parcel] = issue(
                os.urandom, plain, lambda digest: ledger.find_code(digest) is not None
            )
            ledger.save_code(parcel, plain.of(code))

    async def guess(self, page: httpx.AsyncClient, seconds: float, at_once: int = AT_ONCE) -> int:
        """Every way, several at a time, whenever anything may be looked at. Returns the number of tries."""
        end, tries = self.rig.clock.mono() + seconds, 0
        while self.rig.clock.mono() < end:
            RUNNING[0] = self.rig.clock.mono() - self.began
            wave = [self._code(page, plain=place % 2 == 0) for place in range(at_once)]
            if self._dice.random() < 0.05:
                wave.append(self._pin(page))
            tries += len(wave)
            await asyncio.gather(*wave)
            await self.rig.pass_time(PACE)
        return tries

    async def _code(self, page: httpx.AsyncClient, *, plain: bool) -> None:
        digits = f"{self._dice.randrange(10**8):08d}"
        body = {"code": digits + check_digit(digits)}
        if not plain:
            body["extension"] = f"{self._dice.randrange(10**4):04d}"
        answer = await page.post("/api/collect", json=body)
        assert answer.status_code != 202, "a guess has opened a door"

    async def _pin(self, page: httpx.AsyncClient) -> None:
        stolen = badge(jti=f"stolen-{self._dice.randrange(BADGES)}")
        asked = {"badge": stolen, "pin": f"{self._dice.randrange(10**8):08d}", "bookings": ["b1"], "size": "S"}
        answer = await page.post("/api/deposit", json=asked)
        assert answer.status_code != 202, "a guess has opened a door"

    async def collect(self, page: httpx.AsyncClient, parcel: str) -> float:
        """A customer who has the message and nothing else. Returns the seconds until the door was asked to open."""
        began = self.rig.clock.mono()
        body = {"code": self.rig.codes[parcel].typed}
        while True:
            RUNNING[0] = self.rig.clock.mono() - self.began
            answer = await page.post("/api/collect", json=body)
            if answer.status_code == 202:
                break
            said = answer.json()
            if said["reason"] == "extension_needed":
                body["extension"] = self.rig.codes[parcel].extension
            else:
                assert said["reason"] in {"wait", "busy"}, said
                await self.rig.pass_time(said["retry_after"])
        waited = self.rig.clock.mono() - began
        self.honest += 1
        await self.leave(answer.json()["door"])
        return waited

    async def leave(self, door: str) -> None:
        """Take the parcel and shut the door."""
        self.rig.step = 0.05
        await self.rig.pass_time(1.0)
        self.rig.bench.shut(door)
        await self.rig.pass_time(1.0)
        self.rig.step = PACE


def worst_day(spent: list[tuple[float, float]]) -> float:
    """The most that the guesses of any 24 hours were worth together."""
    worst, total, oldest = 0.0, 0.0, 0
    for at, worth in spent:
        total += worth
        while spent[oldest][0] <= at - DAY:
            total -= spent[oldest][1]
            oldest += 1
        worst = max(worst, total)
    return worst


@pytest.fixture
async def siege(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Siege:
    page, files = tmp_path / "page", tmp_path / "node"
    page.mkdir()
    files.mkdir()
    SPENT.clear()

    def pin_matches(_: Badge, __: str) -> bool:
        SPENT.append((RUNNING[0], PIN))
        return False  # a real check costs 50 ms, and its answer is proved elsewhere

    monkeypatch.setattr(locker.badge, "pin_matches", pin_matches)
    return Siege(files, tiny_page(page))


async def test_a_customer_collects_within_half_a_minute_after_a_thousand_hostile_tries(siege: Siege) -> None:
    """And a second one while the guesser goes on at the other terminal, as fast as a person types."""
    async with siege.up() as page:
        await siege.load()
        assert await siege.guess(page, 20 * PACE, at_once=50) >= 1_000
        assert await siege.collect(page, "p1") <= 30.0
        hostile = asyncio.create_task(siege._code(page, plain=False))
        assert await siege.collect(page, "p2") <= 30.0
        await hostile
    assert len(siege.rig.bench.happened("opened")) == siege.honest == 2


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("hours", [0.2, pytest.param(25.0, marks=pytest.mark.long)])
async def test_no_day_of_guessing_is_worth_more_than_one_in_a_hundred_thousand(siege: Siege, hours: float) -> None:
    """Also not across restarts: the agent is killed eight times, and each time the guesser is there at once."""
    for life in range(8):
        async with siege.up() as page:
            if life == 0:
                await siege.load()
            await siege.guess(page, hours * 3600.0 / 8, at_once=AT_ONCE if hours < 1.0 else 2)
            await siege.collect(page, f"p{life}")
    assert len(siege.rig.bench.happened("opened")) == siege.honest == 8
    day = worst_day(SPENT)
    assert day <= GOAL
    extended = min(hours, 24.0) * 3600.0 / PACE * EXTENDED
    assert day > 0.9 * (8 * PLAIN + extended)  # the guesser has really had all that there is to be had
