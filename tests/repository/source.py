"""The repository as its own tests read it: which files it has, and what the Python ones import, call and catch."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge", "locker", "cloud_sync", "agents")


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, under version control; all but what make makes where there is no git."""
    git = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    made = {".git", ".venv", ".cache", ".hypothesis", "node_modules", "dist", "__pycache__"}
    names = git.stdout.split("\0") if git.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    found = (ROOT / name for name in names if name and not made & set(Path(name).parts) and ".egg-info" not in name)
    return tuple(sorted(path for path in found if path.is_file() and not _tool_made(path)))


def _tool_made(path: Path) -> bool:
    return any(part.startswith(".") and part.endswith("_cache") for part in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def product() -> tuple[Path, ...]:
    """The Python files of the product's packages."""
    return tuple(path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PACKAGES)


@functools.cache
def python() -> tuple[Path, ...]:
    """Every Python file, tests and tools among them."""
    return tuple(path for path in files() if path.suffix == ".py")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name_of(path))


def imports(module: ast.AST) -> Iterator[str]:
    """Full dotted names, wherever in the file the import stands. `from a.b import c` gives a.b and a.b.c."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(module: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which is a contract and not a step."""
    first = function.body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    spent = (first.end_lineno or 0) - first.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - spent


def nesting(node: ast.AST, depth: int = 0) -> int:
    """The deepest block in a function; an `elif` stands beside its `if`, a nested function begins anew."""
    deepest = depth
    for field, value in ast.iter_fields(node):
        children = [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]
        for child in children:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                continue
            beside = isinstance(child, ast.If) and field == "orelse" and len(children) == 1
            inner = depth + (isinstance(child, BLOCKS) and not beside)
            deepest = max(deepest, nesting(child, inner))
    return deepest


BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
