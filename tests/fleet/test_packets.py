"""The light client's packets are MQTT's own, and whatever comes in, nothing but a ``ProtocolError`` comes out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync import packets_sim
from cloud_sync.packets_sim import Packet, Reader
from cloud_sync.ports import Will
from edge.errors import ProtocolError

# Laid out by field, from the standard's own figures (3.1, 3.2, 3.3, 3.4, 3.8, 3.9).
CONNECT = bytes.fromhex(
    "1025 0004 4d515454 05 2c 003c 08 1100093a80 210014"  # fixed header, name, version, flags, keepalive, properties
    "0006 61636d655f31 00 0001 77 0004 676f6e65"  # client id, will: properties, topic, payload
)
CONNACK = bytes.fromhex("200b 01 00 08 210014 2700100000")
PUBLISH = bytes.fromhex("320c 0003 612f62 0007 00 70617921")
SUBSCRIBE = bytes.fromhex("8209 0001 00 0003 612f2b 01")
SUBACK = bytes.fromhex("9004 0001 00 01")


def packets(*parts: bytes) -> list[Packet]:
    reader = Reader()
    return [packet for part in parts for packet in reader.feed(part)]


def test_packets_are_spelt_as_the_standard_spells_them() -> None:
    will = Will("w", b"gone")
    made = packets_sim.connect("acme_1", keepalive=60, session_expiry=604_800, receive_maximum=20, will=will)
    assert made == CONNECT
    assert packets_sim.publish("a/b", b"pay!", qos=1, retain=False, packet_id=7) == PUBLISH
    assert packets_sim.subscribe(["a/+"], 1) == SUBSCRIBE
    assert packets_sim.puback(7) == bytes.fromhex("40020007")


def test_what_a_broker_says_is_read() -> None:
    connack, suback, published = packets(CONNACK + SUBACK + PUBLISH)
    assert packets_sim.read_connack(connack.body) == (0, {0x21: 20, 0x27: 1_048_576})
    assert packets_sim.read_suback(suback.body) == (1, (1,))
    assert packets_sim.read_published(published) == packets_sim.Published("a/b", b"pay!", 1, False, 7)
    assert packets_sim.read_puback(b"\0\7") == (7, 0)
    assert packets_sim.read_puback(b"\0\7\x97\0") == (7, 0x97)


@pytest.mark.parametrize("frame", [CONNACK, PUBLISH, SUBACK])
def test_a_packet_may_come_byte_by_byte_and_be_followed_at_once(frame: bytes) -> None:
    (whole,) = packets(frame)
    assert packets(*(bytes([byte]) for byte in frame)) == [whole]
    assert packets(frame + frame + frame[:1]) == [whole, whole]


def test_a_length_may_take_four_bytes_and_no_more() -> None:
    body = b"\0\1a" + b"\0" + b"x" * 20_000
    frame = packets_sim.publish("a", b"x" * 20_000, qos=0, retain=True, packet_id=0)
    assert frame == b"\x31" + bytes([0xA4, 0x9C, 0x01]) + body
    with pytest.raises(ProtocolError):
        packets(b"\x30\xff\xff\xff\xff\x01")
    with pytest.raises(ProtocolError):
        packets(b"\x30\xff\xff\xff\x7f")


@given(st.binary(max_size=200))
def test_noise_ends_in_a_protocol_error_or_in_nothing(noise: bytes) -> None:
    read(noise)


def test_broken_packets_end_in_a_protocol_error_or_in_nothing() -> None:
    rng = random.Random(5)
    for _ in range(20_000):
        frame = bytearray(rng.choice([CONNACK, PUBLISH, SUBACK]))
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        read(bytes(frame[: rng.randrange(len(frame) + 1)]))


def read(data: bytes) -> None:
    try:
        for packet in Reader().feed(data):
            if packet.kind == packets_sim.CONNACK:
                packets_sim.read_connack(packet.body)
            elif packet.kind == packets_sim.SUBACK:
                packets_sim.read_suback(packet.body)
            elif packet.kind == packets_sim.PUBLISH:
                packets_sim.read_published(packet)
            elif packet.kind == packets_sim.PUBACK:
                packets_sim.read_puback(packet.body)
    except ProtocolError:
        pass
