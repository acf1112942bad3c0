"""Only a consumer's own signed word, to this very node, says that its events are held."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import jose
from edge.acks import MAX_JOURNALS, MAX_WANTED, Ack, read_ack, sign_ack
from edge.errors import VerificationError
from edge.identity import identify
from edge.issuers import Issuers
from tests.edge.trust import DAY, HUB, NODE, NOW, STRANGER, changed_anywhere, entry, issuers, signed

EPOCH = "019aa8f0-7c1e-7abc-8def-0123456789ab"
HASH = "0f" * 32
ACK = Ack(
    "hub",
    NODE.audience,
    {EPOCH: {"audit": (64, HASH), "state": (7, None), "telemetry": (0, None)}},
    ((EPOCH, "state", 3, 4),),
)
TOKEN = sign_ack(ACK, HUB)
BUILTINS = msgspec.to_builtins(ACK)


def read(token: bytes, listed: Issuers | None = None, consumers: tuple[str, ...] = ("hub",)) -> Ack:
    return read_ack(token, listed or issuers(), NODE, consumers=consumers, wall=NOW)


def refusal(token: bytes, *args: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        read(token, *args)
    return caught.value.reason


def test_what_the_consumer_holds_and_lacks_arrives() -> None:
    assert read(TOKEN) == ACK


def test_a_consumer_may_hold_nothing_yet() -> None:
    none = Ack("hub", NODE.audience, {EPOCH: {"audit": (0, None)}})
    assert read(sign_ack(none, HUB)) == none


def test_a_listed_key_without_the_scope_acknowledges_nothing() -> None:
    assert refusal(TOKEN, issuers(entry(scopes=("open",)))) == "wrong_scope"


def test_a_listed_issuer_who_is_no_consumer_of_this_node_acknowledges_nothing() -> None:
    assert refusal(TOKEN, None, ("cloud",)) == "unknown_consumer"


def test_an_unlisted_key_acknowledges_nothing() -> None:
    assert refusal(sign_ack(ACK, STRANGER)) == "unknown_key"


def test_another_consumers_key_does_not_speak_for_this_one() -> None:
    both = issuers(entry(), entry(name="cloud", jwk=STRANGER.public.jwk()))
    assert refusal(sign_ack(ACK, STRANGER), both, ("hub", "cloud")) == "wrong_issuer"


def test_a_revoked_or_expired_key_acknowledges_nothing() -> None:
    assert refusal(TOKEN, issuers(entry(revoked=True))) == "revoked_key"
    assert refusal(TOKEN, issuers(entry(not_after=NOW - DAY))) == "key_expired"


def test_an_ack_for_another_node_or_an_earlier_instance_is_refused() -> None:
    for other in (identify("acme", "locker-8", HUB.public), identify("acme", "locker-7", HUB.public)):
        assert refusal(sign_ack(msgspec.structs.replace(ACK, aud=other.audience), HUB)) == "wrong_audience"


def test_a_command_is_no_ack() -> None:
    assert refusal(signed(BUILTINS, jose.COMMAND)) == "wrong_type"


@given(at=st.integers(0, len(TOKEN) - 1), to=st.integers(0, 255))
def test_no_byte_of_an_ack_can_be_changed(at: int, to: int) -> None:
    if TOKEN[at] != to:
        refusal(changed_anywhere(TOKEN, at, to))


def epoch(number: int) -> str:
    return EPOCH[:-2] + f"{number:02x}"


@pytest.mark.parametrize(
    "changed",
    [
        {"journals": {EPOCH: {"audit": [64, None]}}},
        {"journals": {EPOCH: {"audit": [0, HASH]}}},
        {"journals": {EPOCH: {"state": [7, HASH]}}},
        {"journals": {EPOCH: {"audit": [64, HASH.upper()]}}},
        {"journals": {EPOCH: {"audit": [64, HASH + "0f"]}}},
        {"journals": {EPOCH: {"audit": [-1, HASH]}}},
        {"journals": {EPOCH: {"audit": [2**63, HASH]}}},
        {"journals": {EPOCH: {"audit": [1.5, HASH]}}},
        {"journals": {EPOCH: {"audit": [64]}}},
        {"journals": {EPOCH: {"live": [1, None]}}},
        {"journals": {"../x": {"audit": [1, HASH]}}},
        {"journals": {epoch(number): {} for number in range(MAX_JOURNALS + 1)}},
        {"want": [[EPOCH, "audit", 0, 4]]},
        {"want": [[EPOCH, "audit", 5, 4]]},
        {"want": [[EPOCH, "audit", 1]]},
        {"want": [[EPOCH, "audit", 1, 1]] * (MAX_WANTED + 1)},
        {"all": True},
    ],
)
def test_an_ack_that_does_not_make_sense_is_refused_whole(changed: dict[str, Any]) -> None:
    assert refusal(signed(BUILTINS | changed, jose.ACK)) == "bad_claims"


def test_the_consumer_is_told_before_it_signs_what_no_node_would_take() -> None:
    with pytest.raises(VerificationError):
        sign_ack(Ack("hub", NODE.audience, {EPOCH: {"audit": (1, None)}}), HUB)
    with pytest.raises(VerificationError):
        sign_ack(Ack("hub", NODE.audience, {"x": {}}), HUB)


def test_the_largest_ack_fits_one_token() -> None:
    cursors: Any = {"audit": (2**53 - 1, HASH), "state": (2**53 - 1, None), "telemetry": (2**53 - 1, None)}
    largest = Ack(
        "hub",
        NODE.audience,
        {epoch(number): cursors for number in range(MAX_JOURNALS)},
        ((EPOCH, "telemetry", 2**53 - 2, 2**53 - 1),) * MAX_WANTED,
    )
    assert read(sign_ack(largest, HUB)) == largest
