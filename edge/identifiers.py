"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

Randomness = Callable[[int], bytes]
"""n -> n random bytes; ``os.urandom`` in a running node."""


def uuid7(wall: float, random: bytes) -> str:
    """A UUID version 7 (RFC 9562, section 5.7) for ``wall`` seconds, from 10 random bytes."""
    milliseconds = int(wall * 1000) & 0xFFFF_FFFF_FFFF
    tail = int.from_bytes(random, "big")
    # 12 bits after the version, 62 after the variant; the 6 bits left over are not used.
    value = milliseconds << 80 | 0x7 << 76 | (tail >> 68 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_run(wall: float, random: bytes) -> Iterator[str]:
    """Any number of UUIDs version 7 for one moment, rising, from 10 random bytes (RFC 9562, section 6.2, method 2).

    Several times as fast as ``uuid7`` one by one. The last 48 bits count up from a random start with its top bit clear.
    """
    first = uuid7(wall, random)
    prefix, start = first[:24], int(first[24:], 16) & (1 << 47) - 1
    return (f"{prefix}{number:012x}" for number in itertools.count(start))
