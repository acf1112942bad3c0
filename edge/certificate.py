"""X.509 as both ends need it: a P-256 key for TLS, the request for a certificate, and what a certificate says.

Not imported by a role agent: it has no network and no certificate.
"""

from __future__ import annotations

import hashlib
from typing import Self

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge import base64url
from edge.claims import refused
from edge.errors import ConfigError, VerificationError
from edge.keys import Random

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""NIST SP 800-186, section 3.2.1.3."""

SCALAR_BYTES = 40
"""64 bits more than the order, so that the remainder is even to 2**-64 (FIPS 186-5, A.2.1)."""

MAX_REQUEST_BYTES = 2048
"""A request on P-256 for a name of 97 characters has some 600 in PEM."""

_CURVE = "secp256r1"


class TlsKey:
    """The private key of a certificate, ECDSA on P-256. Its ``repr`` shows nothing of it."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls, random: Random) -> Self:
        scalar = int.from_bytes(random(SCALAR_BYTES), "big") % (P256_ORDER - 1) + 1
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()))

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """From PEM that holds an unencrypted key, beside certificates or alone. Raises ``ConfigError``."""
        begin = pem.find(b"-----BEGIN ")
        while begin >= 0 and b"PRIVATE KEY" not in pem[begin : begin + 40]:
            begin = pem.find(b"-----BEGIN ", begin + 1)
        try:
            key = serialization.load_pem_private_key(pem[max(begin, 0) :], password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError("no unencrypted private key in PEM", remedy="name the certificate's own key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE:
            raise ConfigError("a private key that is not on P-256", remedy="make an ECDSA key on P-256 (prime256v1)")
        return cls(key)

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the public half (SubjectPublicKeyInfo), base64url."""
        return _thumbprint(self._key.public_key())

    @property
    def crypto(self) -> ec.EllipticCurvePrivateKey:
        """For the authority that signs with it."""
        return self._key

    def pem(self) -> bytes:
        """PKCS 8, unencrypted."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def request(self, name: str) -> bytes:
        """A request (PKCS 10, PEM) for a certificate whose only name is ``CN=name``."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return "TlsKey()"


class Request(msgspec.Struct, frozen=True):
    """A certificate request whose own signature fits: whoever sent it had the private key in hand at some time."""

    name: str
    """Its CN."""
    digest: str
    """SHA-256 over its DER, base64url: what a role key signs."""
    thumbprint: str
    """Of the key, as ``TlsKey.thumbprint``."""
    key: ec.EllipticCurvePublicKey


class Certificate(msgspec.Struct, frozen=True):
    """What one certificate says."""

    name: str
    """Its CN; "" when it has none or several."""
    issuer: str
    serial: str
    """Hexadecimal, as ``openssl x509 -serial`` shows it."""
    not_before: float
    not_after: float
    thumbprint: str
    """Of its key; "" when that is not on P-256."""
    client: bool
    """Whether it may open connections as a client (extended key usage clientAuth, or none named)."""
    hosts: tuple[str, ...]
    fingerprint: str
    """SHA-256 over its DER in hexadecimal."""

    def days_left(self, wall: float) -> float:
        return (self.not_after - wall) / 86_400


def read_request(pem: bytes) -> Request:
    """Raises ``VerificationError`` (``bad_request``): no request, another curve, a name beside the CN, not signed."""
    if len(pem) > MAX_REQUEST_BYTES:
        raise _bad_request(f"{len(pem)} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _bad_request("not a certificate request in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise _bad_request("its key is not on P-256")
    if not signed:
        raise _bad_request("its own signature does not fit")
    name = _common_name(request.subject)
    if not name or len(list(request.subject)) != 1:
        raise _bad_request("its subject is not exactly one CN")
    digest = hashlib.sha256(request.public_bytes(serialization.Encoding.DER)).digest()
    return Request(name, base64url.encode(digest), _thumbprint(key), key)


def read_chain(pem: bytes) -> tuple[Certificate, ...]:
    """The certificates in PEM, the holder's own first. A private key beside them is passed over.

    Raises ``ConfigError`` when there is none.
    """
    try:
        return tuple(_said(each) for each in x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ConfigError("no certificate in PEM", remedy="name a file with the certificate and its chain") from error


def require_usable(chain: tuple[Certificate, ...], key: TlsKey, name: str, wall: float | None) -> Certificate:
    """The own certificate, when a broker can take it for ``name``. ``wall`` is None on a clock that nobody has set.

    Raises ``ConfigError``: another name, another key, not for clients, expired or not yet valid.
    """
    own = chain[0]
    if own.name != name:
        raise ConfigError(f"a certificate for {own.name!r}, not for {name!r}", remedy=f"ask for one with CN={name}")
    if own.thumbprint != key.thumbprint:
        raise ConfigError("a certificate that does not belong to the private key", remedy="name the pair's two halves")
    if not own.client:
        raise ConfigError("a certificate that is not for clients", remedy="ask for the key usage clientAuth")
    if wall is not None and wall >= own.not_after:
        raise ConfigError(
            f"the certificate expired {-own.days_left(wall):.1f} days ago", remedy="enrol again with a new claim"
        )
    if wall is not None and wall < own.not_before:
        raise ConfigError("the certificate is not valid yet", remedy="set this machine's clock")
    return own


def _said(certificate: x509.Certificate) -> Certificate:
    key = certificate.public_key()
    fits = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVE
    return Certificate(
        name=_common_name(certificate.subject),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:X}",
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        thumbprint=_thumbprint(key) if fits and isinstance(key, ec.EllipticCurvePublicKey) else "",
        client=_is_client(certificate),
        hosts=_hosts(certificate),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _is_client(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def _common_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64url.encode(hashlib.sha256(der).digest())


def _bad_request(what: str) -> VerificationError:
    return refused("bad_request", f"certificate request: {what}", "make it with `lastmile identity new`")
