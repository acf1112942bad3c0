"""A JSON Schema for every event and command, made from the structs that the programs themselves read and write."""

from __future__ import annotations

import inspect
from typing import Any, Final

import msgspec

from cloud_sync.presence import Presence
from edge import contract as node_contract
from edge import jose
from edge.acks import Ack
from edge.command import NONCE_RULES, PROOF, Claims, Rule
from edge.document import Desired, Reported
from edge.event import CloudEvent, EventClass
from edge.issuers import IssuersDocument
from edge.result import Result
from edge.time_command import TIME_RULES
from locker import commands as locker_commands
from locker import contract as locker_contract

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
COMPONENTS: Final = "#/components/schemas/"
"""Where AsyncAPI keeps schemas; in a file of its own each finds them under ``$defs``."""

EVENTS: Final[dict[str, tuple[type[msgspec.Struct], EventClass | None]]] = {
    **node_contract.EVENTS,
    **locker_contract.EVENTS,
}
"""Every event of every role: the struct of its data and its class, None where it carries the class it tells of."""

COMMANDS: Final[dict[str, Rule]] = {**NONCE_RULES, **TIME_RULES, **locker_commands.COMMANDS}
"""Every command of every role."""

SIGNED: Final[dict[str, tuple[str, type[msgspec.Struct]]]] = {
    "ack": (jose.ACK, Ack),
    "result": (jose.RESULT, Result),
    "desired": (jose.DESIRED, Desired),
    "reported": (jose.REPORTED, Reported),
    "issuers": (jose.ISSUERS, IssuersDocument),
}
"""What else travels as a JWS: its ``typ`` and its claims."""


def event_schemas() -> dict[str, Json]:
    """By event type, a schema of the whole CloudEvent that stands alone."""
    return {name: _alone(f"event:{name}", event_schema(name)) for name in EVENTS}


def command_schemas() -> dict[str, Json]:
    """By command name, a schema of the claims that an issuer signs."""
    return {name: _alone(f"command:{name}", command_schema(name)) for name in COMMANDS}


def event_schema(name: str) -> Json:
    """The event with references to ``COMPONENTS``."""
    data, event_class = EVENTS[name]
    told = {"const": event_class.value} if event_class else {"enum": ["state", "telemetry"]}
    special: Json = {"specversion": {"const": "1.0"}, "type": {"const": name}, "lmclass": told, "data": reference(data)}
    required = ["specversion", "data"]
    if event_class is not None:
        # Only the word on what was thinned has no number of its own.
        required.append("seq")
    if event_class is EventClass.AUDIT:
        required.append("prev")
    return {"allOf": [reference(CloudEvent), {"type": "object", "properties": special, "required": required}]}


def command_schema(name: str) -> Json:
    """The command's claims with references to ``COMPONENTS``."""
    rule = COMMANDS[name]
    special: Json = {"name": {"const": name}, "args": reference(rule.args)}
    special |= {
        proof: {"type": "integer" if proof in ("rev", "exp") else "string"} for proof in sorted(PROOF[rule.kind])
    }
    wanted = {"type": "object", "properties": special, "required": sorted(PROOF[rule.kind])}
    return {"allOf": [reference(Claims), wanted]}


def reference(struct: type[msgspec.Struct]) -> Json:
    return {"$ref": f"{COMPONENTS}{struct.__name__}"}


def about(struct: type[msgspec.Struct]) -> str:
    """What the code says of it."""
    return inspect.cleandoc(struct.__doc__ or "")


def components() -> Json:
    """Every schema that an event, a command or a signed thing refers to, by name."""
    structs = [data for data, _ in EVENTS.values()] + [rule.args for rule in COMMANDS.values()]
    structs += [CloudEvent, Presence, Claims, *(claims for _, claims in SIGNED.values())]
    _, found = msgspec.json.schema_components(structs, ref_template=COMPONENTS + "{name}")
    return {name: _clean(found[name]) for name in sorted(found)}


def _alone(name: str, schema: Json) -> Json:
    """The schema with all that it refers to beside it."""
    known, needed, waiting = components(), dict[str, Json](), [schema]
    while waiting:
        for found in _references(waiting.pop()) - needed.keys():
            needed[found] = known[found]
            waiting.append(known[found])
    whole = {"$schema": DIALECT, "$id": f"urn:lastmile:v1:{name}", **schema, "$defs": dict(sorted(needed.items()))}
    moved: Json = _moved(whole)
    return moved


def _clean(schema: Any) -> Any:
    """Docstrings without the indentation of the code they stand in."""
    match schema:
        case dict():
            return {
                key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _clean(value)
                for key, value in schema.items()
            }
        case list():
            return [_clean(each) for each in schema]
    return schema


def _references(schema: Any) -> set[str]:
    match schema:
        case {"$ref": str(reference)}:
            return {reference.removeprefix(COMPONENTS)}
        case dict():
            return set[str]().union(*map(_references, schema.values()))
        case list():
            return set[str]().union(*map(_references, schema))
    return set()


def _moved(schema: Any) -> Any:
    match schema:
        case {"$ref": str(reference)}:
            return {"$ref": reference.replace(COMPONENTS, "#/$defs/")}
        case dict():
            return {key: _moved(value) for key, value in schema.items()}
        case list():
            return [_moved(each) for each in schema]
    return schema
