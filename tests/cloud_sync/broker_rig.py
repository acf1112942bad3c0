"""A real broker for the tests, somebody who listens to it, and certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.ports import BrokerLost, Message
from edge.event import EventClass
from edge.tls_socket import TlsFiles

STEP = 0.005
"""Seconds between two looks at something that another process does."""


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return when ``condition`` holds; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  another process has no event to set
            await asyncio.sleep(STEP)


class Mosquitto:
    """A real broker on a port of its own. ``settings`` are lines for its configuration."""

    def __init__(self, folder: Path, settings: Sequence[str] = ("allow_anonymous true",)) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "user root", *settings]
        self.config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as told:
            command = ["/usr/sbin/mosquitto", "-c", str(self.config)]
            self.process = subprocess.Popen(command, stdout=told, stderr=told)  # noqa: ASYNC220  returns at once
        await until(self._listens)

    def kill(self) -> None:
        """kill -9: nothing is written, nothing is said to clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def settings(self, client_id: str, protocol: Any = "5", **more: Any) -> BrokerSettings:
        return BrokerSettings(host="127.0.0.1", port=self.port, client_id=client_id, protocol=protocol, **more)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Listener:
    """A subscriber that keeps what it hears."""

    def __init__(self, connection: MqttConnection) -> None:
        self.connection = connection
        self.heard: list[Message] = []
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def on(cls, settings: BrokerSettings, *filters: str) -> Listener:
        connection = await MqttBroker(settings).connect(None)
        codes = await connection.subscribe(filters)
        assert max(codes) <= 2, codes
        return cls(connection)

    async def _listen(self) -> None:
        with contextlib.suppress(BrokerLost):
            while True:
                (message,) = await self.connection.next_messages(1)
                self.heard.append(message)
                self.connection.ack(message)

    def payloads(self, ending: str) -> list[bytes]:
        return [message.payload for message in self.heard if message.topic.endswith(ending)]

    def events(self, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
        """Single events and those of batches, in the order heard."""
        found: list[bytes] = []
        for message in self.heard:
            if message.topic.endswith(f"/evt/{event_class.value}"):
                found.append(message.payload)
            elif message.topic.endswith(f"/evt/{event_class.value}/batch"):
                found += [bytes(raw) for raw in msgspec.json.decode(message.payload, type=list[msgspec.Raw])]
        return found

    async def close(self) -> None:
        await self.connection.close()
        await self._task


class Authority:
    """A certificate authority of one test: makes certificates for the broker and for nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca = folder / "ca.pem"
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        usage |= {"key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        self.ca.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = self._builder(subject, key.public_key()).add_extension(names, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsFiles(str(self.ca), str(certificate), str(private))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )
