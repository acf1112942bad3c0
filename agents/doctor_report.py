"""What a doctor finds, for people and for programs."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from edge.errors import LastmileError


class Level(enum.Enum):
    """How bad it is."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAULT = "fault"


class Finding(msgspec.Struct, frozen=True):
    """One fact. ``where`` is the part of the node it is about, ``remedy`` what to do, "" for nothing."""

    level: Level
    where: str
    what: str
    remedy: str = ""

    def line(self) -> str:
        mark = {Level.GOOD: "ok   ", Level.NOTE: "note ", Level.FAULT: "FAULT"}[self.level]
        return f"{mark} {self.where}: {self.what}{f'; {self.remedy}' if self.remedy else ''}"


def good(where: str, what: str) -> Finding:
    return Finding(Level.GOOD, where, what)


def note(where: str, what: str, remedy: str = "") -> Finding:
    return Finding(Level.NOTE, where, what, remedy)


def fault(where: str, what: str, remedy: str) -> Finding:
    return Finding(Level.FAULT, where, what, remedy)


def failed(where: str, error: LastmileError) -> Finding:
    return Finding(Level.FAULT, where, error.what, error.remedy)


def sound(findings: Sequence[Finding]) -> bool:
    return not any(each.level is Level.FAULT for each in findings)
