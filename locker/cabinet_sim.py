"""A cabinet of spring-latch doors as physics: coils, latches, doors, switches and sensors, told in seconds handed in.

It knows no protocol and refuses nothing: driven wrongly, it does what a real cabinet would do, and says so.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from typing import Literal, NamedTuple

from edge.errors import ConfigError

Sensed = Literal["open", "closed"]

PUSH_AGAIN = 1.0
"""Seconds after which a person pushes a door again that does not hold, where its coil is not let go before."""


class Spot(NamedTuple):
    """One compartment of the cabinet."""

    board: int
    lock: int


class Happening(NamedTuple):
    """Something that physically happened.

    ``what``: pulse, double_coil (beside another that is still driven), overheated, released, opened, closed, bounced
    (shut onto a driven latch, which does not hold), item_in, item_out.
    """

    t: float
    what: str
    spot: Spot


@dataclasses.dataclass(frozen=True)
class Mechanics:
    """How long things take, in seconds."""

    release: float = 0.005
    """A coil must be driven this long before its latch lets go."""
    swing: float = 0.020
    """From the latch letting go until the door has left its frame and the hook switch with it."""
    close_after: float | None = None
    """A person shuts each door this long after it opened; None: only when told to."""
    hot_after: float = 3.0
    """Driven time, cooling at a tenth of it, after which a coil of a cabinet lock is past its rating."""


@dataclasses.dataclass
class Ailment:
    """What is wrong with one compartment; the defaults are health."""

    stuck: int = 0
    """Pulses that do not release the latch; below 0: none ever does."""
    weak: int = 1
    """Pulses it takes to release the latch."""
    swing: float | None = None
    """A door that opens later than its latch lets go, in seconds."""
    cut: Sensed | None = None
    """The hook switch's cable is cut and reads like this."""
    reversed: bool = False
    """The hook switch is of the other kind: it opens where the others close."""
    deaf: bool = False
    """The wire from the board to the coil is broken."""


@dataclasses.dataclass
class _Compartment:
    ailment: Ailment = dataclasses.field(default_factory=Ailment)
    latched: bool = True
    open: bool = False
    item: bool = False
    pulses: int = 0
    pulses_since_latched: int = 0
    due_open: float = 0.0
    due_shut: float = 0.0
    due_hot: float = math.inf
    driven_until: float = -1.0
    heat: float = 0.0
    heat_at: float = 0.0


class Cabinet:
    """All compartments on one supply. ``now`` must never go back between calls."""

    def __init__(self, boards: int, locks: int, mechanics: Mechanics, *, shut_bit: int = 1, first: int = 0) -> None:
        """``shut_bit`` is what the hook switches give while a door is shut, ``first`` the first board's number."""
        self._mechanics = mechanics
        self._shut_bit = shut_bit
        self._all = {Spot(b, k): _Compartment() for b in range(first, first + boards) for k in range(locks)}
        self._by_board = {
            board: [(where.lock, one) for where, one in self._all.items() if where.board == board]
            for board in range(first, first + boards)
        }
        self._agenda: list[tuple[float, int, str, Spot]] = []
        self._order = itertools.count()

    def __contains__(self, spot: Spot) -> bool:
        return spot in self._all

    def drive(self, spot: Spot, seconds: float, now: float) -> list[Happening]:
        """Put current through a coil for ``seconds``; ``math.inf``: until it is let go."""
        told = self.advance(now)
        one = self._all[spot]
        if one.ailment.deaf:
            return told
        if any(other.driven_until > now for where, other in self._all.items() if where != spot):
            told.append(Happening(now, "double_coil", spot))
        one.driven_until = max(one.driven_until, now + seconds)
        one.pulses += 1
        one.pulses_since_latched += 1
        told.append(Happening(now, "pulse", spot))
        if self._heated(one, seconds, now):
            told.append(Happening(now, "overheated", spot))
        elif seconds == math.inf:
            one.due_hot = now + max(0.0, self._mechanics.hot_after - one.heat)
            self._later(one.due_hot, "overheated", spot)
        if seconds >= self._mechanics.release and self._yields(one):
            self._later(now + self._mechanics.release, "released", spot)
        return told

    def let_go(self, spot: Spot, now: float) -> list[Happening]:
        """Take the current off a coil before its time."""
        told = self.advance(now)
        one = self._all[spot]
        if one.driven_until == math.inf:
            one.heat, one.heat_at, one.due_hot = one.heat + now - one.heat_at, now, math.inf
        one.driven_until = min(one.driven_until, now)
        return told

    def advance(self, now: float) -> list[Happening]:
        """Let time pass until ``now``."""
        told: list[Happening] = []
        while self._agenda and self._agenda[0][0] <= now:
            t, _, what, spot = heapq.heappop(self._agenda)
            told += self._happens(t, what, spot)
        return told

    def due(self) -> float | None:
        """When the next thing happens by itself, or None."""
        return self._agenda[0][0] if self._agenda else None

    def shut(self, spot: Spot, now: float) -> list[Happening]:
        """A person pushes the door shut; the spring latch takes it without asking who that is."""
        told = self.advance(now)
        one = self._all[spot]
        if one.latched:
            return told
        if one.driven_until > now:
            return [*told, Happening(now, "bounced", spot)]
        one.latched, one.open, one.pulses_since_latched = True, False, 0
        return [*told, Happening(now, "closed", spot)]

    def force(self, spot: Spot, now: float) -> list[Happening]:
        """A person with a crowbar opens the door."""
        told = self.advance(now)
        one = self._all[spot]
        return told if one.open else [*told, *self._opens(one, now, spot)]

    def move_item(self, spot: Spot, now: float, *, inside: bool) -> list[Happening]:
        """A person puts something in or takes it out. Raises ``ConfigError`` where the door is shut."""
        told = self.advance(now)
        one = self._all[spot]
        if not one.open:
            raise ConfigError(f"door {spot.board}/{spot.lock} is shut", remedy="open it first; hands need an open door")
        if one.item is inside:
            return told
        one.item = inside
        return [*told, Happening(now, "item_in" if inside else "item_out", spot)]

    def ailment(self, spot: Spot) -> Ailment:
        """The compartment's ailment, to be changed in place."""
        return self._all[spot].ailment

    def heal(self) -> None:
        """Everything works again; doors stay as they are."""
        for one in self._all.values():
            one.ailment = Ailment()

    def switches(self, board: int) -> int:
        """The hook switches of a board, bit n = lock n."""
        return sum(self._switch(one) << lock for lock, one in self._by_board.get(board, ()))

    def sensors(self, board: int) -> int:
        """The item sensors of a board, bit n = lock n, 1 = something is inside."""
        return sum(one.item << lock for lock, one in self._by_board.get(board, ()))

    def doors(self) -> list[dict[str, object]]:
        """Every compartment as a person standing there would see it, in order."""
        return [
            {
                "board": at.board,
                "lock": at.lock,
                "open": c.open,
                "latched": c.latched,
                "item": c.item,
                "pulses": c.pulses,
            }
            for at, c in self._all.items()
        ]

    def _later(self, t: float, what: str, spot: Spot) -> None:
        heapq.heappush(self._agenda, (t, next(self._order), what, spot))

    def _happens(self, t: float, what: str, spot: Spot) -> list[Happening]:
        one = self._all[spot]
        if what == "overheated" and t >= one.due_hot:
            one.due_hot = math.inf
            return [Happening(t, "overheated", spot)]
        if what == "released" and one.latched and one.driven_until >= t:
            one.latched = False
            one.due_open = t + (self._mechanics.swing if one.ailment.swing is None else one.ailment.swing)
            self._later(one.due_open, "opened", spot)
            return [Happening(t, "released", spot)]
        # A door that was shut meanwhile has a later time due: what was planned before then no longer happens.
        if what == "opened" and not one.latched and not one.open and t >= one.due_open:
            return self._opens(one, t, spot)
        if what == "shut" and one.open and t >= one.due_shut:
            return self._person_shuts(t, spot)
        return []

    def _opens(self, one: _Compartment, t: float, spot: Spot) -> list[Happening]:
        one.latched, one.open = False, True
        if self._mechanics.close_after is not None:
            one.due_shut = t + self._mechanics.close_after
            self._later(one.due_shut, "shut", spot)
        return [Happening(t, "opened", spot)]

    def _person_shuts(self, t: float, spot: Spot) -> list[Happening]:
        one = self._all[spot]
        if one.driven_until > t:  # it bounces, and people push again
            self._later(min(one.driven_until, t + PUSH_AGAIN), "shut", spot)
            return [Happening(t, "bounced", spot)]
        one.latched, one.open, one.pulses_since_latched = True, False, 0
        return [Happening(t, "closed", spot)]

    def _yields(self, one: _Compartment) -> bool:
        if one.ailment.stuck:
            one.ailment.stuck -= 1
            return False
        return one.pulses_since_latched >= one.ailment.weak

    def _heated(self, one: _Compartment, seconds: float, now: float) -> bool:
        """Whether this pulse took the coil past its rating."""
        before = max(0.0, one.heat - (now - one.heat_at) / 10)
        one.heat, one.heat_at = before + (0.0 if seconds == math.inf else seconds), now
        return before <= self._mechanics.hot_after < one.heat

    def _switch(self, one: _Compartment) -> int:
        shut = one.ailment.cut == "closed" if one.ailment.cut else one.open is one.ailment.reversed
        return self._shut_bit if shut else 1 - self._shut_bit
