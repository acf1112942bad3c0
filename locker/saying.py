"""What somebody at a door says of it, and what the ledger makes of that."""

from __future__ import annotations

from typing import Final

import msgspec

from locker import contract, settling
from locker.announcing import PURPOSES, Purpose, tell
from locker.contract import BlockCause, Word
from locker.ledger import Ledger, Unlocking
from locker.parcel import ParcelState
from locker.settling import Closed

ANOTHER: Final = frozenset({Word.DOES_NOT_FIT, Word.NOT_EMPTY, Word.WILL_NOT_CLOSE})
"""Words after which a deposit goes on behind another door."""

_BLOCKS: Final = {Word.NOT_EMPTY: BlockCause.NOT_EMPTY, Word.WILL_NOT_CLOSE: BlockCause.WILL_NOT_CLOSE}


def told(ledger: Ledger, door: str, session: str, word: Word) -> Closed | None:
    """Keep what was said, and block the compartment if it was bad. None: nobody of ``session`` is at the door now.

    Returns what is over at this door by that word: nothing, as long as it is waited for to close.

    Kept, so that a crash before the door closes does not turn a parcel that was taken along into one that is inside.
    """
    unlocking = ledger.unlocking(door)
    if unlocking is None or unlocking.session != session:
        return None
    said = Closed(door=door, session=session, cause=None)
    if word.value == unlocking.word:
        return said
    ledger.note_word(unlocking.attempt, word)
    tell(ledger, contract.DoorTold(door=door, session=session, word=word, parcel=unlocking.parcel))
    if word in _BLOCKS:
        settling.block(ledger, door, _BLOCKS[word])
    if word is Word.WILL_NOT_CLOSE and is_deposit(unlocking):
        _take_back(ledger, door, session)
        return msgspec.structs.replace(said, cause=unlocking.cause, word=word)
    return said


def told_late(ledger: Ledger, door: str, session: str, word: Word) -> None:
    """The door has closed, and only now its customer says that something is wrong with what they collected.

    Heard once, and not when the door was opened for somebody else meanwhile.
    """
    last = ledger.unlocking(door)
    if last is None or last.session != session or Word(last.word) in settling.WRONG:
        return
    gone = [each for each in ledger.put_in_with(last.parcel) if each.state is ParcelState.COLLECTED]
    if not gone:
        return
    told(ledger, door, session, word)
    for each in gone:
        settling.claim(ledger, each, session, word)


def is_deposit(unlocking: Unlocking) -> bool:
    return PURPOSES[unlocking.cause] is Purpose.DEPOSIT


def _take_back(ledger: Ledger, door: str, session: str) -> None:
    """Nobody waits for this door to close: the parcel is outside, and may be put in elsewhere at once."""
    for each in ledger.parcels_at(door):
        if each.state is ParcelState.DEPOSITING:
            settling.withdraw(ledger, each.parcel, door, session)
