"""A courier's badge: what it must claim, what its PIN costs to guess, and what it opens."""

import msgspec
import pytest

from edge.errors import ConfigError, VerificationError
from locker.attempts import Attempts, after_pin, after_right_pin
from locker.badge import (
    MAX_VALIDITY,
    Badge,
    BadgeFault,
    OwnDeposit,
    PinCharge,
    PinRefusal,
    badge_fault,
    charge_pin,
    claims_for,
    may_reopen,
    pin_matches,
    read_badge,
    well_formed,
)

NOON = 1_800_000_000
PIN = "40271835"


def random(count: int) -> bytes:
    return bytes(range(count))


@pytest.fixture(scope="module")
def claims() -> dict[str, object]:
    return claims_for(
        jti="b-1",
        courier="c-77",
        nodes=("acme_bank-1", "acme_bank-2"),
        run="r-5",
        nbf=NOON,
        exp=NOON + 8 * 3600,
        pin=PIN,
        random=random,
    )


@pytest.fixture(scope="module")
def badge(claims) -> Badge:
    return read_badge({**claims, "iss": "hub", "iat": NOON})


def fault(
    badge: Badge, node: str = "acme_bank-1", wall: float = NOON + 60, floor: float = NOON, *, trusted: bool = True
) -> BadgeFault | None:
    return badge_fault(badge, node=node, wall=wall, trusted=trusted, floor=floor)


def test_what_is_issued_is_what_is_read(badge, claims):
    assert (badge.courier, badge.run, badge.nodes) == ("c-77", "r-5", ("acme_bank-1", "acme_bank-2"))
    assert claims["sub"] == "c-77"
    assert fault(badge) is None


def test_the_token_does_not_hold_the_pin(claims):
    assert PIN not in str(claims)


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": []},
        {"nodes": "acme_bank-1"},
        {"nbf": "noon"},
        {"pin": "short"},
        {"salt": "not base64url !!!!!!!!!"},
        {"jti": ""},
    ],
)
def test_claims_that_are_no_badge_are_refused(claims, change):
    with pytest.raises(VerificationError) as refused:
        read_badge({**claims, **change})
    assert refused.value.reason == "bad_badge"


@pytest.mark.parametrize("missing", ["jti", "sub", "nodes", "run", "nbf", "exp", "salt", "pin"])
def test_a_badge_without_one_of_its_claims_is_refused(claims, missing):
    with pytest.raises(VerificationError):
        read_badge({key: value for key, value in claims.items() if key != missing})


def test_a_badge_is_good_at_its_lockers_only(badge):
    assert fault(badge, node="acme_bank-2") is None
    assert fault(badge, node="acme_bank-22") is BadgeFault.WRONG_NODE


def test_a_badge_is_good_for_its_shift_only(badge):
    assert fault(badge, wall=NOON - 1) is BadgeFault.NOT_YET
    assert fault(badge, wall=badge.exp - 1) is None
    assert fault(badge, wall=badge.exp) is BadgeFault.EXPIRED


def test_on_an_untrusted_clock_only_what_had_surely_ended_has_ended(badge):
    assert fault(badge, wall=0, trusted=False) is None
    assert fault(badge, wall=badge.exp + 1, trusted=False) is None
    assert fault(badge, wall=0, floor=badge.exp, trusted=False) is BadgeFault.EXPIRED


@pytest.mark.parametrize("seconds", [MAX_VALIDITY + 1, 0, -1])
@pytest.mark.parametrize("trusted", [True, False])
def test_no_badge_outlives_a_shift_whoever_signed_it(badge, seconds, trusted):
    odd = msgspec.structs.replace(badge, exp=badge.nbf + seconds)
    assert fault(odd, trusted=trusted) is BadgeFault.TOO_LONG


def test_the_pin_matches_and_no_other_does(badge):
    assert pin_matches(badge, PIN)
    assert not pin_matches(badge, "40271836")
    assert not pin_matches(msgspec.structs.replace(badge, salt="A" * 22), PIN)


@pytest.mark.parametrize("pin", ["", "1234", "4027183", "402718355", "4027183x", "٤٠٢٧١٨٣٥"])
def test_what_could_not_be_a_pin_is_seen_before_it_costs_a_try_and_is_never_issued(pin):
    assert not well_formed(pin)
    with pytest.raises(ConfigError, match="PIN"):
        claims_for(jti="b", courier="c", nodes=("n",), run="r", nbf=0, exp=60, pin=pin, random=random)


@pytest.mark.parametrize("seconds", [0, MAX_VALIDITY + 1])
def test_no_badge_is_issued_that_would_be_refused(seconds):
    with pytest.raises(ConfigError, match=str(seconds)):
        claims_for(jti="b", courier="c", nodes=("n",), run="r", nbf=0, exp=seconds, pin=PIN, random=random)


def test_five_wrong_pins_block_the_badge_here_and_leave_others_their_budget():
    tries, attempts = 0, Attempts()
    for _ in range(5):
        charge = charge_pin(tries, attempts, 0.0)
        assert isinstance(charge, PinCharge)
        tries, attempts = charge.tries, charge.attempts
    assert charge_pin(tries, attempts, 0.0) == PinRefusal(BadgeFault.BLOCKED)
    assert isinstance(charge_pin(0, attempts, 0.0), PinCharge)


def test_parallel_tries_are_all_charged_before_the_first_is_checked():
    tries, attempts, admitted = 0, Attempts(), 0
    for _ in range(20):
        charge = charge_pin(tries, attempts, 0.0)
        if isinstance(charge, PinCharge):
            tries, attempts, admitted = charge.tries, charge.attempts, admitted + 1
    assert admitted == 5


def test_a_right_pin_costs_nothing_in_the_end():
    before = after_pin(Attempts(), 10.0)
    charge = charge_pin(2, before, 20.0)
    assert isinstance(charge, PinCharge)
    assert charge.refund() == PinCharge(2, before)


def test_a_refund_leaves_alone_what_others_have_been_charged_meanwhile():
    mine = charge_pin(0, Attempts(), 10.0)
    assert isinstance(mine, PinCharge)
    others = after_pin(mine.attempts, 11.0)
    assert PinCharge(1, others).refund() == PinCharge(0, after_right_pin(others))
    assert after_right_pin(others) == mine.attempts


def test_when_the_lockers_budget_is_used_up_a_new_badge_waits_too():
    attempts = Attempts()
    for _ in range(50):
        attempts = after_pin(attempts, 0.0)
    refused = charge_pin(0, attempts, 60.0)
    assert refused == PinRefusal(BadgeFault.WAIT, 1_668.0)


def test_a_courier_opens_the_own_deposit_again_for_two_minutes(badge):
    mine = OwnDeposit("c-77", "r-5", at=500.0)
    assert may_reopen(badge, mine, 620.0)
    assert not may_reopen(badge, mine, 620.5)
    assert not may_reopen(badge, OwnDeposit("c-78", "r-5", at=500.0), 510.0)
    assert not may_reopen(badge, OwnDeposit("c-77", "r-6", at=500.0), 510.0)
