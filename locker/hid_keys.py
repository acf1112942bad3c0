"""The keys of a scanner that pretends to be a keyboard: Linux input events to the bytes it meant, by a US layout."""

from __future__ import annotations

import struct
from typing import Final

EVENT: Final = struct.Struct("llHHi")
"""struct input_event of the kernel's own word size: time in two numbers, type, code, value."""

_EV_SYN: Final = 0
_EV_KEY: Final = 1
_SYN_DROPPED: Final = 3
_SHIFTS: Final = {42, 54}
_CAPS: Final = 58
_HELD: Final = {29, 56, 97, 100, 125, 126}
"""Ctrl, Alt and Meta, left and right."""
_ENTERS: Final = {28, 96}

STRANGE: Final = b"\x00"
"""Stands for whatever is no character: it makes the whole scan a foreign one."""

_ROWS: Final = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", " "),
    (71, "789-456+1230.", "789-456+1230."),
)
"""input-event-codes.h: the first code of a run of keys, and what they give without and with shift."""

_PLAIN: Final = {first + at: char for first, plain, _ in _ROWS for at, char in enumerate(plain)}
_SHIFTED: Final = {first + at: char for first, _, shifted in _ROWS for at, char in enumerate(shifted)}
_OTHERS: Final = {98: "/", 55: "*"}


class KeyDecoder:
    """Bytes of an input device to bytes of a scan. What was dropped on the way shows as ``STRANGE``."""

    def __init__(self) -> None:
        self._rest = b""
        self._down: set[int] = set()
        self._caps = False

    def feed(self, data: bytes) -> bytes:
        """The characters that ``data`` completes; an enter is an end of line. Raises nothing, whatever the bytes."""
        whole = self._rest + data
        end = len(whole) - len(whole) % EVENT.size
        self._rest = whole[end:]
        return b"".join(self._event(kind, code, value) for _, _, kind, code, value in EVENT.iter_unpack(whole[:end]))

    def _event(self, kind: int, code: int, value: int) -> bytes:
        if kind == _EV_SYN and code == _SYN_DROPPED:
            self._down.clear()
            return STRANGE
        if kind != _EV_KEY or value not in {0, 1}:  # 2 is a key that is held: scanners hold none
            return b""
        if value == 0:
            self._down.discard(code)
            return b""
        self._down.add(code)
        return self._pressed(code)

    def _pressed(self, code: int) -> bytes:
        if code == _CAPS:
            self._caps = not self._caps
            return b""
        if code in _SHIFTS or code in _HELD:
            return b""
        if self._down & _HELD:
            return STRANGE
        if code in _ENTERS:
            return b"\n"
        plain = _PLAIN.get(code) or _OTHERS.get(code)
        if plain is None:
            return STRANGE
        shifted = bool(self._down & _SHIFTS) is not (self._caps and plain.isalpha())
        return (_SHIFTED.get(code, plain) if shifted else plain).encode()
