"""An issuer's commands from the signature to the node's last word: their states, and when the same bytes go out again.

A PUBACK ends nothing here either: a broker can lose what it took. Nothing in this file signs, so nothing in it can make
a second command out of a first.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from cloud_sync.presence import Presence, supersedes
from edge.backoff import Backoff
from edge.command import Claims
from edge.errors import TransitionError
from edge.result import Result, Status

ANSWER_S = 15.0
"""For the node's first word: a mobile link's worst round trip, several times over."""
OUTCOME_S = 30.0
"""From ``accepted`` to the outcome: three pulses at a door take 6 s."""
FIRST_PAUSE_S = 5.0
"""On top of the two above: the bound of the first pause, doubled by every publication without an answer."""
LONGEST_PAUSE_S = 600.0
"""A node that is online and silent is asked six times an hour: its cloud-sync is there, its role agent is not."""
AWAY_S = 86_400.0
"""To a node that is not online the bytes go once, and again daily in case its presence is wrong: every copy waits in
its queue at the broker, where a stock one keeps 1,000 messages. What counts is its coming back."""
ASK_S = 7 * 86_400
"""How long the outcome of a command without an expiry is asked for: as long as a broker keeps messages for a node."""
MAX_STALE = 8
"""Times in the heap per open command, before those that are out of date are thrown away."""


class State(enum.Enum):
    """What the issuer knows of a command."""

    SIGNED = "signed"
    """Kept; no broker has said that it has it."""
    SENT = "sent"
    """A broker has taken it; the node has not been heard."""
    ACCEPTED = "accepted"
    """The node has committed it, and does it."""
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    """The node has not done it."""
    UNKNOWN = "unknown"
    """The node cannot know what became of it, or has lost what it knew: look there."""
    EXPIRED = "expired"
    """Nobody asks any more. A node that was never heard may have done it all the same."""


FINAL: Final = frozenset({State.DONE, State.FAILED, State.REJECTED, State.UNKNOWN, State.EXPIRED})


class Input(enum.Enum):
    """What can happen to it; all but the first and the last are the node's signed word."""

    SENT = "sent"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    EXPIRED = "expired"


HEARD: Final = {status: Input(status.value) for status in Status}
"""The node's word as an input."""

TRANSITIONS: Final[dict[tuple[State, Input], State]] = {
    (State.SIGNED, Input.SENT): State.SENT,
    (State.SIGNED, Input.ACCEPTED): State.ACCEPTED,
    (State.SIGNED, Input.DONE): State.DONE,
    (State.SIGNED, Input.FAILED): State.FAILED,
    (State.SIGNED, Input.REJECTED): State.REJECTED,
    (State.SIGNED, Input.UNKNOWN): State.UNKNOWN,
    (State.SIGNED, Input.EXPIRED): State.EXPIRED,
    (State.SENT, Input.SENT): State.SENT,
    (State.SENT, Input.ACCEPTED): State.ACCEPTED,
    (State.SENT, Input.DONE): State.DONE,
    (State.SENT, Input.FAILED): State.FAILED,
    (State.SENT, Input.REJECTED): State.REJECTED,
    (State.SENT, Input.UNKNOWN): State.UNKNOWN,
    (State.SENT, Input.EXPIRED): State.EXPIRED,
    (State.ACCEPTED, Input.SENT): State.ACCEPTED,
    (State.ACCEPTED, Input.ACCEPTED): State.ACCEPTED,
    (State.ACCEPTED, Input.DONE): State.DONE,
    (State.ACCEPTED, Input.FAILED): State.FAILED,
    # It took the command once and denies it now, so its database is not the one of then.
    (State.ACCEPTED, Input.REJECTED): State.UNKNOWN,
    (State.ACCEPTED, Input.UNKNOWN): State.UNKNOWN,
    (State.ACCEPTED, Input.EXPIRED): State.UNKNOWN,
    # What is final stays, whatever a broker brings again.
    **{(State.DONE, each): State.DONE for each in Input},
    **{(State.FAILED, each): State.FAILED for each in Input},
    # The node's own better knowledge counts, however late. A refusal for missing rights is not kept by the node, so a
    # second copy of the bytes may be taken after the rights have come.
    **{(State.REJECTED, each): State.REJECTED for each in (Input.SENT, Input.REJECTED, Input.EXPIRED)},
    (State.REJECTED, Input.ACCEPTED): State.ACCEPTED,
    (State.REJECTED, Input.DONE): State.DONE,
    (State.REJECTED, Input.FAILED): State.FAILED,
    (State.REJECTED, Input.UNKNOWN): State.UNKNOWN,
    **{(State.UNKNOWN, each): State.UNKNOWN for each in Input},
    (State.UNKNOWN, Input.DONE): State.DONE,
    (State.UNKNOWN, Input.FAILED): State.FAILED,
    (State.EXPIRED, Input.SENT): State.EXPIRED,
    (State.EXPIRED, Input.ACCEPTED): State.ACCEPTED,
    (State.EXPIRED, Input.DONE): State.DONE,
    (State.EXPIRED, Input.FAILED): State.FAILED,
    (State.EXPIRED, Input.REJECTED): State.REJECTED,
    (State.EXPIRED, Input.UNKNOWN): State.UNKNOWN,
    (State.EXPIRED, Input.EXPIRED): State.EXPIRED,
}


def after(state: State, happened: Input) -> State:
    """The next state. Raises ``TransitionError`` for what the table does not have."""
    try:
        return TRANSITIONS[state, happened]
    except KeyError:
        raise TransitionError(
            f"command is {state.value}, {happened.value} cannot happen", remedy="report this as a defect"
        ) from None


class Entry(msgspec.Struct, frozen=True):
    """A signed command as it is kept. ``token`` are the bytes that are published, each time the same.

    ``audience`` and ``issuer`` are what the node's answer must carry. ``made`` and ``until`` are wall seconds; from
    ``until`` on nobody asks any more. ``rev`` is 0 for all but bookings.
    """

    jti: str
    node: str
    audience: str
    issuer: str
    name: str
    subject: str
    rev: int
    made: float
    until: float
    token: bytes

    @property
    def instance(self) -> str:
        """The life of the node that it was signed for."""
        return self.audience.partition("/")[2]


class Outcome(msgspec.Struct, frozen=True):
    """How a command stands, and the node's word that brought it there; None where no word did."""

    entry: Entry
    state: State
    word: Result | None

    @property
    def final(self) -> bool:
        return self.state in FINAL


def entry_of(claims: Claims, token: bytes) -> Entry:
    """The signed ``token`` with what its ``claims`` say, as the outbox keeps it."""
    return Entry(
        jti=claims.jti,
        node=claims.aud.partition("/")[0],
        audience=claims.aud,
        issuer=claims.iss,
        name=claims.name,
        subject=claims.subject,
        rev=claims.rev or 0,
        made=float(claims.iat),
        until=float(claims.exp if claims.exp is not None else claims.iat + ASK_S),
        token=token,
    )


class _Line:
    """One open command in the schedule."""

    def __init__(self, entry: Entry, state: State, backoff: Backoff) -> None:
        self.entry = entry
        self.state = state
        self.backoff = backoff
        self.due = 0.0
        self.ticket = 0
        """Of its place in the heap; any other place is out of date."""


class Schedule:
    """Which open commands are to be published now. ``mono`` is running time in seconds, ``random`` gives [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lines: dict[str, _Line] = {}
        self._by_node: dict[str, set[str]] = {}
        self._queues: dict[tuple[str, str], list[str]] = {}
        self._presence: dict[str, Presence] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()

    def __contains__(self, jti: str) -> bool:
        return jti in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def entry(self, jti: str) -> Entry | None:
        line = self._lines.get(jti)
        return None if line is None else line.entry

    def presence(self, node: str) -> Presence | None:
        """What the node said last on this connection."""
        return self._presence.get(node)

    def add(self, entry: Entry, state: State, mono: float) -> None:
        """Take an open command; one that is there already only has its state brought up to date."""
        if entry.jti in self._lines:
            self._lines[entry.jti].state = state
            return
        line = self._lines[entry.jti] = _Line(entry, state, self._fresh())
        self._by_node.setdefault(entry.node, set()).add(entry.jti)
        if entry.rev:
            queue = self._queues.setdefault((entry.node, entry.subject), [])
            queue.append(entry.jti)
            queue.sort(key=lambda jti: self._lines[jti].entry.rev)
        known_to_broker = state is not State.SIGNED and not self._online(entry.node)
        self._set(line, mono + AWAY_S if known_to_broker else mono)

    def remove(self, jti: str, mono: float) -> None:
        """It is final. The next revision of the same booking has its turn."""
        line = self._lines.pop(jti, None)
        if line is None:
            return
        entry = line.entry
        self._by_node[entry.node].discard(jti)
        queue = self._queues.get((entry.node, entry.subject), []) if entry.rev else []
        if jti in queue:
            queue.remove(jti)
            if queue:
                self._set(self._lines[queue[0]], mono)
            else:
                del self._queues[entry.node, entry.subject]

    def accepted(self, jti: str, mono: float) -> None:
        """The node has it and is at work: ask for the outcome when that is due."""
        line = self._lines[jti]
        line.state, line.backoff = State.ACCEPTED, self._fresh()
        self._set(line, mono + OUTCOME_S)

    def connected(self, mono: float) -> None:
        """A new connection to the broker: who is there will be told anew, by the retained presence."""
        self._presence.clear()
        for line in self._lines.values():
            self._set(line, mono if line.state is State.SIGNED else mono + AWAY_S)

    def heard(self, node: str, presence: Presence, mono: float) -> bool:
        """Take a node's presence; whether it is another connection or run than before, so that all is due again.

        It is unsigned. The worst that a false one does is to have the same bytes sent again, or later.
        """
        known = self._presence.get(node)
        if known is not None and not supersedes(presence, known):
            return False
        self._presence[node] = presence
        if not presence.online or (known is not None and known.online and _life(known) == _life(presence)):
            return False
        for jti in self._by_node.get(node, ()):
            line = self._lines[jti]
            line.backoff = self._fresh()
            self._set(line, mono)
        return True

    def due(self, mono: float) -> Iterable[Entry]:
        """What to publish now, each once; ``published`` says when it is due again."""
        while self._heap and self._heap[0][0] <= mono:
            _, ticket, jti = heapq.heappop(self._heap)
            line = self._lines.get(jti)
            if line is not None and line.ticket == ticket and self._is_head(line.entry):
                yield line.entry

    def published(self, jti: str, mono: float) -> None:
        """It was handed to the broker: due again when the node's word does not come, with ever longer pauses."""
        line = self._lines.get(jti)
        if line is not None:
            patience = OUTCOME_S if line.state is State.ACCEPTED else ANSWER_S
            self._set(line, mono + patience + line.backoff.after(0.0))

    def taken(self, jti: str, mono: float) -> None:
        """The broker has it, and keeps it for a node that is away."""
        line = self._lines.get(jti)
        if line is None:
            return
        if line.state is State.SIGNED:
            line.state = State.SENT
        if not self._online(line.entry.node):
            self._set(line, mono + AWAY_S)

    def next_due(self) -> float | None:
        """Running time of the next look; None while nothing is open."""
        return self._heap[0][0] if self._heap else None

    def over(self, wall: float) -> list[str]:
        """The commands that nobody asks for any more. Not to be asked on a clock that is not trusted."""
        return [jti for jti, line in self._lines.items() if wall >= line.entry.until]

    def _online(self, node: str) -> bool:
        presence = self._presence.get(node)
        return presence is not None and presence.online

    def _is_head(self, entry: Entry) -> bool:
        """Whether no lower revision of the booking is open: after a higher one the node would refuse it."""
        return not entry.rev or self._queues[entry.node, entry.subject][0] == entry.jti

    def _set(self, line: _Line, due: float) -> None:
        line.due, line.ticket = due, next(self._order)
        heapq.heappush(self._heap, (due, line.ticket, line.entry.jti))
        if len(self._heap) > MAX_STALE * len(self._lines) + MAX_STALE:
            # Every change leaves an old time behind; a node that flaps for a day would fill the memory with them.
            self._heap = [(each.due, each.ticket, jti) for jti, each in self._lines.items()]
            heapq.heapify(self._heap)

    def _fresh(self) -> Backoff:
        return Backoff(self._random, first_s=FIRST_PAUSE_S, cap_s=LONGEST_PAUSE_S, stable_s=LONGEST_PAUSE_S)


def _life(presence: Presence) -> tuple[str, int, str]:
    """Of the node's connection and its agent's run: commands handed over in another one may not have arrived."""
    return presence.epoch, presence.link, presence.session
