"""A customer shows a signed QR instead of typing a code: the verdict on a voucher whose signature is already proven.

No network and no code are needed: the locker knows the issuer's public key, and the voucher names the booking.
"""

from __future__ import annotations

from typing import Final

from edge.voucher import Voucher
from locker import contract
from locker.announcing import Attempt
from locker.booking import BookingState
from locker.collecting import Doors, now_of, record_of, release
from locker.contract import Cause, Reason
from locker.ledger import Ledger
from locker.pickup_code import Grant, Refusal, answer_to

FAULTS: Final = {
    "not_yet_valid": Reason.TOO_EARLY,
    "expired": Reason.EXPIRED,
    "wrong_audience": Reason.OTHER_LOCKER,
}
"""What the person hears of a voucher that is not taken, by the reason word of its check. Of all others they hear
``voucher_refused``: they cannot mend them."""


def refuse(ledger: Ledger, reason: Reason) -> Refusal:
    """Counted by reason and minute, like wrong codes; a signature cannot be guessed, so no budget is charged."""
    ledger.tally("voucher", reason.value)
    return Refusal(reason)


def judge_voucher(ledger: Ledger, voucher: Voucher, *, doors: Doors, attempt: Attempt, confirm: bool) -> str | Refusal:
    """The verdict on a proven voucher: a refusal, or the door whose pulse is now announced.

    Its edition is kept with the booking whatever the verdict is: one that was shown once takes the older out of force.
    """
    answer = _answer(ledger, voucher, doors, confirm=confirm)
    if isinstance(answer, Refusal):
        ledger.tally("voucher", answer.reason.value)
        return answer
    accepted = contract.VoucherAccepted(
        parcel=answer.parcel,
        door=answer.door,
        session=attempt.session,
        attempt=attempt.attempt,
        gen=voucher.gen,
        confirmed=answer.confirmed,
    )
    return release(ledger, answer, accepted, Cause.VOUCHER, doors=doors, attempt=attempt)


def _answer(ledger: Ledger, voucher: Voucher, doors: Doors, *, confirm: bool) -> Grant | Refusal:
    found, booked = ledger.parcel(voucher.booking), ledger.booking(voucher.booking)
    if found is None and booked is None:
        return Refusal(Reason.NOT_HERE)
    seen = ledger.voucher_gen(voucher.booking)
    if voucher.gen < seen:
        return Refusal(Reason.SUPERSEDED)
    if voucher.gen > seen:
        ledger.save_voucher_gen(voucher.booking, voucher.gen)
    if found is None:
        over = booked is not None and booked.state is BookingState.ENDED
        return Refusal(Reason.USED if over else Reason.NOT_HERE)
    answer = answer_to(record_of(ledger, found, doors), now_of(ledger), confirm=confirm)
    if isinstance(answer, Refusal) and answer.reason is Reason.NO_SUCH_CODE:
        return Refusal(Reason.NOT_HERE)
    return answer
