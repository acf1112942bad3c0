"""Documents from a person's TOML or JSON file: a whole edition of issuers, or what is desired of one node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agents.issuer import Issuer
from agents.issuer_file import Root, read_edition, sign_edition
from cloud_sync.documents import Document
from edge import jose
from edge.atomic_file import write_whole
from edge.claims import claims_as, refused
from edge.document import Desired, sign_desired
from edge.errors import ConfigError, VerificationError
from edge.issuers import Entry, IssuersDocument
from edge.jose import MAX_TOKEN_BYTES
from edge.keys import VerifyKey
from edge.keys_file import read_verify_key
from locker.desired import read_wishes

T = TypeVar("T")

NO_SUCH_DOOR = "no_such_door"


class ListedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of an edition as a person writes it. ``key`` is the path of its public half."""

    name: str
    key: str
    scopes: tuple[str, ...]
    nodes: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    revoked: bool = False


class EditionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keys``: all that the edition lists, in the place of what the held one lists."""

    keys: tuple[ListedKey, ...]


class DesiredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``body``: what the operator wants of a node."""

    body: dict[str, Any]


def sign_issuers_file(path: Path, *, root: Root, document: Path, wall: float) -> Iterator[str]:
    """Sign the edition after the one in ``document`` with exactly the keys of ``path``. Raises ``ConfigError``."""
    wanted = _read(path, EditionFile)
    held = read_edition(document, root.pinned)
    entries = tuple(_entry(each, path.parent) for each in wanted.keys)
    signed = sign_edition(entries, held, root, wall)
    write_whole(document, signed.token, mode=0o644)
    before = {entry.name for entry in held.keys} if held else set()
    for name in sorted(before - {entry.name for entry in entries}):
        yield f"{name} is listed no more: what it signed is not even answered"
    yield signed.told(document)


def sign_desired_file(path: Path, *, issuer: Issuer, node: str, out: Path, version: int, wall: float) -> Iterator[str]:
    """Sign what ``path`` wants of ``node`` into ``out``, as ``version``, or with 0 as the next one.

    The next version is above that of the document in ``out`` and no lower than the seconds since 1970, so that it also
    rises where ``out`` was lost. Raises ``ConfigError``.
    """
    wanted = _read(path, DesiredFile)
    _require_wishes(path, wanted.body)
    held = _held_version(out, issuer)
    chosen = version or max(held + 1, int(wall))
    if chosen <= held:
        raise ConfigError(f"version {chosen}, and {out} has {held}", remedy="leave --version out")
    aud = issuer.node(node).audience
    try:
        token = sign_desired(Desired(issuer.name, aud, chosen, int(wall), wanted.body), issuer.key)
    except jose.SigningError as error:
        raise ConfigError(f"no node would take it: {error.what}", remedy=error.remedy) from error
    write_whole(out, token, mode=0o644)
    yield f"{out}: version {chosen} for {node}"


def read_document(path: Path, roots: Sequence[VerifyKey], desired_key: VerifyKey) -> Document:
    """A signed document of either kind, proven as its nodes will. Raises ``ConfigError``."""
    token = _bytes(path).strip()

    def find_root(kid: str) -> VerifyKey:
        return _find(kid, roots, "not signed by a root that was named", "name its root with --root-key")

    def find_issuer(kid: str) -> VerifyKey:
        return _find(kid, (desired_key,), "not signed by this issuer", "publish it as the issuer that signed it")

    try:
        verified = _of_kind(token, jose.ISSUERS, find_root)
        if verified is not None:
            return Document("issuers", claims_as(verified.claims, IssuersDocument).version, "", token)
        desired = claims_as(jose.verify(token, jose.DESIRED, find_issuer).claims, Desired)
    except VerificationError as error:
        raise ConfigError(f"{path}: {error.what}", remedy=error.remedy) from error
    return Document("desired", desired.version, desired.aud, token)


def _require_wishes(path: Path, body: dict[str, Any]) -> None:
    """Refuse what every locker would refuse; which doors there are, its own node knows."""
    _, refusals = read_wishes(body, ())
    faults = [f"{each.member} ({each.reason})" for each in refusals if each.reason != NO_SUCH_DOOR]
    if faults:
        raise ConfigError(
            f"{path}: no node would take {', '.join(faults)}", remedy="docs/contract.md has what it may say"
        )


def _of_kind(token: bytes, typ: str, find_key: Any) -> jose.Verified | None:
    """The claims, None when it is of another kind."""
    try:
        return jose.verify(token, typ, find_key)
    except VerificationError as error:
        if error.reason == "wrong_type":
            return None
        raise


def _find(kid: str, keys: Sequence[VerifyKey], what: str, remedy: str) -> VerifyKey:
    for key in keys:
        if key.kid == kid:
            return key
    raise refused("unknown_key", what, remedy)


def _held_version(out: Path, issuer: Issuer) -> int:
    if not out.exists():
        return 0
    held = read_document(out, (), issuer.key.public)
    return held.version


def _entry(listed: ListedKey, base: Path) -> Entry:
    return Entry(
        jwk=read_verify_key(base / listed.key).jwk(),
        name=listed.name,
        scopes=listed.scopes,
        nodes=listed.nodes,
        not_before=_seconds(listed.not_before),
        not_after=_seconds(listed.not_after),
        revoked=listed.revoked,
    )


def _seconds(when: datetime) -> int:
    """A time without a zone is UTC."""
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _read(path: Path, kind: type[T]) -> T:
    text = _bytes(path)
    try:
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=kind)
        return msgspec.toml.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", remedy="docs/commands.md shows both kinds of file") from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
    if len(text) > MAX_TOKEN_BYTES:
        raise ConfigError(f"{path}: longer than {MAX_TOKEN_BYTES} bytes", remedy="a node takes no longer document")
    return text
