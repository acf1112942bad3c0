"""Simulated Kerong lock boards on a pseudo-terminal: `locker/kerong_board_sim.py` on the bench."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

from locker.bench_sim import Bench, BenchConfig, refuse_impossible
from locker.cabinet_sim import Happening
from locker.hands_sim import run_bench
from locker.kerong_board_sim import Ear, Heard, coil_time_reply, status_reply


@dataclasses.dataclass(frozen=True)
class SimConfig(BenchConfig):
    """Up to 16 boards of up to 16 locks."""

    baud: int = 19200
    unlock_answer: Literal["none", "status", "echo"] = "none"
    """What the boards say to an unlock; public drivers disagree."""


async def run_board_simulator(config: SimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` as ``electronics`` does.
    """
    await run_bench(config, electronics(config), ready)


def electronics(config: SimConfig) -> Callable[[Bench], KerongBoards]:
    """What is laid on the bench. Raises ``ConfigError`` for impossible boards, locks or baud rate."""
    refuse_impossible(config, addresses=range(16), locks=16, speeds=(9600, 19200, 57600, 115200))
    return lambda bench: KerongBoards(bench, config)


class KerongBoards:
    """``locker.bench_sim.Electronics``: the boards on one bus."""

    def __init__(self, bench: Bench, config: SimConfig) -> None:
        self._bench = bench
        self._config = config
        self._coil_time = dict.fromkeys(bench.numbers, round(config.coil_ms / 10))
        self._ear = Ear()

    def hear(self, data: bytes, now: float) -> None:
        for command in self._ear.hear(data, now):
            if command.is_query:
                self._bench.asked(command.to)
            else:
                self._bench.commanded(command.to, command.lock, command.raw)
            to_all = command.raw[1:3] == b"\xf0\x32"
            for board in self._bench.obeying(None if to_all else command.to):
                self._obey(board, command, now)

    def notice(self, happening: Happening) -> None:
        """These boards speak when they are asked."""

    def inflict(self, kind: str, board: int, lock: int | None, how: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def heal(self) -> None:
        """They have no fault of their own."""

    def _obey(self, board: int, command: Heard, now: float) -> None:
        match command.verb:
            case 0x30:
                self._say_status(board, 0x35)
            case 0x32:
                self._say_status(board, 0x36)
            case 0x31:
                self._drive(board, [command.lock], now)
                self._say_to_unlock(board, command)
            case 0x33:
                self._drive(board, range(self._config.locks), now)
            case 0x37:
                if len(command.raw) == 7:  # noqa: PLR2004 - with two bytes of data it sets, without it asks
                    self._coil_time[board] = command.raw[3] * 256 + command.raw[4]
                self._bench.answer(coil_time_reply(self._bench.address[board], self._coil_time[board]))
            case _:
                pass

    def _drive(self, board: int, locks: Iterable[int], now: float) -> None:
        for lock in locks:
            self._bench.drive(board, lock, self._coil_time[board] / 100, now)

    def _say_status(self, board: int, verb: int) -> None:
        switches, sensors = self._bench.cabinet.switches(board), self._bench.cabinet.sensors(board)
        self._bench.answer(status_reply(self._bench.address[board], switches, sensors, verb))

    def _say_to_unlock(self, board: int, command: Heard) -> None:
        if self._config.unlock_answer == "status":
            self._say_status(board, 0x35)
        elif self._config.unlock_answer == "echo":
            self._bench.answer(command.raw)
