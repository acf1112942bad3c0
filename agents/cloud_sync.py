"""cloud-sync: the process of a node that has the network, and nothing else."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from agents.settings import Broker, NodeSettings, Tls
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge.credentials_systemd import credential_or
from edge.health import Health
from edge.health_http import CountedBy, serve_health
from edge.health_systemd import Notifier, feed
from edge.link_socket import connect
from edge.supervisor import OnDeath, Supervisor
from edge.system_clock import SystemClock
from edge.tls_socket import TlsFiles

if TYPE_CHECKING:
    from cloud_sync.renewal_asyncio import Renewal
    from edge.clock import Clock

PART_LIMIT_S = 90.0
"""Every part says at least each minute that it lives, also while there is nothing to do or nobody to do it with. A
broker that takes no message for a minute is left by then."""
PARTS = ("agent", "broker", "events")
"""The hold on the role agent, the hold on the broker, and the pump between the two."""


def broker_settings(
    broker: Broker, client_id: str, base: Path, *, receive_maximum: int = 20, session_expiry: int = 7 * 86_400
) -> BrokerSettings:
    """The broker as the MQTT client takes it, with paths made absolute."""
    tls = broker.tls
    return BrokerSettings(
        host=broker.host,
        client_id=client_id,
        port=broker.port,
        protocol=broker.protocol,
        tls=None if tls is None else _tls_files(tls, base),
        keepalive=broker.keepalive,
        receive_maximum=receive_maximum,
        session_expiry=session_expiry,
    )


def _tls_files(tls: Tls, base: Path) -> TlsFiles:
    key = credential_or(base / tls.key, os.environ)
    return TlsFiles(str(base / tls.ca), str(base / tls.certificate), str(key))


async def run_cloud_sync(settings: NodeSettings, base: Path) -> None:
    """Carry until the process is told to stop. Raises ``LastmileError`` for what an operator has to mend first."""
    clock, health = SystemClock(), Health()
    supervisor = Supervisor(clock, random.random, health)
    node = f"{settings.node.tenant}_{settings.node.name}"
    where = broker_settings(settings.broker, node, base)
    renewal = _renewal(settings, where, base, clock)
    sync = CloudSync(
        open_agent=lambda: connect(base / settings.link.socket),
        broker=renewal or MqttBroker(where, clock_trusted=clock.trusted),
        pacing=Pacing(settings.sync.pace, settings.sync.batch_kib * 1024, settings.sync.repeat_s),
        clock=clock,
        random=random.random,
        new_token=lambda: secrets.token_urlsafe(16),
        longest_pause=settings.sync.max_backoff_s,
        puback_ends=settings.sync.ack == "broker",
        progress=lambda part: health.progress(part, clock.mono()),
        trouble=lambda part, what: health.fail(part, what, clock.mono()),
    )
    for part in PARTS:
        health.expect(part, mono=clock.mono(), limit_s=PART_LIMIT_S)
    supervisor.keep("carry", sync.run, on_death=OnDeath.RESTART)
    if renewal:
        supervisor.keep("renewal", renewal.run)
    if settings.health:
        path = base / settings.health / "cloud-sync.sock"
        metrics = CollectorRegistry()
        metrics.register(
            CountedBy(
                "lastmile_message_dropped",
                "Messages from the broker that were not passed on.",
                lambda: {("message", reason): count for reason, count in sync.dropped.items()},
            )
        )
        supervisor.keep("health", lambda: serve_health(path, health, metrics, clock))
    notifier = Notifier(os.environ, pid=os.getpid())
    notifier.ready()
    supervisor.keep("watchdog", lambda: feed(notifier, health, clock))
    await supervisor.run_until_signal()


def _renewal(settings: NodeSettings, where: BrokerSettings, base: Path, clock: Clock) -> Renewal | None:
    """Who keeps the certificate good, where that is asked for: what reads certificates takes 11 MB."""
    if settings.renewal is None:
        return None
    from agents.renewal import keep_certificate

    return keep_certificate(settings, where, base, clock)
