"""Who may read and write which topic, as mosquitto's ACL file: made from the topics themselves, never by hand.

The broker's user name is the certificate's CN. A node is called as its topics say; consumers and issuers have names
without an underscore, so none can be taken for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cloud_sync.topics import PROBES, ROOT, Kind, Way, filter_of, way_of
from edge.errors import ConfigError
from edge.identity import NAME_PATTERN

ISSUER_READS = (Kind.PRESENCE, Kind.RESULT)
"""Whether the node is there, and what became of a command."""
NODE_HEARS = (Kind.PRESENCE,)
"""What a node writes and also reads: what the broker puts there late of an older connection is put right."""
ISSUER_WRITES = (Kind.COMMAND, Kind.DESIRED, Kind.ISSUERS)

_HEAD = """\
# Made by `lastmile enrol acl`; made anew, it is the same. The user name is the certificate's CN
# (use_identity_as_username true), so nobody chooses it. What is not listed here is denied.
"""


def mosquitto_acl(consumers: Iterable[str], issuers: Iterable[str]) -> str:
    """The whole file. Names are CNs; one may be consumer and issuer. Raises ``ConfigError`` for a name that is none."""
    reading, writing = sorted(set(consumers)), sorted(set(issuers))
    parts = [_HEAD, "# Every node: its own topics, by direction.\n" + "".join(_lines("pattern", f"{ROOT}/+/%u", _NODE))]
    for name in sorted({*reading, *writing}):
        if NAME_PATTERN.fullmatch(name) is None:
            raise ConfigError(f"{name!r} cannot be a consumer's or issuer's CN", remedy="use a-z, 0-9 and - only")
        lines = [f"user {name}\n"]
        if name in reading:
            lines += [*_lines("topic", f"{ROOT}/+/+", _consumer(name)), f"topic readwrite {PROBES}\n"]
        if name in writing:
            lines += _lines("topic", f"{ROOT}/+/+", _ISSUER)
        parts.append("".join(dict.fromkeys(lines)))
    return "\n".join(parts)


_VERB = {Way.UP: "write", Way.DOWN: "read", Way.SELF: "readwrite"}
_NODE: Sequence[tuple[str, str]] = [
    (_VERB[Way.SELF if kind in NODE_HEARS else way_of(kind)], filter_of(kind)) for kind in Kind
]
_ISSUER: Sequence[tuple[str, str]] = [
    *(("read", filter_of(kind)) for kind in ISSUER_READS),
    *(("write", filter_of(kind)) for kind in ISSUER_WRITES),
]


def _consumer(name: str) -> Sequence[tuple[str, str]]:
    reads = [("read", filter_of(kind)) for kind in Kind if way_of(kind) is Way.UP]
    return [*reads, ("write", filter_of(Kind.ACK).replace("+", name))]


def _lines(word: str, root: str, rights: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{word} {verb} {root}/{what}\n" for verb, what in rights]
