"""Keys keep their names, their halves apart, and their secrets to themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import keys_file
from edge.errors import ConfigError
from edge.keys import OpeningKey, SealingKey, SigningKey, VerifyKey
from tests.edge.trust import HUB, OPENER, ROLE, seed

RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_key_of_rfc_8037_has_the_thumbprint_of_rfc_8037() -> None:
    text = json.dumps({"kty": "OKP", "crv": "Ed25519", "d": RFC8037_D, "x": RFC8037_X}).encode()
    key = SigningKey.parse(text)
    assert key.kid == RFC8037_THUMBPRINT
    assert key.public.jwk()["x"] == RFC8037_X


@pytest.mark.parametrize("key", [HUB, OPENER])
def test_a_private_key_survives_its_file_in_pem_and_shows_itself_nowhere_else(key: SigningKey | OpeningKey) -> None:
    again = type(key).parse(key.pem())
    assert again.kid == key.kid
    assert repr(key) == f"{type(key).__name__}({key.kid})"


@pytest.mark.parametrize("key", [HUB.public, OPENER.public])
def test_a_public_key_survives_its_jwk_and_its_pem(key: VerifyKey | SealingKey) -> None:
    pem = key.crypto.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert type(key).parse(json.dumps(key.jwk()).encode()) == key
    assert type(key).parse(pem) == key
    assert hash(type(key).parse(pem)) == hash(key)


def test_a_new_key_is_made_of_the_randomness_handed_in() -> None:
    drawn: list[int] = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return seed("role")

    assert SigningKey.generate(random).kid == ROLE.kid
    assert OpeningKey.generate(random).kid != OPENER.kid
    assert drawn == [32, 32]


def test_a_raw_signature_is_refused_after_any_change() -> None:
    signature = ROLE.sign(b"sealed")
    assert ROLE.public.verify(signature, b"sealed")
    assert not ROLE.public.verify(signature, b"sealeD")
    assert not ROLE.public.verify(signature[:-1] + bytes([signature[-1] ^ 1]), b"sealed")
    assert not ROLE.public.verify(b"", b"sealed")
    assert not HUB.public.verify(signature, b"sealed")


P256 = ec.generate_private_key(ec.SECP256R1())
ENCRYPTED = HUB.crypto.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
)
OTHER_X = json.dumps({"kty": "OKP", "crv": "Ed25519", "d": RFC8037_D, "x": HUB.public.jwk()["x"]}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        OPENER.pem(),
        ENCRYPTED,
        P256.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        json.dumps(HUB.public.jwk()).encode(),
        OTHER_X,
        json.dumps({"kty": "OKP", "crv": "Ed25519", "d": "AA", "x": RFC8037_X}).encode(),
        json.dumps({"kty": "OKP", "crv": "Ed25519", "d": RFC8037_D, "x": RFC8037_X, "kid": "mine"}).encode(),
    ],
    # Some are made anew on each run, and every worker has to know a test by the same name.
    ids=[
        "nothing",
        "a brace",
        "no members",
        "no key",
        "for opening",
        "encrypted",
        "another curve",
        "public",
        "another public half",
        "too short",
        "an unknown member",
    ],
)
def test_what_is_no_unencrypted_signing_key_is_refused_without_showing_it(text: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        SigningKey.parse(text)
    assert RFC8037_D not in str(caught.value)


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "OKP", "crv": "Ed25519", "d": RFC8037_D, "x": RFC8037_X},
        OPENER.public.jwk(),
        {name: value for name, value in OPENER.public.jwk().items() if name != "kid"},
        HUB.public.jwk() | {"kid": OPENER.kid},
        HUB.public.jwk() | {"x": "AA"},
        HUB.public.jwk() | {"x": "not base64url!"},
        HUB.public.jwk() | {"kty": "EC"},
        HUB.public.jwk() | {"use": 1},
    ],
)
def test_what_is_no_public_signing_key_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        VerifyKey.from_jwk(jwk)


def test_a_public_key_file_with_the_wrong_kind_of_key_is_refused() -> None:
    pem = OPENER.public.crypto.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError, match="Ed25519"):
        VerifyKey.parse(pem)
    with pytest.raises(ConfigError):
        VerifyKey.parse(HUB.pem())


def test_a_private_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "role.pem"
    keys_file.write_private_key(path, ROLE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys_file.read_signing_key(path).kid == ROLE.kid


def test_the_umask_does_not_decide_about_a_key_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys_file.write_private_key(tmp_path / "role.pem", ROLE)
    finally:
        os.umask(before)
    assert (tmp_path / "role.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o660, 0o644])
def test_a_private_key_that_others_can_read_or_replace_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "role.pem"
    keys_file.write_private_key(path, ROLE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others can read") as caught:
        keys_file.read_signing_key(path)
    assert "chmod 600" in caught.value.remedy


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "role.pem"
    keys_file.write_private_key(path, ROLE)
    with pytest.raises(ConfigError, match="is there already"):
        keys_file.write_private_key(path, HUB)
    assert keys_file.read_signing_key(path).kid == ROLE.kid


def test_public_and_sealing_keys_have_files_too(tmp_path: Path) -> None:
    keys_file.write_public_key(tmp_path / "role.jwk", ROLE.public)
    keys_file.write_public_key(tmp_path / "seal.jwk", OPENER.public)
    keys_file.write_private_key(tmp_path / "open.pem", OPENER)
    assert keys_file.read_verify_key(tmp_path / "role.jwk") == ROLE.public
    assert keys_file.read_sealing_key(tmp_path / "seal.jwk") == OPENER.public
    assert keys_file.read_opening_key(tmp_path / "open.pem").kid == OPENER.kid


def test_a_missing_oversized_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pem: No such file"):
        keys_file.read_signing_key(tmp_path / "gone.pem")
    (tmp_path / "big").write_bytes(b" " * 5000)
    with pytest.raises(ConfigError, match="big: too long"):
        keys_file.read_verify_key(tmp_path / "big")
    (tmp_path / "text").write_bytes(b"hello")
    with pytest.raises(ConfigError, match="text: not a public key"):
        keys_file.read_verify_key(tmp_path / "text")
    with pytest.raises(ConfigError, match=r"nowhere.*No such file"):
        keys_file.write_public_key(tmp_path / "nowhere" / "key", ROLE.public)


def test_the_groups_read_bit_is_only_taken_as_systemds_credential_when_the_group_is_root(tmp_path: Path) -> None:
    path = tmp_path / "role.pem"
    keys_file.write_private_key(path, ROLE)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
        assert keys_file.read_signing_key(path).kid == ROLE.kid
        os.chown(path, 0, 1)
    with pytest.raises(ConfigError, match="others can read"):
        keys_file.read_signing_key(path)
