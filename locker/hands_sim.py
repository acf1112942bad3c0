"""People and mishaps at a simulated cabinet, and the process in which it stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from edge.errors import ConfigError
from locker.bench_sim import Bench, BenchConfig, Electronics
from locker.cabinet_sim import Spot
from locker.line_faults_sim import LineFaults
from locker.pty_sim import SPEEDS, PtyPort
from locker.sim_control_socket import Answer, served
from locker.witness_file import Witness


@contextlib.asynccontextmanager
async def benched(config: BenchConfig, electronics: Callable[[Bench], Electronics]) -> AsyncIterator[Hands]:
    """A bench on a pseudo-terminal, in this event loop and until the block ends, and the hands that reach into it.

    Raises ``ConfigError`` for a baud rate that no board has.
    """
    if config.baud not in SPEEDS:
        raise ConfigError(f"a baud rate of {config.baud}", remedy=f"choose one of {sorted(SPEEDS)}")
    port = PtyPort(config.link, config.baud)
    bench = Bench(config, electronics, port, Witness(config.log), asyncio.get_running_loop())
    bench.start()
    try:
        yield Hands(bench)
    finally:
        bench.stop()


async def run_bench(
    config: BenchConfig, electronics: Callable[[Bench], Electronics], ready: Callable[[], None] | None = None
) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` as ``benched`` does.
    """
    async with benched(config, electronics) as hands, served(config.control, hands.handle):
        if ready:
            ready()
        await asyncio.get_running_loop().create_future()


class Hands:
    """What ``SimControl`` may ask for.

    ``doors``, ``counts``, ``wait`` {what, board?, lock?, count?}; ``close_door``, ``force_door``, ``put_item``,
    ``take_item`` {board, lock}; ``unplug``, ``plug``; ``noise`` {size}; ``heal``; ``fault`` {kind, ...}.

    Kinds of fault: those of ``LineFaults`` {times?, p?, amount?}; of a compartment {board, lock} ``stuck`` {pulses?},
    ``weak`` {pulses}, ``slow_door`` {ms}, ``cut`` {reads: open|closed}, ``reversed``, ``deaf``; of a board
    ``duplicate_address`` {board, address} and ``dead`` {board}; and those of the family's ``inflict``.
    """

    def __init__(self, bench: Bench) -> None:
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
            "heal": self._bench.heal,
            "fault": self.fault,
        }
        if do not in acts:
            raise ConfigError(f"no simulator does {do!r}", remedy=f"ask for wait, {', '.join(map(str, acts))}")
        return acts[do](**given) or {}

    def fault(self, kind: str, board: int | None = None, lock: int | None = None, **how: Any) -> None:
        """Begin a fault. Raises ``ConfigError`` for one that nothing here has."""
        if kind in LineFaults.KINDS:
            self._bench.faults.inflict(kind, **how)
        elif kind == "duplicate_address" and board is not None:
            self._bench.address[board] = how["address"]
        elif kind == "dead" and board is not None:
            self._bench.dead.add(board)
        elif board is None or not self._bench.electronics.inflict(kind, board, lock, how):
            self._ail(kind, self._spot(board, lock), how)
        where = {name: value for name, value in (("board", board), ("lock", lock)) if value is not None}
        self._bench.note("fault", kind=kind, **where, **how)

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
            case "reversed":
                ailment.reversed = True
            case "deaf":
                ailment.deaf = True
            case _:
                raise ConfigError(f"no cabinet has the fault {kind!r}", remedy="see the kinds in locker/hands_sim.py")

    def _spot(self, board: int | None, lock: int | None) -> Spot:
        if board is None or lock is None or Spot(board, lock) not in self._bench.cabinet:
            raise ConfigError(f"no compartment {board}/{lock}", remedy="name a board and a lock of this cabinet")
        return Spot(board, lock)
