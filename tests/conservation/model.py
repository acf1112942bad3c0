"""What was told, where it was seen, and what may be missing: the journal's own rows are read as soon as they exist."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edge.event import CloudEvent
from tests.conservation.world import CONSUMERS, Consumer, RoleAgent

CLASSES = ("audit", "state", "telemetry")
"""In the order of the numbers that the node's database gives them."""

Stream = tuple[str, str]
"""epoch, class"""
Place = tuple[Stream, int]
"""stream, seq"""

_EVENTS = "SELECT epoch.id, event.class, event.seq, body FROM event JOIN epoch ON epoch.no = epoch_no"
_GAPS = "SELECT epoch.id, gap.class, first, last FROM gap JOIN epoch ON epoch.no = epoch_no"
_CURSORS = "SELECT consumer, epoch.id, cursor.class, seq FROM cursor JOIN epoch ON epoch.no = epoch_no"
_HELD = "SELECT epoch, class, seq, body FROM held_event"
_STREAMS = "SELECT epoch, class, seq FROM stream"
_GONE = "SELECT epoch, class, first, last FROM dropped JOIN stream ON stream.id = dropped.stream"
_PENDING = "SELECT epoch, class, event.seq FROM event JOIN stream ON stream.id = stream WHERE event.seq > stream.seq"


class Holdings:
    """What one consumer's file says."""

    def __init__(self, consumer: Consumer) -> None:
        self.rows: dict[Place, bytes] = {}
        for epoch, name, seq, body in consumer.rows(_HELD):
            assert ((epoch, name), seq) not in self.rows, f"{consumer.name} holds {name} {seq} twice"
            self.rows[(epoch, name), seq] = body
        self.cursors: dict[Stream, int] = {(epoch, name): seq for epoch, name, seq in consumer.rows(_STREAMS)}
        self.gone = {((epoch, name), seq) for epoch, name, a, b in consumer.rows(_GONE) for seq in range(a, b + 1)}
        self.pending: set[Place] = {((epoch, name), seq) for epoch, name, seq in consumer.rows(_PENDING)}
        self.quarantined = consumer.rows("SELECT epoch, class, seq, reason FROM quarantine")


class Model:
    """Follows one node through all its lives. ``learn`` has to be called before time passes over new rows."""

    def __init__(self) -> None:
        self.truth: dict[Place, bytes] = {}
        self.thinned: set[Place] = set()
        self.rolled_away: set[Place] = set()
        """Rows that an older copy of the node's file does not have: the test threw them away, not the product."""
        self.thrown_away: dict[str, set[Place]] = {name: set() for name in CONSUMERS}
        """Rows that a consumer held and lost when the test put an older copy of its file in place."""
        self._signed: dict[str, dict[Stream, int]] = {name: {} for name in CONSUMERS}
        self._numbers: dict[int, Place] = {}
        self._told: set[int] = set()
        self._newest: dict[str, Place] = {}

    def tell(self, numbers: Iterable[int]) -> None:
        """``append`` has returned for these."""
        self._told.update(numbers)

    def learn(self, agent: RoleAgent) -> None:
        """Take in what the node's file has now; a number must never be given to two different events."""
        for epoch, kind, seq, body in sorted(agent.rows(_EVENTS)):
            place = ((epoch, CLASSES[kind]), seq)
            if place not in self.truth:
                self.truth[place] = body
                self._note(place, body)
            assert self.truth[place] == body, f"{place} was given to two different events"
        gaps = _gaps(agent)
        assert not [place for place in gaps if place[0][1] == "audit"], "audit was thinned"
        self.thinned |= gaps
        lost = self._told - self._numbers.keys()
        assert not lost, f"told to be on the disk and never seen there: {sorted(lost)}"

    def _note(self, place: Place, body: bytes) -> None:
        event = msgspec.json.decode(body, type=CloudEvent)
        number = msgspec.json.decode(event.data, type=dict).get("n")
        if number is None:
            return
        assert number not in self._numbers, f"event {number} stands at {self._numbers[number]} and at {place}"
        stream, seq = place
        earlier = [each for each, (other, at) in self._numbers.items() if other == stream and at < seq]
        assert not earlier or max(earlier) < number, f"event {number} stands out of order at {place}"
        self._numbers[number] = place
        if stream[1] == "state":
            self._newest[event.subject] = place

    def node_went_back(self, agent: RoleAgent) -> None:
        """The node now runs on an older copy: what it does not have is no longer owed."""
        kept = _rows(agent) | _gaps(agent)
        signed: dict[Stream, int] = {}
        for _, epoch, kind, seq in agent.rows(_CURSORS):
            stream = (epoch, CLASSES[kind])
            signed[stream] = max(signed.get(stream, 0), seq)
        self.rolled_away |= {place for place in self.truth if place not in kept and place[1] > signed.get(place[0], 0)}
        self._newest = {subject: place for subject, place in self._newest.items() if place not in self.rolled_away}

    def consumer_went_back(self, name: str, before: Holdings, now: Holdings) -> None:
        self.thrown_away[name] |= before.rows.keys() - now.rows.keys()
        signed = self._signed[name]
        for stream, seq in before.cursors.items():
            signed[stream] = max(signed.get(stream, 0), seq)

    def check_consumer(self, name: str, held: Holdings) -> None:
        """What is held is the node's own bytes, in order and without a hole that nobody owns up to."""
        for place, body in held.rows.items():
            assert self.truth.get(place) == body, f"{name} holds other bytes than the node wrote at {place}"
        invented = held.gone - self.thinned - self.thrown_away[name]
        assert not invented, f"{name} was told of a gap that is none: {sorted(invented)}"
        assert not [place for place in held.gone if place[0][1] == "audit"], f"{name} has a gap in audit"
        for stream, cursor in held.cursors.items():
            holes = {(stream, seq) for seq in range(1, cursor + 1)} - held.rows.keys() - held.gone
            assert not holes, f"{name} stands at {cursor} in {stream} over {sorted(holes)}"
        assert not held.quarantined, f"{name} put true rows into quarantine: {held.quarantined}"

    def check_cursors(self, agent: RoleAgent, held: dict[str, Holdings]) -> None:
        """The node believes of no consumer more than it durably holds, or held until the test took it away."""
        for name, epoch, kind, seq in agent.rows(_CURSORS):
            stream = (epoch, CLASSES[kind])
            most = max(held[name].cursors.get(stream, 0), self._signed[name].get(stream, 0))
            assert seq <= most, f"the node's cursor of {name} in {stream} is {seq}, held are {most}"

    def check_end(self, name: str, held: Holdings, agent: RoleAgent) -> None:
        """After all has healed: everything told is held, or its loss is told."""
        unseen = self._unseen(name, held)
        own_loss = (self.thrown_away[name] - _rows(agent)) | unseen
        missing = sorted(self.truth.keys() - self.rolled_away - own_loss - held.rows.keys() - held.gone)
        assert not missing, f"{name} never got {missing}"
        unsaid = sorted(own_loss - self.rolled_away - unseen - held.rows.keys() - held.gone)
        assert not unsaid, f"{name} lost {unsaid} after its ack and does not know it"
        assert held.pending <= self.rolled_away, f"{name} has unproven rows left: {sorted(held.pending)}"
        for subject, place in self._newest.items():
            assert place in held.rows or place in own_loss, f"{name} lacks the newest state of {subject}"

    def _unseen(self, name: str, held: Holdings) -> set[Place]:
        """What a consumer lost by itself and cannot see: state and telemetry at the end of an epoch that is over.

        A later row would show it, but none comes; of the audit chain the next epoch's first event tells the end.
        """
        newest = max(epoch for (epoch, _), _ in self.truth)
        return {
            (stream, seq)
            for stream, seq in self.thrown_away[name]
            if stream[1] != "audit" and stream[0] != newest and seq > held.cursors.get(stream, 0)
        }


def _rows(agent: RoleAgent) -> set[Place]:
    return {((epoch, CLASSES[kind]), seq) for epoch, kind, seq, _ in agent.rows(_EVENTS)}


def _gaps(agent: RoleAgent) -> set[Place]:
    return {
        ((epoch, CLASSES[kind]), seq)
        for epoch, kind, first, last in agent.rows(_GAPS)
        for seq in range(first, last + 1)
    }
