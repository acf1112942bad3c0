"""A list of doors as a spreadsheet saves it becomes ``[locker.cabinet]``: few lines, which a person goes on to edit."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings, parse_settings
from locker.compartment import Size
from locker.latch import Latch
from locker.layout import lay_out
from locker.plan import Plan

NEEDED: Final = ("door", "column", "size", "board", "lock")
KNOWN: Final = (*NEEDED, "row", "height_mm", "handle_mm")

T = TypeVar("T")

ASSUMED_MM: Final = {Size.S: 100, Size.M: 200, Size.L: 400}
"""How high doors are where the list does not say: common sizes, to be measured."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list. ``row`` orders a column's doors; ``height_mm`` and ``handle_mm`` may be untold."""

    line: int
    door: str
    column: str
    size: Size
    latch: Latch
    row: int
    height_mm: int | None
    handle_mm: int | None


class Faults(ConfigError):
    """A list that cannot be used. ``lines`` say what is wrong with it, each with its line."""

    def __init__(self, source: str, lines: Sequence[str]) -> None:
        super().__init__(f"{source}: {len(lines)} fault(s)", remedy="correct the list and import it again")
        self.lines = tuple(lines)


def read_table(text: str, *, source: str, first_lock: int | None = None) -> list[Entry]:
    """The doors in ``text``: a first line of names (``KNOWN``), then one door a line, parted by commas or semicolons.

    ``first_lock`` is what the list calls the first lock of a board: 0 as on the wire, or 1. None where nobody said so:
    then only a list that has a lock 0 is understood. Raises ``Faults`` with every line that is wrong.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=";" if head.count(";") > head.count(",") else ",", restkey="")
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in KNOWN]
    faults = [f"{source}:1: no column {name!r}" for name in missing]
    faults += [f"{source}:1: column {name!r} is none of {', '.join(KNOWN)}" for name in unknown]
    if faults:
        raise Faults(source, faults)
    entries: list[Entry] = []
    wrong: list[tuple[int, str]] = []
    for found in reader:
        if not any((value or "").strip() for value in found.values()):
            continue
        try:
            entries.append(_entry(found, reader.line_num, len(entries), first_lock or 0))
        except ValueError as error:
            wrong.append((reader.line_num, str(error)))
    wrong += _repeated(entries)
    if not entries and not wrong:
        wrong.append((1, "no doors"))
    if first_lock is None and entries and all(each.latch.lock for each in entries):
        # Taken as they stand, locks that count from 1 would each be their neighbour.
        wrong.append((1, "no door has lock 0; say whether a board's first lock is 0 or 1 here (--first-lock)"))
    if wrong:
        raise Faults(source, [f"{source}:{line}: {what}" for line, what in sorted(wrong)])
    return entries


def _entry(found: dict[str, str], line: int, order: int, first_lock: int) -> Entry:
    if "" in found:
        raise ValueError("more cells than the first line has names")
    cells = {name: (value or "").strip() for name, value in found.items()}
    if cells["size"] not in {size.value for size in Size}:
        raise ValueError(f"size {cells['size']!r}; write S, M or L")
    for name in ("door", "column"):
        if not cells[name] or " " in cells[name]:
            raise ValueError(f"{name} {cells[name]!r}; write one word")
    return Entry(
        line=line,
        door=cells["door"],
        column=cells["column"],
        size=Size(cells["size"]),
        latch=Latch(_number(cells, "board"), _number(cells, "lock", least=first_lock) - first_lock),
        row=_number(cells, "row") if cells.get("row") else order,
        height_mm=_number(cells, "height_mm", least=1) if cells.get("height_mm") else None,
        handle_mm=_number(cells, "handle_mm") if cells.get("handle_mm") else None,
    )


def _number(cells: dict[str, str], name: str, *, least: int = 0) -> int:
    text = cells[name]
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ValueError(f"{name} {text!r}; write a whole number from {least} on")
    return int(text)


def _repeated(entries: Sequence[Entry]) -> Iterator[tuple[int, str]]:
    """Doors, latches and rows that an earlier line has."""
    seen: dict[tuple[str, object], int] = {}
    for each in entries:
        where = f"board {each.latch.board} lock {each.latch.lock}"
        for what, thing in (("door", each.door), (where, each.latch), ("row", (each.column, each.row))):
            first = seen.setdefault((what, thing), each.line)
            if first != each.line:
                yield each.line, f"{what} of door {each.door!r} stands in line {first} already"


def as_toml(entries: Sequence[Entry], *, base_mm: int, column_mm: int, rows_from: str = "floor") -> str:
    """``[locker.cabinet]`` with these doors. Raises ``ConfigError`` for a name or number that no plan takes."""
    columns: dict[str, list[Entry]] = {}
    for each in entries:
        columns.setdefault(each.column, []).append(each)
    heights = {size: _usual(entries, size) for size in Size}
    lines = [
        "[locker.cabinet]",
        f"base_mm = {base_mm}                       # measure it: from the floor to the lowest door",
        f"column_mm = {column_mm}",
        f"door_mm = {{ {', '.join(f'{size.value} = {mm}' for size, mm in heights.items())} }}",
        f'rows_from = "{rows_from}"',
        "columns = [",
        *(f"    {_column(name, sorted(doors, key=_row_of), heights)}," for name, doors in columns.items()),
        "]",
    ]
    for each in entries:
        if each.handle_mm is not None:
            lines += ["", f"[locker.cabinet.doors.{each.door}]", f"handle_mm = {each.handle_mm}"]
    text = "\n".join(lines) + "\n"
    _require_same(text, entries)
    return text


class _Section(Settings, frozen=True):
    cabinet: Plan


class _File(Settings, frozen=True):
    locker: _Section


def _require_same(text: str, entries: Sequence[Entry]) -> None:
    """A cabinet that was written wrongly would open wrong doors, so it is read back."""
    layout = lay_out(parse_settings(text, _File, source="the imported cabinet").locker.cabinet)
    written = {(each.door, each.latch, each.size) for each in layout.compartments}
    if written != {(each.door, each.latch, each.size) for each in entries}:
        raise ConfigError("the list was not understood", remedy="report this as a defect, with the list")


def _row_of(entry: Entry) -> int:
    return entry.row


def _usual(entries: Sequence[Entry], size: Size) -> int:
    """The height that most doors of ``size`` have."""
    told = [each.height_mm for each in entries if each.size is size and each.height_mm is not None]
    return max(set(told), key=lambda mm: (told.count(mm), -mm)) if told else ASSUMED_MM[size]


def _column(name: str, doors: Sequence[Entry], heights: dict[Size, int]) -> str:
    rows = " ".join(
        each.size.value if each.height_mm in {None, heights[each.size]} else f"{each.size.value}:{each.height_mm}"
        for each in doors
    )
    members = [f'name = "{name}"', f'rows = "{rows}"', f'latches = "{" ".join(_latch_words(doors))}"']
    names = [each.door for each in doors]
    if names != [f"{name}{number}" for number in range(1, len(names) + 1)]:
        members.append(f'doors = "{" ".join(_name_words(names))}"')
    return f"{{ {', '.join(members)} }}"


def _latch_words(doors: Sequence[Entry]) -> Iterator[str]:
    for run in _runs([each.latch for each in doors], lambda one, two, step: two == Latch(one.board, one.lock + step)):
        board, first, last = run[0].board, run[0].lock, run[-1].lock
        yield f"{board}:{first}" if first == last else f"{board}:{first}..{last}"


def _name_words(names: Sequence[str]) -> Iterator[str]:
    for run in _runs(names, _follows):
        yield run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}"


def _follows(one: str, two: str, step: int) -> bool:
    stem = one.rstrip("0123456789")
    digits = one[len(stem) :]
    return bool(digits) and two == f"{stem}{int(digits) + step:0{len(digits)}}"


def _runs(things: Sequence[T], follows: Callable[[T, T, int], bool]) -> Iterator[list[T]]:
    """``things`` in runs of which each counts up, or down, by one."""
    run: list[T] = []
    step = 0
    for thing in things:
        going = next((each for each in ((step,) if step else (1, -1)) if run and follows(run[-1], thing, each)), 0)
        if run and not going:
            yield run
            run = []
        run.append(thing)
        step = going
    if run:
        yield run
