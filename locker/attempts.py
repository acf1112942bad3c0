"""How many guesses a locker allows: one budget for all its terminals, kept over restarts.

The goal: in any 24 hours of running time the chance that *any* guess opens *any* door stays at or below 1e-5, however
many codes live. What may be wrong in such a day, and what it is worth to somebody who guesses, with 100 live codes:

    wrong codes without extension       8 x 100 / 10^8          = 8.000e-6
    wrong codes with extension      8,641 x 100 / 10^12         = 0.864e-6    one in 10 s
    wrong PINs, all badges            100 x   1 / 10^8          = 1.000e-6    50 at once, then one in 1,728 s
                                                            sum   9.864e-6

All codes count: pickup codes, those of delegates, those for dropping off. With more than 100 a guess is worth more, so
it costs more: ``cost_of`` says how many of the eight it takes, and how many times the ten seconds. So each of the first
two lines stays what it is, also in a day in which the number of codes changes. ``MAX_CODES`` bounds it.

A PIN can be guessed only by who holds a valid signed badge; it is counted as if everybody did. A service code, if there
ever is one, is 8 random digits and shares the PINs' budget. QR vouchers are signatures: guessing one is not counted.

Four things make the sum hold. A guess is charged in the transaction of its verdict, before anything else may read the
budget, so that parallel tries cannot slip past. While a try has to wait it is not looked up, so that a right one gains
nothing either. Once the plain budget is spent, code and extension are looked up as one secret of 12 digits: no answer
tells that the code alone was right. And a success gives nothing back, or an own parcel would buy guesses at others.

Nobody is shut out: whoever holds a code also holds its extension, and waits 10 s at most behind somebody else's try, or
40 s in a locker with 400 codes.
The pace is the whole locker's. So where there are two terminals, the page must try again by itself when the wait is
over: it is there first, because a person at the other one needs some seconds to type 13 digits.
"""

from __future__ import annotations

from typing import Final

import msgspec

DAY: Final = 86_400.0
"""Seconds of running time over which the budget is reckoned. It slides: there is no midnight to wait for."""

PLAIN_WRONG: Final = 8
"""Wrong codes in a day before the extension is asked for as well."""

EXTENDED_GAP: Final = 10.0
"""Seconds between a wrong code with extension and the next look-up of one: 8,641 a day, and a bearable wait."""

PIN_BURST: Final = 50
"""Wrong PINs that may follow at once on a quiet day."""

PIN_INTERVAL: Final = 1_728.0
"""Seconds in which one more wrong PIN is allowed: 50 a day, 100 in the worst day together with the burst."""


CODES_A_GUESS: Final = 100
"""Live codes that one wrong code may have been tried against, for what is reckoned above."""

MAX_CODES: Final = 400
"""Live codes of one locker; the largest cabinet has 256 doors. No deposit begins and no code is issued beyond."""

MAX_FURTHER: Final = 144
"""Of these, codes beyond the parcels' own, so that they never keep a parcel out of the largest cabinet."""

MAX_COST: Final = MAX_CODES // CODES_A_GUESS


class Attempts(msgspec.Struct, frozen=True):
    """What the ledger keeps of past guesses.

    All times are accumulated running seconds of the node, which never go back: they are kept in the same ledger. Where
    a crash loses a little running time, a wait is longer, never shorter.
    """

    wrong: tuple[float, ...] = ()
    """When codes without extension were wrong, oldest first, each as often as it cost: the last ``PLAIN_WRONG``."""
    extended_from: float = 0.0
    """From when a code with extension is looked up again."""
    pins_until: float = 0.0
    """Until when the PINs' budget is used up: each wrong PIN adds ``PIN_INTERVAL`` to it, time takes it away."""


def cost_of(live: int) -> int:
    """What one wrong code costs while ``live`` codes could have been hit: 1 up to 100 of them, 2 up to 200, ..."""
    return max(1, -(-live // CODES_A_GUESS))


def extension_needed(attempts: Attempts, running: float, cost: int = 1) -> bool:
    """Whether what is left of the last day's plain budget does not pay for another wrong code."""
    return sum(at > running - DAY for at in attempts.wrong) + cost > PLAIN_WRONG


def extended_wait(attempts: Attempts, running: float) -> float:
    """Seconds until a code with extension is looked up; 0.0 means now."""
    return min(max(0.0, attempts.extended_from - running), EXTENDED_GAP * MAX_COST)


def pin_wait(attempts: Attempts, running: float) -> float:
    """Seconds until a PIN may be tried; 0.0 means now."""
    return max(0.0, attempts.pins_until - (PIN_BURST - 1) * PIN_INTERVAL - running)


def after_wrong_code(attempts: Attempts, running: float, cost: int = 1) -> Attempts:
    """The budget after a wrong code without extension."""
    return msgspec.structs.replace(attempts, wrong=(*attempts.wrong, *[running] * cost)[-PLAIN_WRONG:])


def after_wrong_extended(attempts: Attempts, running: float, cost: int = 1) -> Attempts:
    """The budget after a wrong code with extension."""
    return msgspec.structs.replace(attempts, extended_from=running + EXTENDED_GAP * cost)


def after_pin(attempts: Attempts, running: float) -> Attempts:
    """The budget with one PIN charged. Charged before it is checked, because checking takes a while."""
    return msgspec.structs.replace(attempts, pins_until=max(attempts.pins_until, running) + PIN_INTERVAL)


def after_right_pin(attempts: Attempts) -> Attempts:
    """The budget once a charged PIN has proved right: a right PIN is no guess."""
    return msgspec.structs.replace(attempts, pins_until=max(0.0, attempts.pins_until - PIN_INTERVAL))
