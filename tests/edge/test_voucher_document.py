"""Vouchers open one booking without a network; a desired document stays until a newer one comes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import jose
from edge.document import Desired, RefusedMember, Reported, read_desired, read_reported, sign_desired, sign_reported
from edge.errors import VerificationError
from edge.identity import identify
from edge.voucher import Voucher, read_voucher, sign_voucher
from tests.edge.trust import DAY, HUB, NODE, NOW, ROLE, STRANGER, changed_anywhere, entry, issuers, signed

VOUCHER = Voucher("hub", NODE.audience, "booking-1", 2, NOW - 10, NOW + 10)
QR = sign_voucher(VOUCHER, HUB)
DESIRED = Desired("hub", NODE.audience, 4, NOW, {"language": "en"})
TOKEN = sign_desired(DESIRED, HUB)
OTHER_NODE = identify("acme", "locker-8", HUB.public)


def show(token: bytes = QR, *, seen: int = 0, wall: float | None = NOW, **listed: Any) -> Voucher:
    return read_voucher(token, issuers(entry(**listed)), NODE, highest_gen={"booking-1": seen}.__getitem__, wall=wall)


def voucher_refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        show(*args, **kwargs)
    return caught.value.reason


def test_a_voucher_in_force_is_honoured_again_and_again_until_its_door_opens() -> None:
    assert show() == show(seen=2) == VOUCHER


def test_a_newer_voucher_takes_the_older_out_of_force() -> None:
    assert voucher_refusal(seen=3) == "superseded"


def test_a_voucher_has_a_beginning_and_an_end_on_a_trusted_clock_alone() -> None:
    assert voucher_refusal(wall=NOW - 10.5) == "not_yet_valid"
    assert voucher_refusal(wall=NOW + 10) == "expired"
    assert show(wall=None) == show(wall=NOW - 10) == VOUCHER


def test_a_voucher_needs_an_issuer_with_the_scope() -> None:
    assert voucher_refusal(scopes=("open",)) == "wrong_scope"
    assert voucher_refusal(revoked=True) == "revoked_key"
    assert voucher_refusal(not_after=NOW - DAY) == "key_expired"
    assert voucher_refusal(sign_voucher(VOUCHER, STRANGER)) == "unknown_key"
    assert voucher_refusal(sign_voucher(msgspec.structs.replace(VOUCHER, iss="x"), HUB)) == "wrong_issuer"


def test_a_voucher_is_for_one_node() -> None:
    elsewhere = msgspec.structs.replace(VOUCHER, aud=OTHER_NODE.audience)
    assert voucher_refusal(sign_voucher(elsewhere, HUB)) == "wrong_audience"


@pytest.mark.parametrize("changed", [{"gen": 0}, {"booking": ""}, {"exp": None}, {"door": "7"}])
def test_a_malformed_voucher_is_refused(changed: dict[str, Any]) -> None:
    assert voucher_refusal(signed(msgspec.to_builtins(VOUCHER) | changed, jose.VOUCHER)) == "bad_claims"


@given(at=st.integers(0, len(QR) - 1), to=st.integers(0, 255))
def test_no_byte_of_a_voucher_can_be_changed(at: int, to: int) -> None:
    if QR[at] != to:
        voucher_refusal(changed_anywhere(QR, at, to))


def test_a_voucher_fits_a_qr_code_that_a_phone_can_show() -> None:
    """Version 17 at error correction M holds 504 bytes (ISO/IEC 18004 table 7)."""
    widest = msgspec.structs.replace(VOUCHER, iss="parcels-hub", booking="019aa8f0-7c1e-7abc-8def-0123456789ab")
    assert len(sign_voucher(widest, HUB)) <= 504


def test_a_voucher_is_no_desired_document_and_the_other_way_round() -> None:
    assert voucher_refusal(TOKEN) == "wrong_type"
    assert desired_refusal(QR) == "wrong_type"


def desire(token: bytes = TOKEN, *, held: int = 3, **listed: Any) -> Desired:
    return read_desired(token, issuers(entry(**listed)), NODE, held_version=held, wall=NOW)


def desired_refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        desire(*args, **kwargs)
    return caught.value.reason


def test_a_newer_desired_document_is_taken() -> None:
    assert desire() == DESIRED


@pytest.mark.parametrize("held", [4, 5])
def test_an_old_desired_document_is_not_brought_back(held: int) -> None:
    assert desired_refusal(held=held) == "not_newer"


def test_a_desired_document_needs_an_issuer_with_the_scope_and_this_node_as_its_reader() -> None:
    assert desired_refusal(scopes=("open",)) == "wrong_scope"
    elsewhere = msgspec.structs.replace(DESIRED, aud=OTHER_NODE.audience)
    assert desired_refusal(sign_desired(elsewhere, HUB)) == "wrong_audience"
    assert desired_refusal(signed(msgspec.to_builtins(DESIRED) | {"version": 0}, jose.DESIRED)) == "bad_claims"


@given(at=st.integers(0, len(TOKEN) - 1), to=st.integers(0, 255))
def test_no_byte_of_a_desired_document_can_be_changed(at: int, to: int) -> None:
    if TOKEN[at] != to:
        desired_refusal(changed_anywhere(TOKEN, at, to))


def test_a_node_says_what_it_does_under_its_role_key_and_another_node_cannot() -> None:
    refused = (RefusedMember("wiring", "unknown_member"),)
    said = Reported(NODE.audience, 3, NOW, "1.0", 4, 2, {"hold_hours": 72}, refused_version=5, refused=refused)
    token = sign_reported(said, ROLE)
    assert read_reported(token, ROLE.public, audience=NODE.audience) == said
    for key, audience, reason in (
        (HUB.public, NODE.audience, "unknown_key"),
        (ROLE.public, OTHER_NODE.audience, "wrong_issuer"),
    ):
        with pytest.raises(VerificationError) as caught:
            read_reported(token, key, audience=audience)
        assert caught.value.reason == reason
