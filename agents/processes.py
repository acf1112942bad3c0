"""Runs one of the product's processes: its settings, its log, its event loop."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.settings import CollectorSettings, NodeSettings
from edge import log
from edge.errors import LastmileError
from edge.settings_file import read_settings

COMMAND: tuple[str, ...] = (sys.executable, "-m", "agents")
"""How another process of the product is started from here: the demo does."""


def main(arguments: Sequence[str]) -> None:
    """``lastmile run`` with ``arguments``. Wrong ones are told on stderr, and the process exits with 2."""
    parser = argparse.ArgumentParser(prog="lastmile run", description="Run one process until it is told to stop.")
    parser.add_argument("role", choices=["locker", "cloud-sync", "collector"], help="which process to be")
    parser.add_argument("--config", type=Path, required=True, help="the process's TOML file")
    parser.add_argument(
        "--kiosk-token-file",
        type=Path,
        help="locker: where tools find the kiosk's token, instead of the file in the config",
    )
    chosen = parser.parse_args(arguments)
    run(chosen.role, chosen.config, kiosk_token_file=chosen.kiosk_token_file)


def run(role: str, config: Path, *, kiosk_token_file: Path | None = None) -> None:
    """Be ``role`` (locker, cloud-sync, collector) until told to stop. Raises ``LastmileError`` when it cannot."""
    if role == "collector":
        _collector(config)
    else:
        settings = read_settings(config, NodeSettings)
        log.configure(level=settings.log.level)
        if role == "locker":
            _locker(_with_token_file(settings, kiosk_token_file), config.parent)
        else:
            _cloud_sync(settings, config.parent)


def _with_token_file(settings: NodeSettings, path: Path | None) -> NodeSettings:
    if path is None:
        return settings
    kiosk = msgspec.structs.replace(settings.locker.kiosk, token_file=str(path.resolve()))
    return msgspec.structs.replace(settings, locker=msgspec.structs.replace(settings.locker, kiosk=kiosk))


def _locker(settings: NodeSettings, base: Path) -> None:
    from agents.locker import LockerAgent

    until_stopped(LockerAgent(settings, base).run)


def _cloud_sync(settings: NodeSettings, base: Path) -> None:
    from agents.cloud_sync import run_cloud_sync

    until_stopped(lambda: run_cloud_sync(settings, base))


def _collector(config: Path) -> None:
    from agents.collector import run_collector

    settings = read_settings(config, CollectorSettings)
    log.configure(level=settings.log.level)
    until_stopped(lambda: run_collector(settings, config.parent))


def until_stopped(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work``; what ends it is logged with its remedy, and the process exits with 1."""
    try:
        asyncio.run(work())
    except LastmileError as error:
        log.get_logger("agents").error("ended", fault=error.fault.value, what=error.what, remedy=error.remedy)
        sys.exit(1)
