"""The enrolment service and the operator's commands on it, joined."""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from agents.enrol_settings import EnrolSettings
from cloud_sync.authority import Authority, make_issuing, make_root
from cloud_sync.enrolment_desk_sql import EnrolmentDesk, Operator, Published
from cloud_sync.enrolment_http import build_enrolment, serve_enrolment, server_context
from cloud_sync.enrolment_sql import Register
from edge import log
from edge.atomic_file import write_whole
from edge.certificate import TlsKey, read_chain
from edge.clock import Clock
from edge.credentials_systemd import credential_or
from edge.errors import ConfigError
from edge.health import Health
from edge.health_http import serve_health
from edge.health_systemd import Notifier, feed
from edge.keys_file import private_text, read_sealing_key, read_verify_key
from edge.serve_http import listen
from edge.supervisor import OnDeath, Supervisor
from edge.system_clock import SystemClock

OWN_DAYS = 30
"""For which the service's own certificate is good; it makes itself another each day."""
DAY_S = 86_400.0

_CONFIG = """\
# Made by `lastmile enrol init`. Put your roots, issuers document and hub key where [operator] names them.

database = "enrol.db"
hosts = ["{host}"]
nodes_file = "nodes.json"
revoked_file = "revoked.pem"

[authority]
root = "root.pem"
certificate = "issuing.pem"
key = "issuing.key"

[operator]
roots = ["operator/root.jwk"]
issuers = "operator/issuers.jws"
hub = "operator/hub.jwk"
"""


def init(directory: Path, operator: str, host: str) -> Iterator[str]:
    """Make what is not there: the root and its key, the issuing authority, ``enrol.toml``. Lines for a person.

    With the root's key back in ``offline/`` and ``issuing.*`` moved away it makes the next issuing authority.
    """
    wall = time.time()
    offline = directory / "offline"
    offline.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (directory / "root.pem").exists():
        root, pem = make_root(operator, os.urandom, wall)
        write_whole(offline / "root.key", root.pem())
        write_whole(directory / "root.pem", pem, mode=0o644)
        yield f"made root.pem and offline/root.key: move {offline} to a medium in a safe, away from this machine"
    if not (directory / "issuing.pem").exists():
        root = TlsKey.parse(private_text(offline / "root.key"))
        key, pem = make_issuing(operator, root, (directory / "root.pem").read_bytes(), os.urandom, wall)
        write_whole(directory / "issuing.key", key.pem())
        write_whole(directory / "issuing.pem", pem, mode=0o644)
        yield f"made issuing.pem and issuing.key, good for {read_chain(pem)[0].days_left(wall):.0f} days"
    config = directory / "enrol.toml"
    if not config.exists():
        write_whole(config, _CONFIG.format(host=host).encode(), mode=0o644)
        yield f"made {config}: look through it, then `lastmile enrol serve --config {config}`"
    yield f"root fingerprint: {root_fingerprint((directory / 'root.pem').read_bytes())}"


def root_fingerprint(pem: bytes) -> str:
    """What a node pins: SHA-256 over the root certificate."""
    return f"sha256:{read_chain(pem)[0].fingerprint}"


def read_authority(settings: EnrolSettings, base: Path) -> Authority:
    """Raises ``ConfigError`` naming the file."""
    files = settings.authority
    key = private_text(credential_or(base / files.key, os.environ))
    return Authority.parse(key, _read(base / files.certificate), _read(base / files.root))


def open_desk(settings: EnrolSettings, base: Path, authority: Authority) -> EnrolmentDesk:
    """The desk, for the service and for the command line alike."""
    files = settings.operator

    def operator() -> Operator:
        roots = tuple(read_verify_key(base / each).jwk() for each in files.roots)
        return Operator(roots, _read(base / files.issuers).decode().strip(), read_sealing_key(base / files.hub).jwk())

    def publish(published: Published) -> None:
        write_whole(base / settings.nodes_file, published.nodes, mode=0o644)
        revoked = base / settings.revoked_file
        before = _read(revoked) if revoked.exists() else b""
        write_whole(revoked, authority.with_former(published.revoked, before, wall=time.time()), mode=0o644)

    return EnrolmentDesk(
        register=Register(base / settings.database),
        authority=authority,
        operator=operator,
        publish=publish,
        wall=time.time,
        random=os.urandom,
        days=settings.days,
    )


def make_certificate(
    settings: EnrolSettings, base: Path, name: str, hosts: tuple[str, ...], directory: Path, days: float
) -> Iterator[str]:
    """A key and certificate for a broker (``hosts``) or a consumer or issuer (none), made here. Lines for a person."""
    pair, authority = directory / f"{name}.pem", read_authority(settings, base)
    if pair.exists():
        raise ConfigError(f"{pair}: is there already", remedy="move it away if a new one is really meant")
    key = TlsKey.generate(os.urandom)
    pem = open_desk(settings, base, authority).certify(name, key, hosts, days=days)
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(pair, key.pem() + pem)
    write_whole(directory / "ca.pem", authority.root_pem, mode=0o644)
    yield f"made {pair} (key, certificate and chain; mode 0600) and {directory / 'ca.pem'}"
    yield f"good for {read_chain(pem)[0].days_left(time.time()):.0f} days as {', '.join(hosts) or f'CN={name}'}"


async def serve(settings: EnrolSettings, base: Path) -> None:
    """Serve until the process is told to stop. Raises ``LastmileError`` for what an operator has to mend first."""
    clock, health = SystemClock(), Health()
    supervisor = Supervisor(clock, random.random, health)
    authority = read_authority(settings, base)
    desk = open_desk(settings, base, authority)
    _, issuers = desk.operator_terms()
    desk.refresh()
    pair = base / f"{settings.database}.server.pem"
    _make_own(authority, settings, pair)
    context = server_context(pair, base / settings.authority.root)
    listener = listen(settings.listen.host, settings.listen.port, what="the enrolment service")
    app = build_enrolment(desk, authority.root_pem)
    supervisor.keep("http", lambda: serve_enrolment(app, listener, context), on_death=OnDeath.END)
    supervisor.keep("daily", lambda: _each_day(clock, desk, authority, settings, pair, context))
    if settings.health:
        path = base / settings.health / "enrol.sock"
        supervisor.keep("health", lambda: serve_health(path, health, CollectorRegistry(), clock))
    notifier = Notifier(os.environ, pid=os.getpid())
    where = f"{settings.listen.host}:{listener.getsockname()[1]}"

    async def ready() -> None:
        """Once the tasks run and signals are heard."""
        notifier.ready()
        pinned = root_fingerprint(authority.root_pem)
        log.get_logger("enrolment").info("enrolment.ready", at=where, root=pinned, issuers=issuers)

    supervisor.spawn("ready", ready, fatal=True)
    supervisor.keep("watchdog", lambda: feed(notifier, health, clock))
    await supervisor.run_until_signal()


async def _each_day(
    clock: Clock,
    desk: EnrolmentDesk,
    authority: Authority,
    settings: EnrolSettings,
    pair: Path,
    context: ssl.SSLContext,
) -> None:
    """The revocation list and the service's own certificate stay young."""
    while True:
        await clock.sleep(DAY_S)
        desk.refresh()
        _make_own(authority, settings, pair)
        context.load_cert_chain(pair)


def _make_own(authority: Authority, settings: EnrolSettings, pair: Path) -> None:
    key = TlsKey.generate(os.urandom)
    chain = authority.server(key, settings.hosts, random=os.urandom, wall=time.time(), days=OWN_DAYS)
    write_whole(pair, key.pem() + chain)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
