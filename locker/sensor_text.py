"""What the kernel's files say of a sensor, as a number."""

from __future__ import annotations

import enum
import re
from typing import Final

from edge.errors import ProtocolError

UNDERVOLTAGE_NOW: Final = 0x1
"""Bit 0 of the Raspberry Pi firmware's throttled word: the supply is too low at this moment. Bits from 16 on say what
has happened since the boot."""

POWER_ON_MILLI_C: Final = 85_000
"""What a 1-wire thermometer holds after it was powered on, before it has measured: it says nothing of a temperature."""

_W1: Final = re.compile(r"crc=[0-9a-f]{2} (?P<valid>YES|NO)\n.* t=(?P<milli>-?[0-9]{1,6})\s*\Z", re.DOTALL)
_WHOLE: Final = re.compile(r"-?[0-9]{1,9}\Z")
_WORD: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{1,8}\Z")


class Format(enum.Enum):
    """How a file tells its sensor."""

    FLAG = "flag"
    """0 or 1: ``power_supply/*/online``, ``hwmon/*/in0_lcrit_alarm``, ``gpio`` values."""
    THROTTLED = "throttled"
    """The firmware's word in hexadecimal: ``get_throttled``. 1 where the voltage is too low now."""
    MILLIDEGREES = "millidegrees"
    """``thermal_zone*/temp``, ``hwmon/*/temp1_input``, a 1-wire device's ``temperature``."""
    W1 = "w1"
    """A 1-wire device's ``w1_slave``: two lines, the first with the result of its check sum."""


def parse(text: str, how: Format) -> float:
    """A level of 0 or 1, or degrees Celsius. Raises ``ProtocolError`` for what is neither."""
    text = text.strip()
    if how is Format.W1:
        return _celsius(_w1(text))
    if how is Format.THROTTLED:
        if not _WORD.match(text):
            raise _unreadable(how)
        return float(bool(int(text, 16) & UNDERVOLTAGE_NOW))
    if not _WHOLE.match(text):
        raise _unreadable(how)
    number = int(text)
    if how is Format.MILLIDEGREES:
        return _celsius(number)
    if number not in {0, 1}:
        raise _unreadable(how)
    return float(number)


def _w1(text: str) -> int:
    match = _W1.search(text)
    if match is None:
        raise _unreadable(Format.W1)
    if match["valid"] == "NO":
        raise ProtocolError("a damaged 1-wire reading", remedy="it is read again; shorten the cable if this stays")
    return int(match["milli"])


def _celsius(milli: int) -> float:
    if milli == POWER_ON_MILLI_C:
        raise ProtocolError("a thermometer that has not measured yet", remedy="it is read again")
    return milli / 1000


def _unreadable(how: Format) -> ProtocolError:
    return ProtocolError(f"a sensor's file that is no {how.value}", remedy="correct its path or its format")
