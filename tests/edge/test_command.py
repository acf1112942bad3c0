"""A command acts on one node, on one thing, once, and now; whoever carries it can only be late."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import command, jose
from edge.command import MAX_WAIT_S, NONCE_RULES, Claims, Kind, NonceArgs, Present, Rule, admit, read_command
from edge.errors import VerificationError
from edge.identity import identify
from edge.issuers import Issuers
from edge.nonce import LIFETIME_S, MAX_PER_KEY, NonceBook
from edge.result import Result, Status, read_result, sign_result
from tests.edge.trust import DAY, HUB, NODE, NOW, ROLE, STRANGER, changed_anywhere, entry, issuers, signed


class Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


RULES = {
    "open": Rule(Kind.ACTUATION, "open", Open),
    "hold": Rule(Kind.SAFE, "hold", Nothing),
    "expect": Rule(Kind.BOOKING, "expect", Nothing),
    **NONCE_RULES,
}
JTI = "019aa8f0-7c1e-7abc-8def-0123456789ab"
PRESENT = Present(session="this-run", mono=100.0, wall=float(NOW))


def book() -> NonceBook:
    numbers = itertools.count(1)
    return NonceBook(lambda size: next(numbers).to_bytes(size, "big"))


def claims(**changed: Any) -> Claims:
    members: dict[str, Any] = {
        "iss": "hub",
        "aud": NODE.audience,
        "jti": JTI,
        "iat": NOW,
        "name": "open",
        "subject": "door/7",
        "args": {"reason": "stuck"},
    }
    return Claims(**(members | changed))


OPEN = claims(nonce="filled-in-by-the-test")
HOLD = claims(name="hold", args={}, session="this-run")
EXPECT = claims(name="expect", args={}, rev=5, exp=NOW + DAY)
ASK = claims(name="nonce", args={"name": "open", "request": 1}, session="this-run")


def do(
    said: Claims,
    nonces: NonceBook | None = None,
    present: Present = PRESENT,
    listed: Issuers | None = None,
) -> msgspec.Struct:
    """Sign, read and admit ``said``. A filler nonce is exchanged for one asked for this moment."""
    nonces = nonces or book()
    listed = listed or issuers()
    if said.nonce == OPEN.nonce:
        fresh = nonces.issue(HUB.kid, said.name, said.subject, 1, present.mono)
        said = msgspec.structs.replace(said, nonce=fresh)
    proven = read_command(command.sign_command(said, HUB), listed, NODE)
    return admit(proven, RULES, listed, NODE.node, present=present, nonces=nonces)


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        do(*args, **kwargs)
    return caught.value.reason


def test_a_door_opens_under_a_nonce_asked_for_just_before() -> None:
    assert do(OPEN) == Open("stuck")


def test_the_other_kinds_carry_a_session_or_a_revision() -> None:
    assert do(HOLD) == Nothing()
    assert do(EXPECT) == Nothing()
    assert do(ASK) == NonceArgs("open", 1)


def test_the_same_bytes_give_the_same_digest_and_a_second_command_under_one_id_another() -> None:
    first = command.sign_command(EXPECT, HUB)
    second = command.sign_command(msgspec.structs.replace(EXPECT, subject="door/8"), HUB)
    digests = [read_command(token, issuers(), NODE).digest for token in (first, first, second)]
    assert digests[0] == digests[1] != digests[2]
    assert read_command(first, issuers(), NODE).kid == HUB.kid


# --- read: who says it, and to whom


def read_refusal(token: bytes, listed: Issuers | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        read_command(token, listed or issuers(), NODE)
    return caught.value.reason


TOKEN = command.sign_command(HOLD, HUB)


@given(at=st.integers(0, len(TOKEN) - 1), to=st.integers(0, 255))
def test_no_byte_of_a_command_can_be_changed(at: int, to: int) -> None:
    if TOKEN[at] != to:
        read_refusal(changed_anywhere(TOKEN, at, to))


def test_a_command_for_another_node_or_an_earlier_instance_is_refused() -> None:
    elsewhere = identify("acme", "locker-8", ROLE.public)
    rebuilt = identify("acme", "locker-7", STRANGER.public)
    for other in (elsewhere, rebuilt):
        said = msgspec.structs.replace(HOLD, aud=other.audience)
        assert read_refusal(command.sign_command(said, HUB)) == "wrong_audience"


def test_an_unlisted_key_commands_nothing() -> None:
    assert read_refusal(command.sign_command(HOLD, STRANGER)) == "unknown_key"


def test_a_key_speaks_under_its_own_name_only() -> None:
    said = msgspec.structs.replace(HOLD, iss="root")
    assert read_refusal(command.sign_command(said, HUB)) == "wrong_issuer"


def test_another_signed_thing_is_no_command() -> None:
    assert read_refusal(signed(msgspec.to_builtins(HOLD), jose.VOUCHER)) == "wrong_type"


@pytest.mark.parametrize(
    "changed",
    [
        {"jti": "1"},
        {"jti": JTI.upper()},
        {"jti": JTI.replace("-7abc", "-4abc")},
        {"jti": JTI + "\n"},
        {"iat": -1},
        {"iat": True},
        {"name": "Open"},
        {"name": ""},
        {"subject": ""},
        {"subject": "d" * 97},
        {"args": []},
        {"nonce": 1},
        {"session": "s" * 65},
        {"rev": 0},
        {"doors": ["1", "2"]},
    ],
)
def test_a_malformed_command_is_refused(changed: dict[str, Any]) -> None:
    assert read_refusal(signed(msgspec.to_builtins(HOLD) | changed, jose.COMMAND)) == "bad_claims"


@pytest.mark.parametrize("member", ["rev", "iat", "exp"])
@pytest.mark.parametrize("number", [2**53, 2**63, 2**64, 10**40])
def test_a_number_that_no_database_can_count_is_refused_before_anything_keeps_it(member: str, number: int) -> None:
    said = msgspec.to_builtins(EXPECT) | {member: number}
    assert read_refusal(signed(said, jose.COMMAND)) == "bad_claims"


def test_a_revoked_keys_command_is_still_read_so_that_a_repeat_can_be_answered_but_not_admitted() -> None:
    listed = issuers(entry(revoked=True))
    assert read_command(TOKEN, listed, NODE).claims.jti == JTI
    assert refusal(HOLD, listed=listed) == "revoked_key"


# --- admit: rights


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"scopes": ("hold", "nonce")}, "wrong_scope"),
        ({"nodes": ("other_*",)}, "wrong_node"),
        ({"not_after": NOW}, "key_expired"),
        ({"not_before": NOW + 1}, "key_not_yet_valid"),
    ],
)
def test_the_right_to_open_is_asked_for(changed: dict[str, Any], expected: str) -> None:
    assert refusal(OPEN, listed=issuers(entry(**changed))) == expected


def test_asking_for_a_nonce_needs_its_own_scope() -> None:
    assert refusal(ASK, listed=issuers(entry(scopes=("open",)))) == "wrong_scope"


def test_the_safe_direction_waits_for_no_clock() -> None:
    assert do(HOLD, listed=issuers(entry(not_after=NOW - DAY))) == Nothing()


def test_an_unknown_command_is_refused() -> None:
    assert refusal(msgspec.structs.replace(OPEN, name="open-all")) == "unknown_command"


@pytest.mark.parametrize("args", [{}, {"reason": 1}, {"reason": "x", "force": True}])
def test_arguments_must_be_the_contracts(args: dict[str, Any]) -> None:
    assert refusal(msgspec.structs.replace(OPEN, args=args)) == "bad_args"


# --- admit: freshness


@pytest.mark.parametrize(
    "said",
    [
        claims(session="this-run"),
        claims(rev=1, exp=NOW + DAY),
        claims(nonce=OPEN.nonce, exp=NOW + DAY),
        claims(nonce=OPEN.nonce, session="this-run"),
        claims(),
        claims(name="hold", args={}, nonce="n"),
        claims(name="expect", args={}, exp=NOW + DAY),
        claims(name="expect", args={}, rev=1),
        claims(name="nonce", args={"name": "open", "request": 1}),
    ],
)
def test_each_kind_carries_its_own_proof_of_freshness_and_no_other(said: Claims) -> None:
    assert refusal(said) == "bad_claims"


@pytest.mark.parametrize("said", [HOLD, ASK])
def test_a_command_for_an_earlier_run_of_the_agent_is_refused(said: Claims) -> None:
    assert refusal(said, present=msgspec.structs.replace(PRESENT, session="next-run")) == "wrong_session"


def test_a_booking_expires_but_not_on_an_untrusted_clock() -> None:
    late = msgspec.structs.replace(PRESENT, wall=float(NOW + DAY))
    listed = issuers(entry(not_after=NOW + 2 * DAY))
    assert refusal(EXPECT, present=late, listed=listed) == "expired"
    assert do(EXPECT, present=msgspec.structs.replace(late, wall=None)) == Nothing()


@pytest.mark.parametrize("exp", [NOW, NOW - 1, NOW + MAX_WAIT_S + 1])
def test_a_booking_waits_45_days_at_most(exp: int) -> None:
    assert refusal(msgspec.structs.replace(EXPECT, exp=exp)) == "bad_claims"
    assert do(msgspec.structs.replace(EXPECT, exp=NOW + MAX_WAIT_S)) == Nothing()


@pytest.mark.parametrize("held", [5, 6])
def test_an_older_revision_is_superseded(held: int) -> None:
    assert refusal(EXPECT, present=msgspec.structs.replace(PRESENT, held_rev=held)) == "superseded"
    assert do(EXPECT, present=msgspec.structs.replace(PRESENT, held_rev=4)) == Nothing()


def with_nonce(nonce: str, **changed: Any) -> Claims:
    return msgspec.structs.replace(OPEN, nonce=nonce, **changed)


def test_a_nonce_opens_once() -> None:
    nonces = book()
    nonce = nonces.issue(HUB.kid, "open", "door/7", 1, 100.0)
    assert do(with_nonce(nonce), nonces) == Open("stuck")
    assert refusal(with_nonce(nonce), nonces) == "unknown_nonce"


def test_a_nonce_lives_for_less_than_a_minute_of_running_time() -> None:
    nonces = book()
    nonce = nonces.issue(HUB.kid, "open", "door/7", 1, 0.0)
    almost = msgspec.structs.replace(PRESENT, mono=LIFETIME_S - 0.001)
    over = msgspec.structs.replace(PRESENT, mono=LIFETIME_S)
    assert refusal(with_nonce(nonce), nonces, present=over) == "nonce_expired"
    nonce = nonces.issue(HUB.kid, "open", "door/7", 2, 0.0)
    assert do(with_nonce(nonce), nonces, present=almost) == Open("stuck")


def test_a_nonce_is_for_one_door_one_command_and_one_key() -> None:
    nonces = book()
    for kid, name, subject in [
        (HUB.kid, "open", "door/8"),
        (HUB.kid, "hold", "door/7"),
        (STRANGER.kid, "open", "door/7"),
    ]:
        nonce = nonces.issue(kid, name, subject, 1, 100.0)
        assert refusal(with_nonce(nonce), nonces) == "unknown_nonce"


def test_a_newer_nonce_voids_the_older() -> None:
    nonces = book()
    older = nonces.issue(HUB.kid, "open", "door/7", 1, 100.0)
    newer = nonces.issue(HUB.kid, "open", "door/7", 2, 100.0)
    assert refusal(with_nonce(older), nonces) == "unknown_nonce"
    assert do(with_nonce(newer), nonces) == Open("stuck")


def test_a_repeated_request_gets_the_same_nonce_and_voids_nothing() -> None:
    nonces = book()
    nonce = nonces.issue(HUB.kid, "open", "door/7", 2, 100.0)
    assert nonces.issue(HUB.kid, "open", "door/7", 2, 101.0) == nonce
    with pytest.raises(VerificationError) as caught:
        nonces.issue(HUB.kid, "open", "door/7", 1, 101.0)
    assert caught.value.reason == "old_request"
    assert do(with_nonce(nonce), nonces) == Open("stuck")
    with pytest.raises(VerificationError):
        nonces.issue(HUB.kid, "open", "door/7", 2, 101.0)


def test_nothing_refused_for_another_reason_costs_the_nonce() -> None:
    nonces = book()
    nonce = nonces.issue(HUB.kid, "open", "door/7", 1, 100.0)
    assert refusal(with_nonce(nonce, args={}), nonces) == "bad_args"
    assert refusal(with_nonce(nonce), nonces, listed=issuers(entry(revoked=True))) == "revoked_key"
    assert refusal(with_nonce("guess"), nonces) == "unknown_nonce"
    assert do(with_nonce(nonce), nonces) == Open("stuck")


def test_a_restart_forgets_every_nonce() -> None:
    nonce = book().issue(HUB.kid, "open", "door/7", 1, 100.0)
    assert refusal(with_nonce(nonce), book()) == "unknown_nonce"


def test_one_issuer_cannot_crowd_out_another_and_is_let_in_again_after_a_minute() -> None:
    nonces = book()
    for door in range(MAX_PER_KEY):
        nonces.issue(STRANGER.kid, "open", f"door/{door}", 1, 100.0)
    with pytest.raises(VerificationError) as caught:
        nonces.issue(STRANGER.kid, "open", "door/99", 1, 100.0)
    assert caught.value.reason == "too_many_nonces"
    assert nonces.issue(STRANGER.kid, "open", "door/1", 2, 100.0)
    assert nonces.issue(HUB.kid, "open", "door/7", 1, 100.0)
    assert nonces.issue(STRANGER.kid, "open", "door/99", 1, 100.0 + LIFETIME_S)


def test_a_recorded_request_is_not_served_again_when_its_nonce_is_long_over() -> None:
    """Else a broker could fill the key's places with old requests, and the honest one would be crowded out."""
    nonces = book()
    nonces.issue(HUB.kid, "open", "door/1", 7, 100.0)
    with pytest.raises(VerificationError) as caught:
        nonces.issue(HUB.kid, "open", "door/1", 7, 100.0 + 10 * LIFETIME_S)
    assert caught.value.reason == "old_request"


# --- the answer

RESULT = Result(NODE.audience, "hub", JTI, Status.DONE, NOW, data={"nonce": "x"})
ANSWER = sign_result(RESULT, ROLE)


def answer(token: bytes = ANSWER, **changed: Any) -> Result:
    asked: dict[str, Any] = {"audience": NODE.audience, "command_id": JTI, "issuer": "hub"}
    return read_result(token, ROLE.public, **(asked | changed))


def test_the_issuer_believes_the_nodes_own_answer() -> None:
    assert answer() == RESULT


@pytest.mark.parametrize(
    ("token", "changed", "expected"),
    [
        (sign_result(RESULT, HUB), {}, "unknown_key"),
        (signed(msgspec.to_builtins(RESULT), jose.ACK, ROLE), {}, "wrong_type"),
        (signed(msgspec.to_builtins(RESULT) | {"status": "opened"}, jose.RESULT, ROLE), {}, "bad_claims"),
        (ANSWER, {"audience": "acme_locker-8/x"}, "wrong_issuer"),
        (ANSWER, {"issuer": "other-hub"}, "wrong_audience"),
        (ANSWER, {"command_id": JTI[:-1] + "c"}, "wrong_command"),
    ],
)
def test_an_answer_from_elsewhere_or_to_something_else_is_refused(
    token: bytes, changed: dict[str, Any], expected: str
) -> None:
    with pytest.raises(VerificationError) as caught:
        answer(token, **changed)
    assert caught.value.reason == expected


@given(at=st.integers(0, len(ANSWER) - 1), to=st.integers(0, 255))
def test_no_byte_of_an_answer_can_be_changed(at: int, to: int) -> None:
    if ANSWER[at] != to:
        with pytest.raises(VerificationError):
            answer(changed_anywhere(ANSWER, at, to))
