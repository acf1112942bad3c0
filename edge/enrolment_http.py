"""A node's side of the enrolment service: plain HTTPS with what Python has. It blocks; loops call it in a thread."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from edge.certificate import read_chain
from edge.enrolment import (
    ENROL_PATH,
    MAX_BODY_BYTES,
    RENEW_PATH,
    ROOT_PATH,
    Enrolled,
    EnrolmentRefused,
    EnrolRequest,
    Refusal,
    Renewed,
    RenewRequest,
)
from edge.errors import ConfigError, Fault, LastmileError
from edge.tls_socket import client_context, explained

TIMEOUT_S = 10.0
"""For each step of a connection: a satellite link needs two seconds, and a process that is to stop waits no longer."""
OK = 200
FORBIDDEN = 403
FINGERPRINT_DIGITS = 64
T = TypeVar("T")


class EnrolmentUnreachable(LastmileError):
    """The service did not answer. Whether it took the request is not known; asking again with the same keys is safe."""

    fault = Fault.PEER


def fetch_root(url: str, fingerprint: str) -> bytes:
    """The service's root in PEM, if it is the one that a person has pinned by its SHA-256 fingerprint.

    Nothing is believed and nothing secret is sent on this one connection. Raises ``ConfigError`` for another root and
    ``EnrolmentUnreachable``.
    """
    wanted = fingerprint.removeprefix("sha256:").replace(":", "").lower()
    if len(wanted) != FINGERPRINT_DIGITS:
        raise ConfigError("not a SHA-256 fingerprint", remedy="copy the line that `lastmile enrol claim` shows")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, pem = _exchange(url, ROOT_PATH, context, None)
    der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii", "replace")) if status == OK and _is_pem(pem) else b""
    if hashlib.sha256(der).hexdigest() != wanted:
        raise ConfigError(
            "the service shows another root than the pinned one", remedy="check url and fingerprint; enrol nothing"
        )
    return pem


def _is_pem(text: bytes) -> bool:
    return text.strip().startswith(b"-----BEGIN CERTIFICATE-----") and len(read_chain(text)) == 1


def enrol(url: str, asked: EnrolRequest, *, ca: str) -> Enrolled:
    """Raises ``EnrolmentRefused``, ``EnrolmentUnreachable`` or ``ConfigError``. ``ca``: a file with the pinned root."""
    return _asked(url, ENROL_PATH, client_context(ca), asked, Enrolled)


def renew(url: str, asked: RenewRequest, *, ca: str, certificate: str, key: str) -> Renewed:
    """As ``enrol``, over a connection with the present certificate."""
    return _asked(url, RENEW_PATH, client_context(ca, certificate, key), asked, Renewed)


def _asked(url: str, path: str, context: ssl.SSLContext, asked: msgspec.Struct, kind: type[T]) -> T:
    status, body = _exchange(url, path, context, msgspec.json.encode(asked))
    try:
        if status == OK:
            return msgspec.json.decode(body, type=kind)
        told = msgspec.json.decode(body, type=Refusal)
    except msgspec.DecodeError as error:
        raise EnrolmentUnreachable(
            f"{url}: an answer that cannot be read (status {status})", remedy="is this the enrolment service?"
        ) from error
    if status == FORBIDDEN:
        raise EnrolmentRefused(told.reason, told.what, remedy=told.remedy)
    raise EnrolmentUnreachable(f"{url}: {told.what}", remedy=told.remedy)


def _exchange(url: str, path: str, context: ssl.SSLContext, body: bytes | None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"{url!r} is no address of the service", remedy="write https://host:port")
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        what, remedy = explained(error, parts.netloc)
        raise EnrolmentUnreachable(what, remedy=remedy) from error
    except http.client.HTTPException as error:
        raise EnrolmentUnreachable(f"{url}: {error}", remedy="is this the enrolment service?") from error
    finally:
        connection.close()
    if len(said) > MAX_BODY_BYTES:
        raise EnrolmentUnreachable(f"{url}: an answer beyond {MAX_BODY_BYTES} bytes", remedy="is this the service?")
    return answer.status, said
