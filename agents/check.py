"""What ``lastmile check`` says of a node's configuration, before any of it is used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from agents.cabinet_check import check_cabinet
from agents.cabinet_sensors import wire_sensors
from agents.cloud_sync import broker_settings
from agents.gpio_check import check_gpio
from agents.settings import NodeSettings
from agents.trust import read_trust
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.renewal import due_at
from edge.certificate import TlsKey, read_chain, require_usable
from edge.keys_file import MAX_PAIR_BYTES, private_text
from edge.settings_file import read_settings
from edge.tls_socket import TlsFiles, client_context
from locker.drawing import draw
from locker.layout import out_of_reach


def check_node(config: Path, wall: float) -> Iterator[str]:
    """Lines for a person. ``wall`` is this machine's time. Raises ``ConfigError`` at the first thing that is wrong."""
    settings = read_settings(config, NodeSettings)
    yield f"{config}: every key is known and in range"
    layout = check_cabinet(settings.locker, source=str(config), text=config.read_text())
    boards = len(settings.locker.boards)
    yield f"cabinet: {len(layout.compartments)} compartments on {boards} board(s), no latch wired twice"
    yield from draw(layout)
    yield from check_gpio(settings.locker, str(config))
    if sensors := wire_sensors(settings.locker.sensors, layout, config.parent):
        yield f"sensors: {', '.join(f'{each.name} ({each.watched.value})' for each in sensors)}"
    warnings = list(out_of_reach(layout))
    yield from (f"warning: {warning}" for warning in warnings)
    trust = read_trust(settings, config.parent)
    yield f"keys: node {trust.identity.audience}, issuers version {trust.issuers.version}"
    where = broker_settings(settings.broker, trust.identity.node, config.parent)
    MqttBroker(where)
    if where.tls is not None:
        yield from check_certificate(where.tls, trust.identity.node, wall)
    yield f"broker: {settings.broker.host}:{settings.broker.port}, MQTT {settings.broker.protocol}"
    yield f"no fault found{f', {len(warnings)} warning(s)' if warnings else ''}"


def check_certificate(files: TlsFiles, node: str, wall: float) -> Iterator[str]:
    """Raises ``ConfigError`` for a certificate that no broker takes for ``node``, or a key that others can read."""
    client_context(files.ca, files.certificate, files.key)
    chain = read_chain(Path(files.certificate).read_bytes())
    own = require_usable(chain, TlsKey.parse(private_text(Path(files.key), most=MAX_PAIR_BYTES)), node, wall)
    renewed = datetime.fromtimestamp(due_at(own), UTC).date()
    yield f"certificate: CN={own.name}, {own.days_left(wall):.0f} days left, due for renewal on {renewed}"
