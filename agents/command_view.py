"""What a person or a script sees of commands: each step as it comes, the outcome, and the outbox as a table."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from agents.issuer import Refused
from agents.settings import IssuerSettings
from cloud_sync.outbox import FINAL, Entry, Outcome, State
from cloud_sync.outbox_sql import OutboxStore
from edge.settings_file import read_settings
from edge.system_clock import SystemClock

if TYPE_CHECKING:
    from rich.status import Status

NEWEST = 100
"""Rows of a table that a person still reads."""

STATUS: Final = {
    State.DONE: 0,
    State.FAILED: 1,
    State.REJECTED: 1,
    State.UNKNOWN: 3,
    State.EXPIRED: 4,
}
"""Exit status of what is final."""
NO_ANSWER = 4
"""Exit status of all else."""

WORDS: Final = {
    "waiting": "waiting for {node}",
    "nonce": "{node} gave a nonce for door {door}",
    "signed": "signed {name} {subject}: {id}",
    "sent": "the broker has {id}",
    "accepted": "the node has accepted {id}",
    "done": "{id}: done",
    "failed": "{id}: failed, {reason}",
    "rejected": "{id}: rejected, {reason}",
    "unknown": "{id}: unknown, {reason}",
    "expired": "{id}: expired, nobody asks any more",
}


class Teller:
    """Tells the steps on standard error as they come, with a spinner where it is a terminal; as JSON on the other."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._spinner: Status | None = None
        self._signed = ""

    def __enter__(self) -> Self:
        if not self._json and sys.stderr.isatty():
            from rich.console import Console

            self._spinner = Console(stderr=True).status("connecting")
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def say(self, step: str, **facts: object) -> None:
        if step == "signed":
            self._signed = str(facts["id"])
        if self._json:
            print(_json({"step": step, **facts}), flush=True)  # noqa: T201  what a script reads
        elif self._spinner is not None:
            self._spinner.console.print(WORDS[step].format(**facts), style="dim", highlight=False)
            self._spinner.update(WORDS[step].format(**facts))
        else:
            print(WORDS[step].format(**facts), file=sys.stderr, flush=True)  # noqa: T201  a person's screen

    def advice(self, config: Path) -> str:
        """What to do after Ctrl-C."""
        if self._signed:
            return f"{self._signed} is signed and kept: lastmile command result {self._signed} --as {config}"
        return f"what was signed before is kept: lastmile command pending --as {config}"


def status(outcome: Outcome) -> int:
    """The exit status that stands for how a command stands."""
    return STATUS.get(outcome.state, NO_ANSWER)


def final_line(outcome: Outcome, *, json: bool) -> str:
    """How the command stands, in one line; short of final it says how to ask later."""
    entry, word = outcome.entry, outcome.word
    reason = word.reason if word is not None else ""
    if json:
        facts = {"step": "outcome", "id": entry.jti, "state": outcome.state.value, "reason": reason}
        return _json(facts | {"final": outcome.final, "data": word.data if word is not None else {}})
    line = f"{outcome.state.value}{': ' + reason if reason else ''}"
    if outcome.state is State.UNKNOWN and word is not None and word.data:
        # What the sensors say: whoever goes there wants to know it.
        line += f" {_json(word.data)}"
    if outcome.final:
        return line
    return f"{line}; {entry.jti} is kept and waits for {entry.node}: lastmile command resume"


def refusal_line(refused: Refused, *, json: bool) -> str:
    """The node's refusal of the question before a command."""
    result = refused.result
    if json:
        return _json({"step": "outcome", "state": result.status.value, "reason": result.reason, "final": True})
    return f"{result.status.value}: {result.reason}"


def show(config: Path, *, everything: bool, json: bool) -> None:
    """Print the outbox: what has no last word, or the newest of all."""
    settings = read_settings(config, IssuerSettings)
    rows = asyncio.run(_rows(config.parent / settings.outbox, everything=everything))
    if json:
        for entry, state in rows:
            print(_json(_facts(entry, state)))  # noqa: T201  what a script reads
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "signed", "by", "node", "command", "subject", "state", "asked until", box=None)
    for entry, state in rows:
        fact = _facts(entry, state)
        table.add_row(*(str(fact[each]) for each in _COLUMNS))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table if rows else "no command is without its last word" if not everything else "no commands yet")


_COLUMNS = ("id", "signed", "issuer", "node", "name", "subject", "state", "until")


def _facts(entry: Entry, state: State) -> dict[str, Any]:
    return {
        "id": entry.jti,
        "signed": _time(entry.made),
        "issuer": entry.issuer,
        "node": entry.node,
        "name": entry.name,
        "subject": entry.subject,
        "rev": entry.rev,
        "state": state.value,
        "final": state in FINAL,
        "until": _time(entry.until),
    }


async def _rows(path: Path, *, everything: bool) -> list[tuple[Entry, State]]:
    store = OutboxStore(str(path), clock=SystemClock())
    try:
        await store.open()
        if not everything:
            return await store.pending()
        return [(entry, state) for entry, state, _ in await store.newest(NEWEST)]
    finally:
        await store.close()


def _time(wall: float) -> str:
    with contextlib.suppress(OverflowError, ValueError):
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return str(wall)


def _json(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()
