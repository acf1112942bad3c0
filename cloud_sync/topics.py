"""Every topic of the contract, built and parsed in one place; what does not fit exactly is not ours."""

from __future__ import annotations

import enum
import re

import msgspec

from edge.errors import ConfigError, ProtocolError
from edge.event import EventClass

ROOT = "lm/v1"

_NAME = re.compile(r"[a-z0-9-]{1,48}", re.ASCII)
_NODE = re.compile(r"([a-z0-9-]{1,48})_([a-z0-9-]{1,48})", re.ASCII)
_RESULT_ID = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
"""A command's ``jti``, a UUID in lower case."""


class Kind(enum.Enum):
    """What a topic carries; the value is its part after the node."""

    PRESENCE = "presence"
    EVENT = "evt"
    BATCH = "batch"
    LIVE = "live"
    ACK = "ack"
    COMMAND = "cmd"
    RESULT = "res"
    DESIRED = "desired"
    ISSUERS = "issuers"
    REPORTED = "reported"
    PROBE = "probe"
    """The node's own message to itself, which shows that this session may publish and hears what it subscribed to."""


class Way(enum.Enum):
    """Who writes a topic for whom."""

    UP = "up"
    """The node writes, consumers and issuers read."""
    DOWN = "down"
    """Consumers or issuers write, the node reads."""
    SELF = "self"
    """The node writes and reads it itself."""


_FILTERS: dict[Kind, tuple[Way, str]] = {
    Kind.PRESENCE: (Way.UP, "presence"),
    Kind.EVENT: (Way.UP, "evt/+"),
    Kind.BATCH: (Way.UP, "evt/+/batch"),
    Kind.LIVE: (Way.UP, "live/+"),
    Kind.ACK: (Way.DOWN, "ack/+"),
    Kind.COMMAND: (Way.DOWN, "cmd/+"),
    Kind.RESULT: (Way.UP, "res/+"),
    Kind.DESIRED: (Way.DOWN, "desired"),
    Kind.ISSUERS: (Way.DOWN, "issuers"),
    Kind.REPORTED: (Way.UP, "reported"),
    Kind.PROBE: (Way.SELF, "probe"),
}
"""The direction of every kind and what its topics are called below the node's."""


def way_of(kind: Kind) -> Way:
    return _FILTERS[kind][0]


def filter_of(kind: Kind) -> str:
    """All topics of this kind, below a node's."""
    return _FILTERS[kind][1]


_PLAIN = {kind.value: kind for kind in (Kind.PRESENCE, Kind.DESIRED, Kind.ISSUERS, Kind.REPORTED, Kind.PROBE)}
_NAMED = {kind.value: kind for kind in (Kind.LIVE, Kind.ACK, Kind.COMMAND, Kind.RESULT)}
_CLASSES = frozenset(event_class.value for event_class in EventClass)


class Topic(msgspec.Struct, frozen=True):
    """A parsed topic. ``name``: the class, stream, consumer, command or result id; "" where the kind has none."""

    tenant: str
    node: str
    kind: Kind
    name: str = ""


class NodeTopics:
    """The topics of one node. Raises ``ConfigError`` when tenant and node do not fit each other."""

    def __init__(self, tenant: str, node: str) -> None:
        match = _NODE.fullmatch(node)
        if match is None or match.group(1) != tenant:
            raise ConfigError(
                f"node {node!r} is not of tenant {tenant!r}",
                remedy="a node is called {tenant}_{name}, both of a-z, 0-9 and -, at most 48 characters",
            )
        self._root = f"{ROOT}/{tenant}/{node}"
        self.source = f"/{self._root}"
        """What the node's events call their source."""
        self.presence = f"{self._root}/presence"
        self.desired = f"{self._root}/desired"
        self.issuers = f"{self._root}/issuers"
        self.reported = f"{self._root}/reported"
        self.results = f"{self._root}/res/+"
        """The filter for every answer of the node."""
        self.probe = f"{self._root}/probe"

    def event(self, event_class: EventClass) -> str:
        return f"{self._root}/evt/{event_class.value}"

    def batch(self, event_class: EventClass) -> str:
        return f"{self._root}/evt/{event_class.value}/batch"

    def live(self, stream: str) -> str:
        return f"{self._root}/live/{_fitting(_NAME, stream)}"

    def ack(self, consumer: str) -> str:
        return f"{self._root}/ack/{_fitting(_NAME, consumer)}"

    def command(self, name: str) -> str:
        return f"{self._root}/cmd/{_fitting(_NAME, name)}"

    def result(self, command_id: str) -> str:
        return f"{self._root}/res/{_fitting(_RESULT_ID, command_id)}"

    def inward(self) -> tuple[str, ...]:
        """The filters a node subscribes to; the probe's comes last.

        Its own presence is among them: what the broker publishes of an older connection late is put right.
        """
        return (f"{self._root}/ack/+", f"{self._root}/cmd/+", self.desired, self.issuers, self.presence, self.probe)


CONSUMED = (f"{ROOT}/+/+/evt/#", f"{ROOT}/+/+/presence", f"{ROOT}/+/+/res/+")
"""The filters a consumer subscribes to."""


PROBES = f"{ROOT}/+/_probe/+"
"""Where consumers write to themselves: ``consumer_probe``."""


def shared(group: str, topic_filter: str) -> str:
    """The filter of which each message reaches one member of ``group``."""
    return f"$share/{_fitting(_NAME, group)}/{topic_filter}"


def consumer_probe(tenant: str, client_id: str) -> str:
    """Where a consumer writes to itself. No node can have this topic: a node's name has its tenant in front."""
    return f"{ROOT}/{_fitting(_NAME, tenant)}/_probe/{_fitting(_NAME, client_id)}"


def parse(topic: str) -> Topic:
    """Read a node's topic. Raises ``ProtocolError`` for any other, also for a node under another's tenant."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[:2] != ["lm", "v1"]:  # noqa: PLR2004  lm / v1 / tenant / node / kind
        raise _stray(topic)
    tenant, node, rest = parts[2], parts[3], parts[4:]
    match = _NODE.fullmatch(node)
    if match is None or match.group(1) != tenant:
        raise _stray(topic)
    kind, name = _kind(rest, topic)
    return Topic(tenant, node, kind, name)


def _kind(rest: list[str], topic: str) -> tuple[Kind, str]:
    match rest:
        case [word] if word in _PLAIN:
            return _PLAIN[word], ""
        case ["evt", name] if name in _CLASSES:
            return Kind.EVENT, name
        case ["evt", name, "batch"] if name in _CLASSES:
            return Kind.BATCH, name
        case ["res", name] if _RESULT_ID.fullmatch(name):
            return Kind.RESULT, name
        case [word, name] if word in _NAMED and _NAME.fullmatch(name):
            return _NAMED[word], name
    raise _stray(topic)


def _fitting(pattern: re.Pattern[str], name: str) -> str:
    if pattern.fullmatch(name) is None:
        raise ProtocolError(f"{name!r} cannot stand in a topic", remedy="use a-z, 0-9 and - only")
    return name


def _stray(topic: str) -> ProtocolError:
    return ProtocolError(f"topic {topic[:200]!r} is none of the contract", remedy="dropped and counted")
