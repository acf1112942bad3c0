"""A node's signed answer to a command."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import msgspec

from edge import jose
from edge.claims import Seconds, Uuid7, claims_as, refused, require_audience
from edge.keys import SigningKey, VerifyKey


class Status(enum.Enum):
    """What became of it. ``ACCEPTED`` is not the end; the other four are."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It cannot be known, for instance after a crash in the middle: ``data`` tells what the sensors say."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``iss`` is the node's ``Identity.audience``, ``aud`` the ``iss`` of the command, ``id`` its ``jti``.

    ``reason`` is the stable word of a refusal or failure; ``data`` holds what was asked for, such as a nonce.
    """

    iss: str
    aud: Annotated[str, msgspec.Meta(max_length=48)]
    id: Uuid7
    status: Status
    iat: Seconds
    reason: Annotated[str, msgspec.Meta(max_length=64)] = ""
    data: dict[str, Any] = {}


def sign_result(result: Result, role_key: SigningKey) -> bytes:
    return jose.sign(result, jose.RESULT, role_key)


def read_result(token: bytes, role_key: VerifyKey, *, audience: str, command_id: str, issuer: str) -> Result:
    """The answer of the node with ``role_key`` and ``audience`` to the command that ``issuer`` sent.

    Raises ``VerificationError``: a reason of ``edge.jose.verify``, ``unknown_key, bad_claims, wrong_issuer,
    wrong_audience`` or ``wrong_command``.
    """

    def find_key(kid: str) -> VerifyKey:
        if kid != role_key.kid:
            raise refused("unknown_key", "another node's key", "check the node's role key")
        return role_key

    result = claims_as(jose.verify(token, jose.RESULT, find_key).claims, Result)
    if result.iss != audience:
        raise refused("wrong_issuer", "another node's name", "check the node's identity")
    require_audience(result.aud, issuer)
    if result.id != command_id:
        raise refused("wrong_command", "it answers another command", "wait for its own")
    return result
