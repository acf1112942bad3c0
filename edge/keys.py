"""Ed25519 keys that sign and X25519 keys that seal, named by the thumbprint of their public half."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Literal, Self

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from edge import base64url
from edge.errors import ConfigError, ProtocolError

SEED_BYTES = 32
"""A private key on either curve (RFC 8032 section 5.1.5, RFC 7748 section 5)."""

Random = Callable[[int], bytes]
"""``os.urandom`` or its stand-in: that many unpredictable bytes."""

_Curve = Literal["Ed25519", "X25519"]
_REMEDY = "make the key anew, or copy the file again from where it was made"


class _Jwk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """RFC 8037 section 2. ``kid`` may stand beside it and must then be the thumbprint."""

    kty: Literal["OKP"]
    crv: _Curve
    x: str
    d: str = ""
    kid: str = ""


class _Public:
    """The half that may be shown: compared and hashed by ``kid``."""

    __slots__ = ("kid", "raw")
    curve: _Curve

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.kid = _thumbprint(self.curve, raw)

    def jwk(self) -> dict[str, str]:
        """The public JWK (RFC 8037), for a document or a file."""
        return {"kty": "OKP", "crv": self.curve, "x": base64url.encode(self.raw), "kid": self.kid}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Public) and self.kid == other.kid

    def __hash__(self) -> int:
        return hash(self.kid)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kid})"

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, object]) -> Self:
        """Raises ``ConfigError`` when it is not a public key of this curve, or ``kid`` is not its thumbprint."""
        return cls(_public_bytes(_jwk(jwk), cls.curve))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """A public key from PEM (SubjectPublicKeyInfo) or JWK text. Raises ``ConfigError``; takes no private key."""
        if text.lstrip().startswith(b"{"):
            return cls.from_jwk(_json(text))
        try:
            key = serialization.load_pem_public_key(text)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError("not a public key in PEM or JWK", remedy=_REMEDY) from error
        if not isinstance(key, Ed25519PublicKey | X25519PublicKey) or _curve_of(key) != cls.curve:
            raise ConfigError(f"not a public key on {cls.curve}", remedy=_REMEDY)
        return cls(key.public_bytes_raw())


class VerifyKey(_Public):
    """The public half of a ``SigningKey``."""

    __slots__ = ("_key",)
    curve: _Curve = "Ed25519"

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (64 bytes) over ``message`` was made by the private half."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @property
    def crypto(self) -> Ed25519PublicKey:
        """For ``edge.jose`` alone."""
        return self._key


class SealingKey(_Public):
    """The public half of an ``OpeningKey``: whoever has it can seal, only the private half can open."""

    curve: _Curve = "X25519"

    @property
    def crypto(self) -> X25519PublicKey:
        """For ``edge.jose`` alone."""
        return X25519PublicKey.from_public_bytes(self.raw)


class SigningKey:
    """An Ed25519 private key. Its ``repr`` shows the thumbprint alone."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = VerifyKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, random: Random) -> Self:
        return cls(random(SEED_BYTES))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """From unencrypted PEM (PKCS 8) or JWK text. Raises ``ConfigError``, which never holds the key."""
        return cls(_private_bytes(text, "Ed25519"))

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def crypto(self) -> Ed25519PrivateKey:
        """For ``edge.jose`` alone."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def pem(self) -> bytes:
        return _pem(self._key)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


class OpeningKey:
    """An X25519 private key that opens what was sealed to it. Its ``repr`` shows the thumbprint alone."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(seed)
        self.public = SealingKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, random: Random) -> Self:
        return cls(random(SEED_BYTES))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """From unencrypted PEM (PKCS 8) or JWK text. Raises ``ConfigError``, which never holds the key."""
        return cls(_private_bytes(text, "X25519"))

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def crypto(self) -> X25519PrivateKey:
        """For ``edge.jose`` alone."""
        return self._key

    def pem(self) -> bytes:
        return _pem(self._key)

    def __repr__(self) -> str:
        return f"OpeningKey({self.kid})"


def _thumbprint(curve: _Curve, raw: bytes) -> str:
    """RFC 7638 with the members of RFC 8037 section 2: SHA-256 over the required members in order, base64url."""
    canonical = f'{{"crv":"{curve}","kty":"OKP","x":"{base64url.encode(raw)}"}}'
    return base64url.encode(hashlib.sha256(canonical.encode()).digest())


def _curve_of(key: object) -> _Curve | None:
    if isinstance(key, Ed25519PublicKey | Ed25519PrivateKey):
        return "Ed25519"
    return "X25519" if isinstance(key, X25519PublicKey | X25519PrivateKey) else None


def _json(text: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ConfigError("not a key: broken JSON", remedy=_REMEDY) from error


def _jwk(members: Mapping[str, object]) -> _Jwk:
    try:
        return msgspec.convert(members, _Jwk)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not a key by RFC 8037: {error}", remedy=_REMEDY) from error


def _public_bytes(jwk: _Jwk, curve: _Curve, *, private: bool = False) -> bytes:
    if jwk.crv != curve:
        raise ConfigError(f"a key on {jwk.crv}, not on {curve}", remedy="name the key of the right kind")
    if bool(jwk.d) != private:
        raise ConfigError(
            f"a {'private' if jwk.d else 'public'} key where the other half belongs",
            remedy="name the other half's file",
        )
    raw = _key_bytes(jwk.x)
    if jwk.kid and jwk.kid != _thumbprint(curve, raw):
        raise ConfigError("a key whose kid is not its thumbprint", remedy="leave kid out, or make the key anew")
    return raw


def _private_bytes(text: bytes, curve: _Curve) -> bytes:
    if text.lstrip().startswith(b"{"):
        jwk = _jwk(_json(text))
        shown = _public_bytes(jwk, curve, private=True)
        seed = _key_bytes(jwk.d)
        own = SigningKey(seed).public if curve == "Ed25519" else OpeningKey(seed).public
        if own.raw != shown:
            raise ConfigError("a private key that does not belong to its public half", remedy=_REMEDY)
        return seed
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError is the library's word for a passphrase: keys at rest are guarded by systemd credentials instead.
        raise ConfigError("not an unencrypted private key in PEM or JWK", remedy=_REMEDY) from error
    if not isinstance(key, Ed25519PrivateKey | X25519PrivateKey) or _curve_of(key) != curve:
        raise ConfigError(f"not a private key on {curve}", remedy="name the key of the right kind")
    return key.private_bytes_raw()


def _key_bytes(text: str) -> bytes:
    try:
        raw = base64url.decode(text)
    except ProtocolError as error:
        raise ConfigError("a key that is not base64url", remedy=_REMEDY) from error
    if len(raw) != SEED_BYTES:
        raise ConfigError(f"a key of {len(raw)} bytes, not {SEED_BYTES}", remedy=_REMEDY)
    return raw


def _pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
