"""What people key in and hold before a scanner: what each thing is, and what of it the page may know.

A scan that is a token never reaches the page. It stays here for a while under a random reference, and the page hands
the reference to the API in the token's place.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from edge import base64url
from edge.errors import ProtocolError
from edge.jose import BADGE, MAX_HEADER_BYTES, VOUCHER
from locker.contract_words import Id
from locker.pickup_code import DIGITS, EXTENSION_DIGITS, parse

SCAN_LIMIT: Final = 4096
"""Bytes of a scan: a QR code holds 2953 at most, and the largest honest one is a badge of about 1 KiB."""
REFERENCE: Final = "scan:"
"""How a reference begins; no token holds a colon."""
REFERENCE_BYTES: Final = 16
REFERENCE_S: Final = 120.0
"""A reference lives so long after its scan, and after each use: a courier puts several parcels in with one badge."""
KEPT: Final = 16
"""References at a time; the oldest goes first. One person stands at a terminal."""
REPEAT_S: Final = 1.0
"""The same scan so soon after itself is the same: scanners read on for as long as something is held before them."""


class Key(enum.Enum):
    """A key that is no digit."""

    ENTER = "enter"
    ERASE = "erase"
    """Takes the last digit back."""
    CANCEL = "cancel"
    """Begins anew."""


class ScanKind(enum.Enum):
    """What a scan is, by its form alone. Nothing says yet that it is true."""

    CODE = "code"
    """A pickup code of nine digits, or of thirteen with its extension; the check digit fits."""
    VOUCHER = "voucher"
    BADGE = "badge"
    BOOKING = "booking"
    """The id of a booking, or of anything else that is printed on a parcel."""
    FOREIGN = "foreign"
    """Anything else: links, other people's tokens, control characters, too much at once. Nothing is done with it."""


class KeyPressed(msgspec.Struct, frozen=True):
    """One key: a digit, or the value of a ``Key``."""

    key: str

    def __repr__(self) -> str:
        return "KeyPressed(...)"  # keys in a row are a code


class Scanned(msgspec.Struct, frozen=True):
    """One scan as the page is told of it: the digits of a code, an id, or the reference of a token."""

    scan: ScanKind
    ref: str | None = None
    text: str | None = None

    def __repr__(self) -> str:
        return f"Scanned({self.scan.value})"


Input = KeyPressed | Scanned


class _Kept(msgspec.Struct):
    token: str
    until: float


class _Header(msgspec.Struct):
    typ: str


_KINDS: Final = {VOUCHER: ScanKind.VOUCHER, BADGE: ScanKind.BADGE}


class Terminal:
    """The scans of one locker. ``random(n)`` gives n unpredictable bytes; times are monotonic seconds."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._kept: dict[str, _Kept] = {}
        self._last: tuple[bytes, float] = (b"", float("-inf"))

    def scan(self, data: bytes, now: float) -> Scanned | None:
        """What ``data``, one whole scan without its end of line, is; None where it was read twice."""
        last, at = self._last
        self._last = (data[: SCAN_LIMIT + 1], now)
        if data[: SCAN_LIMIT + 1] == last and now - at < REPEAT_S:
            return None
        kind = classify(data)
        if kind is ScanKind.FOREIGN:
            return Scanned(kind)
        text = data.decode("ascii")
        if kind in {ScanKind.VOUCHER, ScanKind.BADGE}:
            return Scanned(kind, ref=self._keep(text, now))
        return Scanned(kind, text=text)

    def resolve(self, text: str, now: float) -> str:
        """The token behind a reference; ``text`` itself where it is none, or one that nobody knows (any more)."""
        kept = self._kept.get(text)
        if kept is None:
            return text
        if now >= kept.until:
            del self._kept[text]
            return text
        kept.until = now + REFERENCE_S
        return kept.token

    def _keep(self, token: str, now: float) -> str:
        self._kept = {ref: kept for ref, kept in self._kept.items() if now < kept.until}
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        ref = REFERENCE + base64url.encode(self._random(REFERENCE_BYTES))
        self._kept[ref] = _Kept(token, now + REFERENCE_S)
        return ref


def classify(data: bytes) -> ScanKind:
    """What ``data`` is by its form. Whatever is not plain printable ASCII is foreign as a whole."""
    if not data or len(data) > SCAN_LIMIT or not all(0x20 <= byte < 0x7F for byte in data):  # noqa: PLR2004 - ASCII
        return ScanKind.FOREIGN
    text = data.decode("ascii")
    if text.isdigit() and _is_code(text):
        return ScanKind.CODE
    if text.count(".") == 2 and (kind := _token_kind(text)) is not None:  # noqa: PLR2004 - a compact JWS
        return kind
    try:
        msgspec.convert(text, Id)
    except msgspec.ValidationError:
        return ScanKind.FOREIGN
    return ScanKind.BOOKING


def _is_code(digits: str) -> bool:
    plain, rest = digits[: DIGITS + 1], digits[DIGITS + 1 :]
    return len(rest) in {0, EXTENSION_DIGITS} and parse(plain, rest) is not None


def _token_kind(text: str) -> ScanKind | None:
    """What the header of a JWS claims; None where it is none of ours, or no header."""
    header = text.partition(".")[0]
    if len(header) > MAX_HEADER_BYTES:
        return None
    try:
        return _KINDS.get(msgspec.json.decode(base64url.decode(header), type=_Header).typ)
    except (ProtocolError, msgspec.DecodeError, UnicodeDecodeError):
        return None
