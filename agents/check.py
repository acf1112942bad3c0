"""What ``lastmile check`` says of a node's configuration, before any of it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from agents.cloud_sync import broker_settings
from agents.settings import Locker, NodeSettings
from agents.trust import read_trust
from cloud_sync.client_mqtt import MqttBroker
from edge.errors import ConfigError
from edge.settings_file import read_settings


def check_node(config: Path) -> Iterator[str]:
    """Lines for a person. Raises ``ConfigError`` at the first thing that is wrong."""
    settings = read_settings(config, NodeSettings)
    yield f"{config}: every key is known and in range"
    check_cabinet(settings.locker, str(config))
    doors = len(settings.locker.compartments)
    yield f"cabinet: {doors} compartments on {len(settings.locker.boards)} board(s), no latch wired twice"
    trust = read_trust(settings, config.parent)
    yield f"keys: node {trust.identity.audience}, issuers version {trust.issuers.version}"
    MqttBroker(broker_settings(settings.broker, trust.identity.node, config.parent))
    yield f"broker: {settings.broker.host}:{settings.broker.port}, MQTT {settings.broker.protocol}"
    yield "no fault found"


def check_cabinet(locker: Locker, source: str) -> None:
    """Raises ``ConfigError`` for a door, latch or board that is named twice or does not exist."""
    for what, names in (
        ("door", [each.door for each in locker.compartments]),
        ("latch", [f"board {each.board} lock {each.lock}" for each in locker.compartments]),
        ("board", [f"address {each.address}" for each in locker.boards]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"{source}: {what} {twice[0]!r} stands twice", remedy=f"give every {what} its own")
    locks = {each.address: each.locks for each in locker.boards}
    for each in locker.compartments:
        if each.lock >= locks.get(each.board, 0):
            raise ConfigError(
                f"{source}: door {each.door!r} is wired to board {each.board} lock {each.lock}, which is not there",
                remedy="correct the latch, or add the board under [[locker.boards]]",
            )
