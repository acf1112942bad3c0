"""The root says who may speak; a broker that changes, mixes or brings back what it said is not believed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import jose
from edge.errors import ConfigError, VerificationError
from edge.identity import identify, split_node
from edge.issuers import Issuers, IssuersDocument, read_issuers, sign_issuers
from edge.keys import SigningKey
from tests.edge.trust import (
    DAY,
    HUB,
    NODE,
    NOW,
    OPENER,
    ROLE,
    ROOT,
    STRANGER,
    changed_anywhere,
    entry,
    issuers,
    seed,
    signed,
)

DOCUMENT = IssuersDocument(3, NOW, (entry(),))
TOKEN = sign_issuers(DOCUMENT, ROOT)


def refusal(token: bytes, *, held_version: int = 0) -> str:
    with pytest.raises(VerificationError) as caught:
        read_issuers(token, [ROOT.public], held_version=held_version)
    return caught.value.reason


def test_what_the_root_signed_is_in_force() -> None:
    read = read_issuers(TOKEN, [STRANGER.public, ROOT.public], held_version=2)
    assert read.version == 3
    assert read.key_for(HUB.kid, "open", NODE.node, wall=NOW).name == "hub"


def test_only_a_pinned_root_may_list_issuers() -> None:
    assert refusal(sign_issuers(DOCUMENT, STRANGER)) == "unknown_key"
    assert refusal(sign_issuers(DOCUMENT, HUB)) == "unknown_key"


@pytest.mark.parametrize("held", [3, 4])
def test_an_edition_that_is_not_newer_is_refused(held: int) -> None:
    assert refusal(TOKEN, held_version=held) == "not_newer"


def test_another_document_of_the_root_is_no_issuers() -> None:
    assert refusal(signed(msgspec.to_builtins(DOCUMENT), jose.DESIRED, ROOT)) == "wrong_type"


@pytest.mark.parametrize("roots", [[], [ROOT.public, HUB.public, STRANGER.public]])
def test_one_or_two_roots_are_pinned(roots: list[Any]) -> None:
    with pytest.raises(ConfigError, match="root keys"):
        read_issuers(TOKEN, roots, held_version=0)


@given(at=st.integers(0, len(TOKEN) - 1), to=st.integers(0, 255))
def test_no_byte_of_the_document_can_be_changed(at: int, to: int) -> None:
    if TOKEN[at] != to:
        refusal(changed_anywhere(TOKEN, at, to))


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 0},
        {"version": "4"},
        {"issued_at": -1},
        {"more": 1},
        {"keys": [{}]},
        {"keys": [msgspec.to_builtins(entry()) | {"rights": "all"}]},
        {"keys": [msgspec.to_builtins(entry(nodes=("acme_*_x",)))]},
        {"keys": [msgspec.to_builtins(entry(scopes=("OPEN",)))]},
        {"keys": [msgspec.to_builtins(entry(jwk=HUB.public.jwk() | {"kid": STRANGER.kid}))]},
        {"keys": [msgspec.to_builtins(entry(jwk=OPENER.public.jwk()))]},
        {"keys": [msgspec.to_builtins(entry()), msgspec.to_builtins(entry(name="twin"))]},
        {"keys": [msgspec.to_builtins(entry())] * 65},
    ],
)
def test_a_document_that_does_not_make_sense_is_refused_whole(changed: dict[str, Any]) -> None:
    assert refusal(signed(msgspec.to_builtins(DOCUMENT) | changed, jose.ISSUERS, ROOT)) == "bad_claims"


def test_the_root_is_told_before_it_signs_what_no_node_would_take() -> None:
    with pytest.raises(VerificationError, match="listed twice"):
        sign_issuers(IssuersDocument(1, NOW, (entry(), entry())), ROOT)


def test_as_many_keys_as_are_allowed_fit_into_one_token() -> None:
    listed = tuple(
        entry(name=f"issuer-{number}", jwk=SigningKey(seed(str(number))).public.jwk()) for number in range(64)
    )
    assert issuers(*listed).listed(SigningKey(seed("63")).kid).name == "issuer-63"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"revoked": True}, "revoked_key"),
        ({"scopes": ("ack",)}, "wrong_scope"),
        ({"scopes": ()}, "wrong_scope"),
        ({"nodes": ("acme_locker-70",)}, "wrong_node"),
        ({"nodes": ("acme_locker",)}, "wrong_node"),
        ({"nodes": ("other_*",)}, "wrong_node"),
        ({"nodes": ()}, "wrong_node"),
        ({"nodes": ("",)}, "wrong_node"),
        ({"not_before": NOW + 1}, "key_not_yet_valid"),
        ({"not_after": NOW}, "key_expired"),
    ],
)
def test_a_key_may_say_only_what_stands_beside_it(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(VerificationError) as caught:
        issuers(entry(**changed)).key_for(HUB.kid, "open", NODE.node, wall=NOW)
    assert caught.value.reason == expected


@pytest.mark.parametrize("nodes", [("acme_locker-7",), ("acme_*",), ("*",), ("x_y", "acme_locker-*")])
def test_nodes_are_named_whole_or_by_their_beginning(nodes: tuple[str, ...]) -> None:
    assert issuers(entry(nodes=nodes)).key_for(HUB.kid, "open", NODE.node, wall=NOW).name == "hub"


def test_on_an_untrusted_clock_no_key_expires_but_a_revoked_one_stays_revoked() -> None:
    old = entry(not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    assert issuers(old).key_for(HUB.kid, "open", NODE.node, wall=None).name == "hub"
    with pytest.raises(VerificationError, match="revoked"):
        issuers(entry(revoked=True)).key_for(HUB.kid, "open", NODE.node, wall=None)


def test_an_unlisted_key_is_unknown() -> None:
    with pytest.raises(VerificationError) as caught:
        issuers().key_for(STRANGER.kid, "open", NODE.node, wall=NOW)
    assert caught.value.reason == "unknown_key"


CLAIMS = {"iss": "hub", "aud": NODE.audience, "nodes": [NODE.node]}


def check(listed: Issuers, claims: dict[str, Any], **changed: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"node": NODE.node, "audience": NODE.audience, "wall": NOW}
    return listed.check(signed(claims, jose.BADGE), jose.BADGE, "badge", **(asked | changed))[0]


def test_a_badge_for_several_nodes_has_no_audience_of_its_own() -> None:
    assert check(issuers(), CLAIMS) == CLAIMS
    assert check(issuers(), CLAIMS | {"aud": "acme_*"}, audience=None)["iss"] == "hub"


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": "root"}, "wrong_issuer"),
        ({"iss": ["hub"]}, "wrong_issuer"),
        ({"aud": NODE.node}, "wrong_audience"),
        ({"aud": [NODE.audience]}, "wrong_audience"),
        ({"aud": identify("acme", "locker-7", STRANGER.public).audience}, "wrong_audience"),
    ],
)
def test_what_was_said_under_another_name_or_to_another_node_is_refused(claims: dict[str, Any], expected: str) -> None:
    with pytest.raises(VerificationError) as caught:
        check(issuers(), CLAIMS | claims)
    assert caught.value.reason == expected


def test_what_was_said_without_a_name_is_refused() -> None:
    with pytest.raises(VerificationError):
        check(issuers(), {"aud": NODE.audience})


def test_the_check_asks_for_the_scope_and_the_time() -> None:
    for changed in ({"scopes": ("open",)}, {"not_after": NOW}, {"nodes": ("other_*",)}, {"revoked": True}):
        with pytest.raises(VerificationError):
            check(issuers(entry(**changed)), CLAIMS)


def test_a_node_is_addressed_by_tenant_name_and_role_key() -> None:
    assert NODE.node == "acme_locker-7"
    assert NODE.audience == f"acme_locker-7/{ROLE.kid}"
    assert NODE.source == "/lm/v1/acme/acme_locker-7"
    assert split_node(NODE.node) == ("acme", "locker-7")


@pytest.mark.parametrize("name", ["", "a_b", "A", "a/b", "a+", "x" * 49, "a\n"])
def test_a_name_that_cannot_stand_in_a_topic_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        identify("acme", name, ROLE.public)
    with pytest.raises(ConfigError, match="tenant"):
        identify(name, "locker", ROLE.public)
    with pytest.raises(ConfigError):
        split_node(f"{name}_")
