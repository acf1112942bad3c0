"""A voucher for one booking at one node, as an issuer signs it: what the customer's phone or paper shows as a QR."""

from __future__ import annotations

from agents.issuer import Issuer
from edge.claims import claims_as
from edge.errors import ConfigError, VerificationError
from edge.voucher import Voucher, sign_voucher

DAY_S = 86_400
SKEW_S = 300
"""A node's clock may be so far behind the issuer's: a voucher is good at once."""


def issue_voucher(issuer: Issuer, node: str, booking: str, *, gen: int, days: int, wall: float) -> str:
    """The token. ``gen`` 0 stands for the seconds since 1970, so that the newest one made is the newest edition.

    Raises ``ConfigError`` for what no node would take.
    """
    now = int(wall)
    members = {
        "iss": issuer.name,
        "aud": issuer.node(node).audience,
        "booking": booking,
        "gen": gen or now,
        "nbf": now - SKEW_S,
        "exp": now + days * DAY_S,
    }
    try:
        return sign_voucher(claims_as(members, Voucher), issuer.key).decode()
    except VerificationError as error:
        raise ConfigError(f"no node would take it: {error.what}", remedy="mend what is named there") from error
