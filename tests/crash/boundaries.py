"""Ends this process by kill -9 when the product passes a named boundary. Laid around it from outside: it has no hooks.

A boundary is ``before:X`` or ``after:X``. X is the type of an audit event, meaning the commit that keeps it; ``ack``,
the commit that moves a cursor; or ``pulse``, the writing of an unlock frame.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import edge.link_desk_sql
from edge.journal_writer_sql import SqlTransaction, Writer
from locker.board_serial import SerialBoards


class Trap:
    """Kills at the ``nth`` passing of ``boundary`` once it is armed."""

    def __init__(self, boundary: str, nth: int, *, armed: bool) -> None:
        self._boundary = boundary
        self._left = nth
        self._armed = armed
        self._committing: set[str] = set()

    def lay(self) -> None:
        """Wrap the product's functions in this process; SIGUSR1 arms."""
        signal.signal(signal.SIGUSR1, lambda *_: self._arm())
        self._watch_commits()
        self._watch_pulses()

    def _arm(self) -> None:
        self._armed = True

    def _pass(self, side: str, what: str) -> None:
        if self._armed and self._boundary == f"{side}:{what}":
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _watch_commits(self) -> None:
        append, write = SqlTransaction.append, Writer.write
        desk: Any = edge.link_desk_sql
        apply_ack = desk.apply_ack

        def noted(transaction: Any, draft: Any) -> None:
            self._committing.add(draft.type)
            append(transaction, draft)

        def acked(*arguments: Any) -> Any:
            self._committing.add("ack")
            return apply_ack(*arguments)

        def committed(writer: Any, batch: Any) -> bool:
            writer._connection.set_trace_callback(self._statement)
            self._committing.clear()
            grew = write(writer, batch)
            for what in self._committing:
                self._pass("after", what)
            return grew

        SqlTransaction.append = noted  # type: ignore[assignment,method-assign]
        Writer.write = committed  # type: ignore[assignment,method-assign]
        desk.apply_ack = acked

    def _statement(self, statement: str) -> None:
        """SQLite is about to run ``statement``."""
        if statement == "COMMIT":
            for what in self._committing:
                self._pass("before", what)

    def _watch_pulses(self) -> None:
        pulse = SerialBoards.pulse

        async def pulsed(boards: Any, latch: Any) -> None:
            self._pass("before", "pulse")
            await pulse(boards, latch)
            self._pass("after", "pulse")

        SerialBoards.pulse = pulsed  # type: ignore[assignment,method-assign]
