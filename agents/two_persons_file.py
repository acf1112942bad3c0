"""A command on its way from the first signer to the second and to the node, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agents.settings import IssuerSettings
from edge import base64url
from edge.atomic_file import write_whole
from edge.claims import refused
from edge.command import Claims, cosign, read_first
from edge.errors import ConfigError, LastmileError
from edge.jose import MAX_TOKEN_BYTES
from edge.keys import VerifyKey
from edge.keys_file import read_signing_key, read_verify_key
from edge.settings_file import read_settings


def write_half(path: Path, half: bytes) -> None:
    """Put what the first person signed into a new file. Raises ``ConfigError``; nothing is overwritten."""
    try:
        with path.open("xb") as file:
            file.write(half)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a new file that this user can write") from error


class Half(msgspec.Struct, frozen=True):
    """What the first person signed: the bytes that the second sees are the bytes that the second signs.

    The file may be another one by the time that somebody has read it and nodded.
    """

    path: Path
    token: bytes
    claims: Claims

    def told(self) -> Iterator[str]:
        """For the second person to read."""
        claims = self.claims
        yield f"signed by   {claims.iss}"
        yield f"for         {claims.aud}"
        yield f"command     {claims.name} {claims.subject}"
        yield f"arguments   {msgspec.json.encode(claims.args).decode()}"
        yield f"id          {claims.jti}"


def read_half(path: Path, first_key: Path) -> Half:
    """Raises ``LastmileError`` when it is not the half of who has ``first_key``."""
    key, token = read_verify_key(first_key), _read(path)

    def find_key(kid: str) -> VerifyKey:
        if kid != key.kid:
            raise refused("unknown_key", f"{path} is signed by another key", "name the public key of who signed first")
        return key

    return Half(path, token, read_first(token, find_key))


def add_second(half: Half, config: Path) -> None:
    """Sign it as the issuer of ``config``, in the place of the half. Raises ``LastmileError``; the half stays then."""
    settings = read_settings(config, IssuerSettings)
    if half.claims.iss == settings.name:
        raise ConfigError(f"{settings.name} has signed it already", remedy="let another person sign it too")
    write_whole(half.path, cosign(half.token, read_signing_key(config.parent / settings.key)), mode=0o644)


def read_whole(path: Path) -> tuple[Claims, bytes]:
    """A command that both have signed, and its claims; its node judges the signatures. Raises ``ConfigError``."""
    token = _read(path)
    try:
        parts: dict[str, Any] = msgspec.json.decode(token, type=dict[str, Any])
        claims = msgspec.json.decode(base64url.decode(parts["payload"].encode()), type=Claims)
        signatures = len(parts["signatures"])
    except (ValueError, KeyError, TypeError, AttributeError, LastmileError) as error:
        raise ConfigError(f"{path}: not a command that two people sign", remedy="name the file of `cosign`") from error
    if signatures != 2:  # noqa: PLR2004  two people
        raise ConfigError(f"{path}: signed by one person", remedy=f"let another say `lastmile command cosign {path}`")
    return claims, token


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            token = os.read(file.fileno(), MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the file that the first person made") from error
    return token
