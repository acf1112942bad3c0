"""The second of two people signs what they were shown, whatever has become of the file since."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agents.two_persons_file import add_second, read_half, read_whole, write_half
from edge.command import Claims, sign_first
from edge.errors import ConfigError
from edge.keys import SigningKey
from edge.keys_file import write_private_key, write_public_key

ANNA, BORIS = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
CLAIMS = Claims(
    iss="anna",
    aud="acme_l1/instance",
    jti="019aa8f0-7c1e-7abc-8def-0123456789ab",
    iat=1,
    name="clear",
    subject="A3",
    args={"door": "A3"},
    nonce="nonce",
)
BORIS_TOML = """name = "{}"
key = "boris.pem"
[broker]
host = "127.0.0.1"
[[nodes]]
tenant = "acme"
name = "l1"
role_key = "anna.jwk"
"""


@pytest.fixture
def half(tmp_path: Path) -> Path:
    write_public_key(tmp_path / "anna.jwk", ANNA.public)
    write_private_key(tmp_path / "boris.pem", BORIS)
    (tmp_path / "boris.toml").write_text(BORIS_TOML.format("boris"))
    write_half(tmp_path / "half", sign_first(CLAIMS, ANNA))
    return tmp_path / "half"


def test_a_half_that_is_exchanged_while_it_is_looked_at_is_not_signed(half):
    """Two sign so that none can do it alone: Anna shows one door and would have another."""
    seen = read_half(half, half.parent / "anna.jwk")
    assert "command     clear A3" in list(seen.told())
    half.write_bytes(sign_first(msgspec.structs.replace(CLAIMS, subject="B1", args={"door": "B1"}), ANNA))
    add_second(seen, half.parent / "boris.toml")
    claims, _ = read_whole(half)
    assert claims == CLAIMS


def test_nobody_is_both_persons(half):
    (half.parent / "boris.toml").write_text(BORIS_TOML.format("anna"))
    with pytest.raises(ConfigError, match="signed it already"):
        add_second(read_half(half, half.parent / "anna.jwk"), half.parent / "boris.toml")
