"""Makes an issuer's key and lists it in the issuers document, where the operator's root key is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge import jose
from edge.claims import claims_as
from edge.errors import ConfigError
from edge.issuers import Entry, IssuersDocument, sign_issuers
from edge.keys import SigningKey, VerifyKey
from edge.keys_file import read_signing_key, write_private_key, write_public_key

HOUR_S = 3600
"""A node's clock may lag: a key is listed as valid from an hour ago."""


def add_issuer(
    name: str,
    scopes: tuple[str, ...],
    nodes: tuple[str, ...],
    *,
    directory: Path,
    root: Path | None,
    document: Path | None,
    days: int,
    wall: float,
) -> Iterator[str]:
    """Write ``NAME.pem`` and ``NAME.jwk``; with ``root`` and ``document`` sign an edition that lists the new key.

    Raises ``ConfigError`` when a file is there already, or the old document is not the root's.
    """
    key = SigningKey.generate(os.urandom)
    signed = None
    if root is not None and document is not None:
        entry = Entry(
            jwk=key.public.jwk(),
            name=name,
            scopes=scopes,
            nodes=nodes,
            not_before=int(wall) - HOUR_S,
            not_after=int(wall) + days * 86_400,
        )
        root_key = read_signing_key(root)
        edition = _next_edition(document, root_key, entry, int(wall))
        # Before any file is made: what is refused here can be said again with the same name.
        signed = sign_issuers(edition, root_key)
    write_private_key(directory / f"{name}.pem", key)
    write_public_key(directory / f"{name}.jwk", key.public)
    yield f"made {name}.pem (keep it away from brokers and web servers) and {name}.jwk, kid {key.kid}"
    if signed is None or document is None:
        yield "not listed yet: give --root and --document to sign an issuers document with it"
        return
    fresh = document.with_suffix(".new")
    fresh.write_bytes(signed)
    fresh.replace(document)
    yield f"{document}: version {edition.version} lists {len(edition.keys)} key(s)"


def _next_edition(document: Path, root: SigningKey, entry: Entry, now: int) -> IssuersDocument:
    if not document.exists():
        return IssuersDocument(version=1, issued_at=now, keys=(entry,))

    def root_key(kid: str) -> VerifyKey:
        if kid != root.kid:
            raise ConfigError(f"{document} was not signed by this root", remedy="name the root that signed it")
        return root.public

    token = document.read_bytes().strip()
    held = claims_as(jose.verify(token, jose.ISSUERS, root_key).claims, IssuersDocument)
    return IssuersDocument(version=held.version + 1, issued_at=now, keys=(*held.keys, entry))
