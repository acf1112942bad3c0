"""A TOML text becomes frozen values, or an error that a person with an editor can act on."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from edge.errors import ConfigError

MAX_SETTINGS_BYTES = 256 * 1024
"""A node's file has a few kilobytes; a hub's with every door spelt out stays far below."""

T = TypeVar("T")
SettingsPath = tuple[str | int, ...]
"""Keys and places in arrays, from the top of a file down to a value."""
_ANY = "*"
"""A step to "some key of a table": msgspec does not say which."""

_AT = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
"""How msgspec ends a message about anything below the root."""

_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"unknown field `(?P<key>.*?)`")
_MISSING = re.compile(r"missing required field `(?P<key>.*?)`")
_TOML_LINE = re.compile(r"\(at line (?P<line>\d+), column \d+\)|\(at end of document\)")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every group of settings: frozen, and closed to keys that nobody reads.

    A group says ``frozen=True, kw_only=True`` again: type checkers ask for the first, msgspec inherits no ``kw_only``.
    """


def parse_settings(text: str, kind: type[T], *, source: str) -> T:
    """The settings in ``text``. ``source`` is the file's name for messages.

    Raises ``ConfigError`` naming the line, the key and what is expected there: broken TOML, an unknown key (with the
    nearest known one), a missing key, a wrong type, a value out of range. Values are never quoted, but for an unknown
    word where one of a few belongs.
    """
    if len(text.encode()) > MAX_SETTINGS_BYTES:
        raise ConfigError(f"{source}: over {MAX_SETTINGS_BYTES} bytes", remedy="name the node's configuration file")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(error), text, source), remedy="write it as TOML 1.0") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deep", remedy="write it flat") from error
    return convert_settings(found, kind, source=source, text=text)


def convert_settings(found: Any, kind: type[T], *, source: str, text: str = "", at: SettingsPath = ()) -> T:
    """What TOML has at ``at`` as settings of ``kind``, for a part whose kind only another part tells.

    Raises ``ConfigError`` as ``parse_settings`` does, with the line if ``text`` is the whole file's.
    """
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), text, kind, source, at) from error


def _syntax(message: str, text: str, source: str) -> str:
    match = _TOML_LINE.search(message)
    line = match["line"] if match and match["line"] else str(len(text.splitlines()))
    return f"{source}:{line}: {_TOML_LINE.sub('', message).strip()}"


def _explained(message: str, text: str, kind: object, source: str, base: SettingsPath) -> ConfigError:
    at = _AT.match(message)
    what, path = (at["what"], (*base, *_path_of(at["path"]))) if at else (message, base)
    unknown, missing = _UNKNOWN.search(what), _MISSING.search(what)
    if unknown:
        path = (*path, unknown["key"])
        return ConfigError(
            f"{_place(source, text, path)}: unknown key",
            remedy=_nearest(unknown["key"], _known(kind, path[len(base) : -1])),
        )
    if missing:
        wanted = (*path, missing["key"])
        return ConfigError(
            f"{_place(source, text, path, wanted)}: missing", remedy=f"set {missing['key']} under {_dotted(path)}"
        )
    return ConfigError(f"{_place(source, text, path)}: {_lower(what)}", remedy="correct the value")


def _place(source: str, text: str, path: SettingsPath, named: SettingsPath | None = None) -> str:
    line = _line_of(text, path)
    return f"{source}{f':{line}' if line else ''}: {_dotted(named or path)}"


def _dotted(path: SettingsPath) -> str:
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return words.lstrip(".") or "the top level"


def _lower(what: str) -> str:
    return what[:1].lower() + what[1:]


def _path_of(text: str) -> SettingsPath:
    """``.board[2].port`` as its steps."""
    return tuple(
        int(match["index"]) if match["index"] is not None else match["key"] or _ANY for match in _STEP.finditer(text)
    )


def _line_of(text: str, path: SettingsPath) -> int | None:
    """The line, from 1, on which ``path`` begins; None for the top level.

    The TOML reader tells no places, but the beginning of a file up to the end of any statement is itself a file: the
    statement after which the path is there for the first time is the one. Slow, and only asked when something is wrong.
    """
    if not path:
        return None
    lines = text.splitlines(keepends=True)
    begins = 1
    for end, found in _readable_beginnings(lines):
        if _holds(found, path):
            return begins
        begins = end + 1
    return None


def _readable_beginnings(lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for end in range(1, len(lines) + 1):
        try:
            yield end, tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue


def _holds(found: Any, path: SettingsPath) -> bool:
    if not path:
        return True
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return isinstance(found, list) and step < len(found) and _holds(found[step], rest)
    if step == _ANY:
        return any(_holds(below, rest) for below in found.values())
    return step in found and _holds(found[step], rest)


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _known(kind: object, path: SettingsPath) -> list[str]:
    """The keys that may stand at ``path`` below ``kind``."""
    here = [msgspec.inspect.type_info(kind)]
    for step in path:
        here = [below for one in here for below in _below(one, step)]
    return sorted({field.encode_name for one in _flat(here) for field in _fields(one)})


def _below(info: msgspec.inspect.Type, step: str | int) -> list[msgspec.inspect.Type]:
    below: list[msgspec.inspect.Type] = []
    for one in _flat([info]):
        if isinstance(one, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            below.append(one.item_type)
        elif isinstance(one, msgspec.inspect.DictType):
            below.append(one.value_type)
        below.extend(field.type for field in _fields(one) if field.encode_name == step)
    return below


def _flat(infos: Sequence[msgspec.inspect.Type]) -> Iterator[msgspec.inspect.Type]:
    for info in infos:
        if isinstance(info, msgspec.inspect.UnionType):
            yield from info.types
        else:
            yield info


def _fields(info: msgspec.inspect.Type) -> Sequence[msgspec.inspect.Field]:
    return info.fields if isinstance(info, msgspec.inspect.StructType) else ()
