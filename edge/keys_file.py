"""Key files: private ones are 0600 and refused when anybody else can read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.atomic_file import sync_directory
from edge.errors import ConfigError
from edge.keys import OpeningKey, SealingKey, SigningKey, VerifyKey

Key = TypeVar("Key")

MAX_KEY_BYTES = 4096
"""A PEM of either curve has 119 bytes; anything near this is the wrong file."""
MAX_PAIR_BYTES = 32 * 1024
"""A TLS key with its certificate and chain has 2 KiB on P-256, and 8 where an authority still uses RSA."""


def read_signing_key(path: Path) -> SigningKey:
    """Raises ``ConfigError`` naming the file: missing, readable by others, not a key."""
    return _parsed(path, SigningKey.parse, private_text(path))


def read_opening_key(path: Path) -> OpeningKey:
    """Raises ``ConfigError`` naming the file: missing, readable by others, not a key."""
    return _parsed(path, OpeningKey.parse, private_text(path))


def read_verify_key(path: Path) -> VerifyKey:
    """Raises ``ConfigError`` naming the file: missing or not a public key."""
    return _parsed(path, VerifyKey.parse, _text(path))


def read_sealing_key(path: Path) -> SealingKey:
    """Raises ``ConfigError`` naming the file: missing or not a public key."""
    return _parsed(path, SealingKey.parse, _text(path))


def write_private_key(path: Path, key: SigningKey | OpeningKey) -> None:
    """Put the PEM into a new file of mode 0600, on the disk before this returns.

    Raises ``ConfigError`` when the file exists (a key is never overwritten) or cannot be made.
    """
    _write_new(path, key.pem(), 0o600)


def write_public_key(path: Path, key: VerifyKey | SealingKey) -> None:
    """Put the JWK into a new file that all may read. Raises ``ConfigError`` as ``write_private_key`` does."""
    _write_new(path, msgspec.json.encode(key.jwk()) + b"\n", 0o644)


def _write_new(path: Path, text: bytes, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(text)
            file.flush()
            os.fsync(fd)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already", remedy="move it away if a new key is really meant") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a directory that can be written") from error


def private_text(path: Path, *, most: int = MAX_KEY_BYTES) -> bytes:
    """What is in a private file. Raises ``ConfigError`` when it is missing, too long, or others can read it."""
    return _text(path, private=True, most=most)


def _text(path: Path, *, private: bool = False, most: int = MAX_KEY_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            if private:
                _refuse_shared(path, os.fstat(file.fileno()))
            text = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the key's file, readable by this user") from error
    if len(text) > most:
        raise ConfigError(f"{path}: too long for a key", remedy="name the key's file")
    return text


def _refuse_shared(path: Path, info: os.stat_result) -> None:
    shared = stat.S_IMODE(info.st_mode) & 0o077
    if info.st_uid == 0 and info.st_gid == 0:
        # systemd hands a credential over as root's file with an ACL for the service's user; the ACL's mask shows up
        # as the group's read bit, and the group is root.
        shared &= ~stat.S_IRGRP
    if shared:
        raise ConfigError(
            f"{path}: a private key that others can read (mode {stat.S_IMODE(info.st_mode):04o})",
            remedy=f"chmod 600 {path}, and make a new key if anybody had access",
        )


def _parsed(path: Path, parse: Callable[[bytes], Key], text: bytes) -> Key:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", remedy=error.remedy) from error
