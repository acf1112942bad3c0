"""The database's write-ahead log as a file: how much of it is in use, and its blocks, had before they are needed.

SQLite makes the log anew at each start and lets it grow with each commit. A commit that makes a file longer has to sync
the file system's own journal too, which takes two to three times as long as writing again over blocks that are there.
So the file is made long before the first customer comes; what lies behind its last frame SQLite never reads as one.

The format is https://www.sqlite.org/walformat.html. Only the log may be opened here: SQLite's locks are on the other
two files, and this process would lose them with the first descriptor of those that it closes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.reserve_file import NO_SPACE

LOG_BYTES = 4 * 1024 * 1024
"""The log's file is made this long and cut back to it: SQLite's own default of 1000 pages."""

_HEADER, _FRAME_HEADER = 32, 24
_CHUNK = 256 * 1024


def lengthen_log(log: Path) -> None:
    """Write zeros behind the end of a log shorter than ``LOG_BYTES``, while there is twice as much free.

    Safe beside the writer: in append mode nothing that is there can be touched, and what the writer adds goes over
    zeros. Written and not only allocated, because the first write to allocated blocks costs what growing does.
    """
    try:
        short = LOG_BYTES - log.stat().st_size
    except FileNotFoundError:
        return
    if short <= 0 or shutil.disk_usage(log.parent).free < 2 * LOG_BYTES:
        return
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        while short > 0:
            short -= os.write(descriptor, bytes(min(short, _CHUNK)))
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
    finally:
        os.close(descriptor)


def renew_log(log: Path) -> None:
    """Write once more what is in use of the log, each byte where it stands, and sync it. Raises ``OSError``.

    The caller keeps every writer away. A power cut meanwhile leaves what there was, in part perhaps renewed.
    """
    used = log_bytes(log)
    if not used:
        return
    with log.open("r+b", buffering=0) as file:
        at, end = 0, _HEADER + used
        while at < end:
            piece = os.pread(file.fileno(), min(_CHUNK, end - at), at)
            at += os.pwrite(file.fileno(), piece, at)
        os.fsync(file.fileno())


def log_bytes(log: Path) -> int:
    """Bytes of the log that were written since it began anew, whether or not they are in the database by now."""
    try:
        descriptor = os.open(log, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        header = os.pread(descriptor, _HEADER, 0)
        page = int.from_bytes(header[8:12], "big")
        if not page:
            return 0  # nothing has been written yet
        size = _FRAME_HEADER + page
        salts, first, behind = header[16:24], 0, (os.fstat(descriptor).st_size - _HEADER) // size
        # Frames of this beginning carry its salts and lie before all others.
        while first < behind:
            middle = (first + behind) // 2
            if os.pread(descriptor, len(salts), _HEADER + middle * size + 8) == salts:
                first = middle + 1
            else:
                behind = middle
        return first * size
    finally:
        os.close(descriptor)
