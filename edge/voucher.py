"""Vouchers: a signed QR that opens one booking's compartment on one node, with no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from edge import jose
from edge.claims import Seconds, Word, claims_as, refused
from edge.identity import Identity
from edge.issuers import VOUCHER, Issuers
from edge.keys import SigningKey


class Voucher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``gen`` counts the editions for one booking: a newer one takes the older out of force.

    ``booking`` is a random id; ``nbf`` and ``exp`` are seconds UTC.
    """

    iss: Word
    aud: str
    booking: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    gen: Annotated[int, msgspec.Meta(ge=1)]
    nbf: Seconds
    exp: Seconds


def read_voucher(
    token: bytes, issuers: Issuers, identity: Identity, *, highest_gen: Callable[[str], int], wall: float | None
) -> Voucher:
    """The voucher, if it is in force. ``highest_gen`` tells the highest seen for a booking, 0 for none.

    The caller keeps ``gen`` with the booking before it opens anything. ``wall`` is None while the clock is not trusted:
    then nothing is too early and nothing expires. Raises ``VerificationError``: a reason of ``Issuers.check``,
    ``bad_claims, superseded, not_yet_valid, expired``.
    """
    claims, _ = issuers.check(token, jose.VOUCHER, VOUCHER, node=identity.node, audience=identity.audience, wall=wall)
    voucher = claims_as(claims, Voucher)
    if voucher.gen < highest_gen(voucher.booking):
        raise refused("superseded", "a newer voucher was shown", "show the newest one")
    if wall is not None and wall < voucher.nbf:
        raise refused("not_yet_valid", "not valid yet", "come when it begins")
    if wall is not None and wall >= voucher.exp:
        raise refused("expired", "expired", "ask for a new voucher")
    return voucher


def sign_voucher(voucher: Voucher, key: SigningKey) -> bytes:
    return jose.sign(voucher, jose.VOUCHER, key)
