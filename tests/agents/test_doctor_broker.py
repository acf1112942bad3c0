"""The doctor finds out which MQTT a broker speaks, by the real mosquitto and by brokers that speak one alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.demo_broker import choose_broker, free_port
from agents.doctor_broker import examine_broker
from agents.doctor_report import Finding, Level
from cloud_sync.client_mqtt import BrokerSettings


def settings(port: int, protocol: str = "5") -> BrokerSettings:
    return BrokerSettings(host="127.0.0.1", port=port, client_id="acme_corner", protocol=protocol)  # type: ignore[arg-type]


async def asked(answers: dict[int, bytes], protocol: str = "5") -> list[Finding]:
    """What is found at a broker that answers a CONNECT by the protocol's level in it; b"" hangs up."""
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(2)
        body = await reader.readexactly(head[1])
        seen.append(body)
        writer.write(answers[body[6]])
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(examine_broker, settings(port, protocol))
    assert not any(b"acme_corner" in body for body in seen), "the running node's session would have been taken over"
    return found


V3_OK, V3_NO, V5_OK, V5_NO = b"\x20\x02\x00\x00", b"\x20\x02\x00\x01", b"\x20\x03\x00\x00\x00", b"\x20\x03\x00\x84\x00"


@pytest.mark.parametrize(
    ("answers", "protocol", "level", "said"),
    [
        ({5: V5_OK, 4: V3_OK}, "5", Level.GOOD, "speaks MQTT 5 and 3.1.1"),
        ({5: V5_NO, 4: V3_OK}, "3.1.1", Level.GOOD, "speaks MQTT 3.1.1"),
        ({5: V5_NO, 4: V3_OK}, "5", Level.FAULT, "speaks 3.1.1"),
        ({5: b"", 4: V3_OK}, "5", Level.FAULT, "speaks 3.1.1"),
        # An old broker refuses in the only words it has.
        ({5: V3_NO, 4: V3_OK}, "5", Level.FAULT, "speaks 3.1.1"),
        ({5: V5_OK, 4: V3_NO}, "3.1.1", Level.FAULT, "speaks 5"),
        ({5: b"", 4: b""}, "5", Level.FAULT, "speaks no MQTT with us (it hangs up)"),
        ({5: b"HTTP/1.1 400", 4: b"HTTP/1.1 400"}, "5", Level.FAULT, "speaks no MQTT"),
        # A name that is not admitted is a matter of rights: the protocol was understood.
        ({5: b"\x20\x03\x00\x87\x00", 4: b"\x20\x02\x00\x05"}, "5", Level.GOOD, "speaks MQTT 5 and 3.1.1"),
    ],
)
async def test_what_a_broker_speaks(answers: dict[int, bytes], protocol: str, level: Level, said: str) -> None:
    found = await asked(answers, protocol)
    assert (found[0].level, found[0].what[: len(said)]) == (level, said)


async def test_a_better_protocol_is_mentioned() -> None:
    found = await asked({5: V5_OK, 4: V3_OK}, "3.1.1")
    assert [each.level for each in found] == [Level.GOOD, Level.NOTE]


def test_nobody_there() -> None:
    assert [each.level for each in examine_broker(settings(free_port()))] == [Level.FAULT]


def test_the_real_broker_speaks_both(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    broker = choose_broker("mosquitto", tmp_path)
    broker.start()
    try:
        found = examine_broker(settings(broker.port))
    finally:
        broker.stop()
    assert [(each.level, each.what) for each in found] == [(Level.GOOD, "speaks MQTT 5 and 3.1.1")]
