"""The service over real TLS: what a node sends and hears, and who is not let in."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from edge import enrolment_http
from edge.certificate import TlsKey, read_chain
from edge.enrolment import ENROL_PATH, MAX_BODY_BYTES, RENEW_PATH, EnrolmentRefused
from edge.enrolment_http import EnrolmentUnreachable, fetch_root
from edge.errors import ConfigError
from edge.tls_socket import client_context
from tests.enrolment.rig import DAY, Asker, Office, serving
from tests.enrolment.rig import issuers as issuers_document


@pytest.fixture
def office(tmp_path: Path) -> Office:
    import time

    return Office(tmp_path, wall=time.time())


@pytest.fixture
async def url(office: Office) -> AsyncIterator[str]:
    async with serving(office) as address:
        yield address


def fingerprint(office: Office) -> str:
    return f"sha256:{read_chain(office.root_pem)[0].fingerprint}"


async def test_a_node_that_knows_a_fingerprint_and_a_claim_is_enrolled(office, url):
    root = await asyncio.to_thread(fetch_root, url, fingerprint(office))
    assert root == office.root_pem
    asker = Asker("l1")
    ask = asker.asks(office.desk().claim("acme_l1", hours=1))
    answer = await asyncio.to_thread(enrolment_http.enrol, url, ask, ca=str(office.ca))
    assert read_chain(answer.certificate.encode())[0].name == "acme_l1"
    with pytest.raises(EnrolmentRefused) as refusal:
        await asyncio.to_thread(enrolment_http.enrol, url, Asker("l1").asks(ask.claim), ca=str(office.ca))
    assert refusal.value.reason == "claim_used"
    assert "lastmile enrol claim" in refusal.value.remedy


async def test_another_root_than_the_pinned_one_gets_no_claim(office, url, tmp_path):
    wrong = "sha256:" + "0" * 64
    with pytest.raises(ConfigError, match="another root"):
        await asyncio.to_thread(fetch_root, url, wrong)
    with pytest.raises(ConfigError, match="not a SHA-256"):
        await asyncio.to_thread(fetch_root, url, "sha256:abc")
    other = Office(tmp_path / "other")
    with pytest.raises(EnrolmentUnreachable, match="not issued by the configured authority"):
        await asyncio.to_thread(enrolment_http.enrol, url, Asker("l1").asks("claim"), ca=str(other.ca))


async def test_the_host_name_is_checked(office, url):
    elsewhere = url.replace("localhost", "127.0.0.1")
    with pytest.raises(EnrolmentUnreachable, match="another host"):
        await asyncio.to_thread(enrolment_http.enrol, elsewhere, Asker("l1").asks("claim"), ca=str(office.ca))


async def test_nothing_older_than_tls_1_3_is_spoken(office, url):
    def older() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(office.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("localhost", urlsplit(url).port)) as plain:
            context.wrap_socket(plain, server_hostname="localhost")

    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(older)


async def test_renewal_takes_the_certificate_of_the_connection(office, url):
    asker, files = office.enrolled("l1")
    _, other = office.enrolled("l2")
    office.wall += 60 * DAY
    key = TlsKey.generate(os.urandom)

    def renew(certificate: str) -> bytes:
        ask = asker.renews(key)
        renewed = enrolment_http.renew(url, ask, ca=files.ca, certificate=certificate, key=certificate)
        return renewed.certificate.encode()

    assert read_chain(await asyncio.to_thread(renew, files.certificate))[0].thumbprint == key.thumbprint
    with pytest.raises(EnrolmentRefused, match="another name"):
        await asyncio.to_thread(renew, other.certificate)


async def test_without_a_good_certificate_there_is_no_renewal(office, url, tmp_path):
    asker, _ = office.enrolled("l1")
    ask = asker.renews(TlsKey.generate(os.urandom))
    async with httpx.AsyncClient(verify=client_context(str(office.ca))) as client:
        answer = await client.post(url + RENEW_PATH, content=b"{}")
        assert (answer.status_code, answer.json()["reason"]) == (403, "no_certificate")
    _, foreign = Office(tmp_path / "other", wall=office.wall).enrolled("l1", role=asker.role)
    with pytest.raises(EnrolmentUnreachable, match="does not take our certificate"):
        await asyncio.to_thread(
            enrolment_http.renew, url, ask, ca=str(office.ca), certificate=foreign.certificate, key=foreign.certificate
        )
    before = office.wall
    office.wall -= 200 * DAY
    _, expired = office.enrolled("l3")
    office.wall = before
    with pytest.raises(EnrolmentUnreachable, match="does not take our certificate"):
        await asyncio.to_thread(
            enrolment_http.renew, url, ask, ca=str(office.ca), certificate=expired.certificate, key=expired.certificate
        )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"\xff" * 100, 400),
        (b"[" * 60_000, 400),
        (b'{"claim":"x","request":"x","role":{},"proof":"x","more":1}', 400),
        (b'{"claim":"x","request":"x","role":{},"proof":"x"}', 403),
        (b"x" * (MAX_BODY_BYTES + 1), 413),
    ],
    ids=["empty", "list", "bytes", "deep", "unknown member", "no request", "too long"],
)
async def test_nonsense_is_refused_and_the_service_goes_on(office, url, body, status):
    async with httpx.AsyncClient(verify=client_context(str(office.ca))) as client:
        assert (await client.post(url + ENROL_PATH, content=body)).status_code == status
        assert (await client.get(url + "/v1/root.pem")).content == office.root_pem
        assert (await client.get(url + ENROL_PATH)).status_code == 405


async def test_what_the_operator_has_to_mend_is_not_told_to_a_node(office, url):
    claim = office.desk().claim("acme_l1", hours=1)
    office.issuers = issuers_document(3)[:-4]
    with pytest.raises(EnrolmentUnreachable, match="cannot answer now") as told:
        await asyncio.to_thread(enrolment_http.enrol, url, Asker("l1").asks(claim), ca=str(office.ca))
    assert "issuers" not in str(told.value)


async def test_a_service_that_is_away_or_is_another_is_named(office):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(EnrolmentUnreachable, match="refused"):
            await asyncio.to_thread(
                enrolment_http.enrol, f"https://localhost:{port}", Asker("l1").asks("x"), ca=str(office.ca)
            )
    for address in ("http://localhost:1", "https://", "https://localhost/path"):
        with pytest.raises(ConfigError, match="no address"):
            await asyncio.to_thread(enrolment_http.enrol, address, Asker("l1").asks("x"), ca=str(office.ca))


async def test_the_service_comes_back_with_what_it_knew(office):
    """Killed after it used the claim and before the node heard: the node asks the next one again."""
    claim, asker = office.desk().claim("acme_l1", hours=1), Asker("l1")
    async with serving(office) as first:
        lost = await asyncio.to_thread(enrolment_http.enrol, first, asker.asks(claim), ca=str(office.ca))
    async with serving(office) as second:
        again = await asyncio.to_thread(enrolment_http.enrol, second, asker.asks(claim), ca=str(office.ca))
    assert again == lost
