"""A collector: keeps the events of its nodes and signs that it holds them."""

from __future__ import annotations

import os
import random
import secrets
import ssl
from pathlib import Path

from prometheus_client import CollectorRegistry

from agents.cloud_sync import broker_settings
from agents.collector_metrics import CollectorMetrics
from agents.settings import Amqp, CollectorSettings
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.collector import Node, load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import database_at, is_url
from cloud_sync.collector_sql import CollectorStore, Database
from cloud_sync.known_nodes_file import NodesFile, read_nodes
from cloud_sync.ports import Broker
from edge.acks import sign_ack
from edge.clock import Clock
from edge.credentials_systemd import credential_or
from edge.errors import ConfigError
from edge.health import Health
from edge.health_http import serve_health
from edge.health_systemd import Notifier, feed
from edge.keys_file import read_signing_key, read_verify_key
from edge.supervisor import Supervisor
from edge.system_clock import SystemClock
from edge.tls_socket import client_context

RECEIVE_MAXIMUM = 500
"""Messages that may come ahead of our acknowledgements: as many as go into one commit."""


def known_nodes(settings: CollectorSettings, base: Path) -> dict[str, Node]:
    """Those of the configuration and those that are enrolled. Raises ``ConfigError``, also where none can ever be.

    A list that names nobody any more is one: whoever revokes the last node must be obeyed like before.
    """
    named = load_nodes(
        (each.tenant, f"{each.tenant}_{each.name}", (read_verify_key(base / each.role_key),)) for each in settings.nodes
    )
    enrolled = read_nodes(base / settings.nodes_file) if settings.nodes_file else {}
    if twice := named.keys() & enrolled.keys():
        raise ConfigError(f"{min(twice)} is enrolled and stands in [[nodes]]", remedy="take it out of [[nodes]]")
    if not named and not settings.nodes_file:
        raise ConfigError("a collector without nodes", remedy="enrol one, or name it under [[nodes]]")
    return named | enrolled


async def run_collector(settings: CollectorSettings, base: Path) -> None:
    """Collect until the process is told to stop. Raises ``LastmileError`` for what an operator has to mend first."""
    clock, health = SystemClock(), Health()
    supervisor = Supervisor(clock, random.random, health)
    key = read_signing_key(credential_or(base / settings.keys.ack, os.environ))
    # Several collectors of one consumer share its subscription, so each is a client of its own; and the same one
    # after a restart, or the broker would go on dealing messages to the session of the one that is gone.
    client_id = f"{settings.name}-{settings.worker}"
    broker = _broker(settings, client_id, base, clock)
    store = collector_store(settings, base, clock)
    await store.open()
    try:
        collector = Collector(
            consumer=settings.name,
            client_id=client_id,
            nodes=known_nodes(settings, base),
            broker=broker,
            store=store,
            sign=lambda ack: sign_ack(ack, key),
            clock=clock,
            random=random.random,
            new_token=lambda: secrets.token_urlsafe(16),
            subscribe=settings.subscribe,
            progress=lambda part: health.progress(part, clock.mono()),
        )
        supervisor.keep("collect", collector.run)
        if settings.nodes_file:
            watch = NodesFile(base / settings.nodes_file, lambda: known_nodes(settings, base), collector.know)
            supervisor.keep("nodes", lambda: watch.run(clock))
        if settings.health:
            path = base / settings.health / "collector.sock"
            registry = CollectorRegistry()
            metrics = CollectorMetrics(registry, collector, store, clock, worst=settings.worst_nodes)
            supervisor.keep("figures", metrics.run)
            supervisor.keep("health", lambda: serve_health(path, health, registry, clock))
        notifier = Notifier(os.environ, pid=os.getpid())
        notifier.ready()
        supervisor.keep("watchdog", lambda: feed(notifier, health, clock))
        await supervisor.run_until_signal()
    finally:
        await store.close()


def collector_database(settings: CollectorSettings, base: Path) -> Database:
    """The database that the file names; a relative path is meant from the file's own directory."""
    place = settings.database
    return database_at(place if is_url(place) else str(base / place))


def collector_store(settings: CollectorSettings, base: Path, clock: Clock) -> CollectorStore:
    """The same as a store, not opened yet."""
    return CollectorStore(collector_database(settings, base), consumer=settings.name, clock=clock)


def _broker(settings: CollectorSettings, client_id: str, base: Path, clock: Clock) -> Broker:
    if settings.subscribe != "amqp":
        where = broker_settings(settings.broker, client_id, base, receive_maximum=RECEIVE_MAXIMUM)
        return MqttBroker(where, clock_trusted=clock.trusted)
    if settings.amqp is None:
        raise ConfigError('subscribe = "amqp" without [amqp]', remedy="name the cluster's nodes in amqp.urls")
    try:
        from cloud_sync.client_amqp import AmqpBroker, AmqpSettings
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a collector behind RabbitMQ needs {error.name}, which is not installed",
            remedy="install lastmile-edge[amqp]",
        ) from error
    amqp = settings.amqp
    return AmqpBroker(
        AmqpSettings(
            urls=amqp.urls,
            name=client_id,
            user=amqp.user,
            password=_password(amqp, base),
            prefetch=RECEIVE_MAXIMUM,
            tls=_tls(amqp, base),
        )
    )


def _password(amqp: Amqp, base: Path) -> str:
    if not amqp.password_file:
        return "guest"
    path = base / amqp.password_file
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(f"{path} has no password", remedy="name a file whose first line is the password") from error


def _tls(amqp: Amqp, base: Path) -> ssl.SSLContext | None:
    tls = amqp.tls
    if tls is None:
        return None
    key = credential_or(base / tls.key, os.environ)
    return client_context(str(base / tls.ca), str(base / tls.certificate), str(key))
