"""Disk space set aside for collections and safety: a file that is given up when the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the kernel says when a disk, or our share of it, is full."""


class Reserve:
    """``size`` bytes held by a file beside the database.

    While the file stands, nothing but collections and safety may use the last of the disk; when the disk is full anyhow
    (another program filled it), ``release`` frees these bytes for them.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether all of it is there; a crash may have left less."""
        if self._size == 0:
            return True
        try:
            return self._path.stat().st_size >= self._size
        except FileNotFoundError:
            return False

    def hold(self) -> bool:
        """Set the space aside when there is twice as much free; returns whether it is held now."""
        if self.held:
            return True
        if shutil.disk_usage(self._path.parent).free < 2 * self._size:
            return False
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError as error:
            self.release()
            if error.errno in NO_SPACE:
                return False
            raise
        return True

    def release(self) -> bool:
        """Give the space back to the disk; returns whether there was any."""
        there = self._size > 0 and self._path.exists()
        self._path.unlink(missing_ok=True)
        return there
