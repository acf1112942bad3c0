"""Simulated Kerong lock boards on a pseudo-terminal, with a cabinet of doors behind them and faults to inject.

A process of its own. It logs what physically happens, and its log is the witness in every test that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import termios
import tty
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from edge.errors import ConfigError
from locker.cabinet_sim import Cabinet, Happening, Mechanics, Spot
from locker.kerong_board_sim import Ear, Heard, coil_time_reply, status_reply
from locker.kerong_faults_sim import LineFaults
from locker.sim_control_socket import Answer, served
from locker.witness_file import Witness

SPEEDS = {9600: termios.B9600, 19200: termios.B19200, 57600: termios.B57600, 115200: termios.B115200}
"""Baud rates such a board can be set to."""


@dataclasses.dataclass(frozen=True)
class SimConfig:
    """What is simulated, and where it is reached. Times in milliseconds, as data sheets give them."""

    link: Path
    """A symlink to the pseudo-terminal, kept at this path over unplugs."""
    control: Path
    """Unix socket for ``SimControl``."""
    log: Path
    """The witness: JSON lines, appended."""
    boards: int = 1
    locks: int = 16
    baud: int = 19200
    release_ms: float = 5
    """From the unlock frame until the latch lets go."""
    open_ms: float = 20
    """From then until the door has opened."""
    close_after_ms: float | None = None
    """A person shuts each door so long after it opened; None: only when told to."""
    coil_ms: float = 300
    """How long the boards drive a coil until told otherwise; it may not be shorter than ``release_ms`` for a door to
    open."""
    answer_ms: float = 1
    """From a query to its answer."""
    shut_bit: int = 1
    unlock_answer: Literal["none", "status", "echo"] = "none"
    """What the boards say to an unlock; public drivers disagree."""
    seed: int = 0
    """Of everything random: lost answers, noise, garbled bytes."""


async def run_board_simulator(config: SimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` for impossible boards, locks or baud rate.
    """
    bench = _Bench(config)
    bench.start()
    try:
        async with served(config.control, _Hands(bench).handle):
            if ready:
                ready()
            await asyncio.get_running_loop().create_future()
    finally:
        bench.stop()


class _Bench:
    """Pty, boards and cabinet, joined. Everything runs in the event loop's one thread."""

    def __init__(self, config: SimConfig) -> None:
        if not (1 <= config.boards <= 16 and 1 <= config.locks <= 16):  # noqa: PLR2004 - two nibbles of an address
            raise ConfigError(f"{config.boards} boards of {config.locks} locks", remedy="choose 1 to 16 of each")
        if config.baud not in SPEEDS:
            raise ConfigError(f"a baud rate of {config.baud}", remedy=f"choose one of {sorted(SPEEDS)}")
        self.config = config
        self.cabinet = Cabinet(config.boards, config.locks, _mechanics(config), shut_bit=config.shut_bit)
        self.faults = LineFaults(config.seed)
        self.witness = Witness(config.log)
        self.address = list(range(config.boards))
        """The address each board's switch is set to."""
        self.dead: set[int] = set()
        """Boards without power."""
        self._coil_time = [round(config.coil_ms / 10)] * config.boards
        self._ear = Ear()
        self._pty: tuple[int, int] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.witness.open()
        self.note("started", boards=self.config.boards, locks=self.config.locks)
        self.plug()

    def stop(self) -> None:
        self.unplug()
        if self._alarm:
            self._alarm.cancel()
        self.note("stopped")
        self.witness.close()

    def plug(self) -> None:
        if self._pty is not None:
            return
        outer, inner = os.openpty()
        tty.setraw(inner)
        os.set_blocking(outer, False)
        self._pty = (outer, inner)
        asyncio.get_running_loop().add_reader(outer, self._readable)
        fresh = self.config.link.with_name(self.config.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(inner))
        fresh.replace(self.config.link)
        self.note("plugged")

    def unplug(self) -> None:
        if self._pty is None:
            return
        asyncio.get_running_loop().remove_reader(self._pty[0])
        self.config.link.unlink(missing_ok=True)
        for end in self._pty:
            os.close(end)
        self._pty = None
        self.note("unplugged")

    def send(self, data: bytes) -> None:
        """Bytes towards the agent. A line that nobody reads loses them, as a wire does."""
        if self._pty is not None and data:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pty[0], self._through_line(data))

    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds, which all processes of a machine share."""
        return asyncio.get_running_loop().time()

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
        self._alarm = None if due is None else asyncio.get_running_loop().call_at(due, self.look)

    def look(self) -> None:
        """Let the doors do what was due by now."""
        self.tell(self.cabinet.advance(self.now()))

    def _readable(self) -> None:
        if self._pty is None:
            return
        try:
            data = os.read(self._pty[0], 4096)
        except BlockingIOError:
            return
        now = self.now()
        if self.faults.echoes:
            self.send(data)
        for command in self._ear.hear(self._through_line(data), now):
            self._obey(command, now)

    def _through_line(self, data: bytes) -> bytes:
        """What arrives of ``data``: rubbish, where the agent's end was set to another speed."""
        if self._pty is None or termios.tcgetattr(self._pty[1])[4] == SPEEDS[self.config.baud]:
            return data
        return self.faults.garbled(data)

    def _obey(self, command: Heard, now: float) -> None:
        self.tell(self.cabinet.advance(now))
        if command.is_query:
            self.witness.count("query", command.to)
        else:
            # On the disk before a coil moves: what the agent sent is then known whatever happens next.
            heard = {"board": command.to, "lock": command.lock, "raw": command.raw.hex()}
            self.witness.note([{"t": now, "what": "frame", **heard}])
        to_all = command.raw[1:3] == b"\xf0\x32"
        for board, address in enumerate(self.address):
            # Two boards with one address both obey.
            if board not in self.dead and (to_all or address == command.to):
                self._board_obeys(board, command, now)

    def _board_obeys(self, board: int, command: Heard, now: float) -> None:
        match command.verb:
            case 0x30:
                self._say_status(board, 0x35)
            case 0x32:
                self._say_status(board, 0x36)
            case 0x31:
                self._drive(board, [command.lock], now)
                self._say_to_unlock(board, command)
            case 0x33:
                self._drive(board, range(self.config.locks), now)
            case 0x37:
                if len(command.raw) == 7:  # noqa: PLR2004 - with two bytes of data it sets, without it asks
                    self._coil_time[board] = command.raw[3] * 256 + command.raw[4]
                self._say(coil_time_reply(self.address[board], self._coil_time[board]))
            case _:
                pass

    def _drive(self, board: int, locks: Iterable[int], now: float) -> None:
        for lock in locks:
            if Spot(board, lock) in self.cabinet:
                self.tell(self.cabinet.drive(Spot(board, lock), self._coil_time[board] / 100, now))

    def _say_status(self, board: int, verb: int) -> None:
        switches, sensors = self.cabinet.switches(board), self.cabinet.sensors(board)
        self._say(status_reply(self.address[board], switches, sensors, verb))

    def _say_to_unlock(self, board: int, command: Heard) -> None:
        if self.config.unlock_answer == "status":
            self._say_status(board, 0x35)
        elif self.config.unlock_answer == "echo":
            self._say(command.raw)

    def _say(self, data: bytes) -> None:
        data, delay_ms = self.faults.answer(data, self.config.answer_ms)
        asyncio.get_running_loop().call_later(delay_ms / 1000, self.send, data)


class _Hands:
    """People and mishaps: what ``SimControl`` may ask for.

    ``doors``, ``counts``, ``wait`` {what, board?, lock?, count?}; ``close_door``, ``force_door``, ``put_item``,
    ``take_item`` {board, lock}; ``unplug``, ``plug``; ``noise`` {size}; ``heal``; ``fault`` {kind, ...}, its kinds
    those of ``LineFaults`` {times?, p?, amount?}, of a compartment {board, lock} ``stuck`` {pulses}, ``weak``
    {pulses}, ``slow_door`` {ms}, ``cut`` {reads: open|closed}, ``deaf``, and of a board ``duplicate_address``
    {board, address} and ``dead`` {board}.
    """

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench

    async def handle(self, request: Answer) -> Answer:
        """Do what ``request`` asks. Raises ``ConfigError``, ``KeyError`` or ``TypeError`` where it asks nonsense."""
        do = request["do"]
        given: dict[str, Any] = {key: value for key, value in request.items() if key != "do"}
        if do == "wait":
            await self._bench.witness.until(
                given["what"], given.get("board"), given.get("lock"), int(given.get("count", 1))
            )
            return {}
        acts: dict[object, Callable[..., Answer | None]] = {
            "doors": self._doors,
            "counts": lambda: {"counts": self._bench.witness.counts()},
            "close_door": self._close_door,
            "force_door": self._force_door,
            "put_item": lambda **at: self._move_item(**at, inside=True),
            "take_item": lambda **at: self._move_item(**at, inside=False),
            "plug": self._bench.plug,
            "unplug": self._bench.unplug,
            "noise": lambda size: self._bench.send(self._bench.faults.rubbish(size)),
            "heal": self._heal,
            "fault": self._fault,
        }
        if do not in acts:
            raise ConfigError(f"no simulator does {do!r}", remedy=f"ask for wait, {', '.join(map(str, acts))}")
        return acts[do](**given) or {}

    def _doors(self) -> Answer:
        self._bench.look()
        return {"doors": self._bench.cabinet.doors()}

    def _close_door(self, board: int, lock: int) -> None:
        self._bench.tell(self._bench.cabinet.shut(self._spot(board, lock), self._bench.now()))

    def _force_door(self, board: int, lock: int) -> None:
        self._bench.tell(self._bench.cabinet.force(self._spot(board, lock), self._bench.now()))

    def _move_item(self, board: int, lock: int, *, inside: bool) -> None:
        spot = self._spot(board, lock)
        self._bench.tell(self._bench.cabinet.move_item(spot, self._bench.now(), inside=inside))

    def _heal(self) -> None:
        self._bench.cabinet.heal()
        self._bench.faults.heal()
        self._bench.dead.clear()
        self._bench.address = list(range(self._bench.config.boards))
        self._bench.note("healed")

    def _fault(self, kind: str, board: int | None = None, lock: int | None = None, **how: Any) -> None:
        if kind in LineFaults.KINDS:
            self._bench.faults.inflict(kind, **how)
        elif kind == "duplicate_address" and board is not None:
            self._bench.address[board] = how["address"]
        elif kind == "dead" and board is not None:
            self._bench.dead.add(board)
        else:
            self._ail(kind, self._spot(board, lock), how)
        where = {name: value for name, value in (("board", board), ("lock", lock)) if value is not None}
        self._bench.note("fault", kind=kind, **where, **how)

    def _ail(self, kind: str, spot: Spot, how: dict[str, Any]) -> None:
        ailment = self._bench.cabinet.ailment(spot)
        match kind:
            case "stuck":
                ailment.stuck = how.get("pulses", -1)
            case "weak":
                ailment.weak = how["pulses"]
            case "slow_door":
                ailment.swing = how["ms"] / 1000
            case "cut":
                ailment.cut = how["reads"]
            case "deaf":
                ailment.deaf = True
            case _:
                raise ConfigError(f"no cabinet has the fault {kind!r}", remedy="see the kinds in locker/kerong_sim.py")

    def _spot(self, board: int | None, lock: int | None) -> Spot:
        if board is None or lock is None or Spot(board, lock) not in self._bench.cabinet:
            raise ConfigError(f"no compartment {board}/{lock}", remedy="name a board and a lock of this cabinet")
        return Spot(board, lock)


def _mechanics(config: SimConfig) -> Mechanics:
    shut_after = None if config.close_after_ms is None else config.close_after_ms / 1000
    return Mechanics(release=config.release_ms / 1000, swing=config.open_ms / 1000, close_after=shut_after)
