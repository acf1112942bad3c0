"""What ``lastmile doctor`` looks at, in order: files, clock, disk, broker, sensors, boards; if asked, polarity."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from agents.cabinet_check import check_cabinet
from agents.cabinet_sensors import wire_sensors
from agents.calibration_file import write_option
from agents.check import check_certificate
from agents.cloud_sync import broker_settings
from agents.doctor_boards import examine_bus
from agents.doctor_broker import examine_broker
from agents.doctor_bus import SCAN, DoctorBus, Heard, Scan, buses_of
from agents.doctor_ledger import proven_empty
from agents.doctor_polarity import Ask, Found, Judged, Polarity, choose_door
from agents.doctor_report import Finding, failed, fault, good, note
from agents.settings import NodeSettings
from agents.trust import read_trust
from edge.clock import Clock
from edge.errors import ConfigError, LastmileError
from edge.settings_file import read_settings
from locker.layout import Layout
from locker.scanner_evdev import input_devices
from locker.scanner_serial import serial_ports

SPARE = 4
"""Times its reserve that a disk should have left: the journal grows by a few MiB a day."""
_MIB = 1024 * 1024


class Doctor:
    """One node, by its configuration file. Raises ``ConfigError`` where that cannot be read at all."""

    def __init__(self, config: Path, clock: Clock, scan: Scan = SCAN) -> None:
        self.config = config
        self.settings = read_settings(config, NodeSettings)
        self.layout: Layout = check_cabinet(self.settings.locker, source=str(config), text=config.read_text())
        self._base = config.parent
        self._clock = clock
        self._buses = buses_of(self.settings.locker, self._base, clock, str(config))
        self._scan = scan
        self.alone: set[int] = set()
        """Boards that were heard to answer alone: only those are ever pulsed."""

    async def examine(self, heard: Callable[[Heard], None]) -> AsyncIterator[Finding]:
        """Everything that can be found without moving anything. ``heard`` gets each address as it was asked."""
        yield good("configuration", f"{self.config}, {len(self.layout.compartments)} doors")
        for finding in (*self._files(), self._time(), *self._disk(), *await self._broker()):
            yield finding
        async for finding in self._sensors():
            yield finding
        yield _listed("serial ports", serial_ports())
        yield _listed("keyboards and scanners", input_devices())

        def note_alone(answer: Heard) -> None:
            if answer.board is not None and answer.answers == 1 and not answer.ruins:
                self.alone.add(answer.board)
            heard(answer)

        for number, kind in (
            (each["board"], each["kind"]) for each in self.settings.locker.boards if "bus" not in each
        ):
            yield note(f"board {number}", f"stands on no bus ({kind}), so nobody was asked")
        for bus in self._buses:
            async for finding in examine_bus(bus, self._scan, note_alone):
                yield finding

    async def calibrate(self, ask: Ask, door: str | None = None) -> AsyncIterator[Judged]:
        """Open one empty door of each board and judge its switches; ``door`` names the only one that may be opened.

        Only after ``examine``, and only on boards that answered it alone: for two boards at one address a pulse opens
        two doors.
        """
        if door is not None and door not in self.layout.doors():
            raise ConfigError(f"no door {door!r}", remedy="name a door of this cabinet")
        empty = proven_empty(self._base / self.settings.store.directory / "state.db")
        for bus in self._buses:
            for board in bus.boards:
                async for each in self._calibrate(bus, board, empty, ask, door):
                    yield each

    async def _calibrate(
        self, bus: DoctorBus, board: int, empty: frozenset[str] | None, ask: Ask, door: str | None
    ) -> AsyncIterator[Judged]:
        doors = [each for each in self.layout.compartments if each.latch.board == board]
        if not doors or (door is not None and door not in {each.door for each in doors}):
            return
        if board not in self.alone:
            what = "it does not answer properly and alone, so nothing of it is opened"
            yield fault(f"board {board}", what, "mend what was said of it first"), None
            return
        chosen = choose_door(doors, empty, door, board)
        if isinstance(chosen, Finding):
            yield chosen, None
            return
        try:
            bus.open()
            judged = await Polarity(bus, ask, self._clock.sleep).examine(chosen, doors)
        except LastmileError as error:
            judged = [(failed(f"board {board}", error), None)]
        finally:
            bus.close()
        for each in judged:
            yield each

    def write(self, found: Found) -> None:
        """Put one thing that was found out into the configuration. Raises ``ConfigError`` where it cannot be."""
        numbers = [each["board"] for each in self.settings.locker.boards]
        why = f"found by lastmile doctor with door {found.door}"
        write_option(self.config, numbers.index(found.board), found.option, found.value, why)

    def _files(self) -> Iterator[Finding]:
        try:
            trust = read_trust(self.settings, self._base)
        except LastmileError as error:
            yield failed("keys", error)
            return
        yield good("keys", f"node {trust.identity.audience}, issuers version {trust.issuers.version}")
        where = broker_settings(self.settings.broker, trust.identity.node, self._base)
        if where.tls is None:
            yield note("certificate", "none: plain MQTT", "only for a broker on this machine")
            return
        try:
            for line in check_certificate(where.tls, trust.identity.node, self._clock.wall()):
                yield good("certificate", line.removeprefix("certificate: "))
        except LastmileError as error:
            yield failed("certificate", error)

    def _time(self) -> Finding:
        if self._clock.trusted():
            return good("clock", "set by a time server in this boot")
        return note("clock", "not set in this boot: nothing expires", "see `timedatectl status`")

    def _disk(self) -> Iterator[Finding]:
        store = self.settings.store
        place = self._base / store.directory
        nearest = next(each for each in (place, *place.parents) if each.exists())
        free = shutil.disk_usage(nearest).free // _MIB
        if not os.access(nearest, os.W_OK):
            yield fault("disk", f"{nearest} cannot be written by this user", "run this as the service's user, or root")
        if free < store.reserve_mib * SPARE:
            yield fault("disk", f"{free} MiB are free at {nearest}", "free some: deposits stop first, collections last")
        else:
            yield good("disk", f"{free} MiB are free at {nearest}")

    async def _broker(self) -> list[Finding]:
        settings = self.settings
        node = f"{settings.node.tenant}_{settings.node.name}"
        try:
            return await asyncio.to_thread(examine_broker, broker_settings(settings.broker, node, self._base))
        except LastmileError as error:
            return [failed("broker", error)]

    async def _sensors(self) -> AsyncIterator[Finding]:
        try:
            sensors = wire_sensors(self.settings.locker.sensors, self.layout, self._base)
        except LastmileError as error:
            yield failed("sensors", error)
            return
        for each in sensors:
            reading = await each.read()
            where = f"sensor {each.name}"
            if reading is None:
                yield fault(where, "gives no reading", "correct its file or its format")
            else:
                yield good(where, f"{each.watched.value}: {reading:g}")


def _listed(what: str, found: list[tuple[str, str]]) -> Finding:
    """What this machine has, so that a wrong path can be corrected."""
    return note(what, ", ".join(f"{path} ({name})" for path, name in found) or "none")
