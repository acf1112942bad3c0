"""The consumer's own checks, taken away one at a time; see ``tests.hostile.removals``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import msgspec

from cloud_sync import (
    collector,
    collector_asyncio,
    collector_settle_sql,
    collector_sql,
    collector_streams_sql,
    settling,
)
from cloud_sync.collector import Node, Refusal
from cloud_sync.settling import Candidate, Cursor
from cloud_sync.topics import Topic, parse
from edge import base64url, event
from edge.event import CloudEvent

Patches = list[Any]


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _taken_despite(*reasons: str) -> Patches:
    """The collector's own refusals, without those for ``reasons``."""
    require = collector._require

    def kinder(fine: bool, reason: str) -> None:
        require(fine or reason in reasons, reason)

    return [patch.object(collector, "_require", kinder)]


def _role_key_known() -> Patches:
    verified = collector._verified_seal

    def by_anybody(node: Node, told: CloudEvent, body: bytes) -> dict[str, int]:
        try:
            return verified(node, told, body)
        except Refusal as refusal:
            if refusal.reason != "unknown_key":
                raise
            return collector._sealed.decode(told.data).consumers

    return [patch.object(collector, "_verified_seal", by_anybody)]


def _spelling() -> Patches:
    """Base64 is read as most libraries read it: with whatever stands in the bits that say nothing."""

    def kinder(text: str | bytes) -> bytes:
        spelt = text.encode() if isinstance(text, str) else text
        return base64.b64decode(spelt + b"==", altchars=b"-_")

    return [patch.object(base64url, "decode", kinder), *_taken_despite("malformed_seal")]


def _chain_link() -> Patches:
    """Rows of a sealed run are taken by their number, not by the hash that the next one names."""

    def by_number(
        seal: Candidate, base: Cursor, by_seq: Mapping[int, Mapping[bytes, Candidate]], _stuck: Any
    ) -> tuple[list[bytes], int]:
        path, at = [seal.digest], seal
        for seq in range(seal.seq - 1, base.seq, -1):
            rivals = by_seq.get(seq)
            if not rivals:
                return path, seq
            # Of several the one that the chain does not name, or chance would decide whether anything is noticed.
            at = next((each for each in rivals.values() if each.digest != at.prev), next(iter(rivals.values())))
            path.append(at.digest)
        return path, base.seq

    return [patch.object(settling, "_walk_back", by_number)]


def _joins_what_is_held() -> Patches:
    settle = settling.settle_audit

    def anywhere(cursor: Cursor, candidates: Any) -> Any:
        settled = settle(Cursor(cursor.seq, b""), candidates)
        if settled.cursor.seq == cursor.seq:
            settled.cursor = cursor
        return settled

    return [patch.object(collector_settle_sql, "settle_audit", anywhere)]


def _tenant() -> Patches:
    def any_tenant(topic: str) -> Topic:
        parts = topic.split("/")
        return parse("/".join([*parts[:2], parts[3].partition("_")[0], *parts[3:]]))

    return [patch.object(collector_asyncio, "parse", any_tenant)]


def _result_is_the_nodes() -> Patches:
    return [patch.object(collector_asyncio, "check_result", lambda *_: True)]


def _result_is_the_commands() -> Patches:
    check = collector.check_result

    def for_any(node: Node, _id: str, token: bytes) -> bool:
        payload = msgspec.json.decode(base64url.decode(token.split(b".")[1]))
        return check(node, payload["id"], token)

    return [patch.object(collector_asyncio, "check_result", for_any)]


REMOVALS: dict[str, Callable[[], Patches]] = {
    "seal's signature": lambda: _taken_despite("bad_signature"),
    "seal's key": _role_key_known,
    "seal's spelling": _spelling,
    "chain": _chain_link,
    "join": _joins_what_is_held,
    "source": lambda: _taken_despite("wrong_source"),
    "class": lambda: _taken_despite("wrong_class"),
    "tenant": _tenant,
    "audit is never dropped": lambda: _taken_despite("audit_dropped"),
    "epoch is proven": lambda: [patch.object(collector_settle_sql, "proven", lambda *_: True)],
    "conflict is kept": lambda: [patch.object(collector_streams_sql.Streams, "_against_held", lambda *_: [])],
    "bound of epochs": lambda: [patch.object(collector_streams_sql, "_make_room", _nothing)],
    "bound of rivals": lambda: [patch.object(collector_settle_sql, "MAX_RIVALS", 2**30)],
    "horizon": lambda: [patch.object(collector_streams_sql, "HORIZON", 2**30)],
    "size of an event": lambda: [patch.object(event, "MAX_EVENT_BYTES", 2**30)],
    "size of a batch": lambda: [patch.object(collector, "MAX_BATCH_EVENTS", 2**30)],
    "result is the node's": _result_is_the_nodes,
    "result is the command's": _result_is_the_commands,
    "newer presence": lambda: [patch.object(collector_sql, "supersedes", lambda *_, **__: True)],
}
