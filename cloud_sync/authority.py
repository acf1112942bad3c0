"""A small certificate authority for an operator who has none: a root for the safe, and one that issues.

It says who may speak to the broker under which name. It cannot open a door: commands are signed by issuers, and those
are listed by the operator's offline root of another kind (``edge.issuers``), of which nothing is kept here.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.certificate import Request, TlsKey, read_chain
from edge.errors import ConfigError
from edge.keys import Random

ROOT_DAYS = 20 * 365
"""As long as the lockers stand."""
ISSUING_DAYS = 5 * 365
"""Its key lies on a server; it is replaced from the safe while the nodes renew."""
BACKDATED_S = 86_400.0
"""Certificates begin a day ago: the clock of a node that just came out of its box lags."""
CRL_DAYS = 365
"""A broker refuses everybody once its list is out of date, so it must not be by accident: whoever serves writes it
anew each day, and a broker that is forgotten goes on for a year."""
CRL_BACKDATED_S = 3600.0
"""A list from the future is refused by a broker whose clock lags; this also leaves room for lists in one second."""
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
SERIAL_BYTES = 19
"""152 random bits and positive: RFC 5280, section 4.1.2.2, allows 20 octets."""


class Revocation(msgspec.Struct, frozen=True):
    """One certificate that is no longer good."""

    serial: str
    at: float


def make_root(operator: str, random: Random, wall: float) -> tuple[TlsKey, bytes]:
    """A key and its self-signed certificate. The key signs issuing authorities and nothing else: keep it offline."""
    key = TlsKey.generate(random)
    subject = _subject(f"{operator} root")
    builder = _builder(subject, subject, key.crypto.public_key(), random, wall, wall + ROOT_DAYS * 86_400)
    return key, _pem(_as_authority(builder, key, key, path_length=1))


def make_issuing(operator: str, root: TlsKey, root_pem: bytes, random: Random, wall: float) -> tuple[TlsKey, bytes]:
    """A key and a certificate by the root, for signing nodes, brokers and consumers."""
    key = TlsKey.generate(random)
    by = x509.load_pem_x509_certificate(root_pem)
    ends = min(wall + ISSUING_DAYS * 86_400, by.not_valid_after_utc.timestamp())
    builder = _builder(_subject(f"{operator} issuing"), by.subject, key.crypto.public_key(), random, wall, ends)
    return key, _pem(_as_authority(builder, key, root, path_length=0))


class Authority:
    """The issuing authority at work."""

    def __init__(self, key: TlsKey, certificate: bytes, root: bytes) -> None:
        """``certificate`` and ``root`` in PEM. Raises ``ConfigError`` when they do not belong together."""
        self._key = key
        self._own = _loaded(certificate)
        self._root = _loaded(root)
        if read_chain(certificate)[0].thumbprint != key.thumbprint:
            raise ConfigError(
                "the issuing certificate does not belong to its key", remedy="name the pair of one `init`"
            )
        try:
            self._own.verify_directly_issued_by(self._root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise ConfigError(
                "the issuing certificate is not the root's", remedy="name the root of its `init`"
            ) from error
        self.root_pem = _pem(self._root)
        self.chain_pem = _pem(self._own)

    @classmethod
    def parse(cls, key: bytes, certificate: bytes, root: bytes) -> Self:
        return cls(TlsKey.parse(key), certificate, root)

    def client(self, request: Request, *, random: Random, wall: float, days: float) -> bytes:
        """A certificate for the request's name and key, then this authority's own. PEM."""
        return self._issue(request.name, request.key, ExtendedKeyUsageOID.CLIENT_AUTH, (), random, wall, days)

    def server(self, key: TlsKey, hosts: Sequence[str], *, random: Random, wall: float, days: float) -> bytes:
        """A certificate for whoever answers at ``hosts`` (names or addresses), then this authority's own. PEM."""
        if not hosts:
            raise ConfigError("a server without a host", remedy="name the host that clients will use")
        names = [_host(each) for each in hosts]
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue(hosts[0], key.crypto.public_key(), usage, names, random, wall, days)

    def revoked(self, revocations: Iterable[Revocation], *, number: int, made_at: float) -> bytes:
        """The revocation list in PEM. Of two lists a broker believes the one with the later ``made_at``, whole seconds
        apart; ``number`` rises with it.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._own.subject)
            .last_update(_time(made_at))
            .next_update(_time(made_at + CRL_DAYS * 86_400))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_authority_id(self._key), critical=False)
        )
        for each in revocations:
            entry = x509.RevokedCertificateBuilder().serial_number(int(each.serial, 16)).revocation_date(_time(each.at))
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key.crypto, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def with_former(self, made: bytes, before: bytes, *, wall: float) -> bytes:
        """The list ``made``, and behind it what ``before`` (the file so far) holds of former issuing authorities and
        is not out of date. PEM.

        A broker with lists refuses whoever was issued by an authority of which it has none: that is the whole fleet,
        until the last node has renewed.
        """
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.crypto.public_key()).digest
        kept = []
        for pem in _LIST.findall(before):
            try:
                each = x509.load_pem_x509_crl(pem)
                by = each.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
            except (ValueError, x509.ExtensionNotFound):
                continue
            if by != own and each.next_update_utc is not None and each.next_update_utc.timestamp() > wall:
                kept.append(each.public_bytes(serialization.Encoding.PEM))
        return b"".join((made, *kept))

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
        random: Random,
        wall: float,
        days: float,
    ) -> bytes:
        ends = min(wall + days * 86_400, self._own.not_valid_after_utc.timestamp())
        if ends <= wall:
            raise ConfigError("the issuing authority has expired", remedy="make a new one with `lastmile enrol init`")
        builder = _builder(_subject(name), self._own.subject, key, random, wall, ends)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_id(self._key), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _pem(builder.sign(self._key.crypto, hashes.SHA256())) + self.chain_pem


def _as_authority(builder: x509.CertificateBuilder, key: TlsKey, by: TlsKey, *, path_length: int) -> x509.Certificate:
    public = key.crypto.public_key()
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_id(by), critical=False)
    )
    return builder.sign(by.crypto, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    random: Random,
    wall: float,
    ends: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(int.from_bytes(random(SERIAL_BYTES), "big") | 1)
        .not_valid_before(_time(wall - BACKDATED_S))
        .not_valid_after(_time(ends))
    )


def _usage(*which: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{each: each in which for each in every})


def _authority_id(by: TlsKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(by.crypto.public_key())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _loaded(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigError("not a certificate in PEM", remedy="name the file that `enrol init` made") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _time(wall: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(wall), dt.UTC)
