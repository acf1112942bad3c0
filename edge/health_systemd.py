"""Tells systemd how the process is (sd_notify(3)): READY, STATUS, STOPPING, and WATCHDOG while there is progress."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from edge import log
from edge.clock import Clock
from edge.health import Health

STATUS_EVERY_S = 5.0
"""How often the status line is renewed where no watchdog sets the pace."""

_log = log.get_logger("edge.health")


class Notifier:
    """The service manager's socket. Without one (a terminal, a test) every call does nothing."""

    def __init__(self, environ: Mapping[str, str], *, pid: int) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        meant_for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        usec = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1e6 if meant_for_us and usec.isdecimal() else None

    def ready(self) -> None:
        """Call once, when the node can serve; not when it is connected: it serves offline too."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of Linux's abstract names.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
                peer.sendto(message.encode(), address)
        except OSError as error:
            # Serving goes on: if this lasts, the watchdog that is not fed makes it known.
            _log.warning("systemd.unreachable", fault=str(error))


async def feed(notifier: Notifier, health: Health, clock: Clock) -> None:
    """For ever: tell the status, and feed the watchdog while every critical part progresses.

    Runs three times in a watchdog period, so that one late turn does not cost the process its life.
    """
    pace = notifier.watchdog_s / 3 if notifier.watchdog_s else STATUS_EVERY_S
    while True:
        report = health.report(clock.mono())
        notifier.status(report.summary())
        if health.healthy(clock.mono()):
            notifier.watchdog()
        if not report.healthy:
            _log.error("health.late", parts=list(health.late(clock.mono())))
        await clock.sleep(pace)
