"""How long a door is given for what."""

from __future__ import annotations

from typing import Final

import msgspec


class DoorTimes(msgspec.Struct, frozen=True):
    """Seconds of running time that a door is given, and how often it may be pulsed.

    The defaults come from locks and boards in the field: spring latches bounce for under 50 ms, a door that has not
    moved 1.5 s after its pulse will not, and a coil needs 2 s to cool before the next.
    """

    debounce: float = 0.05
    """A reading counts once it has been repeated this much later."""
    coil: float = 0.5
    """From a pulse until its coil is surely off: while driven it can hold the hook open behind a door that is stuck, so
    *open* is not believed before."""
    no_change: float = 1.5
    """From a pulse until "it did not move"."""
    pulse_gap: float = 2.0
    """From a pulse to the next, or to the end of an attempt in doubt. To pulse again, a reading must confirm *closed*
    between ``no_change`` and here."""
    pulses: int = 3
    """In one attempt."""
    chime: float = 60.0
    """From opening until the person is reminded."""
    ajar: float = 300.0
    """From opening until it is an alarm."""
    commanded: float = 10.0
    """An opening this long after a pulse still counts as ours."""
    gap: float = 1.0
    """Without a reading after a pulse, in which a door could have been opened and shut again unseen."""
    fresh: float = 2.0
    """A reading older than this says nothing about how the door stands now."""


DEFAULT_TIMES: Final = DoorTimes()
