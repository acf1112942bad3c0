"""Reads the list of nodes that enrolment writes, and reads it again whenever it was replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cloud_sync.collector import Node
from cloud_sync.known_nodes import decode
from edge import log
from edge.clock import Clock
from edge.errors import ConfigError

LOOK_S = 2.0
"""Between two looks at the file: a node that was taken out is refused two seconds later."""

_log = log.get_logger("collector.nodes")


def read_nodes(path: Path) -> dict[str, Node]:
    """Raises ``ConfigError`` naming the file."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the list that `lastmile enrol` writes") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", remedy=error.remedy) from error


class NodesFile:
    """Watches ``path``; when it was replaced, ``read``s it and ``tell``s. One that cannot be read changes nothing."""

    def __init__(
        self, path: Path, read: Callable[[], Mapping[str, Node]], tell: Callable[[Mapping[str, Node]], None]
    ) -> None:
        self._path = path
        self._read = read
        self._tell = tell

    async def run(self, clock: Clock) -> None:
        """Watch until cancelled. The first look counts as a change: the file may be newer than what was read."""
        seen = None
        while True:
            found = self._mark()
            if found != seen:
                seen = found
                self._take()
            await clock.sleep(LOOK_S)

    def _take(self) -> None:
        try:
            nodes = self._read()
        except ConfigError as error:
            _log.error("nodes.unreadable", what=error.what, remedy=error.remedy)
            return
        self._tell(nodes)
        _log.info("nodes.known", count=len(nodes))

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            info = self._path.stat()
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size
