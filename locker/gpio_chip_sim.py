"""gpiozero's pins on a simulated chip: what a program imports in the place of a Raspberry Pi's own."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any


def simulated_chip(path: Path) -> Callable[[], Any]:
    """What makes a gpiozero pin factory on the simulator's socket ``path``. It connects when it is called.

    Where the simulator is gone, pins raise ``OSError`` as a chip's device file would.
    """

    def make() -> Any:
        from gpiozero.pins.mock import MockFactory, MockPin

        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        lines = connection.makefile("rw")

        def ask(do: str, pin: Any, **more: object) -> int:
            lines.write(json.dumps({"do": do, "line": int(pin.info.name.removeprefix("GPIO")), **more}) + "\n")
            lines.flush()
            answer = json.loads(lines.readline() or '{"error": "the simulator has ended"}')
            if "error" in answer:
                raise OSError(answer["error"])
            return int(answer["level"])

        class SimPin(MockPin):  # type: ignore[misc]  # gpiozero ships no types
            def _set_function(self, value: str) -> None:
                self._function = value
                if value == "output":
                    ask("out", self, level=0)
                else:
                    ask("in", self, pull=self._pull)

            def output_with_state(self, state: int) -> None:
                self._function = "output"
                ask("out", self, level=int(state))

            def _set_pull(self, value: str) -> None:
                self._pull = value
                ask("in", self, pull=value)

            def _set_state(self, value: float) -> None:
                ask("out", self, level=int(value))

            def _get_state(self) -> int:
                return ask("read", self)

        return MockFactory(pin_class=SimPin)

    return make
