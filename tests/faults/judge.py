"""The count at the end of a run: what was produced, against what is held, pending, and dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge.result import Result, Status
from tests.crash.history import OPENED, REQUESTED, UNKNOWN, History
from tests.crash.journal_file import Entry, chain_faults
from tests.faults.tables import Tables

AUDIT = "audit"


class Count(msgspec.Struct, frozen=True):
    """``produced`` = ``held`` + ``pending`` + ``dropped`` + ``disputed``, in audit events."""

    produced: int = 0
    held: int = 0
    pending: int = 0
    dropped: int = 0
    """Lost with a database that was put back: the node cannot have them, and the collector had not."""
    disputed: int = 0
    """Of an epoch of which the collector holds another history: written after a database had been put back, before an
    ack told the node so. The node keeps them and the collector has raised an alarm."""
    openings: int = 0
    pulses: int = 0


def count(told: list[Entry], now: list[Entry], tables: Tables, history: History) -> Count:
    """``told``: all that any journal of the node ever told; ``now``: what it has."""
    there, forked = {(entry.epoch, entry.digest) for entry in now}, forked_epochs(now, tables)
    sums = {"held": 0, "pending": 0, "dropped": 0, "disputed": 0}
    for entry in told:
        if is_held(entry, tables):
            sums["held"] += 1
        elif (entry.epoch, entry.digest) not in there:
            sums["dropped"] += 1
        else:
            sums["disputed" if entry.epoch in forked else "pending"] += 1
    return Count(
        len(told),
        **sums,
        openings=sum(line["what"] == "opened" for line in history.witness),
        pulses=sum(line["what"] == "frame" for line in history.witness),
    )


def is_held(entry: Entry, tables: Tables) -> bool:
    return tables.audit.get((entry.epoch, entry.seq)) == entry.body


def forked_epochs(now: list[Entry], tables: Tables) -> set[str]:
    """Epochs that are over and of which the collector holds something else than the node has."""
    apart = {entry.epoch for entry in now if (entry.epoch, entry.seq) in tables.audit and not is_held(entry, tables)}
    return apart - {tables.epoch}


def unheld(now: list[Entry], tables: Tables) -> list[Entry]:
    """What the collector does not hold and could."""
    forked = forked_epochs(now, tables)
    return [entry for entry in now if not is_held(entry, tables) and entry.epoch not in forked]


def journal_faults(
    told: list[Entry],
    now: list[Entry],
    tables: Tables,
    result: Count,
    *,
    put_back: bool,
    foreign: list[Entry],
) -> Iterator[str]:
    """What is wrong between the node's journal and what the collector holds, all being healed and at rest.

    ``foreign`` is what a clone of the node told under the same name.
    """
    yield from chain_faults(now)
    if result.produced != result.held + result.pending + result.dropped + result.disputed:
        yield f"the count does not come out: {result}"
    if result.pending:
        yield f"{result.pending} audit events are not held"
    if (result.dropped and not put_back) or (result.disputed and not (put_back or foreign)):
        yield f"{result.dropped} audit events that the journal had told are nowhere, {result.disputed} are disputed"
    there = {(entry.epoch, entry.digest) for entry in now}
    ahead = [e for e in told if is_held(e, tables) and (e.epoch, e.digest) not in there]
    if ahead and not {"rolled_back", "restored"} & set(tables.causes):
        yield f"the collector holds {len(ahead)} events that the node has not, and no epoch says why: {tables.causes}"
    yield from untold_forks(now, tables)
    bodies = {(entry.epoch, entry.seq, entry.body) for entry in [*told, *foreign]}
    for (epoch, seq), body in tables.audit.items():
        if (epoch, seq, body) not in bodies:
            yield f"the collector holds an audit event {seq} of {epoch} that the node never wrote"


def untold_forks(now: list[Entry], tables: Tables) -> Iterator[str]:
    """Events of another history are never taken for those that are held: they are set aside, with an alarm."""
    for epoch in forked_epochs(now, tables) - {epoch for epoch, _ in tables.quarantined}:
        yield f"the node has another history of {epoch} than the collector, and no alarm was raised"


def lost_attempts(told: list[Entry], now: list[Entry]) -> set[str]:
    """Attempts whose announcement went with a database that was put back: nobody can tell their outcome."""
    there = {(entry.epoch, entry.digest) for entry in now}
    gone = (entry.event for entry in told if (entry.epoch, entry.digest) not in there)
    return {event["data"]["attempt"] for event in gone if event["type"] == REQUESTED}


def plain_faults(tables: Tables, *, consumer_lost: bool, forked: set[str]) -> Iterator[str]:
    """Whatever the class: every number is held once or told as thinned, and no cursor leads.

    Of ``forked`` epochs a collector that lost its rows may since hold what a clone wrote.
    A consumer that lost state and telemetry at the end of an epoch that is over misses them no more (see "Not built
    yet" in docs/architecture.md), and of the present one it may hear that the node has deleted what it once
    acknowledged; audit it has to get again.
    """
    for (epoch, name, seq), rows in tables.rows.items():
        if rows > 1:
            yield f"{name} {seq} of {epoch} is held {rows} times"
    for (epoch, name), last in tables.last.items():
        held = tables.held.get((epoch, name), 0)
        gone = epoch != tables.epoch or _reach(tables, epoch, name, held) >= last
        lost = consumer_lost and (epoch in forked if name == AUDIT else gone)
        if held < last and name != AUDIT and not lost:
            yield f"{name} is held up to {held} of {last}"
        yield from _hollow(tables, epoch, name, held)
        if tables.cursors.get((epoch, name), 0) > held and not lost:
            yield f"the node's cursor of {name} stands at {tables.cursors[epoch, name]}, and {held} are held"


def _reach(tables: Tables, epoch: str, name: str, held: int) -> int:
    """How far the collector has rows, or the node's word that there are none."""
    for first, end in sorted(tables.dropped.get((epoch, name), [])):
        if first <= held + 1:
            held = max(held, end)
    return held


def _hollow(tables: Tables, epoch: str, name: str, held: int) -> Iterator[str]:
    """Numbers below the collector's own cursor for which it has neither a row nor the word that it was thinned."""
    gone = {seq for first, end in tables.dropped.get((epoch, name), []) for seq in range(first, min(end, held) + 1)}
    missing = [seq for seq in range(1, held + 1) if (epoch, name, seq) not in tables.rows and seq not in gone]
    if missing:
        yield f"{name} {missing[:5]} are called held and are not there"
    if name == AUDIT and gone:
        yield f"audit was told as thinned: {sorted(gone)[:5]}"


def leading_cursors(tables: Tables) -> Iterator[str]:
    for place, cursor in tables.cursors.items():
        if cursor > tables.held.get(place, 0):
            yield f"the node's cursor of {place[1]} stands at {cursor}, and {tables.held.get(place, 0)} are held"


def presence_faults(tables: Tables, session: str) -> Iterator[str]:
    told = tables.presence
    wanted = {"online": True, "serving": True, "epoch": tables.epoch, "session": session}
    wrong = {name: told.get(name) for name, value in wanted.items() if told.get(name) != value}
    if wrong:
        yield f"presence says {wrong}"


def command_faults(history: History, results: list[tuple[str, Result | None]]) -> Iterator[str]:
    """A command opens its door once at most, and what the node signed is what happened."""
    attempts: dict[str, list[str]] = {}
    for event in history.journal:
        if event["type"] == REQUESTED and event["data"].get("cause_id") and event["data"]["cause"] == "command":
            named = attempts.setdefault(event["data"]["cause_id"], [])
            if event["data"]["attempt"] not in named:
                named.append(event["data"]["attempt"])
    for command, named in attempts.items():
        if len(named) > 1:
            yield f"command {command} was carried out {len(named)} times"
    for door, result in results:
        if result is None:
            continue
        opened = any(history.attempts[name].openings for name in attempts.get(result.id, []))
        if result.status is Status.DONE and not opened:
            yield f"the command for door {door} was answered as done, and the door did not open"
        if result.status in (Status.FAILED, Status.REJECTED) and opened:
            yield f"the command for door {door} was answered as {result.status.value}, and the door opened"


def counted_outcomes(history: History) -> tuple[int, int]:
    """(openings told, unknowns told)."""
    kinds = [event["type"] for event in history.journal]
    return kinds.count(OPENED), kinds.count(UNKNOWN)
