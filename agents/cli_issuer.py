"""``lastmile issuer``: keys that sign commands, the document that lists them, and documents on their way to nodes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

issuer = typer.Typer(no_args_is_help=True, help="Keys that sign commands, and the documents that nodes keep in force.")

Name = Annotated[str, typer.Argument(help="As nodes know it: a-z, 0-9, -.")]
Directory = Annotated[Path, typer.Option("--dir", help="Where the key files are.")]
Document = Annotated[Path, typer.Option(help="The issuers document, signed by a root.")]
RootKey = Annotated[Path, typer.Option("--root", help="The root's private key: signs the next edition.")]
OtherRoots = Annotated[
    list[Path] | None, typer.Option("--root-key", help="A root's public key that may have signed the held edition too.")
]
As = Annotated[Path, typer.Option("--as", help="issuer.toml: who signs, the broker and the nodes.")]


def _say(lines: object) -> None:
    for line in lines:  # type: ignore[attr-defined]
        typer.echo(line)


@issuer.command("new")
def issuer_new(
    name: Name,
    scope: Annotated[list[str], typer.Option(help="What it may sign for: open, nonce, book, ack, badge ... (repeat).")],
    nodes: Annotated[list[str], typer.Option(help="Which nodes, such as acme_* (repeat).")],
    directory: Annotated[Path, typer.Option("--dir", help="Where the key files go.")] = Path(),
    root: Annotated[Path | None, typer.Option(help="The root's private key: signs a new issuers document.")] = None,
    document: Annotated[Path | None, typer.Option(help="The issuers document to add to.")] = None,
    root_key: OtherRoots = None,
    days: Annotated[int, typer.Option(min=1, max=3650)] = 365,
) -> None:
    """Make a key and, with the root at hand, list it in the issuers document."""
    from agents.issuer_file import add_issuer, read_root

    signer = read_root(root, root_key or ()) if root is not None else None
    wall = time.time()
    scopes, patterns = tuple(scope), tuple(nodes)
    _say(add_issuer(name, scopes, patterns, directory=directory, root=signer, document=document, days=days, wall=wall))


@issuer.command("rotate")
def issuer_rotate(
    name: Name,
    document: Document,
    root: RootKey,
    root_key: OtherRoots = None,
    directory: Directory = Path(),
    overlap_days: Annotated[int, typer.Option(min=0, max=365, help="How long the old key stays valid.")] = 14,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the new one is.")] = 365,
) -> None:
    """Make a new key, list it beside the old and swap the files. Interrupted, say it again."""
    from agents.issuer_file import read_root, rotate

    signer, wall = read_root(root, root_key or ()), time.time()
    _say(
        rotate(
            name, directory=directory, root=signer, document=document, overlap_days=overlap_days, days=days, wall=wall
        )
    )


@issuer.command("revoke")
def issuer_revoke(
    name: Name,
    document: Document,
    root: RootKey,
    root_key: OtherRoots = None,
    kid: Annotated[str, typer.Option(help="Only this key of the name, instead of all.")] = "",
) -> None:
    """Bar a key now. It stays listed, so that nodes can still answer for what it signed."""
    from agents.issuer_file import read_root, revoke

    _say(revoke(name, kid, root=read_root(root, root_key or ()), document=document, wall=time.time()))


@issuer.command("list")
def issuer_list(
    document: Document,
    root_key: Annotated[list[Path], typer.Option("--root-key", help="A root's public key (at most two).")],
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The keys of the document: whose, for what, where and how long."""
    from agents.issuer_view import show_edition

    show_edition(document, root_key, wall=time.time(), json=json)


@issuer.command("sign")
def issuer_sign(
    file: Annotated[Path, typer.Argument(help="TOML or JSON: `keys` for issuers, `body` for what a node shall do.")],
    document: Annotated[Path, typer.Option(help="Where the signed document is, and its next edition goes.")],
    root: Annotated[Path | None, typer.Option("--root", help="issuers: the root's private key.")] = None,
    root_key: OtherRoots = None,
    config: Annotated[Path | None, typer.Option("--as", help="desired: issuer.toml, who signs.")] = None,
    node: Annotated[str, typer.Option(help="desired: tenant_name of the node it is for.")] = "",
    version: Annotated[int, typer.Option(min=0, help="desired: instead of the next one.")] = 0,
) -> None:
    """Sign the next edition of a document. What every node would refuse is refused before a file is written."""
    from agents.document_file import sign_desired_file, sign_issuers_file
    from agents.issuer import read_issuer
    from agents.issuer_file import read_root
    from agents.settings import IssuerSettings
    from edge.settings_file import read_settings

    wall = time.time()
    if root is not None and config is None:
        _say(sign_issuers_file(file, root=read_root(root, root_key or ()), document=document, wall=wall))
    elif config is not None and root is None and node:
        signer = read_issuer(read_settings(config, IssuerSettings), config.parent)
        _say(sign_desired_file(file, issuer=signer, node=node, out=document, version=version, wall=wall))
    else:
        raise typer.BadParameter("give --root for issuers, or --as and --node for what is desired of one node")


@issuer.command("voucher")
def issuer_voucher(
    node: Annotated[str, typer.Argument(help="tenant_name of the locker.")],
    booking: Annotated[str, typer.Argument(help="The booking's random id.")],
    config: Annotated[Path, typer.Option("--as", help="issuer.toml: who signs, with the scope voucher.")],
    days: Annotated[int, typer.Option(min=1, max=90, help="How long it is good.")] = 14,
    gen: Annotated[int, typer.Option(min=0, help="The edition, instead of the seconds since 1970.")] = 0,
) -> None:
    """Print a voucher, to be shown as a QR: it opens the booking's compartment, with no network. The newest counts."""
    from agents.issuer import read_issuer
    from agents.settings import IssuerSettings
    from agents.voucher_issuing import issue_voucher
    from edge.settings_file import read_settings

    signer = read_issuer(read_settings(config, IssuerSettings), config.parent)
    typer.echo(issue_voucher(signer, node, booking, gen=gen, days=days, wall=time.time()))


@issuer.command("publish")
def issuer_publish(
    document: Annotated[Path, typer.Argument(help="The signed document.")],
    nodes: Annotated[list[str], typer.Argument(help="tenant_name of each node.")],
    config: As,
    root_key: OtherRoots = None,
    wait: Annotated[float, typer.Option(min=0.0, max=86_400.0, help="Seconds for the nodes' own word.")] = 60.0,
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
) -> None:
    """Publish it, retained, and tell of each node when it is in force by the node's own signed word.

    Exit status: 0 in force everywhere; 1 refused somewhere; 4 somewhere not yet (the broker keeps it for the node).
    """
    from agents.issuer_view import publish

    sys.exit(publish(document, nodes, config, root_key or [], wait=wait, json=json))
