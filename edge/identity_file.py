"""A node's identity on the disk: one whole set of files is in force, and the next one grows beside it.

    DIR/current -> 3f2a...            what the configuration names
    DIR/next    -> 91bc...            made, not enrolled yet
    DIR/3f2a.../role/                 for the role agent: role.pem, role.jwk, code.key, root-1.jwk, issuers.jws, ...
    DIR/3f2a.../tls/                  for cloud-sync: node.pem (key, certificate, chain), ca.pem, node.csr

``next`` becomes ``current`` by renaming one symlink, so at any moment ``current`` is complete.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from edge.atomic_file import sync_directory, write_whole
from edge.certificate import Certificate, TlsKey, read_chain, read_request, require_usable
from edge.enrolled_file import EnrolledFile, read_enrolled, write_enrolled
from edge.enrolment import Enrolled, Terms, check_terms
from edge.errors import ConfigError, StoreError
from edge.identity import Identity, identify, split_node
from edge.issuers import MAX_ROOTS
from edge.keys import Random, SigningKey
from edge.keys_file import read_signing_key

CURRENT, NEXT = "current", "next"
CODE_KEY_BYTES = 32
"""As ``locker.pickup_code.KEY_BYTES``: the key under which pickup codes are hashed."""

_GENERATION = re.compile(r"[0-9a-f]{16}")
_GENERATION_BYTES = 8


class Draft(msgspec.Struct, frozen=True):
    """An identity that is made and not enrolled yet."""

    directory: Path
    identity: Identity
    role: SigningKey
    tls: TlsKey
    request: bytes
    """PEM."""


class Whole(msgspec.Struct, frozen=True):
    """An identity that a node can work with."""

    directory: Path
    identity: Identity
    certificate: Certificate
    terms: Terms
    lowest_issuers: int


def begin(directory: Path, tenant: str, name: str, *, random: Random, keep_role_key: bool) -> Draft:
    """Make the keys of the next identity and the request for its certificate.

    The code key of the present identity is taken over: under another one no stored parcel could be collected. The role
    key is, too, with ``keep_role_key``: right as long as nobody else can have it. Raises ``ConfigError`` or
    ``StoreError``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / NEXT).is_symlink():
        raise ConfigError(
            f"{directory / NEXT} is not enrolled yet", remedy="enrol it with its claim, or remove it to begin anew"
        )
    _tidy(directory)
    former = directory / CURRENT / "role"
    if keep_role_key and not former.is_dir():
        raise ConfigError(f"{directory} holds no role key", remedy="leave --keep-role-key out")
    role = read_signing_key(former / "role.pem") if keep_role_key else SigningKey.generate(random)
    code = (former / "code.key").read_bytes() if former.is_dir() else random(CODE_KEY_BYTES)
    tls = TlsKey.generate(random)
    request = tls.request(identify(tenant, name, role.public).node)
    generation = random(_GENERATION_BYTES).hex()
    _make(directory / generation, role, code, tls, request)
    (directory / NEXT).symlink_to(generation)
    sync_directory(directory)
    return read_draft(directory)


def read_draft(directory: Path) -> Draft:
    """The identity that ``begin`` has made. Raises ``ConfigError`` when there is none."""
    place = directory / NEXT
    if not place.is_symlink():
        raise ConfigError(f"{directory} holds no identity to enrol", remedy="make one with `lastmile identity new`")
    role = read_signing_key(place / "role" / "role.pem")
    request = _read(place / "tls" / "node.csr")
    tenant, name = split_node(read_request(request).name)
    key = place / "tls" / "node.key"
    tls = TlsKey.parse(_read(key if key.exists() else place / "tls" / "node.pem"))
    return Draft(directory.resolve() / place.readlink(), identify(tenant, name, role.public), role, tls, request)


def install(directory: Path, enrolled: Enrolled, terms: Terms, *, role_user: str = "", sync_user: str = "") -> Whole:
    """Complete the next identity with what enrolment gave, look at the whole, and put it in force.

    The former one is removed afterwards. ``role_user`` and ``sync_user`` become the owners of their halves. Raises
    ``ConfigError`` or ``StoreError``; the present identity stays in force then.
    """
    draft = read_draft(directory)
    _complete(draft, enrolled, terms)
    whole = read_identity(draft.directory, wall=None)
    _hand_over(draft.directory / "role", role_user)
    _hand_over(draft.directory / "tls", sync_user)
    try:
        (directory / NEXT).replace(directory / CURRENT)
        sync_directory(directory)
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}", remedy="give a directory that can be written") from error
    _tidy(directory)
    return whole


def read_identity(place: Path, *, wall: float | None) -> Whole:
    """A whole identity, every part checked against the others. ``wall`` is None on a clock that nobody has set.

    Raises ``ConfigError`` or ``VerificationError`` naming what does not fit.
    """
    role, tls = place / "role", place / "tls"
    pair = _read(tls / "node.pem")
    chain = read_chain(pair)
    tenant, name = split_node(read_request(_read(tls / "node.csr")).name)
    identity = identify(tenant, name, read_signing_key(role / "role.pem").public)
    certificate = require_usable(chain, TlsKey.parse(pair), identity.node, wall)
    read_chain(_read(tls / "ca.pem"))
    if len(_read(role / "code.key")) != CODE_KEY_BYTES:
        raise ConfigError(f"{role / 'code.key'} has another length", remedy="take it from a backup of this node")
    roots = [role / f"root-{n}.jwk" for n in range(1, MAX_ROOTS + 1)]
    lowest = read_enrolled(role / "enrolled.json").lowest_issuers
    terms = check_terms(
        Enrolled(
            certificate="",
            authority="",
            roots=tuple(_jwk(each) for each in roots if each.exists()),
            issuers=_read(role / "issuers.jws").decode().strip(),
            lowest_issuers=lowest,
            hub=_jwk(role / "hub.jwk"),
        )
    )
    return Whole(place, identity, certificate, terms, lowest)


def _make(place: Path, role: SigningKey, code: bytes, tls: TlsKey, request: bytes) -> None:
    try:
        for each in (place, place / "role", place / "tls"):
            each.mkdir(mode=0o700)
        place.chmod(0o755)
    except OSError as error:
        raise StoreError(f"{place}: {error.strerror}", remedy="give a directory that can be written") from error
    write_whole(place / "role" / "role.pem", role.pem())
    write_whole(place / "role" / "role.jwk", _json(role.public.jwk()), mode=0o644)
    write_whole(place / "role" / "code.key", code)
    write_whole(place / "tls" / "node.key", tls.pem())
    write_whole(place / "tls" / "node.csr", request, mode=0o644)
    sync_directory(place)


def _complete(draft: Draft, enrolled: Enrolled, terms: Terms) -> None:
    role, tls = draft.directory / "role", draft.directory / "tls"
    for number, root in enumerate(terms.roots, 1):
        write_whole(role / f"root-{number}.jwk", _json(root.jwk()), mode=0o644)
    write_whole(role / "issuers.jws", enrolled.issuers.encode() + b"\n", mode=0o644)
    write_whole(role / "hub.jwk", _json(terms.hub.jwk()), mode=0o644)
    # The edition in hand is at least as new as what was demanded; from now on nothing older is believed.
    write_enrolled(role / "enrolled.json", EnrolledFile(terms.issuers.version))
    write_whole(tls / "ca.pem", enrolled.authority.encode(), mode=0o644)
    write_whole(tls / "node.pem", draft.tls.pem() + enrolled.certificate.encode())
    (tls / "node.key").unlink(missing_ok=True)


def _hand_over(place: Path, user: str) -> None:
    if not user:
        return
    try:
        for each in (place, *place.iterdir()):
            shutil.chown(each, user, user)
    except (LookupError, OSError) as error:
        raise ConfigError(
            f"{place} cannot be given to {user}: {error}", remedy="run as root, with users made"
        ) from error


def _tidy(directory: Path) -> None:
    """Remove what no link names: a former identity, or one that a crash left unfinished."""
    named = {link.readlink().name for link in (directory / CURRENT, directory / NEXT) if link.is_symlink()}
    for each in directory.iterdir():
        if _GENERATION.fullmatch(each.name) and each.is_dir() and each.name not in named:
            shutil.rmtree(each)


def _json(jwk: dict[str, str]) -> bytes:
    return msgspec.json.encode(jwk) + b"\n"


def _jwk(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(_read(path), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: not a key as JWK", remedy="enrol again with a new claim") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
