"""The list of nodes that enrolment writes and a collector reads: whose seals count, and from when to when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cloud_sync.collector import Node, load_nodes
from edge.errors import ConfigError, LastmileError
from edge.identity import split_node
from edge.keys import VerifyKey


class KnownKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role key. ``until`` is set when it was revoked or replaced: from then on nothing new by it is taken."""

    jwk: dict[str, str]
    since: float
    until: float | None = None


class KnownNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keys``: the latest last."""

    node: str
    keys: tuple[KnownKey, ...]


class KnownNodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. ``edition`` rises with every change."""

    edition: int
    nodes: tuple[KnownNode, ...]


def encode(nodes: Mapping[str, Iterable[KnownKey]], *, edition: int) -> bytes:
    listed = tuple(KnownNode(node, tuple(keys)) for node, keys in sorted(nodes.items()))
    return msgspec.json.format(msgspec.json.encode(KnownNodes(edition, listed)), indent=1) + b"\n"


def decode(text: bytes) -> dict[str, Node]:
    """The nodes whose events are taken, by name: those with a key that has no end. Raises ``ConfigError``."""
    try:
        listed = msgspec.json.decode(text, type=KnownNodes)
        return load_nodes(_present(listed))
    except (msgspec.DecodeError, LastmileError) as error:
        raise ConfigError(f"no list of nodes: {error}", remedy="take the file that `lastmile enrol` writes") from error


def _present(listed: KnownNodes) -> Iterable[tuple[str, str, list[VerifyKey]]]:
    for each in listed.nodes:
        keys = [VerifyKey.from_jwk(key.jwk) for key in reversed(each.keys) if key.until is None]
        if keys:
            yield split_node(each.node)[0], each.node, keys
