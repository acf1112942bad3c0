"""A cabinet's front in box characters, in proportion: what ``lastmile check`` shows the person who built it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from locker.compartment import LOW_MM, Climate, Compartment, Place
from locker.layout import Layout

LINE_MM: Final = 60
"""Height of a line of text at most, mm: the lowest doors in use (80 mm) then have one line for their name."""

COLUMN_CHARS: Final = 12
"""The narrowest column: ``A12 S 10:15~`` fits."""

_MARKS: Final = {Climate.AMBIENT: "", Climate.COLD: "+", Climate.FROZEN: "-", Climate.HEATED: "^"}

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES: Final = " ╵╷│╴┘┐┤╶└┌├─┴┬┼"
"""The box characters by the sum of the sides on which a line meets."""


def draw(layout: Layout) -> list[str]:
    """Lines for a terminal, the top first, and a legend."""
    paper = _Paper(layout)
    for each in layout.compartments:
        paper.box(each.place, _words(each))
    for blank in layout.blanks:
        paper.box(blank, ["░"])
    if layout.screen is not None:
        paper.box(layout.screen, ["screen"])
    return [*paper.lines(), *_legend(layout)]


def _words(each: Compartment) -> list[str]:
    low = "~" if each.low else ""
    name = f"{each.door} {each.size.value}{_MARKS[each.climate]}{low}"
    return [name, f"{each.latch.board}:{each.latch.lock}"]


def _legend(layout: Layout) -> list[str]:
    used = {each.climate for each in layout.compartments} - {Climate.AMBIENT}
    kept = "".join(f"   {_MARKS[climate]} {climate.value}" for climate in Climate if climate in used)
    reach = f"~ in reach of a seated person ({LOW_MM.start} to {LOW_MM.stop - 1} mm)"
    return [f"{layout.width_mm} x {layout.height_mm} mm   door, size, board:lock   {reach}{kept}"]


class _Paper:
    """Characters, and for each the sides on which a line leaves it."""

    def __init__(self, layout: Layout) -> None:
        every = [*(each.place for each in layout.compartments), *layout.blanks]
        every += [layout.screen] if layout.screen is not None else []
        self._line_mm = min(LINE_MM, max(20, min(place.height_mm for place in every) // 2))
        self._char_mm = min(place.width_mm for place in every) / COLUMN_CHARS
        self._top = layout.height_mm
        self._columns = round(layout.width_mm / self._char_mm) + 1
        self._rows = self._line(0) + 2  # the last one is the floor
        self._sides = [[0] * self._columns for _ in range(self._rows)]
        self._text = [[" "] * self._columns for _ in range(self._rows)]

    def _line(self, y_mm: int) -> int:
        return round((self._top - y_mm) / self._line_mm)

    def box(self, place: Place, words: Sequence[str]) -> None:
        left, right = (round(x / self._char_mm) for x in (place.x_mm, place.x_mm + place.width_mm))
        top, bottom = self._line(place.y_mm + place.height_mm), self._line(place.y_mm)
        for x in range(left, right):
            for y in (top, bottom):
                self._sides[y][x] |= _RIGHT
                self._sides[y][x + 1] |= _LEFT
        for y in range(top, bottom):
            for x in (left, right):
                self._sides[y][x] |= _DOWN
                self._sides[y + 1][x] |= _UP
        self._write(words, left + 1, right - left - 1, top + 1, bottom - top - 1)

    def _write(self, words: Sequence[str], left: int, width: int, top: int, height: int) -> None:
        """The words one below the other, or in one line where the door is no higher."""
        texts = list(words) if height >= len(words) else [" ".join(words)]
        first = top + (height - len(texts)) // 2
        for line, text in enumerate(texts[: max(height, 0)]):
            for offset, char in enumerate(text[:width].center(width)):
                self._text[first + line][left + offset] = char

    def lines(self) -> list[str]:
        joined = (
            "".join(_LINES[side] if side else char for side, char in zip(sides, text, strict=True))
            for sides, text in zip(self._sides, self._text, strict=True)
        )
        return [*(line.rstrip() for line in list(joined)[:-1]), "▔" * self._columns]
