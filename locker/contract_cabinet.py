"""Events of the cabinet itself: its power, its temperature, who opens it."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from edge.event import EventClass
from locker.contract_words import DoorName, Event, Id

SensorName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,32}(?!\n)$")]


class Watched(enum.Enum):
    """What a sensor is there for."""

    MAINS = "mains"
    UNDERVOLTAGE = "undervoltage"
    TAMPER = "tamper"
    TEMPERATURE = "temperature"


class SensorState(enum.Enum):
    """A sensor, or the temperature of a zone. ``locker.sensors`` holds the table of what follows what."""

    UNKNOWN = "unknown"
    """Nothing has been proven since the start, or the sensor is silent."""
    NORMAL = "normal"
    ALARM = "alarm"


class PowerLost(Event, frozen=True, kw_only=True):
    """The mains are gone; the locker goes on from its battery for as long as that lasts."""

    TYPE = "cabinet.power.lost"
    SUBJECT = "sensor"
    sensor: SensorName


class PowerRestored(Event, frozen=True, kw_only=True):
    """The mains are back after ``seconds``."""

    TYPE = "cabinet.power.restored"
    SUBJECT = "sensor"
    sensor: SensorName
    seconds: float


class Undervoltage(Event, frozen=True, kw_only=True):
    """The supply sags below what the computer needs: pulses may be too weak, and a crash is near."""

    TYPE = "cabinet.undervoltage"
    SUBJECT = "sensor"
    sensor: SensorName


class UndervoltageEnded(Event, frozen=True, kw_only=True):
    """The supply has been sound again for a while; ``seconds`` count from the beginning."""

    TYPE = "cabinet.undervoltage.ended"
    SUBJECT = "sensor"
    sensor: SensorName
    seconds: float


class Tampered(Event, frozen=True, kw_only=True):
    """A contact says that the cabinet's inside was opened, or the cabinet moved."""

    TYPE = "cabinet.tampered"
    SUBJECT = "sensor"
    sensor: SensorName


class TamperEnded(Event, frozen=True, kw_only=True):
    """The contact is as it should be again. Somebody should look all the same."""

    TYPE = "cabinet.tampered.ended"
    SUBJECT = "sensor"
    sensor: SensorName
    seconds: float


class TemperatureAlarm(Event, frozen=True, kw_only=True):
    """Out of range for longer than allowed. ``zone`` is "" for the cabinet's own temperature.

    ``doors`` are the compartments of the zone, which take no parcel of its climate now. ``parcels`` lie there, and
    somebody has to decide what becomes of them.
    """

    TYPE = "cabinet.temperature.alarm"
    SUBJECT = "sensor"
    sensor: SensorName
    celsius: float
    low_c: float
    high_c: float
    zone: str = ""
    doors: tuple[DoorName, ...] = ()
    parcels: tuple[Id, ...] = ()


class TemperatureNormal(Event, frozen=True, kw_only=True):
    """Back in range; ``seconds`` since it left it. The parcels that lay there then were named by the alarm."""

    TYPE = "cabinet.temperature.normal"
    SUBJECT = "sensor"
    sensor: SensorName
    celsius: float
    seconds: float
    zone: str = ""


class SensorSilent(Event, frozen=True, kw_only=True):
    """The sensor gives no reading that can be believed: what it watches is not watched now."""

    TYPE = "cabinet.sensor.silent"
    SUBJECT = "sensor"
    sensor: SensorName
    watched: Watched
    zone: str = ""


class SensorSnapshot(Event, frozen=True, kw_only=True):
    """One sensor as it stands; the newest of each survives. ``celsius`` is None where none is measured."""

    TYPE = "cabinet.sensor.state"
    CLASS = EventClass.STATE
    SUBJECT = "sensor"
    sensor: SensorName
    watched: Watched
    state: SensorState
    celsius: float | None = None
    zone: str = ""


class Temperature(Event, frozen=True, kw_only=True):
    """One sensor's reading, once a minute."""

    TYPE = "cabinet.temperature"
    CLASS = EventClass.TELEMETRY
    SUBJECT = "sensor"
    sensor: SensorName
    celsius: float


class ManyDoorsOpen(Event, frozen=True, kw_only=True):
    """More doors stand open together than people open: an attack, a broken board, or a hand that is loading."""

    TYPE = "cabinet.doors.many_open"
    SUBJECT = "cabinet"
    doors: tuple[DoorName, ...]
    most: int
    """So many may stand open at once before this is told."""
    cabinet: str = "cabinet"


CABINET_EVENTS: tuple[type[Event], ...] = (
    PowerLost,
    PowerRestored,
    Undervoltage,
    UndervoltageEnded,
    Tampered,
    TamperEnded,
    TemperatureAlarm,
    TemperatureNormal,
    SensorSilent,
    SensorSnapshot,
    Temperature,
    ManyDoorsOpen,
)
