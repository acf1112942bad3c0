"""``lastmile enrol``: the enrolment service, and the operator's acts on it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agents.enrol_settings import EnrolSettings
    from cloud_sync.enrolment_desk_sql import EnrolmentDesk

enrol = typer.Typer(no_args_is_help=True, help="A certificate authority for nodes, for an operator who has none.")

Config = Annotated[Path, typer.Option("--config", help="enrol.toml")]
Node = Annotated[str, typer.Argument(help="tenant_name")]


def _settings(config: Path) -> EnrolSettings:
    from agents.enrol_settings import EnrolSettings
    from edge.settings_file import read_settings

    return read_settings(config, EnrolSettings)


def _desk(config: Path) -> EnrolmentDesk:
    from agents.enrolment import open_desk, read_authority

    settings = _settings(config)
    return open_desk(settings, config.parent, read_authority(settings, config.parent))


@enrol.command("init")
def init(
    directory: Annotated[Path, typer.Option("--dir", help="Where the authority's files go.")],
    operator: Annotated[str, typer.Option(help="Stands in the authority's name.")] = "lastmile",
    host: Annotated[str, typer.Option(help="Where nodes will reach the service.")] = "localhost",
) -> None:
    """Make a root for the safe, an issuing authority, and a first enrol.toml."""
    from agents.enrolment import init as made

    for line in made(directory, operator, host):
        typer.echo(line)


@enrol.command("serve")
def serve(config: Config) -> None:
    """Serve nodes until told to stop."""
    from agents.enrolment import serve as serving
    from agents.processes import until_stopped
    from edge import log

    settings = _settings(config)
    log.configure(level=settings.log.level)
    until_stopped(lambda: serving(settings, config.parent))


@enrol.command("claim")
def claim(
    tenant: Annotated[str, typer.Argument()],
    name: Annotated[str, typer.Argument()],
    config: Config,
    hours: Annotated[float | None, typer.Option(min=0.01, max=720, help="For which it can be used.")] = None,
) -> None:
    """Make a claim: the word with which one node gets one certificate, once. It is shown here and never again."""
    from agents.enrolment import read_authority, root_fingerprint
    from edge.keys import VerifyKey

    settings, desk = _settings(config), _desk(config)
    valid = hours or settings.claim_hours
    word = desk.claim(f"{tenant}_{name}", hours=valid)
    operator, version = desk.operator_terms()
    typer.echo(word)
    pins = [f"--root {VerifyKey.from_jwk(each).kid}" for each in operator.roots]
    fingerprint = root_fingerprint(read_authority(settings, config.parent).root_pem)
    typer.echo(f"good for {valid:g} hours. On the node, after `lastmile identity new`:", err=True)
    typer.echo(
        f"  lastmile identity enrol --dir DIR --url https://{settings.hosts[0]}:{settings.listen.port} "
        f"--ca {fingerprint} {' '.join(pins)} --lowest-issuers {version} --claim CLAIM",
        err=True,
    )


@enrol.command("nodes")
def nodes(config: Config) -> None:
    """Every node that was ever enrolled."""
    wall = time.time()
    for node, kid, issued in _desk(config).nodes():
        left = f"{(issued.not_after - wall) / 86_400:.0f} days left" if issued else "no certificate"
        typer.echo(f"{node}  {f'role key {kid}' if kid else 'revoked'}  {left}")


@enrol.command("revoke")
def revoke(node: Node, config: Config) -> None:
    """Take a node out in one act: its certificates, its role key, its unused claim."""
    certificates, keys = _desk(config).revoke(node)
    settings = _settings(config)
    typer.echo(f"revoked {certificates} certificate(s) and {keys} role key(s) of {node}")
    typer.echo(f"collectors read {settings.nodes_file} by themselves")
    typer.echo(f"tell the broker to read {settings.revoked_file}: systemctl reload mosquitto (SIGHUP)")
    typer.echo("a connection that is open stays open until then: systemctl restart mosquitto ends it at once")


@enrol.command("audit")
def audit(config: Config, count: Annotated[int, typer.Option("-n", min=1, max=10_000)] = 50) -> None:
    """What happened, and what was refused."""
    happened, refused = _desk(config).audit(count)
    for each in happened:
        typer.echo(f"{_when(each.at)}  {each.what}  {each.node}  {each.detail}")
    for at, reason, node, number in refused:
        typer.echo(f"{_when(at)}  refused  {node or '-'}  {reason}  {number} time(s) in this minute")


@enrol.command("crl")
def crl(config: Config) -> None:
    """Write the list of nodes and the revocation list anew."""
    settings = _settings(config)
    _desk(config).refresh()
    typer.echo(f"wrote {settings.nodes_file} and {settings.revoked_file}")


@enrol.command("certificate")
def certificate(
    name: Annotated[str, typer.Argument(help="Of the broker, consumer or issuer.")],
    config: Config,
    directory: Annotated[Path, typer.Option("--dir", help="Where NAME.pem and ca.pem go.")],
    host: Annotated[list[str] | None, typer.Option(help="A broker's name or address (repeat). None: a client.")] = None,
    days: Annotated[float, typer.Option(min=1, max=825)] = 397,
) -> None:
    """A key and certificate for a broker (with --host), or for a consumer or issuer."""
    from agents.enrolment import make_certificate

    for line in make_certificate(_settings(config), config.parent, name, tuple(host or ()), directory, days):
        typer.echo(line)


@enrol.command("acl")
def acl(
    consumer: Annotated[list[str] | None, typer.Option(help="CN of a consumer, such as hub (repeat).")] = None,
    issuer: Annotated[list[str] | None, typer.Option(help="CN of who sends commands (repeat).")] = None,
) -> None:
    """Print mosquitto's ACL file. It needs no enrolment service: any authority that puts the name into CN will do."""
    from cloud_sync.rights import mosquitto_acl

    typer.echo(mosquitto_acl(consumer or (), issuer or ()), nl=False)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
