"""The one place that signs, verifies, seals and opens: JWS by Ed25519, compact JWE by ECDH-ES and A256GCM.

What one person signs is a compact JWS. What two sign is the general JSON form over the same payload, and each half of
it is read as the compact JWS it would be alone, so that nothing is let through in one form that the other refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from edge import base64url
from edge.claims import refused
from edge.errors import LastmileError, ProtocolError, VerificationError
from edge.keys import OpeningKey, SealingKey, SigningKey, VerifyKey

COMMAND: Final = "lm-cmd+jwt"
VOUCHER: Final = "lm-voucher+jwt"
DESIRED: Final = "lm-desired+jwt"
ISSUERS: Final = "lm-issuers+jwt"
ACK: Final = "lm-ack+jwt"
RESULT: Final = "lm-res+jwt"
REPORTED: Final = "lm-reported+jwt"
BADGE: Final = "lm-badge+jwt"
ENROL: Final = "lm-enrol+jwt"
RENEW: Final = "lm-renew+jwt"

MAX_TOKEN_BYTES = 32 * 1024
"""One signed thing: fits a packet of the local socket (64 KiB) with room for its frame."""

MAX_HEADER_BYTES = 512
"""Base64url characters; ours has 230 at most. The header is read before anything is proven, so it is kept small."""

MAX_NUMBER = 2**53 - 1
"""What every reader of JSON can count (RFC 7493 section 2.2), and every database. A larger number would be refused by
whoever has to keep it, when it is too late to refuse what carries it.
"""

ALGORITHM = "Ed25519"
"""The fully specified name of RFC 9864: "EdDSA" would leave the curve to the key."""

_SIGNED_MEMBERS = {"alg", "typ", "kid"}
_SEALED_MEMBERS = {"alg", "enc", "kid", "epk"}
_WHOLE = {3: "a compact JWS", 5: "a compact JWE"}
_jws = jws.JWSRegistry(algorithms=[ALGORITHM])
_jwe = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM"])


class SigningError(LastmileError, ValueError):
    """What is to be signed would be refused by every reader. A defect of the caller."""


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    protected: str
    signature: str


class _General(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RFC 7515 section 7.2.1, without unprotected headers."""

    payload: str
    signatures: Annotated[tuple[_Signature, ...], msgspec.Meta(min_length=1, max_length=2)]

    def compact(self, at: int) -> bytes:
        half = self.signatures[at]
        return f"{half.protected}.{self.payload}.{half.signature}".encode()


class Verified(msgspec.Struct, frozen=True):
    """What was signed, and by which key. Who may say such a thing is for the caller to check."""

    claims: dict[str, Any]
    kid: str


def sign(claims: Mapping[str, Any] | msgspec.Struct, typ: str, key: SigningKey) -> bytes:
    """A compact JWS over ``claims`` as JSON. Raises ``SigningError`` above ``MAX_TOKEN_BYTES``."""
    header = {"alg": ALGORITHM, "typ": typ, "kid": key.kid}
    payload = msgspec.json.encode(claims)
    return _fitting(jws.serialize_compact(header, payload, OKPKey.import_key(key.crypto), registry=_jws).encode(), typ)


def verify(token: bytes, typ: str, find_key: Callable[[str], VerifyKey]) -> Verified:
    """The claims of ``token`` when it is exactly a ``typ`` signed by the key that ``find_key`` has for its ``kid``.

    ``find_key`` raises ``VerificationError`` for a key it does not know. Every failure is a ``VerificationError`` with
    one of the reasons ``oversize, malformed, bad_header, wrong_algorithm, wrong_type, bad_signature, bad_claims``. The
    header holds ``alg``, ``typ`` and ``kid`` and nothing else, so ``jku, jwk, x5u, x5c, crit, b64`` are all refused.
    """
    header = _header(token, 3)
    if header.get("alg") != ALGORITHM:
        raise refused("wrong_algorithm", "signed by another algorithm", f"sign it with {ALGORITHM}")
    if header.get("typ") != typ:
        raise refused("wrong_type", f"not a {typ}", "send each signed thing where it belongs")
    kid = _kid(header, _SIGNED_MEMBERS)
    key = OKPKey.import_key(find_key(kid).crypto)
    try:
        signed = jws.deserialize_compact(token, key, registry=_jws)
    except JoseError as error:
        raise refused("bad_signature", "the signature does not fit", "ask its sender again") from error
    return Verified(_object(signed.payload, "bad_claims"), kid)


def sign_first(claims: Mapping[str, Any] | msgspec.Struct, typ: str, key: SigningKey) -> bytes:
    """Half of a JWS that two have to sign. It is none yet: every reader refuses it. Raises ``SigningError``."""
    protected, payload, signature = sign(claims, typ, key).decode().split(".")
    return _fitting(msgspec.json.encode(_General(payload, (_Signature(protected, signature),))), typ)


def cosign(half: bytes, typ: str, key: SigningKey) -> bytes:
    """The whole JWS: the second signature over the very bytes of the first.

    What is signed should have been looked at with ``verify_first``. Raises ``SigningError`` for what is not the half of
    a ``typ``, or was signed by the same key.
    """
    try:
        general = _general(half, 1)
        first = _header(general.compact(0), 3)
    except VerificationError as error:
        raise SigningError(f"not half of a {typ}: {error.what}", remedy="sign what the first signer made") from error
    if first.get("typ") != typ or first.get("kid") == key.kid:
        raise SigningError(f"half of a {typ} of another kind or by the same key", remedy="let another person sign")
    protected = base64url.encode(msgspec.json.encode({"alg": ALGORITHM, "typ": typ, "kid": key.kid}))
    signature = base64url.encode(key.sign(f"{protected}.{general.payload}".encode()))
    whole = _General(general.payload, (*general.signatures, _Signature(protected, signature)))
    return _fitting(msgspec.json.encode(whole), typ)


def verify_first(half: bytes, typ: str, find_key: Callable[[str], VerifyKey]) -> Verified:
    """What the first of two has signed, for the second to look at; as ``verify``. No node acts on it."""
    return verify(_general(half, 1).compact(0), typ, find_key)


def verify_all(token: bytes, typ: str, find_key: Callable[[str], VerifyKey]) -> tuple[Verified, ...]:
    """Who signed ``token``, in order: one for a compact JWS, two for the general JSON form; as ``verify``.

    Each holds the same claims. The JSON is refused as ``malformed`` unless it is spelt exactly as ``cosign`` spells it:
    one command has one spelling, and nothing travels with it that nobody has signed.
    """
    if not token.startswith(b"{"):
        return (verify(token, typ, find_key),)
    general = _general(token, 2)
    return tuple(verify(general.compact(at), typ, find_key) for at in range(2))


def first_alone(token: bytes) -> bytes:
    """The compact JWS of the first who signed ``token``; for a token that ``verify_all`` has taken.

    Whoever carries a token can take the second signature off it. This is what stays the same then.
    """
    return _general(token, 2).compact(0) if token.startswith(b"{") else token


def seal(plaintext: bytes, recipient: SealingKey) -> bytes:
    """A compact JWE that only ``recipient`` can open. It proves nothing about who sealed it.

    The ephemeral key and the nonce come from the system's generator: a repeated one would give the contents away.
    """
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": recipient.kid}
    return jwe.encrypt_compact(header, plaintext, OKPKey.import_key(recipient.crypto), registry=_jwe).encode()


def open_sealed(token: bytes, find_key: Callable[[str], OpeningKey]) -> bytes:
    """What was sealed. ``find_key`` raises ``VerificationError`` for a ``kid`` that is not ours.

    Raises ``VerificationError`` with ``oversize, malformed, bad_header, wrong_algorithm`` or ``cannot_open``.
    """
    header = _header(token, 5)
    if (header.get("alg"), header.get("enc")) != ("ECDH-ES", "A256GCM"):
        raise refused("wrong_algorithm", "sealed by another algorithm", "seal it with ECDH-ES and A256GCM")
    key = OKPKey.import_key(find_key(_kid(header, _SEALED_MEMBERS)).crypto)
    try:
        plaintext = jwe.decrypt_compact(token, key, registry=_jwe).plaintext
    except (JoseError, ValueError) as error:
        # ValueError: an ephemeral key that is not a point the library can use.
        raise refused("cannot_open", "sealed for another key, or changed on its way", "ask its sender again") from error
    return plaintext or b""


def _fitting(token: bytes, typ: str) -> bytes:
    if len(token) > MAX_TOKEN_BYTES:
        raise SigningError(f"{typ} of {len(token)} bytes", remedy=f"say less at once: the limit is {MAX_TOKEN_BYTES}")
    return token


def _general(token: bytes, signatures: int) -> _General:
    if len(token) > MAX_TOKEN_BYTES:
        raise refused("oversize", f"{len(token)} bytes", f"say it in {MAX_TOKEN_BYTES}")
    wanted = f"a JWS in general JSON with {signatures} signatures"
    try:
        general = msgspec.json.decode(token, type=_General)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused("malformed", f"not {wanted}", "send the form that its signers made") from error
    if len(general.signatures) != signatures or msgspec.json.encode(general) != token:
        raise refused("malformed", f"not {wanted}", "send the form that its signers made")
    return general


def _header(token: bytes, segments: int) -> dict[str, Any]:
    """The header, read but not yet believed, of a token whose every segment is spelt canonically."""
    if len(token) > MAX_TOKEN_BYTES:
        raise refused("oversize", f"{len(token)} bytes", f"say it in {MAX_TOKEN_BYTES}")
    parts = token.split(b".")
    if len(parts) != segments or len(parts[0]) > MAX_HEADER_BYTES:
        raise refused("malformed", f"not {_WHOLE[segments]}", "send the compact form")
    try:
        decoded = [base64url.decode(part) for part in parts]
    except ProtocolError as error:
        raise refused("malformed", f"not {_WHOLE[segments]}", "send the compact form") from error
    return _object(decoded[0], "bad_header")


def _kid(header: dict[str, Any], members: set[str]) -> str:
    kid = header.get("kid")
    if set(header) != members or not isinstance(kid, str):
        raise refused("bad_header", "header members other than " + ", ".join(sorted(members)), "leave them out")
    return kid


def _object(text: bytes, reason: str) -> dict[str, Any]:
    """One JSON object in strict UTF-8 without a repeated member or a number beyond ``MAX_NUMBER``, at any depth."""
    try:
        value = msgspec.json.decode(text)
        json.loads(text.decode(), object_pairs_hook=_once, parse_int=_countable)
    except (ValueError, RecursionError) as error:
        raise refused(reason, "not strict JSON", "send one object, each member once") from error
    if not isinstance(value, dict):
        raise refused(reason, "JSON, but not an object", "send one object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Two readers may take different ones of two members with one name, so there must be none."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ProtocolError("a member that stands twice", remedy="send each member once")


def _countable(digits: str) -> int:
    number = int(digits)
    if abs(number) > MAX_NUMBER:
        raise ProtocolError("a number that cannot be counted", remedy=f"send none beyond {MAX_NUMBER}")
    return number
