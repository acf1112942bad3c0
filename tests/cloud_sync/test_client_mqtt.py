"""paho behind our port: what a broker can do wrong, with real bytes on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from agents.demo_broker import free_port
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.ports import BrokerLost, BrokerRefused, Will
from edge.errors import ConfigError
from edge.tls_socket import TlsFiles
from tests.authority import Certifier
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until

CONNACK_5 = bytes.fromhex("2003000000")
RECEIVE_MAXIMUM_5 = bytes.fromhex("2006000003210005")
"""CONNACK, success, Receive Maximum 5 and nothing else (MQTT 5, 3.2.2.3.3)."""
MAXIMUM_PACKET_4096 = bytes.fromhex("200800000527") + (4096).to_bytes(4, "big")
NOT_AUTHORISED_311 = bytes.fromhex("20020005")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


@contextlib.asynccontextmanager
async def scripted(said: bytes, *, stay: bool = True) -> AsyncIterator[Callable[..., BrokerSettings]]:
    """A broker that says ``said`` to every client, and keeps the connection open if it is to ``stay``."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1)
        writer.write(said)
        with contextlib.suppress(OSError):
            await writer.drain()
            while stay and await reader.read(4096):
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def settings(**more: object) -> BrokerSettings:
        base = BrokerSettings(host="127.0.0.1", port=port, client_id="node", connect_timeout=0.2)
        return msgspec.structs.replace(base, **more)

    yield settings
    server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["broker.example", "10.0.0.1", "127.0.0.1.example", "::"])
def test_without_tls_only_the_loopback_is_spoken_to(host):
    with pytest.raises(ConfigError, match="without TLS"):
        MqttBroker(BrokerSettings(host=host, client_id="node"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_the_loopback_tls_may_be_left_out(host):
    MqttBroker(BrokerSettings(host=host, client_id="node"))


async def test_a_missing_certificate_is_named():
    files = TlsFiles("/nowhere/ca.pem", "/nowhere/node.pem", "/nowhere/node.key")
    with pytest.raises(ConfigError, match=r"/nowhere/ca\.pem"):
        await MqttBroker(BrokerSettings(host="127.0.0.1", client_id="node", tls=files)).connect(None)


async def test_a_broker_of_another_authority_is_not_spoken_to(tmp_path):
    ours, theirs = Certifier(tmp_path / "ours"), Certifier(tmp_path / "theirs")
    server = theirs.server()
    broker = Mosquitto(tmp_path, [f"cafile {ours.ca}", f"certfile {server.certificate}", f"keyfile {server.key}"])
    await broker.start()
    with pytest.raises(BrokerLost, match="certificate"):
        await MqttBroker(broker.settings("node", tls=ours.client("node"))).connect(None)
    broker.kill()


async def test_nobody_there_is_told_at_once():
    with pytest.raises(BrokerLost):
        await MqttBroker(BrokerSettings(host="127.0.0.1", port=free_port(), client_id="node")).connect(None)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_refusal_is_not_taken_for_a_loss(tmp_path, protocol):
    broker = Mosquitto(tmp_path, ["allow_anonymous false"])
    await broker.start()
    with pytest.raises(BrokerRefused):
        await MqttBroker(broker.settings("node", protocol)).connect(None)
    broker.kill()


async def test_a_broker_that_says_nothing_is_given_up():
    async with scripted(b"") as settings:
        with pytest.raises(BrokerLost, match="no CONNACK"):
            await MqttBroker(settings()).connect(None)


async def test_any_bytes_end_the_connection_and_nothing_else():
    rng = random.Random(11)
    for protocol in ("5", "3.1.1"):
        for length in range(1, 40):
            junk = rng.randbytes(length)
            async with scripted(junk if length % 2 else CONNACK_5 + junk, stay=False) as settings:
                with pytest.raises(BrokerLost):  # noqa: PT012  either of the two ends
                    connection = await MqttBroker(settings(protocol=protocol)).connect(None)
                    try:
                        await connection.next_messages(1)
                        raise BrokerLost("junk that happens to be a message", remedy="")
                    finally:
                        await connection.close()


async def test_the_servers_limits_are_kept():
    async with scripted(RECEIVE_MAXIMUM_5) as settings:
        connection = await MqttBroker(settings()).connect(None)
        assert connection.window == 5
        for _ in range(5):
            _ = await connection.send("a", b"x")
        sixth = asyncio.ensure_future(connection.send("a", b"x"))
        await asyncio.sleep(0)
        assert not sixth.done()
        await connection.close()
        with pytest.raises(BrokerLost):
            _ = await sixth
    async with scripted(MAXIMUM_PACKET_4096) as settings:
        connection = await MqttBroker(settings()).connect(None)
        assert connection.max_packet == 4096
        await connection.close()


async def test_who_waits_for_a_puback_hears_of_the_loss(broker):
    connection = await MqttBroker(broker.settings("node")).connect(None)
    broker.kill()
    with pytest.raises(BrokerLost):  # noqa: PT012  the loss may be seen by either
        for _ in range(1000):
            await (await connection.send("a", b"x"))
    with pytest.raises(BrokerLost):
        await connection.next_messages(1)
    await connection.close()


async def test_a_broker_that_acknowledges_nothing_is_left():
    """It answers pings, so keepalive sees nothing wrong; the window would stay full for ever."""
    async with scripted(CONNACK_5) as settings:
        connection = await MqttBroker(settings(ack_timeout=0.2)).connect(None)
        answer = await connection.send("a", b"x")
        with pytest.raises(BrokerLost, match="acknowledged nothing"):
            await answer


async def test_a_second_client_of_the_same_name_takes_over(broker):
    first = await MqttBroker(broker.settings("node")).connect(Will("will", b"gone"))
    second = await MqttBroker(broker.settings("node")).connect(None)
    with pytest.raises(BrokerLost):
        await first.next_messages(1)
    assert await (await second.send("a", b"x")) in (0, 0x10)
    await first.close()
    await second.close()


async def test_what_is_too_big_is_dropped_counted_and_acknowledged(broker):
    listener = await Listener.on(broker.settings("node", max_message=1000), "topic")
    sender = await MqttBroker(broker.settings("sender")).connect(None)
    await (await sender.send("topic", b"x" * 1500))
    await (await sender.send("topic", b"fine"))
    await until(lambda: listener.heard)
    assert [message.payload for message in listener.heard] == [b"fine"]
    assert listener.connection.dropped == {"oversized": 1}
    await listener.close()
    await sender.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_was_not_acknowledged_comes_again_after_a_reconnect(broker, protocol):
    connection = await MqttBroker(broker.settings("node", protocol)).connect(None)
    await connection.subscribe(["cmd"])
    await (await connection.send("cmd", b"open"))
    (message,) = await connection.next_messages(1)
    await connection.close()
    connection = await MqttBroker(broker.settings("node", protocol)).connect(None)
    assert connection.session_present
    (again,) = await connection.next_messages(1)
    assert (again.topic, again.payload) == (message.topic, message.payload)
    connection.ack(again)
    await connection.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_client_that_is_used_once_leaves_no_session_behind(broker, protocol):
    """Or a shared subscription would go on giving it its part of the messages."""
    settings = broker.settings("once", protocol, session_expiry=0)
    first = await MqttBroker(settings).connect(None)
    await first.subscribe(["$share/g/topic"])
    await first.close()
    second = await Listener.on(broker.settings("stays", protocol), "$share/g/topic")
    for n in range(10):
        await (await second.connection.send("topic", b"%d" % n))
    await until(lambda: len(second.heard) == 10)
    again = await MqttBroker(settings).connect(None)
    assert not again.session_present
    await again.close()
    await second.close()
