"""The pulser's guard: starts the hand, and when it is late, silent or gone, kills it and switches every coil off."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

from edge import log
from edge.errors import LastmileError, ProtocolError
from edge.health_systemd import Notifier
from locker import pulser
from locker.pulser import Watch

ENDING_S = 0.3
"""Given to a hand that was told to end, which switches off first; less where its pulse is over sooner."""

_log = log.get_logger("locker.pulser")


class HandLost(LastmileError):
    """The hand hung or died. Everything is switched off; the service manager starts the pulser anew."""


def guarded(
    serve: Callable[[socket.socket], None],
    ready_to_save: Callable[[], None],
    all_off: Callable[[], None],
    notifier: Notifier,
) -> None:
    """Run ``serve`` in a process of its own, the hand, until this one is told to end (``SystemExit``, Ctrl-C).

    ``ready_to_save`` loads what ``all_off`` will need, so that it takes milliseconds; ``all_off`` claims the lines
    that the hand has let go of.
    Raises ``HandLost`` after everything is off, and what ``all_off`` raises where it could not be done.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Before any library has begun a thread, which a fork would cut off in the middle of something.
    child = os.fork()
    if child == 0:
        ours.close()
        _be_the_hand(serve, theirs)
    theirs.close()
    watch = Watch(time.monotonic())
    try:
        ready_to_save()
        fault = _watch(ours, watch, notifier)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # nobody may hurry this
        ours.close()  # which tells the hand to let go
        _end(child, min(ENDING_S, max(0.0, watch.deadline - time.monotonic())))
        all_off()
    raise HandLost(f"the pulser's hand {fault}", remedy="everything was switched off; look at the log before this")


def _be_the_hand(serve: Callable[[socket.socket], None], guard: socket.socket) -> None:
    """Never returns: the parent's own clean-up is not the child's."""
    status = 1
    try:
        serve(guard)
        status = 0
    except (LastmileError, OSError) as error:
        _log.error("pulser.hand_died", fault=str(error))
    except (KeyboardInterrupt, SystemExit):
        status = 0
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)


def _watch(hand: socket.socket, watch: Watch, notifier: Notifier) -> str:
    """What has become of the hand."""
    told = False
    while True:
        ready, _, _ = select.select([hand], [], [], max(0.0, watch.deadline - time.monotonic()))
        if not ready:
            return "hangs"
        packet = hand.recv(pulser.MAX_PACKET_BYTES)
        if not packet:
            return "died"
        try:
            watch.heard(pulser.decode_beat(packet), time.monotonic())
        except ProtocolError:
            return "talks nonsense"
        if not told:
            told = True
            notifier.ready()
        notifier.watchdog()


def _end(child: int, patience: float) -> None:
    """Wait ``patience`` seconds for the hand to end by itself, then kill it. Whoever is dead drives nothing."""
    handle = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([handle], [], [], patience)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _log.error("pulser.hand_killed", patience_s=round(patience, 3))
        os.waitpid(child, 0)
    finally:
        os.close(handle)
