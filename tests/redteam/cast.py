"""Who takes part: honest people with their keys, and every key that an attacker may have got hold of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agents.site import Site
from edge.issuers import Entry, IssuersDocument, sign_issuers
from edge.keys import SigningKey
from edge.keys_file import read_signing_key, write_private_key, write_public_key

DAY = 86_400
STAFF, GUARD = SigningKey(b"t" * 32), SigningKey(b"g" * 32)
"""Two honest persons. The second key of the first, and all below, are in the attacker's hands."""
SPARE = SigningKey(b"p" * 32)
"""Of the same person as ``STAFF``, for clearing alone."""
ASKER = SigningKey(b"i" * 32)
"""May ask for nonces and nothing else."""
PORTER = SigningKey(b"y" * 32)
"""May open, and may not ask for nonces: it needs somebody else's."""
SHOP = SigningKey(b"b" * 32)
"""May book at this node."""
FAR, FORMER, LATE = SigningKey(b"w" * 32), SigningKey(b"q" * 32), SigningKey(b"l" * 32)
"""Of other nodes, revoked, and expired; each would have every right, under the consumer's name."""
CLERK, OUTSIDER = SigningKey(b"c" * 32), SigningKey(b"o" * 32)
"""Under the consumer's name, for badges alone; and for acks, of a consumer that this node does not have."""
INSIDER = SigningKey(b"n" * 32)
"""May open any door that staff may. It gets one door for each nonce that it is given, as anybody."""
ALL = ("ack", "nonce", "open", "clear", "audit", "book", "desired", "time")


def entry(key: SigningKey, name: str, scopes: Sequence[str], **changed: Any) -> Entry:
    now = int(time.time())
    members: dict[str, Any] = {"nodes": ("acme_*",), "not_before": now - DAY, "not_after": now + DAY}
    return Entry(name=name, jwk=key.public.jwk(), scopes=tuple(scopes), **(members | changed))


def listed(site: Site, *more: Entry) -> tuple[Entry, ...]:
    """The keys of the site's own issuers document and of this cast."""
    now = int(time.time())
    return (
        entry(read_signing_key(site.key("hub-ack.pem")), "hub", ("ack",)),
        entry(read_signing_key(site.key("badges.pem")), "badges", ("badge",)),
        entry(STAFF, "staff", ("nonce", "open", "clear", "book", "desired")),
        entry(GUARD, "guard", ("nonce", "open", "clear")),
        entry(SPARE, "staff", ("clear",)),
        entry(ASKER, "asker", ("nonce",)),
        entry(PORTER, "porter", ("open",)),
        entry(SHOP, "shop", ("book",)),
        entry(INSIDER, "insider", ("nonce", "open")),
        entry(CLERK, "hub", ("badge",)),
        entry(OUTSIDER, "outsider", ("ack",)),
        entry(FAR, "hub", ALL, nodes=("acme_far*", "other_*", "acme_locker-70")),
        entry(FORMER, "hub", ALL, revoked=True),
        entry(LATE, "hub", ALL, not_after=now - 1),
        *more,
    )


def edition(site: Site, version: int, *more: Entry) -> bytes:
    """An issuers document by the operator's own root."""
    root = read_signing_key(site.key("root.pem"))
    return sign_issuers(IssuersDocument(version, int(time.time()), listed(site, *more)), root)


def cast(site: Site) -> None:
    """Put everybody's keys and the document that lists them where the settings look for them."""
    for name, key in (("staff", STAFF), ("guard", GUARD)):
        write_private_key(site.key(f"{name}.pem"), key)
        write_public_key(site.key(f"{name}.jwk"), key.public)
    site.key("issuers.jws").write_bytes(edition(site, 2))
