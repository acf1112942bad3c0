"""What nobody but the node may bring about in the consumer's store and the node's journal, whoever owns the broker."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from edge.errors import VerificationError
from edge.event import BEGUN
from edge.identity import identify
from edge.keys_file import read_verify_key
from edge.result import read_result
from tests.faults.store import Store
from tests.faults.tables import Tables
from tests.redteam.attacker import payload_of
from tests.redteam.stage import Stage


class _Says(msgspec.Struct):
    source: str
    lmclass: str


def deceptions(stage: Stage, acks: list[bytes]) -> list[str]:
    """Every lie that is believed. ``acks``: all that the consumer has ever sent. Raises ``sqlite3.Error`` while a
    file is away.
    """
    tables = stage.tables()
    found = [*_invented(stage, tables), *_thinned(tables), *_false_acks(tables, acks), *_gone_back(stage)]
    with stage.store.reading() as sql:
        found += [*_misplaced(sql), *_false_results(stage, sql)]
    return found


def _invented(stage: Stage, tables: Tables) -> Iterator[str]:
    """Held audit is the node's own, byte for byte."""
    written = {(entry.epoch, entry.seq, entry.body) for entry in stage.entries()}
    for (epoch, seq), body in tables.audit.items():
        if (epoch, seq, body) not in written:
            yield f"the consumer holds audit {seq} of {epoch}, which the node never wrote"
            return


def _thinned(tables: Tables) -> Iterator[str]:
    for (epoch, name), ranges in tables.dropped.items():
        if name == "audit":
            yield f"the consumer believes that audit {ranges[:3]} of {epoch} was thinned"


def _false_acks(tables: Tables, acks: list[bytes]) -> Iterator[str]:
    """An ack names no epoch that the node has not begun, or the node would hear of histories it never had."""
    begun = {epoch for epoch, _ in tables.last}
    named = {epoch for token in acks for epoch in payload_of(token)["journals"]}
    if strange := named - begun:
        yield f"the consumer acknowledges {sorted(strange)}, of which the node knows nothing"


def _gone_back(stage: Stage) -> Iterator[str]:
    """Nothing but a file that was put back, or a true consumer's word, makes the node part from its history."""
    told = (entry.event for entry in stage.entries())
    causes = [event["data"]["cause"] for event in told if event["type"] == BEGUN]
    if "rolled_back" in causes and not (stage.went_back or stage.contradicted):
        yield f"the node believes that its database went back, and it did not: {causes}"


def _misplaced(sql: sqlite3.Connection) -> Iterator[str]:
    """Every row that is kept, proven or not, stands under the name and the class that its bytes say."""
    for source, name, body in sql.execute(
        "SELECT source, class, body FROM event JOIN stream ON stream.id = event.stream"
    ):
        says = msgspec.json.decode(body, type=_Says)
        if (says.source, says.lmclass) != (source, name):
            yield f"an event of {says.source} and {says.lmclass} is kept as {name} of {source}"
            return


def _false_results(stage: Stage, sql: sqlite3.Connection) -> Iterator[str]:
    """What is kept as a command's answer is the node's own answer to that command."""
    role = read_verify_key(stage.site.key("role.jwk"))
    audience = identify(stage.site.tenant, stage.site.name, role).audience
    for jti, token in sql.execute("SELECT id, token FROM result"):
        issuer: Any = payload_of(token).get("aud", "")
        try:
            read_result(token, role, audience=audience, command_id=jti, issuer=issuer)
        except VerificationError as error:
            yield f"what is kept as the answer to {jti} is none: {error}"
            return


def has_heard(store: Store, presence: bytes) -> bool:
    """Whether the consumer has taken in and settled everything up to this presence."""
    with store.reading() as sql:
        row = sql.execute("SELECT payload FROM presence").fetchone()
        fresh = sql.execute("SELECT count(*) FROM fresh").fetchone()[0]
    return row is not None and bytes(row[0]) == presence and not fresh


def set_aside(store: Store) -> set[bytes]:
    """Bodies that the consumer keeps apart, each with an alarm."""
    with store.reading() as sql:
        return {bytes(body) for (body,) in sql.execute("SELECT body FROM quarantine")}
