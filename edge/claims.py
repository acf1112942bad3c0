"""Shapes and checks that all signed things share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from edge.errors import VerificationError

Shape = TypeVar("Shape")

Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9._-]{1,48}(?!\n)$")]
"""A name or a scope.

Patterns are published as JSON Schema, so their end is written to mean the same in Python, where a bare ``$`` would let
a line break follow.
"""

Seconds = Annotated[int, msgspec.Meta(ge=0)]
"""Since 1970-01-01 UTC, as JWT's NumericDate."""

Uuid7 = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?!\n)$")
]
"""Lower case (RFC 9562 section 5.7)."""


def refused(reason: str, what: str, remedy: str) -> VerificationError:
    """The error for a signed thing that is not what it must be; ``reason`` is a stable word."""
    return VerificationError(reason, f"refused: {what}", remedy=remedy)


def claims_as(claims: Mapping[str, Any], shape: type[Shape]) -> Shape:
    """The claims as a struct. Raises ``VerificationError`` (``bad_claims``), naming the member."""
    try:
        return msgspec.convert(claims, shape)
    except msgspec.ValidationError as error:
        raise refused("bad_claims", str(error), "send the members that the contract names") from error


def require_newer(version: int, held: int) -> None:
    """Versions rise strictly, so that a broker cannot bring an old edition back. Raises with ``not_newer``."""
    if version <= held:
        raise refused("not_newer", f"version {version}, and {held} is held", "publish a higher version")


def require_audience(claimed: object, audience: str) -> None:
    """Raises ``VerificationError`` (``wrong_audience``) unless it was signed for exactly this reader."""
    if claimed != audience:
        raise refused("wrong_audience", "signed for another reader or an earlier instance", "sign it for this one")
