"""What stands beside the code is true: locks, links, commands, and nothing of one person's machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository.source import PACKAGES, ROOT, files, imports, name_of, product, tree

LOCKS = sorted(ROOT.glob("requirements*.lock"))
DOCS = [path for path in files() if path.suffix == ".md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

PRIVATE = re.compile(
    r"pypi\.org/(simple|packages)|pythonhosted|registry\.npmjs|--(extra-)?index-url|--find-links"
    r"|(?<![\w.])/(root|work|home/\w+|Users/\w+|tmp/\w+)/"
)
"""Addresses of package indexes, and paths that exist on one machine only."""


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_no_file_names_an_index_or_somebodys_machine() -> None:
    named = {name_of(path): PRIVATE.findall(text_of(path)) for path in files() if path != Path(__file__)}
    assert {name: found for name, found in named.items() if found} == {}


def test_no_promise_is_left_open_in_the_code() -> None:
    """Work that is left is told to people, not to the next reader of a line."""
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
    assert [
        name_of(path) for path in files() if path.suffix in {".py", ".ts", ".sh"} and marks.search(text_of(path))
    ] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_and_hashes_every_package(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements.lock", PROJECT["project"]["optional-dependencies"]["demo"]),
        ("requirements.lock", PROJECT["dependency-groups"]["build"]),
        ("requirements-dev.lock", PROJECT["dependency-groups"]["dev"]),
        ("requirements-node.lock", PROJECT["dependency-groups"]["node"]),
    ],
    ids=["runtime", "demo", "build", "dev", "node"],
)
def test_the_locks_answer_what_the_project_asks(lock: str, wanted: list[str]) -> None:
    """Run `make lock` after a change of pyproject.toml."""
    pins = locked(lock)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_both_locks_agree_where_they_meet() -> None:
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: dev[name] for name in runtime.keys() & dev.keys()} == {
        name: runtime[name] for name in runtime.keys() & dev.keys()
    }


def test_npm_locks_without_addresses() -> None:
    packages = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []


def test_every_library_is_declared_used_and_explained() -> None:
    """What the product imports is in pyproject.toml and in docs/dependencies.md, and the other way round."""
    project = PROJECT["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    always = {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    declared = always | {canonicalize_name(Requirement(one).name) for one in extras}
    homes = packages_distributions()
    ours = {*PACKAGES, "web", *sys.stdlib_module_names}
    tops = {name.split(".")[0] for path in product() for name in imports(tree(path))} - ours
    used = {canonicalize_name(homes[top][0]) for top in tops}
    assert used <= declared
    # uvicorn speaks WebSocket through the one, msgspec writes YAML through the other; no line of ours imports them.
    assert always - {"websockets", "pyyaml"} <= used
    explained = (ROOT / "docs/dependencies.md").read_text()
    assert [name for name in declared if f"`{name}`" not in explained.lower()] == []


def test_commands_links_and_files_in_the_docs_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    folders = "|".join([*PACKAGES, "web", "tests", "tools", "systemd", "docs", "benchmarks"])
    wrong = []
    for doc in DOCS:
        text = doc.read_text()
        named = re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
        paths = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
        wrong += [f"{name_of(doc)}: make {name}" for name in named if name not in targets]
        wrong += [f"{name_of(doc)}: {link}" for link in links if not (doc.parent / link).exists()]
        wrong += [f"{name_of(doc)}: {path}" for path in paths if not (ROOT / path).exists()]
    assert wrong == []


def test_the_wheel_carries_the_packages_and_the_built_page(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name_of(path) for path in product()} <= names
    assert "web/dist/kiosk/index.html" in names, "the page is not built: run `make setup`"
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, "web"}
    assert [name for name in names if "node_modules" in name or name.endswith((".ts", ".svelte"))] == []


def test_cloud_sync_loads_what_reads_certificates_only_where_it_renews_one() -> None:
    """It takes 11 MB of the 40 that the process may have."""
    load = "import sys, agents.cloud_sync; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", load], check=True, cwd=ROOT)


def test_no_process_of_the_product_loads_what_only_draws_on_terminals() -> None:
    """rich costs 45 ms and 5 MB; a small computer at the street runs three of them."""
    load = "import sys, agents.cli, agents.locker, agents.cloud_sync, agents.collector; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", load], cwd=ROOT, check=False).returncode == 0
