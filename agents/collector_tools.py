"""What ``lastmile collector`` does, beside running one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.collector import collector_database, collector_store, known_nodes
from agents.settings import CollectorSettings
from cloud_sync.collector import Node
from cloud_sync.collector_figures_sql import NodeFigures, figures, node_figures
from cloud_sync.collector_move_sql import Move, count_rows, same_consumer
from cloud_sync.collector_sql import CollectorStore
from edge.errors import ConfigError, StoreError
from edge.settings_file import read_settings
from edge.system_clock import SystemClock


def migrate_store(config: Path) -> str:
    """One line of what the schema is now. Raises ``LastmileError``."""
    database = collector_database(read_settings(config, CollectorSettings), config.parent)
    engine = database.engine()
    try:
        with database.telling():
            version = database.migrate(engine)
    finally:
        engine.dispose()
    return f"{database.place}: schema {version}"


async def store_figures(config: Path, names: Sequence[str]) -> list[str]:
    """Lines for a person: the sums, then the nodes that wait for longest, or those in ``names``."""
    settings, now = read_settings(config, CollectorSettings), SystemClock().wall()
    nodes = _chosen(known_nodes(settings, config.parent), names, config)
    async with _opened(settings, config) as store:
        if names:
            return [await _of_one(store, node, now) for node in nodes]
        sums = await store.work(lambda sql: figures(sql, now=now, worst=settings.worst_nodes), reads=True)
    lines = [
        f"{sums.nodes} nodes, {sums.numbers} numbers held, {sums.pending} rows pending for {sums.lag:.0f} s at most",
        f"{sums.gaps} gaps of {sums.nodes_with_gaps} nodes, {sums.missing} events missing",
        f"{sums.quarantined} rows in quarantine",
    ]
    return lines + [_told(each) for each in sums.worst]


async def move_nodes(old_config: Path, new_config: Path, names: Sequence[str], *, purge: bool) -> bool:
    """Move them one after the other, with progress. Whether all of them moved; each that did not is told."""
    old, new = read_settings(old_config, CollectorSettings), read_settings(new_config, CollectorSettings)
    same_consumer(old.name, new.name)
    if old.database == new.database and old_config.parent == new_config.parent:
        raise ConfigError("both files name the same store", remedy="name the store that keeps the nodes from now on")
    going = _chosen(known_nodes(old, old_config.parent), names, old_config)
    _chosen(known_nodes(new, new_config.parent), [node.name for node in going], new_config)
    console = Console(stderr=True)
    moved = True
    async with _opened(old, old_config) as source, _opened(new, new_config) as target:
        counts = dict(await source.work(lambda sql: list(count_rows(sql, [node.source for node in going])), reads=True))
        with _progress(console) as progress:
            for node in going:
                moved &= await _move(node, source, target, counts[node.source], progress, purge=purge)
    return moved


async def _move(
    node: Node, old: CollectorStore, new: CollectorStore, count: int, progress: Progress, *, purge: bool
) -> bool:
    task = progress.add_task(node.name, total=2 * count)
    move = Move(node, old, new, SystemClock().wall(), lambda rows: progress.advance(task, rows))
    try:
        moved = await move.run()
        if purge:
            await move.purge()
    except StoreError as error:
        progress.console.print(f"{node.name}: {error}", markup=False)
        return False
    progress.update(task, completed=2 * count)
    progress.console.print(f"{node.name}: {moved.events} events held, {moved.seals} seals verified", markup=False)
    return True


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


@contextlib.asynccontextmanager
async def _opened(settings: CollectorSettings, config: Path) -> AsyncIterator[CollectorStore]:
    store = collector_store(settings, config.parent, SystemClock())
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def _chosen(nodes: Mapping[str, Node], names: Iterable[str], config: Path) -> list[Node]:
    chosen = list(names) or list(nodes)
    unknown = [name for name in chosen if name not in nodes]
    if unknown:
        raise ConfigError(
            f"{config} names no node {unknown[0]}", remedy="add it there with its role key, or leave it out"
        )
    return [nodes[name] for name in chosen]


async def _of_one(store: CollectorStore, node: Node, now: float) -> str:
    found = await store.work(lambda sql: node_figures(sql, node.source, now=now), reads=True)
    return f"{node.name}: nothing has come" if found is None else _told(found)


def _told(node: NodeFigures) -> str:
    name = node.source.rpartition("/")[2]
    return f"{name}: {node.pending} rows pending for {node.lag:.0f} s, {node.missing} events missing"
