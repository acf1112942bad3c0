"""Files that are whole at any moment: whoever reads, also after a power cut, finds the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import StoreError

FRESH = ".fresh"
"""Added to the name while the new content is not whole yet. What a crash leaves of it is written over."""


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace or make ``path`` in one step, on the disk before this returns. Raises ``StoreError``."""
    fresh = path.with_name(path.name + FRESH)
    try:
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
        fresh.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", remedy="give a directory that this user may write") from error


def sync_directory(path: Path) -> None:
    """Bring names that were made, moved or removed in a directory to the disk. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
