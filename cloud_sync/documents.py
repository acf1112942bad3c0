"""A signed document on its way to its nodes, and whether a node's own word says that it is in force there."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from cloud_sync.topics import NodeTopics
from edge.document import Reported


class Document(msgspec.Struct, frozen=True):
    """The bytes to publish, retained. ``audience`` is "" for what is the same for every node."""

    kind: Literal["issuers", "desired"]
    version: int
    audience: str
    token: bytes

    def topic(self, topics: NodeTopics) -> str:
        return topics.issuers if self.kind == "issuers" else topics.desired


class Standing(enum.Enum):
    """What is known of a document at one node."""

    SILENT = "silent"
    """The node has not been heard."""
    BEHIND = "behind"
    """An older edition is in force there, by its last word."""
    IN_FORCE = "in force"
    """This edition or a newer one."""
    REFUSED = "refused"


def standing(document: Document, reported: Reported | None) -> Standing:
    """Where the node stands with ``document`` by its last signed word."""
    if reported is None:
        return Standing.SILENT
    held = reported.issuers_version if document.kind == "issuers" else reported.desired_version
    if held >= document.version:
        return Standing.IN_FORCE
    if document.kind == "desired" and reported.refused_version == document.version:
        return Standing.REFUSED
    return Standing.BEHIND
