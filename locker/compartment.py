"""Compartments: what they are, which may be offered, and which one a parcel gets."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from edge.errors import TransitionError
from locker.latch import Hook, Latch, Reading

LOW_MM: Final = range(380, 1221)
"""Height of a handle above the floor, mm, that a seated person reaches: 380 to 1220, the reach that accessibility
guidance for self-service terminals gives."""


class Size(enum.Enum):
    """Sizes from small to large; a parcel fits into its own size and every larger one."""

    S = "S"
    M = "M"
    L = "L"

    def fits(self, parcel: Size) -> bool:
        """Whether a compartment of this size takes a parcel booked as ``parcel``."""
        return _ORDER[self] >= _ORDER[parcel]

    @property
    def larger(self) -> Size | None:
        """The next size up, None for the largest."""
        return next((each for each in Size if _ORDER[each] == _ORDER[self] + 1), None)


_ORDER: Final = {size: place for place, size in enumerate(Size)}


class Climate(enum.Enum):
    """What a compartment is kept at. A parcel goes into one of its own climate and no other."""

    AMBIENT = "ambient"
    """Nothing cools or heats it."""
    COLD = "cold"
    FROZEN = "frozen"
    HEATED = "heated"


class Place(msgspec.Struct, frozen=True):
    """Where something is on the cabinet's front, mm: ``x`` from its left edge, ``y`` its lower edge above the floor.

    ``column`` counts from the left, ``row`` as the plan writes them, both from 0.
    """

    column: int
    row: int
    x_mm: int
    y_mm: int
    width_mm: int
    height_mm: int


NOWHERE: Final = Place(0, 0, 0, 0, 0, 0)
"""Of a compartment that no plan has laid out."""


class Compartment(msgspec.Struct, frozen=True):
    """One compartment as it is built. ``door`` is the name on its front, ``height_mm`` its handle's above the floor.

    ``zone`` names what keeps it at its climate, "" for nothing.
    """

    door: str
    latch: Latch
    size: Size
    height_mm: int
    climate: Climate = Climate.AMBIENT
    zone: str = ""
    place: Place = NOWHERE

    @property
    def low(self) -> bool:
        """Whether a seated person reaches the handle."""
        return self.height_mm in LOW_MM

    def takes(self, size: Size, *, low: bool, climate: Climate) -> bool:
        """Whether a parcel like this may be put here."""
        return self.size.fits(size) and (self.low or not low) and self.climate is climate


class LedgerState(enum.Enum):
    """What the ledger holds of a compartment."""

    FREE = "free"
    OCCUPIED = "occupied"
    BLOCKED = "blocked"
    """Not offered until somebody has looked. A parcel inside can still be collected."""
    UNKNOWN = "unknown"
    """Not proven after a crash or a rebuilt ledger. Collectable, never offered."""


class CompartmentInput(enum.Enum):
    """What can happen to a compartment in the ledger."""

    TAKE = "take"
    """A deposit begins."""
    EMPTY = "empty"
    """Its parcel is gone and the door was seen to close."""
    BLOCK = "block"
    DOUBT = "doubt"
    SEEN_EMPTY = "seen_empty"
    """Somebody has looked: nothing inside, and the door works."""
    SEEN_FULL = "seen_full"
    """Somebody has looked: a known parcel is inside, and the door works."""


_S = LedgerState
_I = CompartmentInput

TRANSITIONS: Final[dict[tuple[LedgerState, CompartmentInput], LedgerState]] = {
    (_S.FREE, _I.TAKE): _S.OCCUPIED,
    (_S.FREE, _I.BLOCK): _S.BLOCKED,
    (_S.FREE, _I.DOUBT): _S.UNKNOWN,
    (_S.OCCUPIED, _I.EMPTY): _S.FREE,
    (_S.OCCUPIED, _I.BLOCK): _S.BLOCKED,
    (_S.OCCUPIED, _I.DOUBT): _S.UNKNOWN,
    # Opening or emptying a door is no inspection of it.
    (_S.BLOCKED, _I.EMPTY): _S.BLOCKED,
    (_S.BLOCKED, _I.BLOCK): _S.BLOCKED,
    (_S.BLOCKED, _I.DOUBT): _S.BLOCKED,
    (_S.BLOCKED, _I.SEEN_EMPTY): _S.FREE,
    (_S.BLOCKED, _I.SEEN_FULL): _S.OCCUPIED,
    (_S.UNKNOWN, _I.EMPTY): _S.UNKNOWN,
    (_S.UNKNOWN, _I.BLOCK): _S.BLOCKED,
    (_S.UNKNOWN, _I.DOUBT): _S.UNKNOWN,
    (_S.UNKNOWN, _I.SEEN_EMPTY): _S.FREE,
    (_S.UNKNOWN, _I.SEEN_FULL): _S.OCCUPIED,
}


def move(state: LedgerState, happened: CompartmentInput) -> LedgerState:
    """The state that follows. Raises ``TransitionError`` for what the table does not have."""
    following = TRANSITIONS.get((state, happened))
    if following is None:
        raise TransitionError(
            f"a compartment that is {state.value} was told {happened.value}",
            remedy="nothing was changed; report this with the journal around it",
        )
    return following


class Candidate(msgspec.Struct, frozen=True):
    """A compartment as it stands: what the ledger holds, what its sensors read, how often its door was opened."""

    compartment: Compartment
    ledger: LedgerState
    reading: Reading
    uses: int = 0

    @property
    def free(self) -> bool:
        """Whether it may be offered: ledger *and* sensors say so, and none of them is in doubt."""
        return self.ledger is LedgerState.FREE and self.reading.hook is Hook.CLOSED and self.reading.item is not True


def choose(
    candidates: Iterable[Candidate], size: Size, *, low: bool = False, climate: Climate = Climate.AMBIENT
) -> Compartment | None:
    """The compartment for a parcel of ``size``, or None if there is none.

    The smallest that fits, of the parcel's own climate; ``low`` takes only doors in reach of a seated person. Without
    ``low`` those doors are kept for who needs them, as long as another of the same size is free. Among equals the least
    used, so that wear spreads, then the first by name.
    """
    fitting = [each for each in candidates if each.free and each.compartment.takes(size, low=low, climate=climate)]
    best = min(fitting, key=_preference, default=None)
    return best.compartment if best else None


def _preference(candidate: Candidate) -> tuple[int, bool, int, str]:
    compartment = candidate.compartment
    return _ORDER[compartment.size], compartment.low, candidate.uses, compartment.door
