"""Looks at every board on a bus before its doors are opened: whether it answers alone, how long a coil is on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge import log
from edge.clock import Clock
from edge.errors import ConfigError, DeviceError
from locker.board_serial import AMEND_AGAIN, COIL_CLOSE, SerialBoards
from locker.cabinet_asyncio import Cabinet

AGAIN_S: Final = 0.2
"""Between two looks whether a board that was not there has begun to answer: whoever plugged it in wants to try it."""
ASKED: Final = 3
"""Times an address is asked where answers come damaged: two that fall on each other are one ruin, another time two."""

_log = log.get_logger("agents.board_vetting")


class Vetting:
    """Two boards with one address open two doors for one pulse, and a coil that is driven for longer than is said here
    is still on when the next one is. A board is opened nothing on until it was heard to answer alone.
    """

    def __init__(self, buses: Iterable[SerialBoards], cabinet: Cabinet, clock: Clock) -> None:
        self._cabinet = cabinet
        self._clock = clock
        self._unheard = [(bus, board) for bus in buses for board in bus.boards]
        self._untimed = [(bus, board) for bus, board in self._unheard if bus.tells_coil_time]
        self._time_at = 0.0

    @property
    def done(self) -> bool:
        """Whether there is nothing more to find out."""
        return not self._unheard and not self._untimed

    async def begin(self) -> None:
        """Look at each board once, before the first door is opened. ``run`` looks at what does not answer now."""
        for _, board in self._unheard:
            self._cabinet.distrust(board)
        self._unheard = [each for each in self._unheard if not await self._heard(*each)]

    async def run(self) -> None:
        """For ever: boards that have not answered yet, because they or their bus were not there."""
        while True:
            await self.look()
            await self.time_coils()
            await self._clock.sleep(AGAIN_S)

    async def look(self) -> None:
        """Ask all that have not been heard alone and have begun to answer whoever reads the doors."""
        self._unheard = [
            each for each in self._unheard if not (self._cabinet.answers(each[1]) and await self._heard(*each))
        ]

    async def time_coils(self) -> None:
        """Ask all that have answered and can be asked for how long they drive a coil; a longer time is put right.

        Not waited for at the start: a board that does not know the question is silent three times. One that cannot be
        put right is told again as seldom as any other.
        """
        if self._clock.mono() < self._time_at:
            return
        ready = [each for each in self._untimed if each not in self._unheard]
        for bus, board in ready:
            if await self._timed(bus, board):
                self._untimed.remove((bus, board))

    async def _heard(self, bus: SerialBoards, board: int) -> bool:
        """Whether it is known now how many boards answer. One that answers alone may be used from here on."""
        answers = 0
        try:
            for _ in range(ASKED):
                ruins = bus.counters.resyncs
                answers = await bus.answers(board)
                if answers or bus.counters.resyncs == ruins:
                    break
        except DeviceError as error:
            _log.warning("bus.unreachable", board=board, what=error.what, remedy=error.remedy)
            return False
        if answers == 1:
            self._cabinet.trust(board)
        elif answers > 1:
            remedy = "give every board an address of its own and restart"
            _log.error("bus.address_shared", board=board, answers=answers, remedy=remedy)
            self._untimed = [each for each in self._untimed if each != (bus, board)]
        return answers > 0

    async def _timed(self, bus: SerialBoards, board: int) -> bool:
        """Whether its coil time is known to be right, or cannot be known: then the configuration is believed."""
        seconds = await bus.coil_time(board)
        if seconds is None or seconds <= bus.coil + COIL_CLOSE:
            return True
        self._cabinet.distrust(board)
        try:
            await bus.set_coil_time(board, bus.coil)
        except (ConfigError, DeviceError) as error:
            _log.error("bus.coil_too_long", board=board, seconds=seconds, meant=bus.coil, remedy=error.remedy)
            self._time_at = self._clock.mono() + AMEND_AGAIN
            return False
        _log.warning("bus.coil_shortened", board=board, seconds=seconds, meant=bus.coil)
        self._cabinet.trust(board)
        return True
