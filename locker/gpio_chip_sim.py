"""gpiozero's pins on a simulated chip: what a program imports in the place of a Raspberry Pi's own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from gpiozero.pins.mock import MockFactory, MockPin


class SimChip(MockFactory):  # type: ignore[misc]  # gpiozero ships no types
    """A pin factory on the simulator's socket ``path``, one connection a process.

    Where the simulator is gone, or another process holds a line, pins raise ``OSError`` as a chip's device file would.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(pin_class=SimPin)
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connection.connect(str(path))
        except OSError:
            self._connection.close()
            raise
        self._lines = self._connection.makefile("rw")

    def ask(self, do: str, pin: SimPin, **more: object) -> int:
        """The level of ``pin`` after ``do``."""
        line = int(pin.info.name.removeprefix("GPIO"))
        self._lines.write(json.dumps({"do": do, "line": line, **more}) + "\n")
        self._lines.flush()
        answer: dict[str, Any] = json.loads(self._lines.readline() or '{"error": "the simulator has ended"}')
        if "error" in answer:
            raise OSError(answer["error"])
        return int(answer["level"])

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


class SimPin(MockPin):  # type: ignore[misc]
    """One pin; everything it is told goes to the simulator before it returns."""

    def output_with_state(self, state: int) -> None:
        self._function = "output"
        self.factory.ask("out", self, level=int(state))

    def _set_function(self, value: str) -> None:
        self._function = value
        if value == "output":
            self.factory.ask("out", self, level=0)
        else:
            self.factory.ask("in", self, pull=self._pull)

    def _set_pull(self, value: str) -> None:
        self._pull = value
        self.factory.ask("in", self, pull=value)

    def _set_state(self, value: float) -> None:
        self.factory.ask("out", self, level=int(value))

    def _get_state(self) -> int:
        return int(self.factory.ask("read", self))
