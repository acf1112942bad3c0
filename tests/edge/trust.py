"""One operator, one node, and hands to sign with: fixed seeds, so that every run signs the same bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from edge import jose
from edge.identity import identify
from edge.issuers import Entry, Issuers, IssuersDocument, read_issuers, sign_issuers
from edge.keys import OpeningKey, SigningKey

NOW = 1_800_000_000
DAY = 86_400


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


ROOT = SigningKey(seed("root"))
HUB = SigningKey(seed("hub"))
SECOND = SigningKey(seed("second person"))
STRANGER = SigningKey(seed("stranger"))
ROLE = SigningKey(seed("role"))
OPENER = OpeningKey(seed("opener"))
NODE = identify("acme", "locker-7", ROLE.public)

SCOPES = ("ack", "badge", "desired", "hold", "nonce", "open", "voucher", "expect", "clear", "audit", "book")


def entry(**changed: Any) -> Entry:
    members: dict[str, Any] = {
        "name": "hub",
        "jwk": HUB.public.jwk(),
        "scopes": SCOPES,
        "nodes": ("acme_*",),
        "not_before": NOW - DAY,
        "not_after": NOW + DAY,
    }
    return Entry(**(members | changed))


def issuers(*entries: Entry, version: int = 1) -> Issuers:
    document = IssuersDocument(version, NOW, entries or (entry(),))
    return read_issuers(sign_issuers(document, ROOT), [ROOT.public], held_version=0)


def signed(claims: dict[str, Any], typ: str, key: SigningKey = HUB) -> bytes:
    return jose.sign(claims, typ, key)


def changed_anywhere(token: bytes, at: int, to: int) -> bytes:
    """``token`` with the byte at ``at`` replaced by ``to``."""
    return token[:at] + bytes([to]) + token[at + 1 :]
