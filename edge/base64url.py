"""Base64url without padding (RFC 7515 section 2), in its one canonical spelling."""

from __future__ import annotations

import base64
import binascii

from edge.errors import ProtocolError


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str | bytes) -> bytes:
    """The bytes behind ``text``. Raises ``ProtocolError`` unless ``encode`` gives exactly ``text`` back.

    Python's decoder also takes ``+/``, padding and spare low bits in the last character: then one signature would have
    many spellings, and a changed byte could still verify.
    """
    try:
        spelt = text.encode("ascii") if isinstance(text, str) else text
        raw = base64.b64decode(spelt + b"=" * (-len(spelt) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ProtocolError("not base64url", remedy="dropped; the sender spells it by RFC 7515") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != spelt:
        raise ProtocolError("base64url in a spelling of its own", remedy="dropped; the sender spells it by RFC 7515")
    return raw
