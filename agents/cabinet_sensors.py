"""The cabinet's inputs as they are configured, and joined to the files and pins that show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path as FilePath
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings
from locker.contract_cabinet import Watched
from locker.gpio_wiring import Line, Pull
from locker.layout import Layout
from locker.pins import Pins
from locker.pins_gpio import own_pins
from locker.plan import ZoneName
from locker.sensor_text import Format
from locker.sensors import PATIENCE, Range, SensorWatch
from locker.sensors_asyncio import Sensor
from locker.sensors_file import FileSensor
from locker.sensors_gpio import GpioContact

ANY_TEMPERATURE = Range(-273.15, 1000.0)
"""Of a thermometer that nothing is asked of: it can only fall silent."""

_DEGREES = {Format.MILLIDEGREES, Format.W1}
Celsius = Annotated[float, msgspec.Meta(ge=-60, le=150)]


class SensorSettings(Settings, frozen=True):
    """One of ``[[locker.sensors]]``."""

    name: ZoneName
    watches: Literal["mains", "undervoltage", "tamper", "temperature"]
    file: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """Shown by the kernel; ``*`` stands for what it numbers anew at each boot."""
    format: Literal["flag", "throttled", "millidegrees", "w1"] = "flag"
    gpio: Line | None = None
    """In the place of a file: a contact on a pin of the node."""
    pull: Pull = Pull.UP
    wrong_at: Literal[0, 1] | None = None
    """The level of a contact that means trouble. Left out: 0 for mains, 1 for the others."""
    low_c: Celsius | None = None
    high_c: Celsius | None = None
    """Of the cabinet's own temperature; a zone has its range where it is told."""
    alarm_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 15

    def __post_init__(self) -> None:
        if bool(self.file) is (self.gpio is not None) or (self.gpio is not None and self.format != "flag"):
            raise ValueError(f"sensor {self.name!r} needs a file, or a contact on a pin")
        degrees = Format(self.format) in _DEGREES
        if degrees is not (self.watches == "temperature"):
            raise ValueError(f"sensor {self.name!r} watches {self.watches}, and its file is no such {self.format}")
        if (self.low_c is None) is not (self.high_c is None):
            raise ValueError(f"sensor {self.name!r} has one end of a range without the other")
        if self.low_c is not None and not (degrees and self.low_c < (self.high_c or 0.0)):
            raise ValueError(f"sensor {self.name!r} has no range of temperatures from {self.low_c} to {self.high_c}")


def lines_of_sensors(configured: tuple[SensorSettings, ...]) -> Iterator[tuple[int, str]]:
    """Every pin that a contact is wired to, with what it is for."""
    for each in configured:
        if each.gpio is not None:
            yield each.gpio, f"the sensor {each.name}"


def wire_sensors(
    configured: tuple[SensorSettings, ...], layout: Layout, base: FilePath, pins: Pins | None = None
) -> list[Sensor]:
    """Every sensor, ready to be followed. Raises ``ConfigError`` where zones and sensors do not fit."""
    pins = pins or own_pins()
    names = [each.name for each in configured]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"locker.sensors: {twice[0]!r} stands twice", remedy="give every sensor a name of its own")
    measuring = {each.name for each in configured if each.watches == "temperature" and each.low_c is None}
    for zone in layout.zones:
        shared = [other.name for other in layout.zones if other.sensor == zone.sensor]
        if zone.sensor not in measuring or len(shared) > 1:
            raise ConfigError(
                f"zone {zone.name!r} has no thermometer of its own in {zone.sensor!r}",
                remedy="name under [[locker.sensors]] one that watches the temperature and has no range of its own",
            )
    return [_wired(each, layout, base, pins) for each in configured]


def _wired(each: SensorSettings, layout: Layout, base: FilePath, pins: Pins) -> Sensor:
    watched, zone = Watched(each.watches), next((one for one in layout.zones if one.sensor == each.name), None)
    read = _reader(each, base, pins)
    patience = PATIENCE[watched]
    if watched is not Watched.TEMPERATURE:
        wrong_at = (0 if watched is Watched.MAINS else 1) if each.wrong_at is None else each.wrong_at
        return Sensor(each.name, watched, read, SensorWatch(patience, wrong_at=wrong_at))
    minutes = each.alarm_minutes if zone is None else zone.alarm_minutes
    meant = _meant(each) if zone is None else Range(zone.low_c, zone.high_c)
    watch = SensorWatch(msgspec.structs.replace(patience, wrong=minutes * 60.0), meant=meant)
    doors = () if zone is None else tuple(layout.of_zone(zone.name))
    return Sensor(each.name, watched, read, watch, meant, "" if zone is None else zone.name, doors)


def _meant(each: SensorSettings) -> Range:
    return ANY_TEMPERATURE if each.low_c is None or each.high_c is None else Range(each.low_c, each.high_c)


def _reader(each: SensorSettings, base: FilePath, pins: Pins) -> Callable[[], Awaitable[float | None]]:
    if each.gpio is not None:
        return GpioContact(pins, each.gpio, each.pull).read
    return FileSensor(str(base / each.file), Format(each.format)).read
