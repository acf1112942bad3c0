"""What a person or a script sees of documents: the keys that are listed, and where an edition is in force."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from agents.cloud_sync import broker_settings
from agents.document_file import read_document
from agents.issuer import read_issuer
from agents.issuer_file import read_edition
from agents.settings import IssuerSettings
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.documents import Standing
from cloud_sync.documents_asyncio import Publisher
from edge import log
from edge.errors import ConfigError
from edge.issuers import Entry
from edge.keys import VerifyKey
from edge.keys_file import read_verify_key
from edge.settings_file import read_settings
from edge.system_clock import SystemClock

WIDE = 160
"""Columns where the output is no terminal."""


def show_edition(document: Path, root_keys: Sequence[Path], *, wall: float, json: bool) -> None:
    """Print the listed keys. Raises ``ConfigError`` unless one of the roots signed the document."""
    held = read_edition(document, [read_verify_key(path) for path in root_keys])
    if held is None:
        raise ConfigError(f"{document}: no such file", remedy="name the issuers document")
    facts = [_facts(entry, wall) for entry in held.keys]
    if json:
        for fact in facts:
            _print_json({"version": held.version, **fact})
        return
    table = Table("name", "state", "scopes", "nodes", "from", "until", "kid", box=None)
    for fact in facts:
        table.add_row(*(" ".join(value) if isinstance(value, list) else str(value) for value in fact.values()))
    console = _console()
    console.print(f"{document}: version {held.version}, signed {_day(held.issued_at)}", highlight=False)
    console.print(table)


def publish(
    document: Path, nodes: Sequence[str], config: Path, root_keys: Sequence[Path], *, wait: float, json: bool
) -> int:
    """Publish, tell each node's standing as it changes, and return the exit status.

    Raises ``ConfigError`` for a document that its nodes would refuse, and what keeps us from the broker at first.
    """
    log.configure(level="warning", stream=sys.stderr, pretty=True)
    settings = read_settings(config, IssuerSettings)
    issuer = read_issuer(settings, config.parent)
    paper = read_document(document, [read_verify_key(path) for path in root_keys], issuer.key.public)

    def tell(node: str, standing: Standing) -> None:
        _tell(node, standing, json=json)

    client = broker_settings(
        settings.broker, f"{settings.name}-{secrets.token_hex(4)}", config.parent, session_expiry=0
    )
    publisher = Publisher(
        paper,
        nodes={name: issuer.node(name) for name in nodes},
        broker=MqttBroker(client),
        clock=SystemClock(),
        random=random.random,
        tell=tell,
    )
    asyncio.run(_settled(publisher, wait))
    standings = publisher.standings()
    if publisher.interrupted is not None and set(standings.values()) == {Standing.SILENT}:
        raise publisher.interrupted
    for node, standing in standings.items():
        if standing in (Standing.SILENT, Standing.BEHIND):
            tell(node, standing)
        elif standing is Standing.REFUSED:
            for member in publisher.reported[node].refused:
                _tell(node, standing, json=json, member=member.member, reason=member.reason)
    if Standing.REFUSED in standings.values():
        return 1
    return 0 if set(standings.values()) == {Standing.IN_FORCE} else 4


async def _settled(publisher: Publisher, wait: float) -> None:
    running = asyncio.create_task(publisher.run(), name="publisher")
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(publisher.settled.wait(), wait)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _tell(node: str, standing: Standing, *, json: bool, **more: str) -> None:
    if json:
        _print_json({"node": node, "standing": standing.value, **more})
    else:
        line = " ".join((node, standing.value, *more.values()))
        _console().print(line, highlight=False)


def _facts(entry: Entry, wall: float) -> dict[str, Any]:
    return {
        "name": entry.name,
        "state": _state(entry, wall),
        "scopes": list(entry.scopes),
        "nodes": list(entry.nodes),
        "from": _day(entry.not_before),
        "until": _day(entry.not_after),
        "kid": VerifyKey.from_jwk(entry.jwk).kid,
    }


def _state(entry: Entry, wall: float) -> str:
    if entry.revoked:
        return "revoked"
    if wall < entry.not_before:
        return "not yet"
    return "expired" if wall >= entry.not_after else "valid"


def _day(wall: int) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE)


def _print_json(facts: dict[str, Any]) -> None:
    print(msgspec.json.encode(facts).decode(), flush=True)  # noqa: T201  what a script reads
