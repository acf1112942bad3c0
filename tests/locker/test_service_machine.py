"""Random days of a locker against a model of what people physically did: parcels, codes, faults and power cuts.

Nothing here looks at what the service believes: doors and parcels are those of the physical cabinet, the rest is read
from the database by another connection. That every pulse was committed before, and that no attempt has more than three,
is checked by the rig at each frame.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from locker import badge as badges
from locker.contract import Word
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.bench import door_at
from tests.locker.conftest import MEMORY
from tests.locker.rig import LockerRig

T = TypeVar("T")

DOORS = st.sampled_from(["01", "02", "03", "04"])
PATIENCE = 9.0
"""Longer than any attempt lasts."""


class LockerDays(RuleBasedStateMachine):
    inside = Bundle("inside")
    """Parcels that an honest courier put in while the page said *open*, and nobody has taken out."""
    spent = Bundle("spent")
    """Parcels whose customer took them out while the page said *open*."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.rig = LockerRig(Path(self.folder.name))
        self.rig.step = 0.2
        self.numbers = itertools.count()
        self.lies: dict[str, str] = {}
        """What physically lies behind which door, put there by the rules."""
        self.beside: dict[str, list[str]] = {}
        """What was put in together with it: any of them stands for all."""

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(story)

    @initialize()
    def begin(self) -> None:
        self.run(self.rig.start())

    # -- people ------------------------------------------------------------------------------------------------------

    @rule(target=inside, size=st.sampled_from("SML"), more=st.integers(0, 2))
    def deposit(self, size: str, more: int) -> Any:
        return self.run(self._deposit(size, more))

    async def _deposit(self, size: str, more: int) -> Any:
        parcel, before = f"p{next(self.numbers)}", self.pulses()
        beside = [f"{parcel}-{number}" for number in range(more)]
        answer = await self.rig.deposit(parcel, *beside, size=size, jti="machine")
        if isinstance(answer, Refused):
            assert self.pulses() == before
            return multiple()
        assert answer.door not in self.lies, "an occupied compartment was offered"
        state = await self.outcome(answer)
        self.only(answer.door, before)
        if state is not SessionState.OPEN:
            await self.rig.service.end(answer.session, Word.EMPTY)
            await self.shut(answer.door)
            return multiple()
        self.rig.bench.put(answer.door)
        self.lies[answer.door] = parcel
        self.beside[parcel] = beside
        await self.shut(answer.door)
        return parcel

    @rule(target=inside, parcel=consumes(inside), confirm=st.booleans(), voucher=st.booleans())
    def collect_in_vain(self, parcel: str, confirm: bool, voucher: bool) -> str:
        """The customer does not take the parcel, if only because the door does not open: it must still be there."""
        self.run(self._attempt(parcel, confirm=confirm, takes=False, voucher=voucher))
        return parcel

    @rule(target=spent, parcel=consumes(inside), voucher=st.booleans())
    def collect(self, parcel: str, voucher: bool) -> Any:
        self.run(self._heal())
        collected = self.run(self._attempt(parcel, confirm=True, takes=True, voucher=voucher))
        assert collected, "a stored parcel could not be collected"
        return parcel

    async def _attempt(self, parcel: str, *, confirm: bool, takes: bool, voucher: bool = False) -> bool:
        """Whether the page said that the door is open."""
        before, door = self.pulses(), self.door_of(parcel)
        answer = await (self.show if voucher else self.type)(parcel, confirm=confirm)
        if isinstance(answer, Refused):
            assert self.pulses() == before
            return False
        assert answer.door == door
        state = await self.outcome(answer) if takes else await self.interrupted(answer)
        self.only(door, before)
        if takes and state is SessionState.OPEN:
            self.rig.bench.take(door)
            del self.lies[door]
        await self.shut(door)
        return state is SessionState.OPEN

    async def interrupted(self, answer: Accepted) -> SessionState:
        """The power fails before anybody has seen the door open, so that the code cannot be used."""
        self.rig.store.cut = True
        await self.rig.clock.advance(0.3)
        await self.rig.crash()
        await self.shut_in_the_dark(answer.door)
        await self.rig.start()
        await self.rig.pass_time(PATIENCE)
        return SessionState.UNKNOWN

    async def show(self, parcel: str, *, confirm: bool) -> Accepted | Refused:
        return await self.rig.service.collect_by_voucher(self.rig.voucher(self.any_of(parcel)), confirm)

    def any_of(self, parcel: str) -> str:
        """The parcel, or the last that lies beside it."""
        return [parcel, *self.beside[parcel]][-1]

    async def type(self, parcel: str, *, confirm: bool) -> Accepted | Refused:
        typed = self.any_of(parcel)
        answer = await self.rig.type(typed, confirm=confirm)
        if isinstance(answer, Refused) and answer.reason.value == "extension_needed":
            await self.rig.pass_time(11.0)
            answer = await self.rig.type(typed, confirm=confirm, extension=self.rig.codes[typed].extension)
        return answer

    @rule(parcel=inside, data=st.data())
    def jam(self, parcel: str, data: st.DataObject) -> None:
        """The lock does not let go: three pulses, and the code stays valid."""
        self.run(self._heal())
        self.rig.bench.ailment(self.door_of(parcel)).stuck = -1
        answer = self.run(self.type(parcel, confirm=True))
        assert isinstance(answer, Accepted)
        assert self.run(self.outcome(answer)) is SessionState.JAMMED
        assert self.state(parcel) == "stored"

    @precondition(lambda self: self.rig.codes)
    @rule(parcel=spent)
    def use_again(self, parcel: str) -> None:
        before = self.pulses()
        for way in (self.type, self.show):
            assert isinstance(self.run(way(parcel, confirm=True)), Refused), "what was used up was accepted"
        self.run(self.rig.pass_time(1.0))
        assert self.pulses() == before

    @rule()
    def guess(self) -> None:
        before = self.pulses()
        assert isinstance(self.run(self.rig.service.collect("000000000", None, False)), Refused)
        assert self.pulses() == before

    # -- mishaps -----------------------------------------------------------------------------------------------------

    @rule(door=DOORS, pulses=st.sampled_from([1, 2, -1]))
    def sticks(self, door: str, pulses: int) -> None:
        self.rig.bench.ailment(door).stuck = pulses

    @rule(door=DOORS, seconds=st.sampled_from([0.5, 1.6, 3.0]))
    def slow(self, door: str, seconds: float) -> None:
        self.rig.bench.ailment(door).swing = seconds

    @rule(door=DOORS, reads=st.sampled_from(["open", "closed"]))
    def cut(self, door: str, reads: str) -> None:
        self.rig.bench.ailment(door).cut = reads  # type: ignore[assignment]  # one of the two words

    @rule(how=st.sampled_from(["mute", "dead", "unplugged"]))
    def silence(self, how: str) -> None:
        if how == "unplugged":
            self.rig.bench.unplugged = True
        else:
            getattr(self.rig.bench, how).add(0)

    @rule(seconds=st.sampled_from([0.3, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.rig.pass_time(seconds))

    @rule()
    def heal(self) -> None:
        self.run(self._heal())

    async def _heal(self) -> None:
        self.rig.bench.physical.heal()
        self.rig.bench.mute.clear()
        self.rig.bench.dead.clear()
        self.rig.bench.unplugged = False
        await self.rig.pass_time(PATIENCE)
        for door in ("01", "02", "03", "04"):
            await self.shut(door)

    @rule()
    def crash(self) -> None:
        self.run(self.rig.crash())
        self.run(self.rig.start())

    # -- what a person sees ------------------------------------------------------------------------------------------

    async def outcome(self, answer: Accepted) -> SessionState:
        for _ in range(round(PATIENCE / 0.5)):
            await self.rig.pass_time(0.5)
            if (state := self.rig.view(answer).state) is not SessionState.UNLOCKING:
                return state
        pytest.fail("the attempt has no outcome")

    async def shut(self, door: str) -> None:
        """People shut a door that stands open; what opens late is shut late."""
        await self.rig.pass_time(0.5)
        self.rig.bench.shut(door)
        await self.rig.pass_time(1.0)

    async def shut_in_the_dark(self, door: str) -> None:
        await self.rig.clock.advance(1.0)
        self.rig.bench.shut(door)

    def pulses(self) -> list[Any]:
        return self.rig.bench.happened("pulse")

    def only(self, door: str, before: list[Any]) -> None:
        assert {door_at(each) for each in self.pulses()[len(before) :]} <= {door}, "another door was pulsed"

    def door_of(self, parcel: str) -> str:
        return next(door for door, each in self.lies.items() if each == parcel)

    def state(self, parcel: str) -> str:
        return self.rig.parcel(parcel)

    @invariant()
    def nothing_has_died(self) -> None:
        assert not self.rig.died, self.rig.died
        assert not self.rig.bench.happened("double_coil")

    @invariant()
    def what_lies_inside_is_known(self) -> None:
        for door, parcel in self.lies.items():
            assert self.rig.compartment(door) != "free", "an occupied compartment counts as free"
            for each in (parcel, *self.beside[parcel]):
                assert self.state(each) in {"depositing", "stored", "releasing", "unconfirmed"}

    def teardown(self) -> None:
        try:
            self.run(self._collect_all())
            self.run(self.rig.stop())
        finally:
            self.loop.close()
            self.folder.cleanup()

    async def _collect_all(self) -> None:
        """Whatever has happened: once all is mended, every parcel comes out of its own door by its own code."""
        await self._heal()
        await self.rig.pass_time(130.0)
        for parcel in list(self.lies.values()):
            assert await self._attempt(parcel, confirm=True, takes=True), f"{parcel} could not be collected"


def test_random_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(badges, "_SCRYPT_N", 2)  # guessing PINs is not what these days are about
    # Not shrunk: each example is a day of many commits, and the one that is printed is short enough to be read.
    run_state_machine_as_test(
        LockerDays,
        settings=settings(
            max_examples=settings().max_examples // 8,
            stateful_step_count=20,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
