"""Nonces for commands that move something: given out seconds before, used once, kept in memory alone.

Because nothing of them survives the process, no clock, counter or restored database can bring an old command to life.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import msgspec

from edge import base64url
from edge.claims import refused

LIFETIME_S = 60.0
"""A person confirms at the console within it; a recorded command is worthless soon after."""

NONCE_BYTES = 16
"""Beyond guessing, and 22 characters in the command."""

MAX_PER_KEY = 16
"""Living nonces of one issuer. A node opens at most 3 doors a minute remotely; other issuers are not crowded out."""


MAX_SUBJECTS = 4096
"""Things that one issuer may have asked for in one run; a locker has 256 doors. What was once asked for is
remembered, so that a recorded request is not served again when its nonce is long over.
"""


class _Slot(msgspec.Struct):
    request: int
    issued: float
    nonce: str | None


class NonceBook:
    """All nonces of one run of a role agent. ``mono`` is its running time in seconds."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._slots: dict[str, dict[tuple[str, str], _Slot]] = {}

    def issue(self, kid: str, name: str, subject: str, request: int, mono: float) -> str:
        """A nonce for one command ``name`` on ``subject`` by the key ``kid``; it voids the one before.

        ``request`` is the asker's own number and rises, so that a delayed request cannot void a newer nonce; the same
        number once more (brokers repeat) gets the same nonce while that is unused. Raises ``VerificationError``:
        ``old_request``, or ``too_many_nonces`` while ``MAX_PER_KEY`` of that key live.
        """
        slots = self._slots.setdefault(kid, {})
        before = slots.get((name, subject))
        if before is not None and request == before.request and before.nonce is not None and not _over(before, mono):
            return before.nonce
        if before is not None and request <= before.request:
            raise refused("old_request", "a newer nonce was asked for", "ask with a higher request number")
        alive = sum(slot.nonce is not None and not _over(slot, mono) for slot in slots.values() if slot is not before)
        if alive >= MAX_PER_KEY or (before is None and len(slots) >= MAX_SUBJECTS):
            raise refused("too_many_nonces", f"{MAX_PER_KEY} nonces are out", "use them, or wait a minute")
        nonce = base64url.encode(self._random(NONCE_BYTES))
        slots[name, subject] = _Slot(request, mono, nonce)
        return nonce

    def redeem(self, kid: str, name: str, subject: str, nonce: str, mono: float) -> None:
        """Use up the nonce.

        Raises ``VerificationError``: ``unknown_nonce`` (never given for this, void, or used before), ``nonce_expired``.
        """
        slot = self._slots.get(kid, {}).get((name, subject))
        if slot is None or slot.nonce is None or not hmac.compare_digest(slot.nonce.encode(), nonce.encode()):
            raise refused("unknown_nonce", "not the nonce given out for this", "ask for a nonce and sign again")
        slot.nonce = None
        if _over(slot, mono):
            raise refused("nonce_expired", "the nonce is over a minute old", "ask for a nonce and sign again")


def _over(slot: _Slot, mono: float) -> bool:
    return mono - slot.issued >= LIFETIME_S
