"""What a node's key files say: who it is, whom it believes, and what it seals and hashes with."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from agents.settings import NodeSettings
from edge.credentials_systemd import credential_or
from edge.enrolled_file import read_enrolled
from edge.errors import ConfigError
from edge.identity import Identity, identify
from edge.issuers import Issuers, read_issuers
from edge.keys import SealingKey, SigningKey, VerifyKey
from edge.keys_file import read_sealing_key, read_signing_key, read_verify_key
from locker.pickup_code import KEY_BYTES, CodeHasher


class Trust(msgspec.Struct, frozen=True):
    """What the key files say."""

    role: SigningKey
    identity: Identity
    roots: tuple[VerifyKey, ...]
    issuers: Issuers
    hub: SealingKey
    hasher: CodeHasher


def read_trust(settings: NodeSettings, base: Path) -> Trust:
    """Read every key file. Raises ``ConfigError`` naming the file."""
    keys = settings.keys
    role = read_signing_key(credential_or(base / keys.role, os.environ))
    lowest = read_enrolled(base / keys.enrolled).lowest_issuers if keys.enrolled else 1
    roots = tuple(read_verify_key(base / each) for each in keys.roots)
    return Trust(
        role=role,
        identity=identify(settings.node.tenant, settings.node.name, role.public),
        roots=roots,
        issuers=read_issuers(_read(base / keys.issuers).strip(), roots, held_version=lowest - 1),
        hub=read_sealing_key(base / keys.hub),
        hasher=_hasher(credential_or(base / keys.code, os.environ)),
    )


def _hasher(path: Path) -> CodeHasher:
    key = _read(path)
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: {len(key)} bytes", remedy=f"make it with {KEY_BYTES} random bytes")
    return CodeHasher(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
