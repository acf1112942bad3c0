"""The published contract is the code's own, is valid AsyncAPI, and breaks nobody who was written against it."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import Any

import pytest

from agents.contract_document import as_yaml, asyncapi, write_schemas
from agents.contract_schemas import COMMANDS, EVENTS, command_schemas, event_schemas
from cloud_sync.topics import parse
from tests.agents.people import typed
from tests.contract.changes import breaks_readers, breaks_writers
from tests.contract.node import PEERS, node
from tests.repository.source import ROOT

KEPT = json.loads((ROOT / "tests/contract/kept-1.0.json").read_text())
"""The schemas of contract 1.0.0 as they were published."""

AGAIN = "Run: lastmile asyncapi --schemas docs/schemas > docs/asyncapi.yaml"


def test_the_page_is_what_the_code_says() -> None:
    told = typed("asyncapi")
    assert told.returncode == 0
    assert told.stdout == (ROOT / "docs/asyncapi.yaml").read_text(), AGAIN


def test_every_event_and_command_has_its_schema_and_no_other_lies_there(tmp_path: Any) -> None:
    assert write_schemas(tmp_path) == len(EVENTS) + len(COMMANDS)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.json")}
    published = ROOT / "docs/schemas"
    assert made == {path.relative_to(published): path.read_text() for path in published.rglob("*.json")}, AGAIN


def test_asyncapis_own_parser_finds_nothing_wrong() -> None:
    assert validate(as_yaml(asyncapi())) == []


def test_the_parser_would_have_found_it() -> None:
    document = asyncapi()
    del document["channels"]["presence"]["address"]
    document["operations"]["send.presence"]["action"] = "publish"
    assert any("action" in each["path"] for each in validate(as_yaml(document)))


def validate(document: str) -> list[dict[str, Any]]:
    """What AsyncAPI's own parser has to say against the document."""
    checked = subprocess.run(node(PEERS / "validate.mjs"), input=document, capture_output=True, text=True, check=True)
    told = json.loads(checked.stdout)
    assert told["operations"] or told["found"]
    return list(told["found"])


def test_the_topics_are_those_that_the_programs_read() -> None:
    for name, channel in asyncapi()["channels"].items():
        topic = channel["address"].format(
            tenant="acme", node="acme_7", stream="fix", consumer="hub", id="019aa8f0-7c1e-7abc-8def-0123456789ab"
        )
        assert parse(topic).node == "acme_7", name


@pytest.mark.parametrize("name", sorted(KEPT["events"]))
def test_a_consumer_of_the_kept_contract_reads_what_nodes_say_now(name: str) -> None:
    assert name in EVENTS, "an event that consumers wait for is never told any more"
    assert breaks_readers(KEPT["events"][name], event_schemas()[name]) == []


@pytest.mark.parametrize("name", sorted(KEPT["commands"]))
def test_an_issuer_of_the_kept_contract_is_understood_now(name: str) -> None:
    assert name in COMMANDS, "a command that issuers send is taken no more"
    assert breaks_writers(KEPT["commands"][name], command_schemas()[name]) == []


def data_of(schema: dict[str, Any], struct: str) -> dict[str, Any]:
    members: dict[str, Any] = schema["$defs"][struct]
    return members


def test_what_a_consumer_needs_cannot_go_unnoticed() -> None:
    old = KEPT["events"]["locker.door.opened"]
    for change, word in (
        (lambda data: data["properties"].pop("door"), "is gone"),
        (lambda data: data["required"].remove("door"), "may be absent now"),
        (lambda data: data["properties"].update(door={"type": "integer"}), "type"),
    ):
        new = copy.deepcopy(old)
        change(data_of(new, "DoorOpened"))
        assert any(word in each for each in breaks_readers(old, new)), word


def test_what_an_issuer_says_cannot_be_refused_unnoticed() -> None:
    old = KEPT["commands"]["open"]
    new = copy.deepcopy(old)
    data_of(new, "Open")["properties"]["person"] = {"type": "string"}
    assert breaks_writers(old, new) == []
    data_of(new, "Open")["required"].append("person")
    assert any("has to be there now" in each for each in breaks_writers(old, new))


def test_what_is_added_breaks_nobody() -> None:
    old = KEPT["events"]["locker.door.opened"]
    new = copy.deepcopy(old)
    data_of(new, "DoorOpened")["properties"]["light"] = {"type": "boolean"}
    data_of(new, "DoorOpened")["required"].append("light")
    assert breaks_readers(old, new) == []
