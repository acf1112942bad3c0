"""What two persons must sign is believed when both have, and one person is never two."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import command, jose
from edge.command import Claims, Command, Kind, Present, Rule
from edge.errors import VerificationError
from edge.issuers import Issuers
from edge.keys import SigningKey
from edge.nonce import NonceBook
from tests.edge.trust import DAY, HUB, NODE, NOW, SECOND, STRANGER, changed_anywhere, entry, issuers


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


RULES = {"clear": Rule(Kind.BOOKING, "clear", Nothing, persons=2), "expect": Rule(Kind.BOOKING, "expect", Nothing)}
CLAIMS = Claims(
    iss="hub",
    aud=NODE.audience,
    jti="019aa8f0-7c1e-7abc-8def-0123456789ab",
    iat=NOW,
    name="clear",
    subject="7",
    args={},
    rev=1,
    exp=NOW + DAY,
)
PRESENT = Present(session="this-run", mono=100.0, wall=float(NOW))
OTHER = entry(name="second", jwk=SECOND.public.jwk())
HALF = command.sign_first(CLAIMS, HUB)
WHOLE = command.cosign(HALF, SECOND)


def listed(*others: Any) -> Issuers:
    return issuers(entry(), *(others or (OTHER,)))


def read(token: bytes, known: Issuers | None = None) -> Command:
    return command.read_command(token, known or listed(), NODE)


def admitted(token: bytes, known: Issuers | None = None) -> msgspec.Struct:
    known = known or listed()
    return command.admit(read(token, known), RULES, known, NODE.node, present=PRESENT, nonces=NonceBook(bytes))


def refusal(token: bytes, known: Issuers | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        admitted(token, known)
    return caught.value.reason


def by_hand(payload: bytes, *keys: SigningKey, typ: str = jose.COMMAND, **header: str) -> dict[str, Any]:
    """The general JSON form made without the code under test."""

    def b64(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    signatures = []
    for key in keys:
        protected = b64(json.dumps({"alg": "Ed25519", "typ": typ, "kid": key.kid} | header).encode())
        made = key.sign(f"{protected}.{b64(payload)}".encode())
        signatures.append({"protected": protected, "signature": b64(made)})
    return {"payload": b64(payload), "signatures": signatures}


def spelt(general: dict[str, Any]) -> bytes:
    return json.dumps(general, separators=(",", ":")).encode()


PAYLOAD = msgspec.json.encode(CLAIMS)


def test_a_command_of_two_persons_is_admitted_and_belongs_to_the_first() -> None:
    assert admitted(WHOLE) == Nothing()
    assert read(WHOLE).kids == (HUB.kid, SECOND.kid)
    assert read(WHOLE).kid == HUB.kid


def test_a_token_made_by_hand_is_admitted_so_the_refusals_below_are_for_their_one_difference() -> None:
    assert admitted(spelt(by_hand(PAYLOAD, HUB, SECOND))) == Nothing()


def test_the_second_person_sees_what_the_first_has_signed() -> None:
    assert command.read_first(HALF, lambda kid: listed().listed(kid).key) == CLAIMS
    with pytest.raises(VerificationError, match="not listed"):
        command.read_first(HALF, lambda kid: issuers(OTHER).listed(kid).key)


def test_one_person_alone_is_not_enough_in_any_form() -> None:
    assert refusal(HALF) == "malformed"
    assert refusal(command.sign_command(CLAIMS, HUB)) == "wrong_persons"
    assert refusal(spelt(by_hand(PAYLOAD, HUB, HUB))) == "same_person"


def test_two_keys_of_one_person_are_one_person() -> None:
    assert refusal(WHOLE, listed(entry(name="hub", jwk=SECOND.public.jwk()))) == "same_person"


def test_two_where_one_is_asked_for_is_another_command_than_was_meant() -> None:
    half = command.sign_first(msgspec.structs.replace(CLAIMS, name="expect"), HUB)
    assert refusal(command.cosign(half, SECOND)) == "wrong_persons"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"scopes": ("open",)}, "wrong_scope"),
        ({"revoked": True}, "revoked_key"),
        ({"nodes": ("acme_hub",)}, "wrong_node"),
        ({"not_after": NOW}, "key_expired"),
    ],
)
def test_the_second_person_needs_all_that_the_first_needs(second: dict[str, Any], expected: str) -> None:
    assert refusal(WHOLE, listed(entry(name="second", jwk=SECOND.public.jwk(), **second))) == expected


def test_a_second_person_whom_nobody_has_listed_is_nobody() -> None:
    assert refusal(command.cosign(HALF, STRANGER)) == "unknown_key"


def test_the_first_signature_is_the_one_of_the_name_in_the_command() -> None:
    general = msgspec.json.decode(WHOLE)
    assert refusal(spelt(general | {"signatures": general["signatures"][::-1]})) == "wrong_issuer"


@pytest.mark.parametrize("at", [0, 1])
def test_each_half_is_held_to_what_a_single_signature_is_held_to(at: int) -> None:
    for wrong, expected in (
        (by_hand(PAYLOAD, HUB, SECOND, alg="EdDSA"), "wrong_algorithm"),
        (by_hand(PAYLOAD, HUB, SECOND, typ=jose.VOUCHER), "wrong_type"),
        (by_hand(PAYLOAD, HUB, SECOND, jku="x"), "bad_header"),
    ):
        mixed = by_hand(PAYLOAD, HUB, SECOND)
        mixed["signatures"][at] = wrong["signatures"][at]
        assert refusal(spelt(mixed)) == expected


@pytest.mark.parametrize("at", [0, 1])
def test_each_half_must_be_signed_over_these_very_bytes(at: int) -> None:
    other = by_hand(PAYLOAD + b" ", HUB, SECOND)
    mixed = by_hand(PAYLOAD, HUB, SECOND)
    mixed["signatures"][at] = other["signatures"][at]
    assert refusal(spelt(mixed)) == "bad_signature"


@pytest.mark.parametrize(
    "token",
    [
        WHOLE + b" ",
        WHOLE.replace(b",", b", ", 1),
        spelt(by_hand(PAYLOAD, HUB, SECOND, STRANGER)),
        spelt(by_hand(PAYLOAD)),
        spelt(by_hand(PAYLOAD, HUB, SECOND) | {"header": {}}),
        b"{",
        b"{}",
        b'{"payload":"\xff"}',
        b"[" * 20_000,
        b'{"payload":' + b"[" * 20_000,
    ],
)
def test_a_command_has_one_spelling_and_exactly_two_signatures(token: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        read(token)
    assert caught.value.reason == "malformed"


@given(at=st.integers(0, len(WHOLE) - 1), to=st.integers(0, 255))
def test_no_byte_of_it_can_be_changed(at: int, to: int) -> None:
    changed = changed_anywhere(WHOLE, at, to)
    if changed != WHOLE:
        with pytest.raises(VerificationError):
            read(changed)


def test_more_than_a_token_may_hold_is_refused_unread() -> None:
    with pytest.raises(VerificationError) as caught:
        read(b"{" + b" " * jose.MAX_TOKEN_BYTES)
    assert caught.value.reason == "oversize"


def test_the_second_signer_cannot_be_the_first_nor_sign_what_is_no_half() -> None:
    for half, key in ((HALF, HUB), (WHOLE, STRANGER), (command.sign_command(CLAIMS, HUB), SECOND), (b"{}", SECOND)):
        with pytest.raises(jose.SigningError):
            command.cosign(half, key)
    with pytest.raises(jose.SigningError):
        jose.cosign(jose.sign_first({}, jose.VOUCHER, HUB), jose.COMMAND, SECOND)


def test_no_node_could_read_a_half_that_grows_too_long_when_signed_again() -> None:
    near = msgspec.structs.replace(CLAIMS, args={"x": "y" * (jose.MAX_TOKEN_BYTES * 3 // 4 - 450)})
    half = command.sign_first(near, HUB)
    with pytest.raises(jose.SigningError):
        command.cosign(half, SECOND)
