"""A simulated Raspberry Pi: its GPIO chip with what hangs on the pins, latches and doors and a keypad's matrix of keys.

A process of its own. Programs reach it through ``locker/gpio_chip_sim.py``, a pin factory for gpiozero, each by a
connection of its own, which ends when they die, however they do. Its log of what physically happened is the witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from edge.errors import ConfigError
from locker.cabinet_sim import Cabinet, Happening, Mechanics, Spot
from locker.sim_control_socket import Answer, served
from locker.witness_file import Witness


@dataclasses.dataclass(frozen=True)
class WiredDoor:
    """A door's coil driver and switch, and how they are made."""

    coil: int
    hook: int
    driven_by: Literal[0, 1] = 1
    shut_level: Literal[0, 1] = 0
    resistor: bool = True
    """Whether one of the cabinet's own holds the driver off while nobody drives its pin."""


@dataclasses.dataclass(frozen=True)
class GpioSimConfig:
    """What is simulated, and where it is reached."""

    chip: Path
    """Unix socket of the chip: JSON lines."""
    control: Path
    """Unix socket for ``SimControl``."""
    log: Path
    """The witness: JSON lines, appended."""
    doors: Sequence[WiredDoor] = ()
    rows: Sequence[int] = ()
    columns: Sequence[int] = ()
    persist: bool = True
    """A line keeps its level when the process that drove it dies, as under Raspberry Pi OS; else it turns input."""
    release_ms: float = 5
    open_ms: float = 20
    close_after_ms: float | None = None


async def run_gpio_simulator(config: GpioSimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once both sockets can be used."""
    world = World(config, Witness(config.log), asyncio.get_running_loop())
    world.start()
    server = await asyncio.start_unix_server(_Chip(world).connected, config.chip)
    try:
        async with served(config.control, _Hands(world).handle):
            if ready:
                ready()
            await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        world.stop()


@dataclasses.dataclass
class _Pin:
    holder: object = None
    output: bool = False
    level: int = 0
    pull: str = "floating"


class Alarm(Protocol):
    """Something that is due."""

    def cancel(self) -> None: ...


class Time(Protocol):
    """What a world needs of time; an event loop has it, on CLOCK_MONOTONIC, which all processes of a machine share."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Alarm: ...


class World:
    """Pins, coils, doors and keys."""

    def __init__(self, config: GpioSimConfig, witness: Witness, time: Time) -> None:
        shut_after = None if config.close_after_ms is None else config.close_after_ms / 1000
        mechanics = Mechanics(release=config.release_ms / 1000, swing=config.open_ms / 1000, close_after=shut_after)
        self.config = config
        self.cabinet = Cabinet(1, len(config.doors), mechanics)
        self.witness = witness
        self._time = time
        # What the SoC's own pulls give until somebody asks for another.
        self.pins = {line: _Pin(pull="up" if line < 9 else "down") for line in range(28)}  # noqa: PLR2004
        self.pressed: set[tuple[int, int]] = set()
        self.flapping: set[int] = set()
        self._looks = 0
        self._driven: dict[int, float] = {}
        self._alarm: Alarm | None = None

    def start(self) -> None:
        self.witness.open()
        self.note("started", doors=len(self.config.doors))

    def stop(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        self.note("stopped")
        self.witness.close()

    def now(self) -> float:
        return self._time.time()

    def note(self, what: str, **more: object) -> None:
        self.witness.note([{"t": self.now(), "what": what, **more}])

    def tell(self, told: Iterable[Happening]) -> None:
        """Write down what happened and look ahead to what will."""
        self.witness.note(
            {"t": one.t, "what": one.what, "board": one.spot.board, "lock": one.spot.lock} for one in told
        )
        if self._alarm:
            self._alarm.cancel()
        due = self.cabinet.due()
        self._alarm = None if due is None else self._time.call_at(due, self.look)

    def look(self) -> None:
        """Let the doors do what was due by now."""
        self.tell(self.cabinet.advance(self.now()))

    def move(self, line: int, *, output: bool, level: int = 0, pull: str = "floating") -> None:
        """A program moved a pin; what hangs on it follows at once."""
        pin = self.pins[line]
        pin.output, pin.level, pin.pull = output, level, pull if not output else pin.pull
        self._follow_coils()
        self._look_for_shorts()

    def let_go(self, holder: object) -> None:
        """A program has died: the kernel frees its lines."""
        for pin in self.pins.values():
            if pin.holder is holder:
                pin.holder = None
                if not self.config.persist:
                    pin.output = False
        self._follow_coils()

    def fault(self, kind: str, lock: int, **how: Any) -> None:
        """Begin one: ``stuck``, ``deaf``, ``flapping``, ``weak`` {pulses}, ``slow_door`` {ms}, ``cut`` {reads?}.

        Raises ``ConfigError`` for another.
        """
        ailment = self.cabinet.ailment(Spot(0, lock))
        match kind:
            case "stuck":
                ailment.stuck = -1
            case "deaf":
                ailment.deaf = True
            case "weak":
                ailment.weak = how["pulses"]
            case "slow_door":
                ailment.swing = how["ms"] / 1000
            case "cut":
                ailment.cut = how.get("reads", "open")
            case "flapping":
                self.flapping.add(lock)
            case _:
                raise ConfigError(f"no latch has the fault {kind!r}", remedy="see the kinds in locker/gpio_sim.py")
        self.note("fault", kind=kind, board=0, lock=lock)

    def heal(self) -> None:
        """Everything works again; doors and keys stay as they are."""
        self.cabinet.heal()
        self.flapping.clear()

    def level(self, line: int) -> int:
        """What a voltmeter would read."""
        pin = self.pins[line]
        if pin.output:
            return pin.level
        for lock, door in enumerate(self.config.doors):
            if door.hook == line:
                return self._switch(lock, door, pin)
        drivers = [self.pins[other].level for other in self._net(line) if self.pins[other].output]
        return min(drivers) if drivers else int(pin.pull == "up")

    def _switch(self, lock: int, door: WiredDoor, pin: _Pin) -> int:
        cut = self.cabinet.ailment(Spot(0, lock)).cut
        if cut == "open":
            return int(pin.pull == "up")  # nothing but the pull is left on the line
        if cut == "closed":
            return door.shut_level  # both wires of the switch touch
        if lock in self.flapping:
            self._looks += 1
            return self._looks % 2
        shut = bool(self.cabinet.switches(0) >> lock & 1)
        return door.shut_level if shut else 1 - door.shut_level

    def _follow_coils(self) -> None:
        for lock, door in enumerate(self.config.doors):
            spot, pin = Spot(0, lock), self.pins[door.coil]
            driven = self.level(door.coil) == door.driven_by and (pin.output or not door.resistor)
            if driven and lock not in self._driven:
                self._driven[lock] = self.now()
                self.note("coil_on", board=0, lock=lock)
                self.tell(self.cabinet.drive(spot, math.inf, self.now()))
            elif not driven and lock in self._driven:
                lasted = self.now() - self._driven.pop(lock)
                self.tell(self.cabinet.let_go(spot, self.now()))
                self.note("coil_off", board=0, lock=lock, seconds=round(lasted, 4))

    def _look_for_shorts(self) -> None:
        """Two outputs that fight through pressed keys: what a driver of a matrix must never do."""
        for line in self.config.rows:
            levels = {self.pins[other].level for other in self._net(line) if self.pins[other].output}
            if len(levels) > 1:
                self.note("short", line=line)

    def _net(self, line: int) -> set[int]:
        """Every pin that pressed keys join with ``line``."""
        found, new = {line}, [line]
        joined = [{self.config.rows[row], self.config.columns[column]} for row, column in self.pressed]
        while new:
            here = new.pop()
            fresh = set().union(*(pair for pair in joined if here in pair)) - found
            found |= fresh
            new += fresh
        return found


class _Chip:
    """The programs' side: ``out`` {line, level}, ``in`` {line, pull}, ``read`` {line}; a line has one holder."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                answer = self._obey(json.loads(line), writer)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        self._world.let_go(writer)
        writer.close()

    def _obey(self, asked: dict[str, Any], holder: object) -> dict[str, object]:
        pin = self._world.pins[asked["line"]]
        if pin.holder not in {None, holder}:
            return {"error": "GPIO busy"}
        pin.holder = holder
        self._world.look()
        match asked["do"]:
            case "out":
                self._world.move(asked["line"], output=True, level=asked["level"])
            case "in":
                self._world.move(asked["line"], output=False, pull=asked["pull"])
        return {"level": self._world.level(asked["line"])}


class _Hands:
    """People and mishaps: what ``SimControl`` may ask for.

    ``doors``, ``counts``, ``wait`` {what, board?, lock?, count?}; ``close_door``, ``force_door`` {lock}; ``press``,
    ``lift`` {row, column}; ``heal``; ``fault`` {kind, lock}, its kinds those of ``World.fault``.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, request: Answer) -> Answer:
        """Do what ``request`` asks. Raises ``ConfigError``, ``KeyError`` or ``TypeError`` where it asks nonsense."""
        world = self._world
        do = request["do"]
        given: dict[str, Any] = {key: value for key, value in request.items() if key != "do"}
        if do == "wait":
            await world.witness.until(given["what"], given.get("board"), given.get("lock"), int(given.get("count", 1)))
            return {}
        world.look()
        acts: dict[object, Callable[..., Answer | None]] = {
            "doors": lambda: {"doors": world.cabinet.doors()},
            "counts": lambda: {"counts": world.witness.counts()},
            "close_door": lambda lock: world.tell(world.cabinet.shut(Spot(0, lock), world.now())),
            "force_door": lambda lock: world.tell(world.cabinet.force(Spot(0, lock), world.now())),
            "press": lambda row, column: world.pressed.add((row, column)),
            "lift": lambda row, column: world.pressed.discard((row, column)),
            "heal": world.heal,
            "fault": world.fault,
        }
        if do not in acts:
            raise ConfigError(f"no simulator does {do!r}", remedy=f"ask for wait, {', '.join(map(str, acts))}")
        return acts[do](**given) or {}
