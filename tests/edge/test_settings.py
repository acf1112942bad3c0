"""A broken configuration is told by line, key and what to write; nothing is ignored."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.settings import MAX_SETTINGS_BYTES, Settings, parse_settings
from edge.settings_file import read_settings

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Broker(Settings, frozen=True, kw_only=True):
    host: str
    port: Port = 8883


class Door(Settings, frozen=True, kw_only=True):
    name: str
    size: Literal["S", "M", "L"] = "M"


class Node(Settings, frozen=True, kw_only=True):
    tenant: str
    broker: Broker
    doors: tuple[Door, ...] = ()
    spare: Broker | None = None
    peers: dict[str, Broker] = msgspec.field(default_factory=dict)
    hold_days: Annotated[float, msgspec.Meta(gt=0)] = 3.0


GOOD = """\
# the street corner
tenant = "acme"
hold_days = 2

[broker]
host = "broker.example"  # by name
port = 1883

[[doors]]
name = "1"

[[doors]]
name = "2"
size = "L"

[peers.east]
host = "east.example"
"""


def complaint(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, Node, source="node.toml")
    return caught.value


def test_a_good_file_becomes_frozen_values() -> None:
    node = parse_settings(GOOD, Node, source="node.toml")
    assert node == Node(
        tenant="acme",
        broker=Broker(host="broker.example", port=1883),
        doors=(Door(name="1"), Door(name="2", size="L")),
        peers={"east": Broker(host="east.example")},
        hold_days=2.0,
    )
    with pytest.raises(AttributeError):
        node.tenant = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "what", "remedy"),
    [
        ("port = 1883", "prot = 1883", "node.toml:7: broker.prot: unknown key", "did you mean port?"),
        ("hold_days", "holdays", "node.toml:3: holdays: unknown key", "did you mean hold_days?"),
        ("hold_days", "zzz", "node.toml:3: zzz: unknown key", "known here: broker, doors, hold_days, peers, spare, t"),
        ('size = "L"', 'sizes = "L"', "node.toml:14: doors[1].sizes: unknown key", "did you mean size?"),
        ("[peers.east]", "[spare]\nhosts = 1", "node.toml:17: spare.hosts: unknown key", "did you mean host?"),
        ("port = 1883", 'port = "1883"', "node.toml:7: broker.port: expected `int`, got `str`", "correct"),
        ("port = 1883", "port = 70000", "node.toml:7: broker.port: expected `int` <= 65535", "correct"),
        ("hold_days = 2", "hold_days = 0", "node.toml:3: hold_days: expected `float` > 0.0", "correct"),
        ('size = "L"', 'size = "XL"', "node.toml:14: doors[1].size: invalid enum value 'XL'", "correct"),
        ('name = "2"\n', "", "node.toml:12: doors[1].name: missing", "set name under doors[1]"),
        ('host = "broker.example"', "", "node.toml:5: broker.host: missing", "set host under broker"),
        ('tenant = "acme"', "", "node.toml: tenant: missing", "set tenant under the top level"),
        ('tenant = "acme"', 'tenant = "acme', "node.toml:2: Illegal character", "TOML"),
        ('[[doors]]\nname = "1"', "doors = [\n  {name = '1'},\n  {nam = 2}]", "node.toml:9: broker.doors", "known"),
        ('host = "east.example"', "host = [", "node.toml:17: ", "TOML"),
        ('host = "east.example"', "hots = 1", "node.toml:17: peers.*.hots: unknown key", "host"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_by_line_and_key_with_what_to_do(old: str, new: str, what: str, remedy: str) -> None:
    assert old in GOOD
    error = complaint(GOOD.replace(old, new, 1))
    assert error.what.startswith(what)
    assert remedy in error.remedy


def test_a_wrong_value_is_not_quoted() -> None:
    error = complaint(GOOD.replace("port = 1883", 'port = "hunter2"'))
    assert "hunter2" not in str(error)


def test_the_line_of_a_value_that_goes_over_several_lines_is_its_first() -> None:
    text = GOOD.replace('[[doors]]\nname = "1"\n\n[[doors]]\nname = "2"\nsize = "L"\n', "")
    text = text.replace("hold_days = 2\n", "hold_days = 2\ndoors = [\n  { name = '1' },\n  { name = 2 },\n]\n")
    assert complaint(text).what.startswith("node.toml:4: doors[1].name: expected `str`")


def test_a_key_inside_a_text_is_not_taken_for_a_line() -> None:
    text = GOOD.replace('tenant = "acme"', 'tenant = """\n[broker]\nprot = 1\n"""').replace("port =", "prot =")
    assert complaint(text).what.startswith("node.toml:10: broker.prot")


def test_an_endless_or_bottomless_file_is_refused() -> None:
    assert "over" in complaint("#" * (MAX_SETTINGS_BYTES + 1)).what
    assert "deep" in complaint("a = " + "[" * 20_000).what


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_configuration_error(junk: str) -> None:
    for text in (junk, GOOD + junk, f"[broker]\n{junk}"):
        with contextlib.suppress(ConfigError):
            parse_settings(text, Node, source="node.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(GOOD)
    assert read_settings(path, Node).tenant == "acme"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        (b"tenant = 'a'\nb = '\xff'\n", "node.toml:2: not UTF-8"),
        (b"#" * (MAX_SETTINGS_BYTES + 9), "over"),
        (b"tenant = 1", "node.toml:1: tenant: expected `str`"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: Any, what: str) -> None:
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"node\.toml") as caught:
        read_settings(path, Node)
    assert what in caught.value.what


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_settings(tmp_path, Node)
