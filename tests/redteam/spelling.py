"""One signed command in every wrong dress: headers, algorithms, encodings, JSON. Made by hand, as no library would."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from edge import base64url, jose
from edge.keys import SigningKey

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
P256 = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())


def by_hand(header: dict[str, Any] | bytes, payload: bytes, key: SigningKey) -> bytes:
    """A compact JWS under any header, with a true Ed25519 signature."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing = f"{base64url.encode(head)}.{base64url.encode(payload)}".encode()
    return signing + b"." + base64url.encode(key.sign(signing)).encode()


def wrong_headers(payload: bytes, key: SigningKey) -> Iterator[bytes]:
    """True signatures by ``key`` under headers that nobody may believe."""
    plain = {"alg": jose.ALGORITHM, "typ": jose.COMMAND, "kid": key.kid}
    jwk = key.public.jwk()
    for more in (
        {"jku": "https://evil.example/keys"},
        {"jwk": jwk},
        {"x5u": "https://evil.example/chain"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"], "exp": 1},
        {"b64": False, "crit": ["b64"]},
        {"cty": "JWT"},
    ):
        yield by_hand(plain | more, payload, key)
    for typ in (jose.VOUCHER, jose.DESIRED, jose.ACK, jose.BADGE, "JWT", "LM-CMD+JWT", "application/lm-cmd+jwt", ""):
        yield by_hand(plain | {"typ": typ}, payload, key)
    for alg in ("EdDSA", "ed25519", "ES256", "none", ""):
        yield by_hand(plain | {"alg": alg}, payload, key)
    head = json.dumps(plain)
    yield by_hand(head.replace("{", '{"alg":"none",', 1).encode(), payload, key)
    yield by_hand(head.replace("}", ',"kid":"other"}').encode(), payload, key)
    yield by_hand({name: value for name, value in plain.items() if name != "typ"}, payload, key)


def unsigned(payload: bytes, key: SigningKey) -> Iterator[bytes]:
    """In the name of a key that the attacker has only the public half of."""
    public = key.public.raw
    for alg in ("none", "None", "HS256", "ES256", jose.ALGORITHM):
        head = json.dumps({"alg": alg, "typ": jose.COMMAND, "kid": key.kid}).encode()
        signing = f"{base64url.encode(head)}.{base64url.encode(payload)}".encode()
        for signature in (b"", hmac.digest(public, signing, hashlib.sha256), _p256(signing), bytes(64)):
            yield signing + b"." + base64url.encode(signature).encode()


def wrong_json(payload: bytes, key: SigningKey) -> Iterator[bytes]:
    """True signatures over what two readers may read differently."""
    plain = {"alg": jose.ALGORITHM, "typ": jose.COMMAND, "kid": key.kid}
    text = payload.decode()
    for other in (
        text.replace("{", '{"subject":"01",', 1),
        text.replace('"door":', '"door":"01","door":'),
        text[:-1] + ',"args":{"door":"01"}}',
        f"[{text}]",
        f"{text}{text}",
        "\ufeff" + text,
        text[:-1] + ',"extra":1}',
        text[:-1] + "," + '"a":' + "[" * 3000 + "]" * 3000 + "}",
    ):
        yield by_hand(plain, other.encode(), key)
    yield by_hand(plain, payload.replace(b'"open"', b'"op\xffen"'), key)


def respelt(token: bytes) -> Iterator[bytes]:
    """The same three parts in other bytes."""
    head, body, signature = token.split(b".")
    yield token + b"="
    yield b".".join((head, body + b"=", signature))
    yield token + b"\n"
    yield b" " + token
    yield b".".join((head, body, signature[:-1] + _next(signature[-1])))
    yield token + b"."
    yield b".".join((head, body, signature, b""))
    yield b"." + token
    yield b".".join((head, body, signature.replace(b"-", b"+").replace(b"_", b"/") + b"=="))


def _next(last: int) -> bytes:
    """Base64 leaves four bits of the last character of 64 bytes open."""
    at = ALPHABET.index(last)
    return ALPHABET[at ^ 1 : (at ^ 1) + 1]


def _p256(signing: bytes) -> bytes:
    r, s = decode_dss_signature(P256.sign(signing, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
