"""What is signed is what was meant, by whom it says, for the use it says; what is sealed opens for one reader alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge import base64url, jose
from edge.errors import ProtocolError, VerificationError
from edge.keys import OpeningKey, SigningKey, VerifyKey
from tests.edge.trust import HUB, OPENER, STRANGER, changed_anywhere, seed

CLAIMS = {"iss": "hub", "aud": "acme_locker-7/x", "n": 1}
TOKEN = jose.sign(CLAIMS, jose.COMMAND, HUB)
SEALED = jose.seal(b"booking 8, 4711 0815", OPENER.public)


def find(kid: str) -> VerifyKey:
    if kid != HUB.kid:
        raise VerificationError("unknown_key", "no such key", remedy="none")
    return HUB.public


def find_opener(kid: str) -> OpeningKey:
    if kid != OPENER.kid:
        raise VerificationError("unknown_key", "no such key", remedy="none")
    return OPENER


def reason(token: bytes, typ: str = jose.COMMAND) -> str:
    with pytest.raises(VerificationError) as caught:
        jose.verify(token, typ, find)
    return caught.value.reason


def by_hand(header: dict[str, Any] | bytes, payload: bytes = b"{}", key: SigningKey = HUB) -> bytes:
    """A correctly signed token with any header and payload: made without the code under test."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, payload))
    return signing_input + b"." + base64.urlsafe_b64encode(key.sign(signing_input)).rstrip(b"=")


GOOD = {"alg": "Ed25519", "typ": jose.COMMAND, "kid": HUB.kid}


def test_what_was_signed_comes_back_with_the_signers_key() -> None:
    assert jose.verify(TOKEN, jose.COMMAND, find) == jose.Verified(CLAIMS, HUB.kid)


def test_the_header_says_exactly_which_algorithm_use_and_key() -> None:
    assert json.loads(base64url.decode(TOKEN.split(b".")[0])) == GOOD


def test_a_token_made_by_hand_verifies_so_the_refusals_below_are_for_their_one_difference() -> None:
    assert jose.verify(by_hand(GOOD), jose.COMMAND, find).claims == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"alg": "none"}, "wrong_algorithm"),
        ({"alg": "EdDSA"}, "wrong_algorithm"),
        ({"alg": "HS256"}, "wrong_algorithm"),
        ({"typ": jose.VOUCHER}, "wrong_type"),
        ({"typ": "JWT"}, "wrong_type"),
        ({"typ": jose.COMMAND.upper()}, "wrong_type"),
        ({"kid": STRANGER.kid}, "unknown_key"),
        ({"kid": 7}, "bad_header"),
        ({"jku": "https://example.org/keys"}, "bad_header"),
        ({"jwk": HUB.public.jwk()}, "bad_header"),
        ({"x5u": "https://example.org/cert"}, "bad_header"),
        ({"x5c": ["MIIB"]}, "bad_header"),
        ({"crit": ["exp"], "exp": 1}, "bad_header"),
        ({"crit": []}, "bad_header"),
        ({"b64": True}, "bad_header"),
        ({"cty": "json"}, "bad_header"),
    ],
)
def test_a_header_that_says_anything_else_is_refused_though_its_signature_fits(
    changed: dict[str, Any], expected: str
) -> None:
    assert reason(by_hand(GOOD | changed)) == expected


@pytest.mark.parametrize("missing", ["alg", "typ", "kid"])
def test_a_header_without_one_of_its_three_members_is_refused(missing: str) -> None:
    assert reason(by_hand({name: value for name, value in GOOD.items() if name != missing})) in {
        "wrong_algorithm",
        "wrong_type",
        "bad_header",
    }


def test_an_unsigned_token_is_refused() -> None:
    head, payload, _ = by_hand(GOOD | {"alg": "none"}).split(b".")
    assert reason(head + b"." + payload + b".") == "wrong_algorithm"


def test_another_keys_signature_under_our_kid_is_refused() -> None:
    assert reason(by_hand(GOOD, key=STRANGER)) == "bad_signature"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"aud":"a","aud":"b"}',
        b'{"args":{"door":1,"door":2}}',
        b'[{"a":[{"x":1,"x":1}]}]',
        b"[]",
        b'"text"',
        b"{} {}",
        b'{"n":NaN}',
        b'{"n":"\\ud800"}',
        b'{"n":"\xff"}',
        '{"n":1}'.encode("utf-16"),
        b"[" * 20_000,
        b"",
    ],
)
def test_a_signed_payload_that_two_readers_could_read_differently_is_refused(payload: bytes) -> None:
    assert reason(by_hand(GOOD, payload)) == "bad_claims"


def test_a_repeated_member_in_the_header_is_refused() -> None:
    head = json.dumps(GOOD)[:-1] + f', "kid": "{HUB.kid}"}}'
    assert reason(by_hand(head.encode())) == "bad_header"


def test_a_token_over_the_limit_is_refused_and_never_made() -> None:
    payload = b'{"a":"' + b"a" * jose.MAX_TOKEN_BYTES + b'"}'
    assert reason(by_hand(GOOD, payload)) == "oversize"
    with pytest.raises(jose.SigningError):
        jose.sign({"a": "a" * jose.MAX_TOKEN_BYTES}, jose.COMMAND, HUB)


def test_a_header_over_its_limit_is_refused_unread() -> None:
    assert reason(by_hand(b'{"alg":"' + b"[" * jose.MAX_HEADER_BYTES)) == "malformed"


@pytest.mark.parametrize("token", [b"", b"..", b"a.b", TOKEN + b".x", TOKEN.replace(b".", b".."), b"\xff" * 50])
def test_what_is_not_a_compact_jws_is_refused(token: bytes) -> None:
    assert reason(token) in {"malformed", "bad_header"}


def test_the_json_forms_of_a_jws_are_refused() -> None:
    head, payload, signature = (part.decode() for part in TOKEN.split(b"."))
    assert reason(json.dumps({"payload": payload, "protected": head, "signature": signature}).encode()) == "malformed"


@pytest.mark.parametrize("at", range(len(TOKEN)))
def test_no_byte_of_a_signed_token_can_be_changed(at: int) -> None:
    """Every position, with the neighbours that a sloppy base64 reader takes for the same."""
    for to in {TOKEN[at] ^ 1, TOKEN[at] ^ 32, *b"Aa+/-_=.\n"} - {TOKEN[at]}:
        with pytest.raises(VerificationError):
            jose.verify(changed_anywhere(TOKEN, at, to), jose.COMMAND, find)


@given(at=st.integers(0, len(SEALED) - 1), to=st.integers(0, 255))
def test_no_byte_of_a_sealed_thing_can_be_changed(at: int, to: int) -> None:
    if SEALED[at] != to:
        with pytest.raises(VerificationError):
            jose.open_sealed(changed_anywhere(SEALED, at, to), find_opener)


@given(st.binary(max_size=200))
@example(b"eyJ.eyJ.e30")
def test_any_bytes_end_in_a_refusal_and_no_other_error(junk: bytes) -> None:
    for attempt in (junk, TOKEN[: len(junk)] + junk, b".".join([TOKEN.split(b".")[0], junk, b"AA"])):
        with pytest.raises(VerificationError):
            jose.verify(attempt, jose.COMMAND, find)
        with pytest.raises(VerificationError):
            jose.open_sealed(attempt, find_opener)


def test_only_the_recipient_opens_what_was_sealed() -> None:
    assert jose.open_sealed(SEALED, find_opener) == b"booking 8, 4711 0815"
    other = OpeningKey(seed("other"))
    with pytest.raises(VerificationError) as caught:
        jose.open_sealed(SEALED, lambda _: other)
    assert caught.value.reason == "cannot_open"


def test_sealing_the_same_twice_gives_two_different_things() -> None:
    assert jose.seal(b"x", OPENER.public) != jose.seal(b"x", OPENER.public)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"alg": "dir"}, "wrong_algorithm"),
        ({"enc": "A128GCM"}, "wrong_algorithm"),
        ({"zip": "DEF"}, "bad_header"),
        ({"crit": ["zip"]}, "bad_header"),
        ({"jku": "https://example.org"}, "bad_header"),
        ({"apu": "QQ"}, "bad_header"),
        ({"kid": "unknown"}, "unknown_key"),
        ({"epk": "x"}, "cannot_open"),
        ({"epk": {"kty": "OKP", "crv": "X448", "x": "AA"}}, "cannot_open"),
        ({"epk": {"kty": "OKP", "crv": "X25519", "x": base64url.encode(bytes(32))}}, "cannot_open"),
        ({"epk": HUB.public.jwk()}, "cannot_open"),
    ],
)
def test_a_sealed_thing_with_another_header_is_refused(changed: dict[str, Any], expected: str) -> None:
    head, *rest = SEALED.split(b".")
    header = json.loads(base64url.decode(head)) | changed
    token = b".".join([base64url.encode(json.dumps(header).encode()).encode(), *rest])
    with pytest.raises(VerificationError) as caught:
        jose.open_sealed(token, find_opener)
    assert caught.value.reason == expected


@given(st.binary(max_size=100))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    text = base64url.encode(raw)
    assert base64url.decode(text) == raw
    for other in (text + "=", text + "\n", "+" + text, text + "/", text + "é"):
        with pytest.raises(ProtocolError):
            base64url.decode(other)


def test_spare_low_bits_in_the_last_character_are_refused() -> None:
    assert base64url.decode("AA") == b"\0"
    with pytest.raises(ProtocolError):
        base64url.decode("AB")
