"""Runs one of the product's processes: its settings, its log, its event loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.settings import CollectorSettings, NodeSettings
from edge import log
from edge.errors import ConfigError, LastmileError
from edge.settings_file import read_settings

COMMAND: tuple[str, ...] = (sys.executable, "-m", "agents")
"""How another process of the product is started from here: the demo does."""


def main(arguments: Sequence[str]) -> None:
    """``lastmile run`` with ``arguments``. Wrong ones are told on stderr, and the process exits with 2."""
    parser = argparse.ArgumentParser(prog="lastmile run", description="Run one process until it is told to stop.")
    roles = ["locker", "cloud-sync", "collector", "pulser", "camera"]
    parser.add_argument("role", choices=roles, help="which process to be")
    parser.add_argument("--config", type=Path, required=True, help="the process's TOML file")
    parser.add_argument(
        "--kiosk-token-file",
        type=Path,
        help="locker: where tools find the kiosk's token, instead of the file in the config",
    )
    parser.add_argument("--off", action="store_true", help="pulser: switch every coil off, and end")
    chosen = parser.parse_args(arguments)
    run(chosen.role, chosen.config, kiosk_token_file=chosen.kiosk_token_file, off=chosen.off)


def run(role: str, config: Path, *, kiosk_token_file: Path | None = None, off: bool = False) -> None:
    """Be ``role`` until told to stop. Raises ``LastmileError`` when it cannot."""
    if role == "collector":
        _collector(config)
        return
    settings = read_settings(config, NodeSettings)
    log.configure(level=settings.log.level)
    match role:
        case "locker":
            _locker(_with_token_file(settings, kiosk_token_file), config.parent)
        case "pulser":
            _pulser(settings, str(config), off=off)
        case "camera":
            _camera(settings, config)
        case _:
            _cloud_sync(settings, config.parent)


def _with_token_file(settings: NodeSettings, path: Path | None) -> NodeSettings:
    if path is None:
        return settings
    kiosk = msgspec.structs.replace(settings.locker.kiosk, token_file=str(path.resolve()))
    return msgspec.structs.replace(settings, locker=msgspec.structs.replace(settings.locker, kiosk=kiosk))


def _locker(settings: NodeSettings, base: Path) -> None:
    from agents.locker import LockerAgent

    with _told():
        agent = LockerAgent(settings, base)
    until_stopped(agent.run)


def _cloud_sync(settings: NodeSettings, base: Path) -> None:
    from agents.cloud_sync import run_cloud_sync

    until_stopped(lambda: run_cloud_sync(settings, base))


def _pulser(settings: NodeSettings, source: str, *, off: bool) -> None:
    from agents.cabinet_check import sound_cabinet
    from agents.gpio_check import gpio_boards
    from agents.pulser import run_pulser, switch_off

    with _told():
        boards = [*gpio_boards(settings.locker, source).values()]
        if off:  # whatever is wrong with them
            switch_off(boards)
            return
        sound_cabinet(settings.locker, source=source)
        run_pulser(boards)


def _camera(settings: NodeSettings, config: Path) -> None:
    from agents.camera import run_camera

    camera = settings.locker.inputs.camera
    if camera is None:
        raise ConfigError(f"{config}: no camera", remedy="configure [locker.inputs.camera]")
    until_stopped(lambda: run_camera(camera, config.parent))


def _collector(config: Path) -> None:
    from agents.collector import run_collector

    settings = read_settings(config, CollectorSettings)
    log.configure(level=settings.log.level)
    until_stopped(lambda: run_collector(settings, config.parent))


def until_stopped(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work``; what ends it is told as ``_told`` does."""
    with _told():
        asyncio.run(work())


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What ends a process is logged with its remedy, and it exits with 1."""
    try:
        yield
    except LastmileError as error:
        log.get_logger("agents").error("ended", fault=error.fault.value, what=error.what, remedy=error.remedy)
        sys.exit(1)
