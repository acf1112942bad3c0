"""One run: the honest day of a node under an attacker who has the broker and cloud-sync's place, and its verdict."""

from __future__ import annotations

import asyncio
import inspect
import random
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from edge import log
from edge.errors import LastmileError
from tests.faults import judge
from tests.redteam import scenes_commands, scenes_consumer, scenes_documents, scenes_lives
from tests.redteam.attacker import Attacker
from tests.redteam.cast import INSIDER
from tests.redteam.duel import Duel
from tests.redteam.honest import Honest
from tests.redteam.scenes_lives import all_held, another_life
from tests.redteam.stage import Stage, prepare
from tests.redteam.verdict import deceptions

Scene = Callable[[Duel], Awaitable[None]]


class Report(msgspec.Struct):
    """``faults`` is empty when every promise held."""

    seed: int
    check: str
    """What was taken out of the product, "" for nothing."""
    faults: list[str] = []
    scenes: list[str] = []
    hostile: int = 0
    """Messages and requests of the attacker."""
    honest: int = 0
    failed: list[str] = []
    """Acts of honest people that did not succeed."""
    openings: int = 0
    audit: int = 0
    """Audit events of the node."""
    held: int = 0
    """Of them, held by the consumer at the end."""
    disputed: int = 0
    """Of them, written after an older database had been put back, and set aside by the consumer with an alarm."""


def scenes() -> list[Scene]:
    found: list[Scene] = []
    for module in (scenes_commands, scenes_consumer, scenes_documents, scenes_lives):
        for name, scene in inspect.getmembers(module, inspect.iscoroutinefunction):
            told_here = scene.__module__ == module.__name__ and scene not in {all_held, another_life}
            if told_here and not name.startswith("_"):
                found.append(scene)
    return found


class Run:
    def __init__(self, duel: Duel, report: Report, only: set[str]) -> None:
        self._duel = duel
        self._report = report
        self._only = only

    async def play(self, *, until_failure: bool) -> None:
        """An honest beginning, every scene in a drawn order, an honest end, and the count."""
        duel, report = self._duel, self._report
        await self._begin()
        told = [each for each in scenes() if not self._only or each.__name__ in self._only]
        duel.chance.shuffle(told)
        for scene in told:
            report.scenes.append(scene.__name__)
            await self._honest_act()
            if not await self._holds(scene) and until_failure:
                return
        for due in duel.due:
            await self._holds(due)
        await self._holds(self._step_aside)
        await self._holds(self._count)

    async def _begin(self) -> None:
        """With the true cloud-sync, so that the attacker has something to record."""
        duel = self._duel
        for _ in range(4):
            await duel.honest.deposit()
        await duel.honest.open(duel.door())
        await duel.stage.kill("cloud-sync")
        await duel.attacker.take_the_place()

    async def _honest_act(self) -> None:
        honest = self._duel.honest
        if self._duel.chance.random() < 0.5 and len(honest._people.waiting()) > 3:
            await honest.collect()
        else:
            await honest.come()

    async def _holds(self, scene: Any) -> bool:
        """Whether it broke no promise, nor did what came of it."""
        duel, report = self._duel, self._report
        before = len(report.faults)
        try:
            await scene(duel) if scene in scenes() else await scene()
            await duel.honest.shut()
            await duel.nothing_opened()
        except (AssertionError, LastmileError, TimeoutError, ValueError, KeyError, IndexError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            report.faults.append(f"{scene.__name__}: {type(error).__name__}: {error} ({where.name}:{where.lineno})")
        report.faults += [f"{scene.__name__}: {fault}" for fault in duel.stage.faults]
        duel.stage.faults.clear()
        return len(report.faults) == before

    async def _step_aside(self) -> None:
        """The attacker leaves retained commands behind; the true cloud-sync comes and carries everything."""
        duel, attacker = self._duel, self._duel.attacker
        door = duel.door()
        nonce = await duel.nonce(INSIDER, "insider", door)
        recorded = attacker.recorded("cmd/")[-40:]
        retained = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
        await attacker.step_aside()
        await attacker.forget(duel.stage.site.node)
        await attacker.publish(attacker.topics.command("open"), retained, retain=True)
        await duel.stage.again("cloud-sync")
        await duel.honest.open(duel.door())
        for token in recorded:
            await attacker.publish(attacker.topics.command("open"), token, retain=duel.chance.random() < 0.3)
        await attacker.publish(attacker.topics.command("open"), b"x" * 300_000)
        await duel.honest.open(duel.door())
        await duel.nothing_opened()

    async def _count(self) -> None:
        """What the node has told, against what the consumer holds, what is open and what honest people wanted."""
        duel, report, stage = self._duel, self._report, self._duel.stage
        await all_held(duel)
        now, told, tables = stage.present(), stage.entries(), stage.tables()
        count = judge.count(told, now, tables, stage.history(told))
        report.audit, report.held, report.openings = count.produced, count.held, count.openings
        report.faults += judge.journal_faults(told, now, tables, count, put_back=stage.went_back, foreign=[])
        report.faults += judge.leading_cursors(tables)
        report.faults += deceptions(stage, duel.attacker.recorded("ack/"))
        report.disputed = count.disputed
        if count.held + count.disputed < count.produced:
            report.faults.append(f"audit events are lost: {count}")
        self._judge_decisions([entry.event for entry in told])

    def _judge_decisions(self, events: list[dict[str, Any]]) -> None:
        honest, faults = self._duel.honest, self._report.faults
        for event in events:
            data = event["data"]
            if event["type"] == "node.command.decided" and data["status"] in {"accepted", "done"}:
                if data["command"] not in honest.commands:
                    faults.append(f"{data['name']} {data['target']} was done for {data['issuer']}, and nobody meant it")
            elif event["type"] == "node.desired.applied" and data["version"] not in honest.wishes:
                faults.append(f"version {data['version']} of {data['issuer']} came into force, and nobody meant it")


def play(seed: int, directory: Path, *, check: str = "", only: set[str], until_failure: bool = False) -> Report:
    """In a process of its own: its children end with it."""
    report = Report(seed, check)
    ground = prepare(directory, check)
    log.configure(level="critical")

    async def whole() -> None:
        stage = Stage(ground, seed)
        honest = Honest(stage)
        async with stage, Attacker(stage) as attacker, honest.at_work():
            duel = Duel(stage, attacker, honest, random.Random(seed))
            try:
                await Run(duel, report, only).play(until_failure=until_failure)
            finally:
                report.hostile, report.honest, report.failed = attacker.sent, honest.acts, honest.failed

    try:
        asyncio.run(whole())
    except Exception as error:  # noqa: BLE001  whatever ends a run is what came of it
        report.faults += [f"the run broke off: {error!r}", traceback.format_exc()]
    ground.nursery.close()
    report.faults += [f"an honest act failed: {each}" for each in report.failed]
    return report
