"""What the cabinet's inputs tell: nothing on a bounce, one alarm for one trouble, and its end when things are fine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.cabinet_sensors import SensorSettings, lines_of_sensors, wire_sensors
from edge.errors import ConfigError, DeviceMissing, ProtocolError, TransitionError
from edge.settings import parse_settings
from locker.contract_cabinet import SensorState, Watched
from locker.gpio_wiring import Pull, check_free
from locker.layout import Layout, lay_out
from locker.pins_gpio import own_pins
from locker.plan import Plan
from locker.sensor_text import Format, parse
from locker.sensors import PATIENCE, TRANSITIONS, Change, Patience, Range, SensorInput, SensorWatch, move
from locker.sensors_file import FileSensor, read_sensor
from locker.sensors_gpio import GpioContact
from tests.locker.gpio_rig import simulated_pi

ALARM, NORMAL, UNKNOWN = SensorState.ALARM, SensorState.NORMAL, SensorState.UNKNOWN


def changes(watch: SensorWatch, readings: Sequence[tuple[float, float | None]]) -> list[tuple[float, Change]]:
    """What came of each (time, reading), with its time."""
    told = [(mono, watch.observe(reading, mono)) for mono, reading in readings]
    return [(mono, change) for mono, change in told if change is not None]


def test_mains_are_lost_after_two_seconds_and_back_after_ten() -> None:
    watch = SensorWatch(PATIENCE[Watched.MAINS], wrong_at=0)
    readings = [(t / 4, 1.0 if t < 80 or t >= 160 else 0.0) for t in range(240)]
    assert changes(watch, readings) == [
        (10.0, Change(NORMAL)),
        (22.0, Change(ALARM, began=True)),
        (50.0, Change(NORMAL, ended_after=30.0)),
    ]


def test_a_recloser_of_the_grid_and_a_bouncing_contact_are_no_alarm() -> None:
    watch = SensorWatch(PATIENCE[Watched.MAINS], wrong_at=0)
    assert changes(watch, [(0.0, 1.0), (10.0, 1.0)]) == [(10.0, Change(NORMAL))]
    assert changes(watch, [(20 + t / 4, 0.0) for t in range(8)] + [(22.1, 1.0), (40.0, 1.0)]) == []


def test_one_report_of_a_sagging_supply_is_enough() -> None:
    watch = SensorWatch(PATIENCE[Watched.UNDERVOLTAGE])
    told = changes(watch, [(0.0, 0.0), (30.0, 0.0), (31.0, 1.0), (31.25, 0.0), (61.25, 0.0)])
    assert told == [
        (30.0, Change(NORMAL)),
        (31.0, Change(ALARM, began=True)),
        (61.25, Change(NORMAL, ended_after=30.25)),
    ]


def test_a_door_that_is_open_while_a_fridge_is_loaded_is_no_alarm_and_a_broken_fridge_is() -> None:
    watch = SensorWatch(Patience(wrong=900, fine=60), meant=Range(2, 8))
    assert changes(watch, [(t, 5.0) for t in range(0, 70, 10)]) == [(60, Change(NORMAL))]
    assert changes(watch, [(t, 12.0) for t in range(100, 990, 10)]) == []
    assert changes(watch, [(1000, 7.9), (1010, 9.0), (1900, 9.0), (1910, 9.0)]) == [(1910, Change(ALARM, began=True))]


def test_an_alarm_ends_only_well_inside_the_range() -> None:
    watch = SensorWatch(Patience(wrong=10, fine=10), meant=Range(2, 8))
    assert changes(watch, [(0, 9.0), (10, 9.0)]) == [(10, Change(ALARM, began=True))]
    assert changes(watch, [(t, 7.8) for t in range(20, 200, 10)]) == []
    assert changes(watch, [(200, 7.4), (210, 7.4)]) == [(210, Change(NORMAL, ended_after=210))]


def test_an_alarm_outlives_a_silence_and_is_told_once() -> None:
    watch = SensorWatch(Patience(wrong=0, fine=0, silent=5))
    told = changes(watch, [(0, 1.0), (1, None), (6, None), (7, 1.0), (8, float("nan")), (13, None), (14, 0.0)])
    assert [(mono, change.state, change.began, change.ended_after) for mono, change in told] == [
        (0, ALARM, True, None),
        (6, UNKNOWN, False, None),
        (7, ALARM, False, None),
        (13, UNKNOWN, False, None),
        (14, NORMAL, False, 14),
    ]


@given(st.lists(st.sampled_from([0.0, 1.0, None])), st.floats(0, 3), st.floats(0, 3), st.floats(0, 3))
def test_alarms_and_their_ends_alternate_whatever_is_read(readings, wrong, fine, silent) -> None:
    watch = SensorWatch(Patience(wrong, fine, silent))
    told = [watch.observe(reading, float(mono)) for mono, reading in enumerate(readings)]
    marks = [change.began for change in told if change is not None and (change.began or change.ended_after is not None)]
    assert marks == [index % 2 == 0 for index in range(len(marks))]


def test_what_the_table_does_not_have_cannot_happen() -> None:
    for state in SensorState:
        for happened in SensorInput:
            if (state, happened) not in TRANSITIONS:
                with pytest.raises(TransitionError):
                    move(state, happened)


@pytest.mark.parametrize(
    ("text", "how", "value"),
    [
        ("1\n", Format.FLAG, 1.0),
        ("0", Format.FLAG, 0.0),
        ("50000\n", Format.THROTTLED, 0.0),
        ("50005\n", Format.THROTTLED, 1.0),
        ("0x1", Format.THROTTLED, 1.0),
        ("48850\n", Format.MILLIDEGREES, 48.85),
        ("-12500\n", Format.MILLIDEGREES, -12.5),
        ("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n", Format.W1, 23.125),
        ("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=-125\n", Format.W1, -0.125),
    ],
)
def test_the_kernels_files_are_read(text: str, how: Format, value: float) -> None:
    assert parse(text, how) == value


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("2", Format.FLAG),
        ("", Format.FLAG),
        ("on", Format.FLAG),
        ("zzz", Format.THROTTLED),
        ("4.5", Format.MILLIDEGREES),
        ("99999999999", Format.MILLIDEGREES),
        # A thermometer that was powered on and has not measured, and a line whose sum is wrong.
        ("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n", Format.W1),
        ("72 01 4b 46 7f ff 0e 10 57 : crc=58 NO\n72 01 4b 46 7f ff 0e 10 57 t=23125\n", Format.W1),
        ("85000\n", Format.MILLIDEGREES),
        ("t=23125", Format.W1),
    ],
)
def test_what_is_no_reading_is_none(text: str, how: Format) -> None:
    with pytest.raises(ProtocolError):
        parse(text, how)


@given(st.text("019-.xatcrcYESNO= :\n\u0663", max_size=80), st.sampled_from(Format))
def test_no_file_brings_the_reader_down(text: str, how: Format) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(parse(text, how), float)


def test_a_sensor_is_found_wherever_the_kernel_numbered_it(tmp_path: Path) -> None:
    (tmp_path / "hwmon3").mkdir()
    (tmp_path / "hwmon3/in0_lcrit_alarm").write_text("1\n")
    assert read_sensor(f"{tmp_path}/hwmon*/in0_lcrit_alarm", Format.FLAG) == 1.0
    assert read_sensor(f"{tmp_path}/hwmon*/in1_lcrit_alarm", Format.FLAG) is None
    (tmp_path / "hwmon3/in0_lcrit_alarm").write_text("maybe")
    assert read_sensor(f"{tmp_path}/hwmon*/in0_lcrit_alarm", Format.FLAG) is None
    assert read_sensor(str(tmp_path), Format.FLAG) is None


PLAN = """base_mm = 150
column_mm = 450
door_mm = { S = 100, M = 200, L = 400 }
columns = [{ name = "A", rows = "S", latches = "0:0", zone = "fridge" }]
zones = [{ name = "fridge", climate = "cold", low_c = 2, high_c = 8, sensor = "SENSOR" }]
"""


def sensor(**told: object) -> SensorSettings:
    usual: dict[str, object] = {"name": "t", "watches": "temperature", "file": "f", "format": "w1"}
    return SensorSettings(**{**usual, **told})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("named", "sensors", "said"),
    [
        ("t", (), "no thermometer"),
        ("t", (sensor(watches="mains", format="flag"),), "no thermometer"),
        ("t", (sensor(low_c=1.0, high_c=2.0),), "no thermometer"),
        ("t", (sensor(), sensor()), "stands twice"),
    ],
)
def test_a_zone_needs_a_thermometer_of_its_own(named: str, sensors: tuple[SensorSettings, ...], said: str) -> None:
    layout = lay_out(parse_settings(PLAN.replace("SENSOR", named), Plan, source="node.toml"))
    with pytest.raises(ConfigError, match=said):
        wire_sensors(sensors, layout, Path())


@pytest.mark.parametrize(
    "told",
    [
        {"format": "flag"},
        {"watches": "mains"},
        {"low_c": 1.0},
        {"low_c": 3.0, "high_c": 2.0},
        {"file": ""},
        {"gpio": 4},
        {"file": "", "gpio": 4},
    ],
)
def test_a_sensor_that_makes_no_sense_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="sensor 't'"):
        sensor(**told)


async def test_a_contact_on_a_pin_is_read_and_a_chip_that_is_gone_is_silence() -> None:
    """The real gpiozero on a simulated Pi: pin 22 is a door's switch to ground, and the door is shut."""
    with simulated_pi() as pi, contextlib.closing(own_pins(pi.environ)) as pins:
        contact = GpioContact(pins, 22, Pull.UP)
        assert await contact.read() == 0.0
        assert await GpioContact(pins, 26, Pull.UP).read() == 1.0
    assert await GpioContact(NoChip(), 22, Pull.UP).read() is None


class NoChip:
    """A machine without pins."""

    def drive(self, line: int, level: int) -> None: ...

    def sense(self, line: int, pull: Pull) -> None:
        raise DeviceMissing("no GPIO chip here", remedy="none")

    def read(self, line: int) -> int:
        return 0


def test_a_pin_is_wired_once_and_to_none_that_the_pi_needs() -> None:
    tamper = SensorSettings(name="lid", watches="tamper", gpio=22)
    assert list(lines_of_sensors((tamper,))) == [(22, "the sensor lid")]
    with pytest.raises(ConfigError, match="pin 14 belongs to"):
        check_free([(14, "the sensor lid")], "node.toml")


async def test_sensors_that_hang_hold_up_nobody_and_are_told_as_silent(tmp_path: Path) -> None:
    """A pipe that nobody writes into: to open it hangs, like a 1-wire bus whose driver does."""
    pipes = [tmp_path / f"pipe{number}" for number in range(40)]
    for pipe in pipes:
        os.mkfifo(pipe)
    configured = [
        SensorSettings(name=pipe.name, watches="temperature", file=str(pipe), format="millidegrees") for pipe in pipes
    ]
    layout = Layout(compartments=(), width_mm=0, height_mm=0, columns=(), screen=None, blanks=(), zones=())
    sensors = wire_sensors(tuple(configured), layout, tmp_path)
    readings = [asyncio.ensure_future(sensor.read()) for sensor in sensors]
    try:
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "a PIN is checked") == "a PIN is checked"
        assert await FileSensor(str(pipes[0]), Format.MILLIDEGREES, answer_s=0.05).read() is None
    finally:
        hung = [thread for thread in threading.enumerate() if thread.name == "sensor"]
        while any(thread.is_alive() for thread in hung):
            for pipe in pipes:  # somebody writes, and has nothing to say
                os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
            await asyncio.to_thread(hung[0].join, 0.02)
    assert await asyncio.gather(*readings) == [None] * len(pipes)
