"""A parcel that must stay cold goes into a compartment that is known to be cold, or nowhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from locker import bookings
from locker.commands import Expect
from locker.compartment import Climate
from locker.contract import Reason
from locker.contract_cabinet import Watched
from locker.kiosk import Accepted, Refused
from locker.sensors import PATIENCE, Patience, Range, SensorWatch
from locker.sensors_asyncio import CabinetSensors, Sensor
from tests.locker.rig import LockerRig

COLD = Range(2, 8)


class Fridge(LockerRig):
    """A locker whose first compartment is a fridge, and whose mains can be pulled."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        first = msgspec.structs.replace(self.compartments[0], climate=Climate.COLD, zone="fridge")
        self.compartments[0] = first
        self.door = first.door
        self.celsius: float | None = 4.0
        self.mains: float | None = 1.0

    async def start(self) -> list[str]:
        commands = await super().start()
        watch = SensorWatch(Patience(wrong=60, fine=20, silent=30), meant=COLD)
        fridge = Sensor("t1", Watched.TEMPERATURE, self._celsius, watch, COLD, "fridge", (self.door,))
        mains = Sensor("ups", Watched.MAINS, self._mains, SensorWatch(PATIENCE[Watched.MAINS], wrong_at=0))
        self.sensors = CabinetSensors([fridge, mains], self.store, self.clock)
        self.service.attach(self.cabinet, self.sensors)
        for name in self.sensors.names:
            self._spawn(name, lambda name=name: self.sensors.follow(name))  # type: ignore[misc]
        return commands

    async def _celsius(self) -> float | None:
        return self.celsius

    async def _mains(self) -> float | None:
        return self.mains

    async def wait(self, seconds: float) -> None:
        """Let time pass quickly, a sensor's reading at a time."""
        self.step = 10.0
        await self.pass_time(seconds)
        self.step = 0.05
        await self.pass_time(0.5)

    async def expect(self, booking: str, climate: str) -> None:
        order = Expect(size="S", hold_hours=24, climate=climate)  # type: ignore[arg-type]
        await self.store.write(lambda ledger: bookings.carry_out(ledger, booking, order, 1, self.make_code))


@contextlib.asynccontextmanager
async def fridge(folder: Path) -> AsyncIterator[Fridge]:
    rig = Fridge(folder)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def test_a_cold_parcel_gets_the_fridge_and_an_ordinary_one_never_does(tmp_path: Path) -> None:
    async with fridge(tmp_path) as rig:
        await rig.wait(35)
        await rig.expect("milk", "cold")
        assert await rig.load("milk") == rig.door
        for number in range(len(rig.compartments) - 1):
            assert await rig.load(f"book-{number}") != rig.door
        assert await rig.deposit("one-more") == Refused(Reason.NO_ROOM)


async def test_the_fridge_is_not_offered_before_it_is_known_to_be_cold(tmp_path: Path) -> None:
    async with fridge(tmp_path) as rig:
        rig.celsius = None
        await rig.expect("milk", "cold")
        assert isinstance(await rig.deposit("milk"), Refused)
        await rig.wait(125)
        assert isinstance(await rig.deposit("milk"), Refused)
        assert rig.events("cabinet.sensor.silent") == [], "it never spoke, so it did not fall silent"
        rig.celsius = 4.0
        await rig.wait(35)
        assert isinstance(await rig.deposit("milk"), Accepted)


async def test_a_broken_fridge_names_its_parcels_takes_no_more_and_stays_collectable(tmp_path: Path) -> None:
    async with fridge(tmp_path) as rig:
        await rig.wait(35)
        await rig.expect("milk", "cold")
        await rig.load("milk")
        rig.celsius = 12.0
        await rig.wait(40)
        assert rig.events("cabinet.temperature.alarm") == []
        await rig.wait(35)
        (alarm,) = rig.events("cabinet.temperature.alarm")
        assert (alarm["zone"], alarm["doors"], alarm["parcels"]) == ("fridge", [rig.door], ["milk"])
        assert (alarm["celsius"], alarm["low_c"], alarm["high_c"]) == (12.0, 2, 8)
        accepted = await rig.accepted("milk")
        await rig.pass_time(1.0)
        rig.bench.shut(accepted.door)
        await rig.pass_time(1.0)
        assert rig.parcel("milk") == "collected"
        await rig.expect("butter", "cold")
        assert await rig.deposit("butter") == Refused(Reason.NO_ROOM)
        rig.celsius = 5.0
        await rig.wait(40)
        assert [each["seconds"] > 60 for each in rig.events("cabinet.temperature.normal")] == [True]
        assert isinstance(await rig.deposit("butter"), Accepted)


async def test_temperatures_are_told_once_a_minute(tmp_path: Path) -> None:
    async with fridge(tmp_path) as rig:
        await rig.wait(125)
        rows = rig.rows("SELECT body FROM event WHERE CAST(body AS TEXT) LIKE '%\"cabinet.temperature\"%'")
        assert len(rows) in {2, 3}


async def test_without_mains_customers_collect_and_couriers_come_as_the_operator_said(tmp_path: Path) -> None:
    async with fridge(tmp_path) as rig:
        await rig.wait(15)
        await rig.load("p1")
        rig.mains = 0.0
        await rig.wait(15)
        assert [each["sensor"] for each in rig.events("cabinet.power.lost")] == ["ups"]
        await rig.load("p2")
        rig.service.terms = msgspec.structs.replace(rig.service.terms, deposits_without_mains=False)
        assert await rig.deposit("p3") == Refused(Reason.OUT_OF_SERVICE)
        await rig.accepted("p1")
        await rig.pass_time(2.0)
        rig.mains = 1.0
        await rig.wait(35)
        assert [each["seconds"] > 10 for each in rig.events("cabinet.power.restored")] == [True]
        assert isinstance(await rig.deposit("p3"), Accepted)
