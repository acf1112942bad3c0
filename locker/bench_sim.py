"""The bench on which every simulated lock board lies: a line, a cabinet of doors, faults, a log of what happened.

What boards hear, do and say is their electronics, one file a family; each is a process of its own, and its log is the
witness in every test that counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from edge.errors import ConfigError
from locker.cabinet_sim import Cabinet, Happening, Mechanics, Spot
from locker.line_faults_sim import LineFaults
from locker.witness_file import Witness


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """What is simulated, and where it is reached. Times in milliseconds, as data sheets give them.

    A family sets the defaults that are its own.
    """

    link: Path
    """A symlink to the pseudo-terminal, kept at this path over unplugs."""
    control: Path
    """Unix socket for ``SimControl``."""
    log: Path
    """The witness: JSON lines, appended."""
    boards: int = 1
    locks: int = 16
    first: int = 0
    """Address of the first board; the others follow. The log names boards by it, and locks from 0 on."""
    baud: int = 9600
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
    """What a board reads of a hook while its door is shut."""
    seed: int = 0
    """Of everything random: lost answers, noise, garbled bytes."""


class Handle(Protocol):
    def cancel(self) -> object: ...


class Time(Protocol):
    """An event loop is one. ``time`` is CLOCK_MONOTONIC in seconds then, which all processes of a machine share."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle: ...


class Port(Protocol):
    """The boards' end of the line; ``locker.pty_sim.PtyPort`` is one."""

    @property
    def plugged(self) -> bool: ...

    @property
    def garbles(self) -> bool: ...

    def plug(self, heard: Callable[[bytes], None]) -> None: ...

    def unplug(self) -> None: ...

    def send(self, data: bytes) -> None: ...


class Electronics(Protocol):
    """What the boards of one family do."""

    def hear(self, data: bytes, now: float) -> None:
        """Bytes from the line, in any portions."""
        ...

    def notice(self, happening: Happening) -> None:
        """Something happened in the cabinet; boards that push tell of it."""
        ...

    def inflict(self, kind: str, board: int, lock: int | None, how: dict[str, Any]) -> bool:
        """Begin a fault that only this family has. False where there is none of that kind."""
        ...

    def heal(self) -> None:
        """End them all."""
        ...


class Bench:
    """Line, boards and cabinet, joined. Everything runs in one thread, in the time handed in."""

    def __init__(
        self,
        config: BenchConfig,
        electronics: Callable[[Bench], Electronics],
        port: Port,
        witness: Witness,
        time: Time,
    ) -> None:
        """Nothing is plugged in yet."""
        self.config = config
        self.numbers = range(config.first, config.first + config.boards)
        self.cabinet = Cabinet(
            config.boards, config.locks, _mechanics(config), shut_bit=config.shut_bit, first=config.first
        )
        self.faults = LineFaults(config.seed)
        self.witness = witness
        self.address = {board: board for board in self.numbers}
        """The address each board's switch is set to."""
        self.dead: set[int] = set()
        """Boards without power."""
        self.port = port
        self.time = time
        self._alarm: Handle | None = None
        self.electronics = electronics(self)

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
        if not self.port.plugged:
            self.port.plug(self._heard)

    def unplug(self) -> None:
        if self.port.plugged:
            self.port.unplug()
            self.note("unplugged")

    def now(self) -> float:
        return self.time.time()

    def send(self, data: bytes) -> None:
        """Bytes towards the agent."""
        if self.port.plugged and data:
            self.port.send(self._through_line(data))

    def answer(self, data: bytes) -> None:
        """A board's answer to what it has heard, as the line's faults leave it."""
        data, delay_ms = self.faults.answer(data, self.config.answer_ms)
        self.time.call_at(self.now() + delay_ms / 1000, lambda: self.send(data))

    def asked(self, address: int) -> None:
        """A query was heard."""
        self.witness.count("query", address)

    def commanded(self, address: int, lock: int | None, raw: bytes) -> None:
        """A command was heard. On the disk before a coil moves: what the agent sent is then known whatever follows."""
        self.note("frame", board=address, lock=lock, raw=raw.hex())

    def obeying(self, address: int | None) -> Iterator[int]:
        """The boards that obey ``address``, or (None) all. Two boards with one address both obey."""
        for board, own in self.address.items():
            if board not in self.dead and address in {None, own}:
                yield board

    def drive(self, board: int, lock: int, seconds: float, now: float) -> None:
        """Put current through a coil (``Cabinet.drive``); a wire that leads nowhere does nothing."""
        spot = Spot(board, lock)
        if spot in self.cabinet:
            self.tell(self.cabinet.drive(spot, seconds, now))

    def let_go(self, board: int, lock: int, now: float) -> None:
        """Take the current off a coil."""
        spot = Spot(board, lock)
        if spot in self.cabinet:
            self.tell(self.cabinet.let_go(spot, now))

    def note(self, what: str, **more: object) -> None:
        self.witness.note([{"t": self.now(), "what": what, **more}])

    def tell(self, told: Iterable[Happening]) -> None:
        """Write down what happened, let the boards notice it, and look ahead to what will."""
        happened = list(told)
        self.witness.note(
            {"t": one.t, "what": one.what, "board": one.spot.board, "lock": one.spot.lock} for one in happened
        )
        if self._alarm:
            self._alarm.cancel()
        due = self.cabinet.due()
        self._alarm = None if due is None else self.time.call_at(due, self.look)
        for one in happened:
            self.electronics.notice(one)

    def look(self) -> None:
        """Let the doors do what was due by now."""
        self.tell(self.cabinet.advance(self.now()))

    def heal(self) -> None:
        """Everything works again; doors stay as they are."""
        self.cabinet.heal()
        self.faults.heal()
        self.dead.clear()
        self.address = {board: board for board in self.numbers}
        self.electronics.heal()
        self.note("healed")

    def _heard(self, data: bytes) -> None:
        if self.faults.echoes:
            self.send(data)
        self.look()
        self.electronics.hear(self._through_line(data), self.now())

    def _through_line(self, data: bytes) -> bytes:
        """What arrives of ``data``: rubbish, where the agent's end was set to another speed."""
        return self.faults.garbled(data) if self.port.garbles else data


def refuse_impossible(config: BenchConfig, *, addresses: range, locks: int, speeds: Iterable[int]) -> None:
    """Raises ``ConfigError`` for boards that a family does not have."""
    last = config.first + config.boards - 1
    if config.boards < 1 or config.first not in addresses or last not in addresses or not 1 <= config.locks <= locks:
        raise ConfigError(
            f"{config.boards} boards from {config.first} on, of {config.locks} locks",
            remedy=f"choose addresses {addresses[0]} to {addresses[-1]}, 1 to {locks} locks",
        )
    if config.baud not in speeds:
        raise ConfigError(f"a baud rate of {config.baud}", remedy=f"choose one of {sorted(speeds)}")


def _mechanics(config: BenchConfig) -> Mechanics:
    shut_after = None if config.close_after_ms is None else config.close_after_ms / 1000
    return Mechanics(release=config.release_ms / 1000, swing=config.open_ms / 1000, close_after=shut_after)
