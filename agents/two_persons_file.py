"""A command on its way from the first signer to the second and to the node, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agents.settings import IssuerSettings
from edge import base64url
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


def look_at(path: Path, first_key: Path) -> Iterator[str]:
    """What the first person signed, for the second to read. Raises ``LastmileError`` when it is not theirs."""
    claims = _first(path, read_verify_key(first_key))
    yield f"signed by   {claims.iss}"
    yield f"for         {claims.aud}"
    yield f"command     {claims.name} {claims.subject}"
    yield f"arguments   {msgspec.json.encode(claims.args).decode()}"
    yield f"id          {claims.jti}"


def add_second(path: Path, first_key: Path, config: Path) -> None:
    """Sign it as the issuer of ``config``, in the place of the half. Raises ``LastmileError``; the half stays then."""
    settings = read_settings(config, IssuerSettings)
    claims = _first(path, read_verify_key(first_key))
    if claims.iss == settings.name:
        raise ConfigError(f"{settings.name} has signed it already", remedy="let another person sign it too")
    whole = cosign(_read(path), read_signing_key(config.parent / settings.key))
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(whole)
    fresh.replace(path)


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


def _first(path: Path, key: VerifyKey) -> Claims:
    def find_key(kid: str) -> VerifyKey:
        if kid != key.kid:
            raise refused("unknown_key", f"{path} is signed by another key", "name the public key of who signed first")
        return key

    return read_first(_read(path), find_key)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            token = os.read(file.fileno(), MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the file that the first person made") from error
    return token
