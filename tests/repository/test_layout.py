"""The file's name says what it may do: `x.py` only computes, `x_<medium>.py` touches a wire, a disk or a clock."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.repository.source import ROOT, functions, imports, length, name_of, nesting, product, python, tree

MEDIA = (
    *("serial", "gpio", "mavlink", "mqtt", "amqp", "sql", "http", "socket", "file", "clock", "asyncio", "systemd"),
    *("evdev", "camera", "process", "sim"),
)

COMPUTE = {"msgspec", "joserfc", "cryptography"}
"""Libraries that only compute; a pure file may use them and no other."""

TOUCHING = {
    *("asyncio", "concurrent", "fcntl", "http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "pty"),
    *("queue", "random", "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver"),
    *("sqlite3", "ssl", "subprocess", "sys", "tempfile", "termios", "threading", "time", "tty", "urllib"),
}
"""Modules of the standard library through which a file would reach the world or another thread by itself."""

READING_THE_WORLD = {
    "open",
    "input",
    "print",
    "datetime.now",
    "datetime.utcnow",
    "date.today",
    "uuid.uuid1",
    "uuid.uuid4",
}
"""Calls that read or write the world, or the clock, without an import that tells."""

ALLOWED = {
    "edge/log.py": {"logging", "structlog", "sys", "typing"},
    "edge/supervisor.py": {"asyncio", "edge.log", "signal"},
    "cloud_sync/migrations/env.py": {"alembic"},
}
"""Files that need more than their name says, and for what: where the log goes; who runs the process's tasks; a name
that Alembic looks for."""

CATCH_ALL = {
    "edge/supervisor.py": "whatever ends a task is logged and answered by its policy",
    "edge/journal_writer_sql.py": "the writer hands a caller's error back to the one who knows what it means",
}
"""The only files that may catch everything, and why."""

SERVICE = {"asyncio", "edge.log"}
"""What service.py, and the x_asyncio.py files that it is split into, may use besides: they tell their package's use
cases in order, so they wait and log; their adapters are handed in."""


def is_pure(path: Path) -> bool:
    return not path.stem.endswith(tuple(f"_{medium}" for medium in MEDIA))


def is_service(path: Path) -> bool:
    return path.name == "service.py" or (path.stem.endswith("_asyncio") and path.parent.name != "edge")


HELD = [path for path in product() if (is_pure(path) or is_service(path)) and not name_of(path).startswith("agents/")]


def breaches(path: Path) -> list[str]:
    """What a pure file does that its name does not say."""
    allowed = ALLOWED.get(name_of(path), set()) | (SERVICE if is_service(path) else set())
    imported = {name for name in imports(tree(path)) if _reaches_out(name) and not _under(name, allowed)}
    if is_service(path):
        imported = {name for name in imported if not (name.endswith("_asyncio") and is_service(_file(name)))}
    called = {_called(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)} & READING_THE_WORLD
    return [f"{name_of(path)} {what}" for what in sorted(imported | called)]


def _under(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def _reaches_out(name: str) -> bool:
    """Whether a pure file must not import this: a module or library that does I/O, or a file of our own that does."""
    top = name.partition(".")[0]
    if top in {"edge", "locker", "cloud_sync"}:
        ours = _file(name)
        return ours.is_file() and (not is_pure(ours) or name == "edge.log")
    return top in TOUCHING or (top not in COMPUTE and top not in STANDARD)


def _file(module: str) -> Path:
    return ROOT / Path(*module.split(".")).with_suffix(".py")


def _called(call: ast.Call) -> str:
    parts = ast.unparse(call.func).split(".")
    return ".".join(parts[-2:])


STANDARD = {
    *(
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "datetime",
    ),
    *(
        "decimal",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
    ),
    *("statistics", "string", "struct", "textwrap", "tomllib", "types", "typing", "unicodedata", "uuid", "zlib"),
}


def test_a_file_without_a_medium_in_its_name_only_computes() -> None:
    assert [breach for path in HELD for breach in breaches(path)] == []


@pytest.mark.parametrize(
    ("line", "breach"),
    [
        ("import time", "time"),
        ("from os import urandom", "os os.urandom"),
        ("import serial", "serial"),
        ("from edge.clock_sim import ManualClock", "edge.clock_sim"),
        ("x = open('f')", "open"),
        ("x = datetime.datetime.now()", "datetime.now"),
        ("from edge.clock import Clock", ""),
        ("import msgspec", ""),
    ],
)
def test_a_breach_is_seen(line: str, breach: str) -> None:
    """The check above can fail, on each of the things it looks for."""
    imported = {name for name in imports(ast.parse(line)) if _reaches_out(name)}
    called = {_called(node) for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)} & READING_THE_WORLD
    assert " ".join(sorted(imported | called)) == breach


def test_a_contract_knows_edge_and_msgspec_alone() -> None:
    for path in product():
        if re.fullmatch(r"contract(_\w+)?", path.stem) and path.parent.name != "agents":
            others = {name for name in imports(tree(path)) if not name.startswith(f"{path.parent.name}.contract_")}
            tops = {name.split(".")[0] for name in others}
            assert tops <= {"edge", "msgspec", *STANDARD}, name_of(path)


def test_files_and_functions_stay_short() -> None:
    """A file has 400 lines at most, a function 60 (40 is the aim), and in the product blocks stand three deep."""
    long_files = [name_of(path) for path in python() if len(path.read_text().splitlines()) > 400]
    assert long_files == []
    long = [f"{name_of(path)} {one.name}" for path in python() for one in functions(tree(path)) if length(one) > 60]
    assert long == []
    deep = [f"{name_of(path)} {one.name}" for path in product() for one in functions(tree(path)) if nesting(one) > 3]
    assert deep == []


def test_nothing_else_catches_everything() -> None:
    """A handler that ends by raising again has caught nothing, so it may tidy up after anything."""
    broad = []
    for path in product():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler) or name_of(path) in CATCH_ALL:
                continue
            caught = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else {"all"}
            raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if caught & {"all", "Exception", "BaseException"} and not raises_again:
                broad.append(f"{name_of(path)}:{node.lineno}")
    assert broad == []


def test_every_store_is_opened_the_durable_way() -> None:
    """Whoever sets SQLite's log up by himself commits on what a failed sync may have left of it."""
    assert {name_of(path) for path in product() if "journal_mode = WAL" in path.read_text()} == {"edge/durable_sql.py"}


def test_every_module_says_what_it_is() -> None:
    silent = [name_of(path) for path in python() if path.read_text().strip() and not ast.get_docstring(tree(path))]
    assert silent == []
