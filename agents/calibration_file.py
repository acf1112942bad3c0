"""Writes what was found out about a board into the configuration, and touches nothing else of it: comments stay."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from edge.atomic_file import write_whole
from edge.errors import ConfigError
from edge.settings_file import read_text

_HEADER: Final = re.compile(r"^\s*\[\[\s*locker\.boards\s*\]\]\s*(?:#.*)?$")
_ANY_HEADER: Final = re.compile(r"^\s*\[")


def write_option(path: Path, place: int, option: str, value: int | str, why: str) -> None:
    """Set ``option`` of the board that stands in ``place``, counted from 0, among ``[[locker.boards]]``.

    ``why`` becomes a comment. Raises ``ConfigError`` where the file is not written so that this can be done safely; it
    is then as it was.
    """
    before = read_text(path)
    after = edited(before, place, option, value, why)
    wanted = tomllib.loads(before)
    try:
        wanted["locker"]["boards"][place][option] = value
        found: Any = tomllib.loads(after)
    except (KeyError, IndexError, TypeError, tomllib.TOMLDecodeError):
        found = None
    if found != wanted:
        raise ConfigError(
            f"{path}: board {place + 1} cannot be changed without a person",
            remedy=f"write {option} = {value} into its [[locker.boards]] yourself",
        )
    was = path.stat()
    write_whole(path, after.encode(), mode=stat.S_IMODE(was.st_mode))
    os.chown(path, was.st_uid, was.st_gid)  # the service's user reads it, and the doctor may be another


def edited(text: str, place: int, option: str, value: int | str, why: str) -> str:
    """``text`` with the option set in its line, or in a line of its own below the table's name."""
    lines = text.splitlines(keepends=True)
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
    if place >= len(headers):
        return text
    begin = headers[place] + 1
    end = next((n for n in range(begin, len(lines)) if _ANY_HEADER.match(lines[n])), len(lines))
    fresh = f"{option} = {json.dumps(value)}  # {why}\n"
    for number in range(begin, end):
        if re.match(rf"\s*{option}\s*=", lines[number]):
            lines[number] = fresh
            return "".join(lines)
    return "".join([*lines[:begin], fresh, *lines[begin:]])
