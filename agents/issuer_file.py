"""The issuers document and the keys it lists, where the operator's root key is at hand: each edition one file swap."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from edge import jose
from edge.atomic_file import sync_directory, write_whole
from edge.claims import claims_as, refused
from edge.errors import ConfigError, VerificationError
from edge.issuers import MAX_ROOTS, Entry, IssuersDocument, read_issuers, sign_issuers
from edge.keys import SigningKey, VerifyKey
from edge.keys_file import read_signing_key, read_verify_key, write_private_key, write_public_key

HOUR_S = 3600
"""A node's clock may lag: a key is listed as valid from an hour ago."""
DAY_S = 86_400

Randomness = Callable[[int], bytes]


class Root(msgspec.Struct, frozen=True):
    """The root that signs, and every root whose signature on the held edition is believed."""

    key: SigningKey
    pinned: tuple[VerifyKey, ...]


def read_root(private: Path, others: Sequence[Path]) -> Root:
    """The root in ``private``, and beside it the public keys of ``others``. Raises ``ConfigError``."""
    key = read_signing_key(private)
    pinned = {each.kid: each for each in (key.public, *(read_verify_key(path) for path in others))}
    if len(pinned) > MAX_ROOTS:
        raise ConfigError(f"{len(pinned)} root keys", remedy=f"a node pins {MAX_ROOTS}: name those")
    return Root(key, tuple(pinned.values()))


def read_edition(document: Path, roots: Sequence[VerifyKey]) -> IssuersDocument | None:
    """The edition in ``document``, None when there is no file. Raises ``ConfigError`` unless a root signed it."""

    def root_key(kid: str) -> VerifyKey:
        for root in roots:
            if root.kid == kid:
                return root
        raise refused("unknown_key", "not signed by this root", "name the root that signed it as well")

    try:
        token = document.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{document}: {error.strerror}", remedy="name a file that this user can read") from error
    try:
        return claims_as(jose.verify(token, jose.ISSUERS, root_key).claims, IssuersDocument)
    except VerificationError as error:
        raise ConfigError(f"{document}: {error.what}", remedy=error.remedy) from error


def add_issuer(
    name: str,
    scopes: tuple[str, ...],
    nodes: tuple[str, ...],
    *,
    directory: Path,
    root: Root | None,
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
        entry = _entry(name, key.public, scopes, nodes, days=days, wall=wall)
        held = read_edition(document, root.pinned)
        # Before any file is made: what is refused here can be said again with the same name.
        signed = sign_edition((*(held.keys if held else ()), entry), held, root, wall)
    write_private_key(directory / f"{name}.pem", key)
    write_public_key(directory / f"{name}.jwk", key.public)
    yield f"made {name}.pem (keep it away from brokers and web servers) and {name}.jwk, kid {key.kid}"
    if signed is None or document is None:
        yield "not listed yet: give --root and --document to sign an issuers document with it"
        return
    write_whole(document, signed.token, mode=0o644)
    yield signed.told(document)


def rotate(
    name: str, *, directory: Path, root: Root, document: Path, overlap_days: int, days: int, wall: float
) -> Iterator[str]:
    """List a new key of ``name`` beside the old, which is valid ``overlap_days`` longer, and swap the key files.

    The old key stays in ``NAME.old.pem``. Interrupted anywhere, it goes on from there when it is said again. Raises
    ``ConfigError``.
    """
    held = _held(document, root.pinned)
    old = read_signing_key(directory / f"{name}.pem")
    before = _living(name, old, held)
    # What an interrupted rotation has made is used, so that there is one new key and not two.
    path = directory / f"{name}.next.pem"
    key = read_signing_key(path) if path.exists() else SigningKey.generate(os.urandom)
    listed = key.kid in {_kid(entry) for entry in held.keys}
    signed = None if listed else _with_successor(before, key, held, root, overlap_days, days, wall)
    if not path.exists():
        write_private_key(path, key)
    if signed is not None:
        write_whole(document, signed.token, mode=0o644)
        yield signed.told(document)
    _swap_keys(directory, name)
    yield f"{name}.pem is the new key, kid {key.kid}; the old one is in {name}.old.pem, kid {old.kid}"
    yield f"publish {document.name} before you sign with it: until then nodes know the old key alone"


def revoke(name: str, kid: str, *, root: Root, document: Path, wall: float) -> Iterator[str]:
    """Bar every key of ``name``, or the one with ``kid``, from now on. Raises ``ConfigError`` when there is none."""
    held = _held(document, root.pinned)
    barred = [entry for entry in held.keys if entry.name == name and kid in ("", _kid(entry)) and not entry.revoked]
    if not barred:
        raise ConfigError(
            f"{document} lists no key of {name}{' ' + kid if kid else ''} to revoke",
            remedy="look at `lastmile issuer list`",
        )
    keys = tuple(msgspec.structs.replace(entry, revoked=entry.revoked or entry in barred) for entry in held.keys)
    signed = sign_edition(keys, held, root, wall)
    write_whole(document, signed.token, mode=0o644)
    for entry in barred:
        yield f"revoked {name}, kid {_kid(entry)}"
    yield signed.told(document)
    yield "it is barred at each node once the document is in force there: lastmile issuer publish"


class Edition(msgspec.Struct, frozen=True):
    """A signed issuers document, not written yet."""

    document: IssuersDocument
    token: bytes

    def told(self, path: Path) -> str:
        return f"{path}: version {self.document.version} lists {len(self.document.keys)} key(s)"


def sign_edition(keys: Sequence[Entry], held: IssuersDocument | None, root: Root, wall: float) -> Edition:
    """The edition after ``held`` with ``keys``. Raises ``ConfigError`` for what any node would refuse."""
    version = held.version + 1 if held else 1
    document = IssuersDocument(version=version, issued_at=int(wall), keys=tuple(keys))
    try:
        token = sign_issuers(document, root.key)
        # Read as a node reads it: whatever it refuses is refused here, before any file is written.
        read_issuers(token, root.pinned, held_version=version - 1)
    except (VerificationError, jose.SigningError) as error:
        raise ConfigError(f"no node would take it: {error.what}", remedy=error.remedy) from error
    return Edition(document, token)


def _living(name: str, key: SigningKey, held: IssuersDocument) -> Entry:
    for entry in held.keys:
        if _kid(entry) == key.kid and entry.name == name and not entry.revoked:
            return entry
    raise ConfigError(
        f"{name}.pem is not a living key of {name} in the document", remedy="make a new one: lastmile issuer new"
    )


def _with_successor(
    before: Entry, key: SigningKey, held: IssuersDocument, root: Root, overlap_days: int, days: int, wall: float
) -> Edition:
    until = min(before.not_after, int(wall) + overlap_days * DAY_S)
    keys = [msgspec.structs.replace(entry, not_after=until) if entry is before else entry for entry in held.keys]
    successor = _entry(before.name, key.public, before.scopes, before.nodes, days=days, wall=wall)
    return sign_edition((*keys, successor), held, root, wall)


def _entry(
    name: str, key: VerifyKey, scopes: tuple[str, ...], nodes: tuple[str, ...], *, days: int, wall: float
) -> Entry:
    return Entry(
        jwk=key.jwk(),
        name=name,
        scopes=scopes,
        nodes=nodes,
        not_before=int(wall) - HOUR_S,
        not_after=int(wall) + days * DAY_S,
    )


def _held(document: Path, roots: Sequence[VerifyKey]) -> IssuersDocument:
    held = read_edition(document, roots)
    if held is None:
        raise ConfigError(f"{document}: no such file", remedy="name the issuers document that is in force")
    return held


def _kid(entry: Entry) -> str:
    return VerifyKey.from_jwk(entry.jwk).kid


def _swap_keys(directory: Path, name: str) -> None:
    """At any moment ``NAME.pem`` is a whole key, the old or the new; it changes last, so that all can be said again."""
    current, old = directory / f"{name}.pem", directory / f"{name}.old.pem"
    with contextlib.suppress(FileNotFoundError):
        old.unlink()
    os.link(current, old)
    fresh = directory / f"{name}.next.jwk"
    fresh.unlink(missing_ok=True)
    write_public_key(fresh, read_signing_key(directory / f"{name}.next.pem").public)
    fresh.replace(directory / f"{name}.jwk")
    (directory / f"{name}.next.pem").replace(current)
    sync_directory(directory)
