"""Root for the tests that need another user: as we are, or through sudo. Where neither is, they fail and say so."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def as_root() -> list[str]:
    """What to put before a command so that root runs it."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    pytest.fail("Two users need root to start them. Run the tests as root, or allow this user sudo without a password.")
