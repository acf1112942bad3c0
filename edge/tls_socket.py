"""Mutual TLS 1.3 as a client, and what its failures mean to whoever has to mend them."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import msgspec

from edge.errors import ConfigError

# X509_V_ERR_* of OpenSSL (openssl/x509_vfy.h), as ``SSLCertVerificationError.verify_code`` has them.
_NOT_YET_VALID = 9
_EXPIRED = 10
_STRANGERS = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths in PEM: who signs the other end, and our certificate and key, which may stand in one file."""

    ca: str
    certificate: str
    key: str


class TidySocket(ssl.SSLSocket):
    """paho forgets a socket whose handshake failed; with a wrong certificate that is one more at every try.

    It also keeps to itself what TLS said, so the last alert is remembered here.
    """

    alert: ssl.SSLError | None = None

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            # The other end has gone; what it said before lies unread.
            with contextlib.suppress(OSError):
                self.recv(1)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.alert = error
            raise

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  the base's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def client_context(ca: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """TLS 1.3 and nothing older; the other end's chain and host name are checked.

    Raises ``ConfigError`` when a file is missing or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = TidySocket
    try:
        context.load_verify_locations(ca)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigError(
            f"certificates {', '.join(filter(None, (ca, certificate, key)))}: {error}",
            remedy="check that the files are there, readable by this user and belong together",
        ) from error
    return context


def explained(error: OSError, host: str, *, clock_trusted: bool = True) -> tuple[str, str]:
    """What happened and what to do next. ``clock_trusted``: whether this machine's clock has been set in this boot."""
    clock = "" if clock_trusted else "; this machine's clock has not been set: wait for it or set it first"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _mistrusted(error, host, clock)
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return (
            f"{host} broke off without a word; over TLS that is how one goes that does not take our certificate",
            "look at its log, and with `lastmile check` at the certificate's name, authority and days",
        )
    if isinstance(error, ssl.SSLError):
        return _refused(error, host)
    return f"{host}: {error}", "look at the other end and the way to it"


def _mistrusted(error: ssl.SSLCertVerificationError, host: str, clock: str) -> tuple[str, str]:
    """We did not take the other end's certificate."""
    code = error.verify_code
    if code == _NOT_YET_VALID:
        return f"the certificate of {host} is not valid yet", f"set this machine's clock{clock}"
    if code == _EXPIRED:
        return f"the certificate of {host} has expired", f"renew it, or set this machine's clock{clock}"
    if code in _STRANGERS:
        return (
            f"the certificate of {host} was not issued by the configured authority",
            "name in `ca` who issues it; if it should be known, somebody else answers in its place",
        )
    if code in _OTHER_NAME:
        return f"the certificate is for another host than {host}", "name the host as its certificate does"
    return f"the certificate of {host} cannot be believed: {error.verify_message}", "look at the other end"


_ALERTS = {
    "CERTIFICATE_EXPIRED": ("expired", "enrol again with a new claim; `lastmile check` tells the days left"),
    "CERTIFICATE_REVOKED": ("is revoked", "ask the operator; enrol again with a new claim"),
    "UNKNOWN_CA": ("comes from an authority it does not know", "use a certificate that its authority has issued"),
    "CERTIFICATE_REQUIRED": ("is missing", "name tls.certificate and tls.key"),
    "BAD_CERTIFICATE": ("is not good", "look at the certificate; read the other end's log"),
    "CERTIFICATE_UNKNOWN": ("is not good", "look at the certificate; read the other end's log"),
    "UNSUPPORTED_CERTIFICATE": ("is not for clients", "ask for one with the key usage clientAuth"),
}
"""TLS alerts (RFC 8446, section 6.2) that refuse our certificate. With TLS 1.3 they come after the handshake."""


def _refused(error: ssl.SSLError, host: str) -> tuple[str, str]:
    reason = error.reason or ""
    for alert, (what, remedy) in _ALERTS.items():
        if alert in reason:
            return f"{host} refused: our certificate {what}", remedy
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return f"{host} does not speak TLS 1.3", "let it; nothing older is spoken here"
    return f"{host}: {error}", "look at the other end's log"
