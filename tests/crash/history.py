"""What must hold between the witness, the journal and the calls of a site that was killed again and again.

The witness (the simulator's own log) says what happened at the locks, the list of calls what people were answered, and
both are held against the journal. Nothing here asks the code under test.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

Line = dict[str, Any]
Event = dict[str, Any]

REQUESTED = "locker.unlock.requested"
OPENED = "locker.door.opened"
JAMMED = "locker.door.jammed"
UNKNOWN = "locker.door.unknown"
UNSENT = "locker.unlock.unsent"
ACCEPTED = "locker.code.accepted"
BEGUN = "parcel.deposit.begun"
OUTCOMES = (OPENED, JAMMED, UNKNOWN, UNSENT)

ROUNDING_S = 0.001
"""Events tell their running time in whole milliseconds."""
READING_S = 0.1
"""A status answer may be this long under way: for so long a door that has opened may still be thought closed."""
MOST_PULSES = 3


@dataclasses.dataclass
class Call:
    """A person at the kiosk. ``status`` 0: the connection was cut and nobody knows what became of it."""

    what: str
    parcel: str
    confirm: bool = False
    status: int = 0
    answer: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Attempt:
    """One attempt to open a door, as journal and witness tell of it."""

    name: str
    door: str
    cause: str
    parcel: str
    session: str
    requests: list[Event] = dataclasses.field(default_factory=list)
    frames: list[Line] = dataclasses.field(default_factory=list)
    openings: list[Line] = dataclasses.field(default_factory=list)
    outcomes: list[Event] = dataclasses.field(default_factory=list)

    @property
    def given_up(self) -> float:
        """When it was told that nothing had been sent, and nothing would be: no later frame is its own."""
        return min((mono(event) for event in self.outcomes if event["type"] == UNSENT), default=math.inf)

    @property
    def outcome(self) -> str:
        return self.outcomes[0]["type"] if self.outcomes else ""


def mono(event: Event) -> float:
    return float(event["mono"])


def lock_of(door: str) -> int:
    return int(door) - 1


class History:
    """``lives``: when each run of the locker agent began, in monotonic seconds, oldest first."""

    def __init__(self, witness: list[Line], journal: list[Event], lives: list[float], calls: list[Call]) -> None:
        self.witness = witness
        self.journal = journal
        self.calls = calls
        self._lives = lives
        self.attempts: dict[str, Attempt] = {}
        self._faults: list[str] = []
        self._read_journal()
        self._match_frames()
        self._match_openings()

    # -- putting the three together ----------------------------------------------------------------------------------

    def _read_journal(self) -> None:
        for event in self.journal:
            data = event["data"]
            name = data.get("attempt", "")
            if event["type"] == REQUESTED:
                fresh = Attempt(name, data["door"], data["cause"], data["parcel"], data["session"])
                self.attempts.setdefault(name, fresh).requests.append(event)
            elif event["type"] in OUTCOMES and name in self.attempts:
                self.attempts[name].outcomes.append(event)
            elif event["type"] in OUTCOMES and name:
                self._faults.append(f"attempt {name} has an outcome and was never announced")

    def _match_frames(self) -> None:
        """Each unlock frame is paid for by one request of the same door, committed before it in the same life."""
        unpaid: dict[int, list[tuple[Event, Attempt]]] = defaultdict(list)
        for attempt in self.attempts.values():
            unpaid[lock_of(attempt.door)] += [(request, attempt) for request in attempt.requests]
        for frame in self._lines("frame"):
            fitting = [
                (request, attempt)
                for request, attempt in unpaid[frame["lock"]]
                if self._life(mono(request)) == self._life(frame["t"])
                and mono(request) <= frame["t"] + ROUNDING_S < attempt.given_up + 2 * ROUNDING_S
            ]
            if not fitting:
                self._faults.append(f"lock {frame['lock']} was pulsed at {frame['t']:.3f} and no commit announced it")
                continue
            paid = min(fitting, key=lambda one: mono(one[0]))
            unpaid[frame["lock"]].remove(paid)
            paid[1].frames.append(frame)

    def _match_openings(self) -> None:
        for opening in self._lines("opened"):
            tried = [
                attempt
                for attempt in self.attempts.values()
                if any(f["lock"] == opening["lock"] and f["t"] <= opening["t"] for f in attempt.frames)
            ]
            if not tried:
                self._faults.append(f"lock {opening['lock']} opened at {opening['t']:.3f} and nobody had asked")
                continue
            latest = max(tried, key=lambda one: one.frames[0]["t"])
            latest.openings.append(opening)

    def _lines(self, what: str) -> Iterator[Line]:
        return (line for line in self.witness if line["what"] == what)

    def _life(self, at: float) -> int:
        return sum(began <= at + ROUNDING_S for began in self._lives)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """Everything that should not be, while no attempt is under way."""
        found = list(self._faults)
        for attempt in self.attempts.values():
            found += [f"attempt {attempt.name} at door {attempt.door}: {fault}" for fault in _faults_of(attempt)]
        found += self._untold_openings()
        found += self._codes_used_twice()
        found += self._answers_not_kept()
        found += [f"{line['what']} at lock {line['lock']}" for line in self.witness if line["what"] in _HARM]
        return found

    def _untold_openings(self) -> Iterator[str]:
        """Per door: nothing is told as opened that did not open."""
        told = Counter(event["data"]["door"] for event in self.journal if event["type"] == OPENED)
        happened = Counter(line["lock"] for line in self._lines("opened"))
        for door, count in told.items():
            if count > happened[lock_of(door)]:
                yield f"door {door} was told open {count} times and opened {happened[lock_of(door)]} times"

    def _codes_used_twice(self) -> Iterator[str]:
        """After an opening no code is accepted again, after a doubt only with the customer's confirmation."""
        used: set[str] = set()
        doubted: set[str] = set()
        for event in self.journal:
            kind, data = event["type"], event["data"]
            if kind == ACCEPTED:
                parcel = data["parcel"]
                if parcel in used:
                    yield f"the code of {parcel} was accepted after its door had been seen open"
                if data["confirmed"] != (parcel in doubted):
                    yield f"the code of {parcel} was accepted {'un' * (not data['confirmed'])}confirmed"
                doubted.discard(parcel)
            elif kind in {OPENED, UNKNOWN} and (attempt := self._for_a_code(event)):
                (used if kind == OPENED else doubted).add(attempt.parcel)

    def _for_a_code(self, event: Event) -> Attempt | None:
        """The attempt that a code began and that this event is about; a late opening names only its session."""
        session = event["data"].get("session")
        return next((one for one in self.attempts.values() if one.cause == "code" and one.session == session), None)

    def _answers_not_kept(self) -> Iterator[str]:
        """Whoever heard 202 has a committed session, and no code is accepted that nobody typed.

        A deposit may be begun and given up unsent: then whoever brought the parcel was refused.
        """
        begun = {e["data"]["session"]: e for e in self.journal if e["type"] in {ACCEPTED, BEGUN}}
        cut = Counter((call.what, call.parcel) for call in self.calls if call.status == 0)
        unsent = {one.session for one in self.attempts.values() if one.outcome == UNSENT}
        for call in self.calls:
            if call.status == 202:
                event = begun.pop(call.answer["session"], None)
                if event is None:
                    yield f"{call.what} of {call.parcel} was answered and is not in the journal"
                elif event["type"] == ACCEPTED and event["data"]["confirmed"] and not call.confirm:
                    yield f"{call.parcel} was released again and nobody had confirmed it"
        refused = Counter((call.what, call.parcel) for call in self.calls if call.status not in (0, 202))
        for event in begun.values():
            key = ("collect" if event["type"] == ACCEPTED else "deposit", event["data"]["parcel"])
            answered = refused if event["data"]["session"] in unsent and refused[key] else cut
            answered[key] -= 1
            if answered[key] < 0:
                yield f"{key[0]} of {key[1]} stands in the journal and nobody had asked for it"

    # -- what people may do next -------------------------------------------------------------------------------------

    def used(self) -> set[str]:
        """Parcels whose doors were seen open for their codes, be it after the attempt had been given up."""
        opened = (self._for_a_code(event) for event in self.journal if event["type"] == OPENED)
        return {attempt.parcel for attempt in opened if attempt is not None}

    def doubted(self, parcel: str) -> bool:
        """Whether the last attempt for ``parcel`` by its code ended in doubt."""
        tried = [one for one in self.attempts.values() if one.parcel == parcel and one.cause == "code"]
        return bool(tried) and tried[-1].outcome == UNKNOWN

    def untold(self) -> set[str]:
        """Attempts without an outcome."""
        return {name for name, attempt in self.attempts.items() if not attempt.outcomes}

    def requested(self) -> int:
        """How many pulses were ever announced."""
        return sum(event["type"] == REQUESTED for event in self.journal)

    # -- where a kill fell -------------------------------------------------------------------------------------------

    def window(self, *, asked: bool, requests_before: int, acknowledged: int) -> str:
        """Which window a kill fell into, this being the history as it was found after it.

        ``asked``: a call was under way. ``requests_before``: unlock requests in the journal when it was made.
        ``acknowledged``: the audit seq up to which the consumer had its ack confirmed.
        """
        requests = [event for event in self.journal if event["type"] == REQUESTED]
        if asked and len(requests) == requests_before:
            return BEFORE_COMMIT
        if not requests:
            return AT_REST
        attempt = self.attempts[requests[-1]["data"]["attempt"]]
        if not attempt.outcomes:
            return COMMIT_TO_PULSE if len(attempt.frames) < len(attempt.requests) else PULSE_TO_OUTCOME
        return OUTCOME_TO_ACK if self.journal[-1]["seq"] > acknowledged else AT_REST


BEFORE_COMMIT = "before commit"
COMMIT_TO_PULSE = "commit to pulse"
PULSE_TO_OUTCOME = "pulse to outcome"
OUTCOME_TO_ACK = "outcome to ack"
AT_REST = "at rest"
WINDOWS = (BEFORE_COMMIT, COMMIT_TO_PULSE, PULSE_TO_OUTCOME, OUTCOME_TO_ACK)

_HARM = {"double_coil", "overheated"}


def _faults_of(attempt: Attempt) -> Iterator[str]:
    numbers = [event["data"]["pulse"] for event in attempt.requests]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) > MOST_PULSES:
        yield f"its pulses are numbered {numbers}"
    if len({event["session"] for event in attempt.requests}) != 1:
        yield "it was pulsed again after a crash"
    if len(attempt.outcomes) != 1:
        yield f"it has {len(attempt.outcomes)} outcomes"
    if len(attempt.openings) > 1:
        yield f"it opened the door {len(attempt.openings)} times"
    if attempt.openings and attempt.outcome not in {OPENED, UNKNOWN}:
        yield f"the door opened, and it was told as {attempt.outcome or 'nothing'}"
    if attempt.outcome == OPENED and not attempt.openings:
        yield "the door did not open, and it was told as opened"
    if attempt.outcome == UNSENT and attempt.frames:
        yield "it was told as unsent, and a frame was on the wire"
    if attempt.outcome == JAMMED and len(attempt.frames) != MOST_PULSES:
        yield f"it was told as jammed after {len(attempt.frames)} pulses"
    opened_at = [line["t"] + READING_S for line in attempt.openings]
    opened_at += [mono(event) + ROUNDING_S for event in attempt.outcomes if event["type"] == OPENED]
    if opened_at and any(frame["t"] > min(opened_at) for frame in attempt.frames):
        yield "it was pulsed after it had opened the door"
