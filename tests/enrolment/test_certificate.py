"""Certificate requests and certificates as they come from others: read whole, or refused with one error."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.authority import Authority, make_issuing, make_root
from edge.certificate import P256_ORDER, TlsKey, read_chain, read_request, require_usable
from edge.errors import ConfigError, VerificationError
from tests.enrolment.rig import DAY, NOW

KEY = TlsKey.generate(random.Random(1).randbytes)


def refused(pem: bytes) -> str:
    with pytest.raises(VerificationError) as error:
        read_request(pem)
    assert error.value.reason == "bad_request"
    return error.value.what


def request(*names: tuple[x509.ObjectIdentifier, str], key=None) -> bytes:
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key or KEY.crypto, digest)
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_request_says_its_name_and_its_key():
    read = read_request(KEY.request("acme_l1"))
    assert (read.name, read.thumbprint) == ("acme_l1", KEY.thumbprint)
    assert read_request(KEY.request("acme_l1")).digest != read.digest, "ECDSA signs anew each time"


@pytest.mark.parametrize(
    ("pem", "what"),
    [
        (b"", "not a certificate request"),
        (b"x" * 3000, "3000 bytes"),
        (request((NameOID.ORGANIZATION_NAME, "acme_l1")), "not exactly one CN"),
        (request((NameOID.COMMON_NAME, "acme_l1"), (NameOID.COMMON_NAME, "acme_l2")), "not exactly one CN"),
        (request((NameOID.COMMON_NAME, "acme_l1"), (NameOID.ORGANIZATION_NAME, "x")), "not exactly one CN"),
        (request((NameOID.COMMON_NAME, "n"), key=ec.generate_private_key(ec.SECP384R1())), "not on P-256"),
        (request((NameOID.COMMON_NAME, "n"), key=ed25519.Ed25519PrivateKey.generate()), "not on P-256"),
        (request((NameOID.COMMON_NAME, "n"), key=rsa.generate_private_key(65537, 2048)), "not on P-256"),
    ],
    ids=["empty", "long", "no CN", "two CNs", "more than a CN", "P-384", "Ed25519", "RSA"],
)
def test_what_is_no_request_for_one_name_on_p_256_is_refused(pem, what):
    assert what in refused(pem)


def test_a_request_with_another_key_under_its_signature_is_refused():
    """Whoever puts another's public key into a request has not its private half."""
    whole = x509.load_pem_x509_csr(KEY.request("acme_l1"))
    der = whole.public_bytes(serialization.Encoding.DER)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    mine = KEY.crypto.public_key().public_bytes(serialization.Encoding.DER, spki)
    other = TlsKey.generate(os.urandom).crypto.public_key().public_bytes(serialization.Encoding.DER, spki)
    assert mine in der
    swapped = x509.load_der_x509_csr(der.replace(mine, other)).public_bytes(serialization.Encoding.PEM)
    assert "its own signature does not fit" in refused(swapped)


@given(st.binary(max_size=400), st.integers(0, 366))
def test_any_bytes_are_refused_with_the_one_error(junk, at):
    pem = KEY.request("acme_l1")
    for text in (junk, pem[:at] + junk + pem[at + len(junk) :]):
        with contextlib.suppress(VerificationError):
            read_request(text)
        with contextlib.suppress(ConfigError):
            read_chain(text)
        with contextlib.suppress(ConfigError):
            TlsKey.parse(text)


def test_a_key_is_drawn_evenly_and_never_zero():
    assert TlsKey.generate(lambda n: b"\0" * n).crypto.private_numbers().private_value == 1
    assert 1 <= TlsKey.generate(lambda n: b"\xff" * n).crypto.private_numbers().private_value < P256_ORDER
    assert "PRIVATE" not in repr(KEY)
    assert str(KEY.crypto.private_numbers().private_value) not in repr(KEY)


def test_key_and_chain_may_stand_in_one_file_in_either_order():
    root_key, root = make_root("acme", os.urandom, NOW)
    key, issuing = make_issuing("acme", root_key, root, os.urandom, NOW)
    authority = Authority(key, issuing, root)
    chain = authority.client(read_request(KEY.request("acme_l1")), random=os.urandom, wall=NOW, days=90)
    for text in (KEY.pem() + chain, chain + KEY.pem()):
        assert TlsKey.parse(text).thumbprint == KEY.thumbprint
        assert [each.name for each in read_chain(text)] == ["acme_l1", "acme issuing"]
    own = require_usable(read_chain(chain), KEY, "acme_l1", NOW)
    assert own.serial == f"{x509.load_pem_x509_certificate(chain).serial_number:X}"
    for wall, what in ((NOW + 91 * DAY, "expired 1.0 days ago"), (NOW - 2 * DAY, "not valid yet")):
        with pytest.raises(ConfigError, match=what):
            require_usable(read_chain(chain), KEY, "acme_l1", wall)
    server = authority.server(KEY, ["localhost"], random=os.urandom, wall=NOW, days=1)
    with pytest.raises(ConfigError, match="not for clients"):
        require_usable(read_chain(server), KEY, "localhost", NOW)


def test_no_certificate_outlives_the_authority_that_issued_it():
    root_key, root = make_root("acme", os.urandom, NOW)
    key, issuing = make_issuing("acme", root_key, root, os.urandom, NOW)
    authority = Authority(key, issuing, root)
    ends = read_chain(issuing)[0].not_after
    late = authority.client(read_request(KEY.request("n")), random=os.urandom, wall=ends - DAY, days=90)
    assert read_chain(late)[0].not_after == ends
    with pytest.raises(ConfigError, match="has expired"):
        authority.client(read_request(KEY.request("n")), random=os.urandom, wall=ends, days=90)


def test_an_authority_of_parts_that_do_not_belong_together_is_none():
    root_key, root = make_root("acme", os.urandom, NOW)
    key, issuing = make_issuing("acme", root_key, root, os.urandom, NOW)
    _, stranger = make_root("acme", os.urandom, NOW)
    with pytest.raises(ConfigError, match="not the root's"):
        Authority(key, issuing, stranger)
    with pytest.raises(ConfigError, match="does not belong to its key"):
        Authority(root_key, issuing, root)


def test_a_new_issuing_authority_shuts_out_nobody_that_the_former_has_issued(tmp_path):
    """As a broker with a `crlfile` judges: without a list of its issuer a certificate is refused."""
    root_key, root = make_root("acme", os.urandom, NOW)
    pairs = [make_issuing("acme", root_key, root, os.urandom, NOW) for _ in range(2)]
    former, present = (Authority(key, issuing, root) for key, issuing in pairs)
    node = former.client(read_request(KEY.request("acme_l1")), random=os.urandom, wall=NOW, days=90)
    before = former.revoked([], number=1, made_at=NOW)
    own = present.revoked([], number=2, made_at=NOW)
    together = present.with_former(own, before, wall=NOW)
    for name, content in (("root", root), ("issuing", pairs[0][1]), ("node", node), ("lists", together)):
        (tmp_path / name).write_bytes(content)
    checked = ["openssl", "verify", "-crl_check", "-attime", str(int(NOW)), "-CAfile", "root"]
    checked += ["-untrusted", "issuing", "-CRLfile", "lists", "node"]
    assert subprocess.run(checked, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    # Written again it is the same; our own is never there twice, and one that is out of date has no use.
    assert present.with_former(own, together, wall=NOW) == together
    assert present.with_former(own, together, wall=NOW + 366 * DAY) == own
