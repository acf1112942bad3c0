"""A code from its making to its verdict: readable by people, guessable by nobody, silent about what is not theirs."""

import itertools
import random as pseudo
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from edge.errors import ConfigError, DeviceError
from locker.attempts import EXTENDED_GAP, PLAIN_WRONG, Attempts
from locker.contract import Reason
from locker.parcel import ParcelState
from locker.pickup_code import (
    CodeHasher,
    CodeRecord,
    Grant,
    Now,
    PickupCode,
    Refusal,
    TypedCode,
    Verdict,
    check_digit,
    issue,
    judge,
    parse,
)

HASHER = CodeHasher(bytes(range(32)))
CODE = PickupCode("12345678", "0042")
NOW = Now(wall=1_800_000_000.0, trusted=True, running=1_000_000.0)
FRESH = Attempts()
TIRED = Attempts(wrong=(NOW.running - 1.0,) * PLAIN_WRONG)
ARABIC = CODE.typed.translate({ord("0") + digit: ord("٠") + digit for digit in range(10)})  # noqa: RUF001 - meant
digits8 = st.text("0123456789", min_size=8, max_size=8)


class Ledger:
    """Codes by hash, as the store keeps them, and how often somebody looked."""

    def __init__(self, record: CodeRecord, code: PickupCode = CODE) -> None:
        hashes = HASHER.of(code)
        self.rows = {hashes.plain: record, hashes.extended: record}
        self.looks = 0

    def find(self, digest: bytes) -> CodeRecord | None:
        self.looks += 1
        return self.rows.get(digest)


def record(
    state: ParcelState = ParcelState.STORED, expires: float | None = None, *, serviceable: bool = True
) -> CodeRecord:
    return CodeRecord("bk-1", "07", state, expires, serviceable)


def ask(
    ledger: Ledger,
    text: str = CODE.typed,
    extension: str | None = None,
    attempts: Attempts = FRESH,
    now: Now = NOW,
    *,
    confirm: bool = False,
) -> Verdict:
    typed = parse(text, extension)
    return judge(typed, hasher=HASHER, find=ledger.find, live=lambda: 100, attempts=attempts, now=now, confirm=confirm)


def seeded(seed: int) -> Callable[[int], bytes]:
    return pseudo.Random(seed).randbytes


def test_check_digit_of_the_published_example():
    assert check_digit("572") == "4"


@given(digits8, st.integers(0, 8), st.integers(1, 9))
def test_every_single_wrong_digit_is_a_typo(digits, place, step):
    typed = digits + check_digit(digits)
    wrong = str((int(typed[place]) + step) % 10)
    assert parse(typed) is not None
    assert parse(typed[:place] + wrong + typed[place + 1 :]) is None


@given(digits8, st.integers(0, 7))
def test_every_swap_of_neighbours_is_a_typo(digits, place):
    typed = digits + check_digit(digits)
    swapped = typed[:place] + typed[place + 1] + typed[place] + typed[place + 2 :]
    assert swapped == typed or parse(swapped) is None


@pytest.mark.parametrize("text", ["123 456 78{}", "123-456-78{}", " 12345678{} ", "1-2 3-4 5-6 7-8 {}"])
def test_spaces_and_dashes_are_overlooked(text):
    assert parse(text.format(CODE.typed[-1])) == TypedCode("12345678", None)


@pytest.mark.parametrize(
    "text", ["", "12345678", CODE.typed + "0", "12345678x", ARABIC, "123\t456789", "1" * 40, " " * 24 + CODE.typed]
)
def test_what_is_no_code_is_a_typo(text):
    assert parse(text) is None


def test_the_extension_is_read_with_the_code_and_an_empty_one_is_none():
    assert parse(CODE.typed, "00 42") == TypedCode("12345678", "0042")
    assert parse(CODE.typed, "") == TypedCode("12345678", None)
    assert parse(CODE.typed, "042") is None


def test_nothing_that_holds_a_code_shows_it():
    typed = parse(CODE.typed, CODE.extension)
    for secret in (CODE, typed, HASHER, HASHER.of(CODE)):
        for shown in (repr(secret), str(secret), f"{secret}", pretty_repr(secret), repr([secret])):
            assert not any(char.isdigit() for char in shown)
            assert "\\x" not in shown


def test_codes_are_spread_evenly():
    """Chi-square over every place of 20,000 codes: 9 degrees of freedom, 40 would come once in 100,000 runs."""
    draw = seeded(7)
    codes = [issue(draw, HASHER, lambda _: False) for _ in range(20_000)]
    for place in range(12):
        counts = [0] * 10
        for code in codes:
            counts[int((code.digits + code.extension)[place])] += 1
        assert sum((count - 2_000) ** 2 / 2_000 for count in counts) < 40


def test_draws_that_would_favour_small_numbers_are_thrown_away():
    draws = iter(
        [(2**32 - 1).to_bytes(4, "big"), (42 * 10**8).to_bytes(4, "big"), bytes(4), (9_999).to_bytes(4, "big")]
    )
    assert issue(lambda n: next(draws), HASHER, lambda _: False) == PickupCode("00000000", "9999")


def test_a_code_is_unique_in_its_locker():
    first = issue(seeded(1), HASHER, lambda _: False)
    held = {HASHER.plain(first.digits)}
    assert issue(seeded(1), HASHER, held.__contains__).digits != first.digits


@pytest.mark.parametrize("broken", [bytes, lambda n: b"\xff" * n])
def test_broken_randomness_issues_nothing_and_does_not_hang(broken):
    with pytest.raises(DeviceError, match="random"):
        issue(broken, HASHER, lambda _: True)


def test_hashes_depend_on_the_key_and_on_what_they_are_of():
    other = CodeHasher(bytes(32))
    hashes = [*msgspec.structs.astuple(HASHER.of(CODE)), *msgspec.structs.astuple(other.of(CODE))]
    assert len(set(hashes)) == 4
    assert HASHER.plain("123456780042") != HASHER.extended("12345678", "0042")


def test_a_short_key_is_refused():
    with pytest.raises(ConfigError, match="31 bytes"):
        CodeHasher(bytes(31))


def test_a_right_code_is_granted_and_costs_nothing():
    assert ask(Ledger(record())) == Verdict(Grant("bk-1", "07", confirmed=False), Attempts())


def test_a_wrong_code_costs_an_attempt():
    other = "00000000" + check_digit("00000000")
    verdict = ask(Ledger(record()), other)
    assert verdict.answer == Refusal(Reason.NO_SUCH_CODE)
    assert verdict.attempts.wrong == (NOW.running,)


def test_a_typo_costs_nothing_and_is_not_even_looked_up():
    ledger = Ledger(record())
    assert ask(ledger, "123456780") == Verdict(Refusal(Reason.TYPO), Attempts())
    assert ledger.looks == 0


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (record(ParcelState.RELEASING), Reason.BUSY),
        (record(ParcelState.DEPOSITING), Reason.BUSY),
        (record(ParcelState.RELEASED), Reason.USED),
        (record(ParcelState.COLLECTED), Reason.USED),
        (record(ParcelState.WITHDRAWN), Reason.NO_SUCH_CODE),
        (record(expires=NOW.wall), Reason.EXPIRED),
        (record(serviceable=False), Reason.OUT_OF_SERVICE),
        (record(ParcelState.UNCONFIRMED), Reason.CONFIRM_NEEDED),
    ],
)
def test_a_right_code_that_opens_nothing_now_says_why_and_costs_nothing(found, reason):
    verdict = ask(Ledger(found))
    assert isinstance(verdict.answer, Refusal)
    assert (verdict.answer.reason, verdict.attempts) == (reason, Attempts())
    assert (verdict.answer.retry_after is not None) == (reason is Reason.BUSY)


@pytest.mark.parametrize("state", ParcelState)
def test_only_a_parcel_that_lies_there_untouched_or_confirmed_is_granted(state):
    granted = isinstance(ask(Ledger(record(state)), confirm=True).answer, Grant)
    assert granted == (state in {ParcelState.STORED, ParcelState.UNCONFIRMED})


def test_after_an_unknown_outcome_the_customers_renewed_wish_is_enough():
    assert ask(Ledger(record(ParcelState.UNCONFIRMED)), confirm=True).answer == Grant("bk-1", "07", confirmed=True)


def test_a_used_code_stays_used_when_it_expires():
    assert ask(Ledger(record(ParcelState.COLLECTED, expires=1.0))).answer == Refusal(Reason.USED)


def test_on_an_untrusted_clock_nothing_expires():
    ledger = Ledger(record(expires=NOW.wall - 1))
    assert ask(ledger).answer == Refusal(Reason.EXPIRED)
    untrusted = msgspec.structs.replace(NOW, trusted=False)
    assert isinstance(ask(ledger, now=untrusted).answer, Grant)


def test_after_eight_wrong_codes_a_code_alone_is_not_looked_up_whether_it_exists_or_not():
    ledger = Ledger(record())
    other = "00000000" + check_digit("00000000")
    assert ask(ledger, attempts=TIRED) == ask(ledger, other, attempts=TIRED)
    assert ask(ledger, attempts=TIRED) == Verdict(Refusal(Reason.EXTENSION_NEEDED), TIRED)
    assert ledger.looks == 0


def test_with_its_extension_the_code_opens():
    assert isinstance(ask(Ledger(record()), extension="0042", attempts=TIRED).answer, Grant)


@pytest.mark.parametrize("attempts", [Attempts(), TIRED])
def test_a_wrong_extension_cannot_be_told_from_a_wrong_code(attempts):
    """Were it otherwise, the code would be found first and its extension after: 10^8 + 10^4 tries instead of 10^12."""
    ledger = Ledger(record())
    other = "00000000" + check_digit("00000000")
    right_code = ask(ledger, extension="0043", attempts=attempts)
    assert right_code == ask(ledger, other, "0043", attempts=attempts)
    assert right_code.answer == Refusal(Reason.NO_SUCH_CODE)
    assert right_code.attempts.extended_from == NOW.running + EXTENDED_GAP


@pytest.mark.parametrize("state", ParcelState)
def test_a_wrong_extension_tells_nothing_of_the_parcel(state):
    assert ask(Ledger(record(state)), extension="0043").answer == Refusal(Reason.NO_SUCH_CODE)


def test_while_a_try_has_to_wait_not_even_a_right_one_is_looked_up():
    ledger = Ledger(record())
    waiting = msgspec.structs.replace(TIRED, extended_from=NOW.running + 4.0)
    assert ask(ledger, extension="0042", attempts=waiting) == Verdict(Refusal(Reason.WAIT, 4.0), waiting)
    assert ledger.looks == 0


def test_a_plain_code_never_waits():
    waiting = Attempts(extended_from=NOW.running + 4.0)
    assert isinstance(ask(Ledger(record()), attempts=waiting).answer, Grant)


def test_every_reason_of_a_code_can_be_heard_and_no_other():
    heard = {
        verdict.answer.reason
        for state, expires, serviceable, text, extension, attempts in itertools.product(
            ParcelState,
            [None, 1.0],
            [True, False],
            [CODE.typed, "1", "000000000"],
            [None, "0042", "0043"],
            [Attempts(), TIRED, msgspec.structs.replace(TIRED, extended_from=NOW.running + 1)],
        )
        if isinstance(
            (verdict := ask(Ledger(record(state, expires, serviceable=serviceable)), text, extension, attempts)).answer,
            Refusal,
        )
    }
    deposits = {Reason.NOT_ALLOWED, Reason.BOOKING_REFUSED, Reason.NO_ROOM, Reason.CLOSED}
    vouchers = {
        *(Reason.VOUCHER_REFUSED, Reason.OTHER_LOCKER, Reason.TOO_EARLY, Reason.SUPERSEDED, Reason.NOT_HERE),
    }
    staff = {
        *(Reason.NOTHING_DUE, Reason.PARCEL_INSIDE, Reason.LOOK_FIRST, Reason.DOOR_OPEN, Reason.ITEM_SEEN),
    }
    assert heard == set(Reason) - deposits - vouchers - staff
