"""Reads the cabinet's inputs without end, keeps what they tell, and says what follows from it for the flows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from edge import log
from edge.clock import Clock
from edge.errors import StoreError
from edge.journal import Need
from locker import contract_cabinet as told
from locker.contract import Event, draft
from locker.contract_cabinet import SensorState, Watched
from locker.ledger import Ledger, Store
from locker.sensors import Change, Range, SensorWatch

CONTACT_EVERY_S = 0.25
"""Between two looks at a contact: nobody reaches into a cabinet faster."""
TEMPERATURE_EVERY_S = 10.0
"""A 1-wire thermometer takes 0.8 s for a reading and warms itself by it; nothing here warms faster."""
TELEMETRY_EVERY_S = 60.0
RETRY_S = 1.0
"""Between two tries to keep what has already happened, while the disk refuses."""


class Sensor(msgspec.Struct):
    """One input, and what it is judged by.

    ``read`` gives a level of 0 or 1, degrees Celsius, or None; it raises no ``DeviceError``. ``meant`` is there for a
    temperature; ``zone`` with its ``doors`` where that is of compartments.
    """

    name: str
    watched: Watched
    read: Callable[[], Awaitable[float | None]]
    watch: SensorWatch
    meant: Range | None = None
    zone: str = ""
    doors: tuple[str, ...] = ()


class CabinetSensors:
    """Every input by its name. ``follow`` is to be run for each, for ever."""

    def __init__(self, sensors: Sequence[Sensor], store: Store, clock: Clock) -> None:
        self._sensors = {each.name: each for each in sensors}
        self._store = store
        self._clock = clock
        self._log = log.get_logger("locker.sensors")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sensors)

    def mains_lost(self) -> bool:
        """Whether the mains are known to be gone. A sensor that says nothing stops no deposits."""
        mains = [each for each in self._sensors.values() if each.watched is Watched.MAINS]
        return any(each.watch.state is SensorState.ALARM for each in mains)

    def shut(self) -> frozenset[str]:
        """Doors that take no parcel now: their zone is not proven to be at its temperature."""
        doubtful = [each for each in self._sensors.values() if each.watch.state is not SensorState.NORMAL]
        return frozenset(door for each in doubtful for door in each.doors)

    async def follow(self, name: str) -> None:
        """Read one sensor for ever."""
        sensor = self._sensors[name]
        measures = sensor.watched is Watched.TEMPERATURE
        told_at = float("-inf")
        while True:
            reading = await sensor.read()
            now = self._clock.mono()
            change = sensor.watch.observe(reading, now)
            if change is not None:
                await self._keep(sensor, change, reading)
            if measures and reading is not None and now - told_at >= TELEMETRY_EVERY_S:
                told_at = now
                await self._tell_telemetry(told.Temperature(sensor=name, celsius=reading))
            await self._clock.sleep(TEMPERATURE_EVERY_S if measures else CONTACT_EVERY_S)

    async def _keep(self, sensor: Sensor, change: Change, reading: float | None) -> None:
        """What has happened is kept before anything else is read, however long the disk refuses."""
        self._log.info("sensor.changed", sensor=sensor.name, zone=sensor.zone, state=change.state.value)

        def work(ledger: Ledger) -> None:
            for event in events(sensor, change, reading, ledger):
                ledger.append(draft(event))

        while True:
            try:
                await self._store.write(work)
            except StoreError:
                await self._clock.sleep(RETRY_S)
            else:
                return

    async def _tell_telemetry(self, event: Event) -> None:
        try:
            await self._store.write(lambda ledger: ledger.append(draft(event)), Need.EXTRA)
        except StoreError as error:
            self._log.warning("sensor.not_kept", what=error.what)


def events(sensor: Sensor, change: Change, reading: float | None, ledger: Ledger) -> list[Event]:
    """What tells of ``change``: the alarm or its end, a silence, and the sensor as it stands."""
    name = sensor.name
    celsius = reading if sensor.watched is Watched.TEMPERATURE else None
    found: list[Event] = []
    if change.began:
        found.append(_began(sensor, reading or 0.0, ledger))
    elif change.ended_after is not None:
        found.append(_ended(sensor, reading or 0.0, change.ended_after))
    elif change.state is SensorState.UNKNOWN:
        found.append(told.SensorSilent(sensor=name, watched=sensor.watched, zone=sensor.zone))
    found.append(
        told.SensorSnapshot(sensor=name, watched=sensor.watched, state=change.state, celsius=celsius, zone=sensor.zone)
    )
    return found


_BEGINNINGS: Mapping[Watched, Callable[..., Event]] = {
    Watched.MAINS: told.PowerLost,
    Watched.UNDERVOLTAGE: told.Undervoltage,
    Watched.TAMPER: told.Tampered,
}
_ENDS: Mapping[Watched, Callable[..., Event]] = {
    Watched.MAINS: told.PowerRestored,
    Watched.UNDERVOLTAGE: told.UndervoltageEnded,
    Watched.TAMPER: told.TamperEnded,
}


def _began(sensor: Sensor, reading: float, ledger: Ledger) -> Event:
    if sensor.meant is None:
        return _BEGINNINGS[sensor.watched](sensor=sensor.name)
    lying = [found.parcel for door in sensor.doors for found in ledger.parcels_at(door)]
    return told.TemperatureAlarm(
        sensor=sensor.name,
        celsius=reading,
        low_c=sensor.meant.low_c,
        high_c=sensor.meant.high_c,
        zone=sensor.zone,
        doors=sensor.doors,
        parcels=tuple(lying),
    )


def _ended(sensor: Sensor, reading: float, seconds: float) -> Event:
    if sensor.meant is None:
        return _ENDS[sensor.watched](sensor=sensor.name, seconds=seconds)
    return told.TemperatureNormal(sensor=sensor.name, celsius=reading, seconds=seconds, zone=sensor.zone)
