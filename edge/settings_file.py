"""Reads a node's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from edge.errors import ConfigError
from edge.settings import MAX_SETTINGS_BYTES, parse_settings

T = TypeVar("T")


def read_settings(path: Path, kind: type[T]) -> T:
    """The settings in the file. Raises ``ConfigError`` as ``parse_settings`` does, and when it cannot be read."""
    return parse_settings(read_text(path), kind, source=str(path))


def read_text(path: Path) -> str:
    """What a person wrote, a byte more than may be read at most. Raises ``ConfigError`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SETTINGS_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8", remedy="save the file as UTF-8") from error
