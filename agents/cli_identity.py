"""``lastmile identity``: who a node is. Run on the node; private keys never leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

identity = typer.Typer(no_args_is_help=True, help="A node's keys and certificate.")

Directory = Annotated[Path, typer.Option("--dir", help="Such as /var/lib/lastmile-identity.")]
RoleUser = Annotated[str, typer.Option(help="Who will own the role agent's half, such as lm-role.")]
SyncUser = Annotated[str, typer.Option(help="Who will own cloud-sync's half, such as lm-sync.")]


@identity.command("new")
def new(
    directory: Directory,
    tenant: Annotated[str, typer.Option(help="a-z, 0-9 and -")],
    name: Annotated[str, typer.Option(help="a-z, 0-9 and -")],
    *,
    keep_role_key: Annotated[
        bool, typer.Option("--keep-role-key", help="Only a new certificate, as after an expiry.")
    ] = False,
) -> None:
    """Make the next identity's keys and the request for its certificate; what is in force stays in force."""
    from agents.identity import new as made

    for line in made(directory, tenant, name, keep_role_key=keep_role_key):
        typer.echo(line)


@identity.command("enrol")
def enrol(
    directory: Directory,
    url: Annotated[str, typer.Option(help="https://host:port of the enrolment service.")],
    ca: Annotated[str, typer.Option(help="Its root: a PEM file, or sha256:... as `lastmile enrol claim` shows it.")],
    claim: Annotated[str, typer.Option(help="The claim; asked for when it is left out.", prompt=True, hide_input=True)],
    root: Annotated[list[str] | None, typer.Option(help="Thumbprint of the operator's root to pin (repeat).")] = None,
    lowest_issuers: Annotated[int, typer.Option(min=1, help="Lowest issuers version to believe.")] = 1,
    role_user: RoleUser = "",
    sync_user: SyncUser = "",
) -> None:
    """Turn the claim into a certificate, and put the new identity in force. May be repeated until it succeeds."""
    from agents.identity import enrol as enrolled

    for line in enrolled(
        directory,
        url=url,
        ca=ca,
        claim=claim,
        pinned_roots=tuple(root or ()),
        lowest_issuers=lowest_issuers,
        role_user=role_user,
        sync_user=sync_user,
    ):
        typer.echo(line)


@identity.command("install")
def install(
    directory: Directory,
    certificate: Annotated[Path, typer.Option(help="PEM: the node's own first, then its chain.")],
    ca: Annotated[Path, typer.Option(help="PEM: who signs the broker.")],
    root: Annotated[list[Path], typer.Option(help="The operator's root, public (one or two).")],
    issuers: Annotated[Path, typer.Option(help="The issuers document.")],
    hub: Annotated[Path, typer.Option(help="The hub's sealing key, public.")],
    role_user: RoleUser = "",
    sync_user: SyncUser = "",
) -> None:
    """Put a certificate of an existing authority in force."""
    from agents.identity import install_files

    for line in install_files(
        directory,
        certificate=certificate,
        ca=ca,
        roots=tuple(root),
        issuers=issuers,
        hub=hub,
        role_user=role_user,
        sync_user=sync_user,
    ):
        typer.echo(line)


@identity.command("show")
def show(directory: Directory) -> None:
    """Who this node is, and how long its certificate is good."""
    from agents.identity import show as shown

    for line in shown(directory):
        typer.echo(line)
