"""What somebody at a door says of it, and what the ledger makes of that."""

from __future__ import annotations

from typing import Final

from locker import contract, settling
from locker.announcing import PURPOSES, Purpose, tell
from locker.contract import BlockCause, Word
from locker.ledger import Ledger, Unlocking
from locker.parcel import ParcelState

ANOTHER: Final = frozenset({Word.DOES_NOT_FIT, Word.NOT_EMPTY, Word.WILL_NOT_CLOSE})
"""Words after which a deposit goes on behind another door."""

_BLOCKS: Final = {Word.NOT_EMPTY: BlockCause.NOT_EMPTY, Word.WILL_NOT_CLOSE: BlockCause.WILL_NOT_CLOSE}


def told(ledger: Ledger, door: str, session: str, word: Word) -> bool:
    """Keep what was said, and block the compartment if it was bad. False: nobody of ``session`` is at the door now.

    Kept, so that a crash before the door closes does not turn a parcel that was taken along into one that is inside.
    """
    unlocking = ledger.unlocking(door)
    if unlocking is None or unlocking.session != session:
        return False
    if word.value == unlocking.word:
        return True
    ledger.note_word(unlocking.attempt, word)
    tell(ledger, contract.DoorTold(door=door, session=session, word=word, parcel=unlocking.parcel))
    if word in _BLOCKS:
        settling.block(ledger, door, _BLOCKS[word])
    if word is Word.WILL_NOT_CLOSE and is_deposit(unlocking):
        _take_back(ledger, door, session)
    return True


def is_deposit(unlocking: Unlocking) -> bool:
    return PURPOSES[unlocking.cause] is Purpose.DEPOSIT


def _take_back(ledger: Ledger, door: str, session: str) -> None:
    """Nobody waits for this door to close: the parcel is outside, and may be put in elsewhere at once."""
    for each in ledger.parcels_at(door):
        if each.state is ParcelState.DEPOSITING:
            settling.withdraw(ledger, each.parcel, door, session)
