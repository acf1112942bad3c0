"""The MQTT contract as one AsyncAPI 3 document, made from the code: topics, messages, and what is signed by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.contract_schemas import (
    COMMANDS,
    EVENTS,
    SIGNED,
    Json,
    about,
    command_schema,
    command_schemas,
    components,
    event_schema,
    event_schemas,
    reference,
)
from cloud_sync.presence import Presence
from cloud_sync.topics import NodeTopics
from edge import jose
from edge.command import Kind
from edge.event import EventClass

VERSION: Final = "1.1.0"
"""Of the contract, not of the program: ``docs/contract.md`` says what makes which part of it rise."""

_CLOUDEVENT = "application/cloudevents+json"
_JOSE = "application/jose"
_JSON = "application/json"
_BINDING = "0.2.0"
"""Version of AsyncAPI's own binding for MQTT."""

_PROOFS: Final = {
    Kind.ACTUATION: "Carries a `nonce` that the node gave out less than a minute ago for this name and subject.",
    Kind.SAFE: "Carries the `session` of the node's presence; refused for no clock and under no cap.",
    Kind.BOOKING: "Carries a `rev` that rises with every command on its subject, and an `exp`: it may wait for days.",
    Kind.NONCE: "Carries the `session` of the node's presence; the answer has `data.nonce`.",
}
_SENT_SIGNED = ("result", "reported")
"""Of what is signed, that which the node itself signs."""
_KEPT = ("desired", "issuers", "reported")
"""Of what is signed, that which a broker keeps for whoever comes later."""


def asyncapi() -> Json:
    """From the node's point of view: it sends events and receives commands."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "lastmile-edge: a node and its broker",
            "version": VERSION,
            "description": (
                "What a node publishes and what it takes. A node is called `{tenant}_{name}`: its certificate, its "
                "client id and its topics carry that name. MQTT 5 or 3.1.1; all that matters is in the payloads. "
                "`docs/contract.md` tells how to read them and what may change."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _CLOUDEVENT,
        "servers": {"broker": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": components()},
    }


def as_yaml(document: Mapping[str, Any]) -> str:
    """Members stay in the order in which they were made."""
    return msgspec.yaml.encode(document).decode()


def write_schemas(directory: Path) -> int:
    """One file for each event and command, below ``events/`` and ``commands/``; what else lies there goes.

    Returns how many were written.
    """
    written = 0
    for kind, schemas in (("events", event_schemas()), ("commands", command_schemas())):
        folder = directory / kind
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.json"):
            stale.unlink()
        for name, schema in schemas.items():
            text = msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
            written += bool((folder / f"{name}.json").write_bytes(text))
    return written


# Messages.


def _messages() -> Json:
    messages: Json = {}
    for name, (data, _) in EVENTS.items():
        messages[name] = _message(name, _CLOUDEVENT, event_schema(name), about(data))
    for event_class in EventClass:
        events = [{"$ref": f"#/components/messages/{name}/payload"} for name in _told_as(event_class)]
        payload = {"type": "array", "items": {"anyOf": events} if events else {}}
        name = _batch(event_class)
        messages[name] = _message(name, _JSON, payload, "Events of the class in order, while a backlog is drained.")
    for name, rule in COMMANDS.items():
        who = "Its issuer needs" if rule.persons == 1 else "Two people sign it, each with"
        told = f"{about(rule.args)}\n\n{_PROOFS[rule.kind]} {who} the scope `{rule.scope}`."
        messages[_command(name)] = _signed(_command(name), jose.COMMAND, command_schema(name), told)
    for name, (typ, claims) in SIGNED.items():
        messages[name] = _signed(name, typ, reference(claims), about(claims))
    messages["presence"] = _message("presence", _JSON, reference(Presence), about(Presence))
    live = "The newest sample of a stream. It may be lost, and nothing is decided by it alone."
    messages["live"] = _message("live", _JSON, {"type": "object"}, live)
    return messages


def _message(name: str, content_type: str, payload: Json, told: str) -> Json:
    return {"name": name, "contentType": content_type, "description": told, "payload": payload}


def _signed(name: str, typ: str, claims: Json, told: str) -> Json:
    form = "A JWS by Ed25519: compact, or general JSON where two people sign."
    text = {"type": "string", "description": form, "maxLength": jose.MAX_TOKEN_BYTES}
    return {**_message(name, _JOSE, text, told), "x-jws": {"typ": typ, "claims": claims}}


def _told_as(event_class: EventClass) -> list[str]:
    """The events of the class; what was thinned is told in either of the two that are ever thinned."""
    thinned = event_class is not EventClass.AUDIT
    return [name for name, (_, told) in EVENTS.items() if told is event_class or (told is None and thinned)]


def _batch(event_class: EventClass) -> str:
    return f"{event_class.value}.batch"


def _command(name: str) -> str:
    return f"cmd.{name}"


# Channels and operations.


def _server() -> Json:
    return {
        "host": "{broker}",
        "protocol": "secure-mqtt",
        "description": "Mutual TLS 1.3: the common name of the client's certificate is its name and its client id.",
        "variables": {"broker": {"description": "Host and port, as the node's configuration has them."}},
        "bindings": {"mqtt": {"cleanSession": False, "keepAlive": 30, "bindingVersion": _BINDING}},
    }


def _channels() -> Json:
    # Topics are built by the code that the programs use; after that the placeholders take the places of the names.
    topics = NodeTopics("tenant", "tenant_node")
    channels: Json = {}
    for event_class in EventClass:
        channels[event_class.value] = _channel(topics.event(event_class), _told_as(event_class))
        channels[_batch(event_class)] = _channel(topics.batch(event_class), [_batch(event_class)])
    channels["presence"] = _channel(topics.presence, ["presence"])
    channels["live"] = _channel(topics.live("stream"), ["live"], stream="Such as `fix`.")
    for name in COMMANDS:
        channels[_command(name)] = _channel(topics.command(name), [_command(name)])
    channels["result"] = _channel(topics.result("id"), ["result"], id="The command's `jti`, a UUIDv7.")
    channels["ack"] = _channel(topics.ack("consumer"), ["ack"], consumer="As the node's configuration names it.")
    channels["desired"] = _channel(topics.desired, ["desired"])
    channels["issuers"] = _channel(topics.issuers, ["issuers"])
    channels["reported"] = _channel(topics.reported, ["reported"])
    return channels


def _channel(topic: str, messages: Iterable[str], **last: str) -> Json:
    address = topic.replace("/tenant/tenant_node/", "/{tenant}/{node}/")
    for name in last:
        address = address.removesuffix(name) + f"{{{name}}}"
    told = {"tenant": "1 to 48 of a-z, 0-9 and -.", "node": "`{tenant}_{name}`.", **last}
    return {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {name: {"description": text} for name, text in told.items()},
    }


def _operations() -> Json:
    operations: Json = {}
    for event_class in EventClass:
        for name in (event_class.value, _batch(event_class)):
            operations[f"send.{name}"] = _operation("send", name)
    operations["send.presence"] = _operation("send", "presence", retain=True)
    operations["send.live"] = _operation("send", "live", qos=0)
    for name in COMMANDS:
        reply = {"reply": {"channel": {"$ref": "#/channels/result"}}}
        operations[f"receive.{_command(name)}"] = {**_operation("receive", _command(name)), **reply}
    for name in SIGNED:
        action = "send" if name in _SENT_SIGNED else "receive"
        operations[f"{action}.{name}"] = _operation(action, name, retain=name in _KEPT)
    return operations


def _operation(action: str, channel: str, *, qos: int = 1, retain: bool = False) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": _BINDING}},
    }
