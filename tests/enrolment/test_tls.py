"""Mutual TLS 1.3 with a real mosquitto: each way in which it can fail is told in words that say who mends it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.ports import BrokerLost, BrokerRefused
from edge.tls_socket import TlsFiles, explained
from tests.enrolment.broker import OperatorsBroker
from tests.enrolment.rig import DAY, Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "office", wall=time.time())


@pytest.fixture
async def broker(office: Office) -> AsyncIterator[OperatorsBroker]:
    broker = OperatorsBroker(office)
    await broker.start()
    yield broker
    broker.kill()


def with_server(broker: OperatorsBroker, files: TlsFiles) -> None:
    lines = [
        f"{line.split()[0]} {files.certificate}" if line.startswith(("certfile", "keyfile")) else line
        for line in broker.config.read_text().splitlines()
    ]
    broker.config.write_text("\n".join(lines) + "\n")


async def told(broker: OperatorsBroker, node: str, files: TlsFiles, *, trusted: bool = True) -> BrokerLost:
    with pytest.raises(BrokerLost) as lost:
        await MqttBroker(broker.secure(node, files), clock_trusted=lambda: trusted).connect(None)
    return lost.value


async def test_a_node_and_its_broker_find_each_other(office, broker):
    _, files = office.enrolled("a")
    for protocol in ("5", "3.1.1"):
        connection = await broker.connect("acme_a", files, protocol)
        assert await (await connection.send("lm/v1/acme/acme_a/probe", b"x")) in (0, 0x10)
        await connection.close()


async def test_a_broker_whose_certificate_expired_or_is_of_tomorrow(office, broker):
    _, files = office.enrolled("a")
    broker.kill()
    with_server(broker, office.server("localhost", name="old", wall=office.wall - 100 * DAY, days=10))
    await broker.start()
    error = await told(broker, "acme_a", files)
    assert "has expired" in error.what
    broker.kill()
    with_server(broker, office.server("localhost", name="young", wall=office.wall + 10 * DAY))
    await broker.start()
    error = await told(broker, "acme_a", files)
    assert ("not valid yet" in error.what, "set this machine's clock" in error.remedy) == (True, True)
    error = await told(broker, "acme_a", files, trusted=False)
    assert "clock has not been set" in error.remedy


async def test_a_broker_of_another_name(office, broker):
    _, files = office.enrolled("a")
    broker.kill()
    with_server(broker, office.server("mqtt.example.com", "127.0.0.1", name="other"))
    await broker.start()
    error = await told(broker, "acme_a", files)
    assert "another host than localhost" in error.what


async def test_a_broker_of_another_authority(office, broker, tmp_path):
    _, files = office.enrolled("a")
    theirs = Office(tmp_path / "theirs", wall=office.wall)
    error = await told(broker, "acme_a", TlsFiles(str(theirs.ca), files.certificate, files.key))
    assert "not issued by the configured authority" in error.what


async def test_a_broker_that_does_not_know_our_authority(office, broker, tmp_path):
    _, files = Office(tmp_path / "theirs", wall=office.wall).enrolled("a")
    error = await told(broker, "acme_a", TlsFiles(str(office.ca), files.certificate, files.key))
    assert isinstance(error, BrokerRefused)
    assert "our certificate comes from an authority it does not know" in error.what


async def test_our_own_certificate_expired(office, broker):
    office.wall -= 200 * DAY
    _, files = office.enrolled("a")
    error = await told(broker, "acme_a", files)
    assert isinstance(error, BrokerRefused)
    assert ("our certificate expired" in error.what, "new claim" in error.remedy) == (True, True)


async def test_a_certificate_for_servers_opens_no_connection(office, broker):
    error = await told(broker, "localhost", office.server("localhost", name="server"))
    assert isinstance(error, BrokerRefused)
    assert "not for clients" in error.what


async def test_without_a_certificate_nobody_comes_in(office, broker):
    error = await told(broker, "acme_a", TlsFiles(str(office.ca), "", ""))
    assert "our certificate is missing" in error.what


async def test_the_broker_speaks_tls_1_3_alone_and_so_do_we(office, broker):
    _, files = office.enrolled("a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", broker.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    broker.kill()
    broker.config.write_text(broker.config.read_text().replace("tls_version tlsv1.3", "tls_version tlsv1.2"))
    await broker.start()
    with contextlib.suppress(BrokerLost):
        # tlsv1.2 is mosquitto's lowest, so 1.3 is still offered: what was agreed is what counts.
        connection = await broker.connect("acme_a", files)
        sock = connection._paho.socket()
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.version() == "TLSv1.3"
        await connection.close()


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError(), ssl.SSLEOFError()])
def test_who_breaks_off_without_a_word_may_not_take_our_certificate(error):
    what, _ = explained(error, "office")
    assert "does not take our certificate" in what
