"""Disk space set aside for collections and safety: a file that is given up when the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


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
        return self._size == 0 or self._path.exists()

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
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return False
            raise
        return True

    def release(self) -> None:
        """Give the space back to the disk."""
        self._path.unlink(missing_ok=True)
