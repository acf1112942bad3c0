"""What a consumer takes in: which bytes are events of a known node, and whose they are.

Audit events come in unproven, whoever sent them; ``cloud_sync.settling`` says which become held. A seal's signature is
checked here, so that a stored seal is a true one. State and telemetry carry no proof: nothing may act on them alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cloud_sync.presence import Presence, supersedes
from cloud_sync.topics import ROOT, Kind, NodeTopics, Topic
from cloud_sync.wants import OPEN_END
from edge import event as envelope
from edge import jose
from edge.claims import refused
from edge.errors import ConfigError, ProtocolError, VerificationError
from edge.event import BEGUN, DROPPED, GENESIS, SEALED, CloudEvent, EventClass, EventsDropped, JournalSealed, link_hash
from edge.keys import VerifyKey

MAX_BATCH_EVENTS = 4096
"""Events in one batch: twice what fits 256 KiB of our smallest."""
MAX_SEQ = OPEN_END - 1
"""The highest number that is taken: what follows it can still be asked for."""
MAX_WORD = 256
"""Characters of an id, a type, a subject, a reason or a cause."""

_EPOCH = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GENESIS = GENESIS.hex()

_batch = msgspec.json.Decoder(list[msgspec.Raw])
_sealed = msgspec.json.Decoder(JournalSealed)
_begun = msgspec.json.Decoder(envelope.JournalBegun)
_dropped = msgspec.json.Decoder(EventsDropped)


class Node(msgspec.Struct, frozen=True):
    """A node as enrolment names it (at first a file). ``keys``: role keys by kid; ``instance`` is the present one's."""

    tenant: str
    name: str
    instance: str
    keys: Mapping[str, VerifyKey]

    @property
    def source(self) -> str:
        """As the node's events name it; tenant and name were checked by ``load_nodes``."""
        return f"/{ROOT}/{self.tenant}/{self.name}"

    @property
    def audience(self) -> str:
        return f"{self.name}/{self.instance}"


class Row(msgspec.Struct, frozen=True, gc=False):
    """An event as it came. ``digest``: the chain's hash for audit, else SHA-256 of ``body``.

    ``starts`` is what a seal says of the consumers' shares and None in any other event. A seal's signature is checked
    before it becomes a row.
    """

    epoch: str
    event_class: EventClass
    seq: int
    digest: bytes
    prev: bytes
    body: bytes
    event_id: str
    type: str
    subject: str
    time: str
    starts: dict[str, int] | None = None

    @property
    def seal(self) -> bool:
        return self.starts is not None


class Gone(msgspec.Struct, frozen=True):
    """The node's word that it thinned ``first`` to ``last`` of a class."""

    epoch: str
    event_class: EventClass
    first: int
    last: int
    count: int
    reason: str


class Intake(msgspec.Struct):
    """What one message brought. ``refused``: a reason word for each thing that was not taken."""

    rows: list[Row] = []
    gone: list[Gone] = []
    refused: list[str] = []


class Batch(msgspec.Struct):
    """What several messages brought, to be committed together. ``strays`` are refusals that name no known node."""

    events: list[tuple[Node, Intake]] = []
    presences: dict[tuple[str, str], tuple[Node, Presence]] = {}
    """The newest of each node and epoch, in the order in which they came."""
    results: list[tuple[Node, str, bytes]] = []
    strays: list[str] = []

    def hear_presence(self, node: Node, told: Presence) -> None:
        """Keep the newer of one epoch; which epoch is the newer, the store knows."""
        key = node.name, told.epoch
        known = self.presences.get(key)
        if known is None or supersedes(told, known[1]):
            self.presences.pop(key, None)
            self.presences[key] = (node, told)

    def sources(self) -> frozenset[str]:
        """Every node that something came from."""
        told = (node for node, _ in self.presences.values())
        return frozenset(
            node.source for node in (*(node for node, _ in self.events), *told, *(one[0] for one in self.results))
        )


class Standing(msgspec.Struct):
    """What may be acknowledged to a node: per proven epoch and class [seq, hex hash or None]; and what is missing."""

    journals: dict[str, dict[str, tuple[int, str | None]]] = {}
    missing: list[tuple[str, str, int, int]] = []
    want: list[tuple[str, str, int, int]] = []
    """Of what is missing, or may be: what to ask the node for now."""
    alarms: int = 0
    """Rows put into quarantine by this settling."""
    fresh: bool = False
    """Whether anything of the node had come since it was settled before, by whichever worker."""


class Refusal(ProtocolError):
    """An event that is not taken; ``reason`` is one stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, remedy="counted")
        self.reason = reason


def read_events(node: Node, topic: Topic, payload: bytes) -> Intake:
    """The events of a message on ``evt/{class}`` or its ``batch``. Never raises: what is wrong is in ``refused``."""
    intake = Intake()
    source, event_class = node.source, EventClass(topic.name)
    for body in _bodies(topic, payload, intake):
        try:
            item = _read(node, source, event_class, body)
        except Refusal as refusal:
            intake.refused.append(refusal.reason)
            continue
        if isinstance(item, Row):
            intake.rows.append(item)
        else:
            intake.gone.append(item)
    return intake


def _bodies(topic: Topic, payload: bytes, intake: Intake) -> Sequence[bytes]:
    if topic.kind is not Kind.BATCH:
        return [payload]
    try:
        raws = _batch.decode(payload)
    except (ValueError, RecursionError):
        intake.refused.append("malformed")
        return []
    if len(raws) > MAX_BATCH_EVENTS:
        intake.refused.append("oversized")
        return []
    return [bytes(raw) for raw in raws]


def _read(node: Node, source: str, event_class: EventClass, body: bytes) -> Row | Gone:
    if len(body) > envelope.MAX_EVENT_BYTES:
        raise Refusal("oversized")
    try:
        event = envelope.decode(body)
    except ProtocolError:
        raise Refusal("malformed") from None
    _require(event.source == source, "wrong_source")
    _require(event.lmclass == event_class.value, "wrong_class")
    _require(is_epoch(event.epoch), "malformed")
    words = (event.id, event.type, event.subject)
    _require(max(map(len, words)) <= MAX_WORD, "oversized")
    _require(all(map(_storable, words)), "malformed")
    if event.type == DROPPED:
        return _read_gone(event, event_class)
    _require(1 <= event.seq <= MAX_SEQ, "malformed")
    if event_class is EventClass.AUDIT:
        return _read_audit(node, event, body)
    _require(not event.prev, "malformed")
    return _row(event, event_class, body, b"", hashlib.sha256(body).digest(), None)


def _read_audit(node: Node, event: CloudEvent, body: bytes) -> Row:
    _require(_HASH.fullmatch(event.prev) is not None, "malformed")
    _require((event.prev == _GENESIS) == (event.seq == 1), "malformed")
    prev = bytes.fromhex(event.prev)
    starts = _verified_seal(node, event, body) if event.type == SEALED else None
    return _row(event, EventClass.AUDIT, body, prev, link_hash(prev, body), starts)


def _verified_seal(node: Node, event: CloudEvent, body: bytes) -> dict[str, int]:
    """The consumers' shares of a seal that a role key of the node made."""
    try:
        sealed = _sealed.decode(event.data)
        unsigned, signature = envelope.without_signature(body)
    except (ValueError, RecursionError, ProtocolError):
        raise Refusal("malformed_seal") from None
    # A second spelling of the same signature would be a second row with another hash, and both would seem sealed.
    _require(envelope.with_signature(unsigned, signature) == body, "malformed_seal")
    key = node.keys.get(sealed.kid)
    if key is None:
        raise Refusal("unknown_key")
    _require(key.verify(signature, unsigned), "bad_signature")
    _require(all(0 <= start <= MAX_SEQ for start in sealed.consumers.values()), "malformed_seal")
    return sealed.consumers


def sealed_by(node: Node, body: bytes) -> bool:
    """Whether ``body`` is a seal that a role key of the node made."""
    try:
        _verified_seal(node, envelope.decode(body), body)
    except ProtocolError:
        return False
    return True


def _read_gone(event: CloudEvent, event_class: EventClass) -> Gone:
    # Audit is never thinned: whoever says so wants a hole.
    _require(event_class is not EventClass.AUDIT, "audit_dropped")
    try:
        said = _dropped.decode(event.data)
    except (ValueError, RecursionError):
        raise Refusal("malformed") from None
    _require(said.event_class == event_class.value, "malformed")
    _require(len(said.reason) <= MAX_WORD and _storable(said.reason), "malformed")
    _require(1 <= said.first <= said.last <= MAX_SEQ and 0 <= said.count <= said.last - said.first + 1, "malformed")
    return Gone(event.epoch, event_class, said.first, said.last, said.count, said.reason)


def _row(
    event: CloudEvent, event_class: EventClass, body: bytes, prev: bytes, digest: bytes, starts: dict[str, int] | None
) -> Row:
    time = event.time.isoformat()
    return Row(
        event.epoch, event_class, event.seq, digest, prev, body, event.id, event.type, event.subject, time, starts
    )


def _storable(word: str) -> bool:
    """PostgreSQL keeps no NUL in a text: one message with it would be taken in by nobody, and come again for ever."""
    return "\0" not in word


def _require(fine: bool, reason: str) -> None:  # noqa: FBT001  reads as a sentence at every call
    if not fine:
        raise Refusal(reason)


def is_epoch(text: str) -> bool:
    """Whether ``text`` can name an epoch: a UUIDv7 in lower case."""
    return _EPOCH.fullmatch(text) is not None


def begun_by(body: bytes) -> envelope.JournalBegun | None:
    """What the first event of an epoch says of the one before; None when ``body`` is another event, or makes no sense.

    To be asked of held rows only: then it is the role key's word.
    """
    event = envelope.decode(body)
    if event.type != BEGUN or event.seq != 1:
        return None
    try:
        begun = _begun.decode(event.data)
    except ValueError:
        return None
    return begun if _sensible(begun) else None


def _sensible(begun: envelope.JournalBegun) -> bool:
    """Whether it can be kept and asked for. A role key may have been stolen."""
    words = (not begun.previous or is_epoch(begun.previous)) and len(begun.cause) <= MAX_WORD and _storable(begun.cause)
    ends = _HASH.fullmatch(begun.kept_hash) is not None if begun.kept_seq else not begun.kept_hash
    return words and ends and 0 <= begun.kept_seq <= MAX_SEQ and 0 <= (begun.last_seq or 0) <= MAX_SEQ


def order_of_epochs(previous: Mapping[str, str], epoch: str) -> frozenset[str]:
    """The epochs that are proven to lie before ``epoch``. ``previous``: what held first events say of each epoch."""
    before: set[str] = set()
    while (epoch := previous.get(epoch, "")) and epoch not in before:
        before.add(epoch)
    return frozenset(before)


def load_nodes(nodes: Iterable[tuple[str, str, Sequence[VerifyKey]]]) -> dict[str, Node]:
    """Nodes by name, from (tenant, name, role keys with the present one first). Raises ``ConfigError``."""
    found: dict[str, Node] = {}
    for tenant, name, keys in nodes:
        NodeTopics(tenant, name)
        if not keys or name in found:
            raise ConfigError(
                f"node {name} has no key or is named twice", remedy="name each node once, with its role's public key"
            )
        found[name] = Node(tenant, name, keys[0].kid, {key.kid: key for key in keys})
    return found


def check_result(node: Node, command_id: str, token: bytes) -> bool:
    """Whether ``token`` is the node's own answer to the command: the issuer checks what it says."""

    def find_key(kid: str) -> VerifyKey:
        if kid not in node.keys:
            raise refused("unknown_key", "another node's key", "check the node's role key")
        return node.keys[kid]

    try:
        claims = jose.verify(token, jose.RESULT, find_key).claims
    except VerificationError:
        return False
    return claims.get("iss") == node.audience and claims.get("id") == command_id
