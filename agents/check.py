"""What ``lastmile check`` says of a node's configuration, before any of it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from agents.cloud_sync import broker_settings
from agents.gpio_check import check_gpio
from agents.lock_boards import plan_boards
from agents.settings import Locker, NodeSettings
from agents.trust import read_trust
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.renewal import due_at
from edge.certificate import TlsKey, read_chain, require_usable
from edge.errors import ConfigError
from edge.keys_file import MAX_PAIR_BYTES, private_text
from edge.settings_file import read_settings
from edge.tls_socket import TlsFiles, client_context


def check_node(config: Path, wall: float) -> Iterator[str]:
    """Lines for a person. ``wall`` is this machine's time. Raises ``ConfigError`` at the first thing that is wrong."""
    settings = read_settings(config, NodeSettings)
    yield f"{config}: every key is known and in range"
    check_cabinet(settings.locker, source=str(config), text=config.read_text())
    doors = len(settings.locker.compartments)
    yield f"cabinet: {doors} compartments on {len(settings.locker.boards)} board(s), no latch wired twice"
    yield from check_gpio(settings.locker, str(config))
    trust = read_trust(settings, config.parent)
    yield f"keys: node {trust.identity.audience}, issuers version {trust.issuers.version}"
    where = broker_settings(settings.broker, trust.identity.node, config.parent)
    MqttBroker(where)
    if where.tls is not None:
        yield from check_certificate(where.tls, trust.identity.node, wall)
    yield f"broker: {settings.broker.host}:{settings.broker.port}, MQTT {settings.broker.protocol}"
    yield "no fault found"


def check_certificate(files: TlsFiles, node: str, wall: float) -> Iterator[str]:
    """Raises ``ConfigError`` for a certificate that no broker takes for ``node``, or a key that others can read."""
    client_context(files.ca, files.certificate, files.key)
    chain = read_chain(Path(files.certificate).read_bytes())
    own = require_usable(chain, TlsKey.parse(private_text(Path(files.key), most=MAX_PAIR_BYTES)), node, wall)
    renewed = datetime.fromtimestamp(due_at(own), UTC).date()
    yield f"certificate: CN={own.name}, {own.days_left(wall):.0f} days left, due for renewal on {renewed}"


def check_cabinet(locker: Locker, *, source: str, text: str = "") -> None:
    """Raises ``ConfigError`` for a door, latch or board that is named twice or does not exist, and what a board's
    driver does not know. ``source`` and ``text`` are the file's name and content, for messages.
    """
    locks = plan_boards(locker, source=source, text=text).locks
    for what, names in (
        ("door", [each.door for each in locker.compartments]),
        ("latch", [f"board {each.board} lock {each.lock}" for each in locker.compartments]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"{source}: {what} {twice[0]!r} stands twice", remedy=f"give every {what} its own")
    for each in locker.compartments:
        if each.lock >= locks.get(each.board, 0):
            raise ConfigError(
                f"{source}: door {each.door!r} is wired to board {each.board} lock {each.lock}, which is not there",
                remedy="correct the latch, or add the board under [[locker.boards]]",
            )
