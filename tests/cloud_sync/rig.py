"""What the tests of cloud_sync share: a real broker, a scripted role agent with a real socket, certificates."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import datetime
import ipaddress
import os
import random
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection, TlsFiles
from cloud_sync.ports import BrokerLost, Message
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge import jose, link_socket
from edge.acks import Ack
from edge.event import (
    BEGUN,
    DROPPED,
    GENESIS,
    SEALED,
    Draft,
    EventClass,
    EventsDropped,
    JournalBegun,
    JournalSealed,
    Origin,
    Stamp,
    encode,
    link_hash,
    with_signature,
    without_signature,
)
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.link import (
    Answer,
    Events,
    Held,
    HeldAnswer,
    Hello,
    JournalView,
    Link,
    LinkNumber,
    Offer,
    OfferAnswer,
    Pull,
    Request,
    Welcome,
)
from edge.system_clock import SystemClock

TENANT, NODE, CONSUMER = "acme", "acme_l1", "cloud"
SOURCE = f"/lm/v1/{TENANT}/{NODE}"
T0 = 1_800_000_000.0
PULL_BYTES = 56 * 1024
STEP = 0.005
"""Seconds between two looks at something that another process does."""

_rng = random.Random(7)


def new_epoch() -> str:
    return uuid7(T0, _rng.randbytes(10))


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return when ``condition`` holds; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(STEP)


class FastClock(SystemClock):
    """Running time ``speed`` times as fast as it is, so that half a minute's patience can be tested in a second."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def mono(self) -> float:
        return super().mono() * self._speed

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._speed)


class Epoch:
    """One epoch of a node's journal as a model: events made by ``edge.event``, kept in lists."""

    def __init__(self, key: SigningKey, source: str = SOURCE, *, begun: JournalBegun | None = None) -> None:
        self.id = new_epoch()
        self.key = key
        self.origin = Origin(source, self.id, "session-1")
        self.last = dict.fromkeys(EventClass, 0)
        self.hashes = [GENESIS]
        self.items: dict[EventClass, list[tuple[int, int, bytes]]] = {each: [] for each in EventClass}
        self.acked = dict.fromkeys(EventClass, 0)
        self.first_unsealed = 1
        self.starts = {CONSUMER: 1}
        self.add(EventClass.AUDIT, BEGUN, begun or JournalBegun("", None, "new"))

    def add(self, event_class: EventClass, kind: str = "locker.door.opened", data: Any = None) -> bytes:
        seq = self.last[event_class] + 1
        prev = self.hashes[-1] if event_class is EventClass.AUDIT else None
        body = self._encode(event_class, kind, {"n": seq} if data is None else data, seq, prev)
        return self._keep(event_class, seq, body)

    def seal(self) -> bytes:
        seq = self.last[EventClass.AUDIT] + 1
        data = JournalSealed(self.first_unsealed, self.key.kid, self.starts)
        unsigned = self._encode(EventClass.AUDIT, SEALED, data, seq, self.hashes[-1])
        self.first_unsealed = seq + 1
        return self._keep(EventClass.AUDIT, seq, with_signature(unsigned, self.key.sign(unsigned)))

    def thin(self, event_class: EventClass, first: int, last: int) -> bytes:
        """Drop rows that were there; a notice takes their place."""
        count = last - first + 1
        kept = [item for item in self.items[event_class] if not first <= item[0] <= last]
        self.last[event_class] = max(self.last[event_class], last)
        notice = EventsDropped(event_class.value, first, last, count, "space")
        body = self._encode(event_class, DROPPED, notice, 0, None)
        self.items[event_class] = sorted([*kept, (first, last, body)])
        return body

    def bodies(self, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
        return [body for _, _, body in self.items[event_class]]

    def view(self) -> JournalView:
        return JournalView(self.id, {each.value: (self.acked[each], self.last[each]) for each in EventClass})

    def pull(self, event_class: EventClass, after: int, most: int) -> tuple[tuple[bytes, ...], int]:
        found, size, upto = [], 0, after
        items = self.items[event_class]
        for _, last, body in items[bisect.bisect_right(items, after, key=lambda item: item[1]) :]:
            if len(found) >= most or size + len(body) > PULL_BYTES:
                break
            found.append(body)
            size += len(body)
            upto = last
        return tuple(found), upto

    def _encode(self, event_class: EventClass, kind: str, data: Any, seq: int, prev: bytes | None) -> bytes:
        draft = Draft(event_class, kind, "door-1", data)
        event_id = uuid7(T0, _rng.randbytes(10))
        stamp = Stamp(T0 + seq, float(seq), trusted=True)
        return encode(draft, origin=self.origin, stamp=stamp, event_id=event_id, seq=seq, prev=prev)

    def _keep(self, event_class: EventClass, seq: int, body: bytes) -> bytes:
        self.last[event_class] = seq
        self.items[event_class].append((seq, seq, body))
        if event_class is EventClass.AUDIT:
            self.hashes.append(link_hash(self.hashes[-1], body))
        return body


class ScriptedAgent:
    """A role agent that answers as the real one does, and notes what it was asked."""

    def __init__(self, path: Path, key: SigningKey, consumer: SigningKey) -> None:
        self.path = path
        self.key = key
        self.consumer = consumer
        self.epochs = [Epoch(key)]
        self.link = 0
        self.asked: list[Request] = []
        self.offers: list[Offer] = []
        self.results: tuple[tuple[str, bytes], ...] = ()
        self.refused: list[str] = []
        self.server: link_socket.LinkServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> Epoch:
        return self.epochs[-1]

    async def start(self) -> None:
        self.server = link_socket.LinkServer(self.path, self, uids=frozenset({os.getuid()}), clock=SystemClock())
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.server.serve(ready.set))
        await ready.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        assert self.server is not None
        self.server.wake()

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        match request:
            case Hello(n):
                views = tuple(epoch.view() for epoch in self.epochs)
                return Welcome(
                    n, TENANT, NODE, "locker", self.key.kid, "session-1", "0.1.0", True, (CONSUMER,), views
                )
            case Link(n):
                self.link += 1
                return LinkNumber(n, self.link, self.epoch.id)
            case Pull():
                epoch = next(each for each in self.epochs if each.id == request.epoch)
                bodies, upto = epoch.pull(EventClass(request.event_class), request.after, request.max)
                return Events(request.n, bodies, upto)
            case Held():
                return self._held(request)
            case Offer():
                self.offers.append(request)
                return OfferAnswer(request.n, self.results)

    def held(self, event_class: EventClass = EventClass.AUDIT) -> int:
        return self.epoch.acked[event_class]

    def _held(self, request: Held) -> HeldAnswer:
        verified = jose.verify(request.token, jose.ACK, lambda _kid: self.consumer.public)
        ack = msgspec.convert(verified.claims, Ack)
        refused = "" if ack.aud == f"{NODE}/{self.key.kid}" else "wrong_audience"
        for epoch in self.epochs:
            for name, (seq, digest) in ack.journals.get(epoch.id, {}).items():
                event_class = EventClass(name)
                if digest is not None and epoch.hashes[seq].hex() != digest:
                    refused = "wrong_hash"
                elif not refused:
                    epoch.acked[event_class] = max(epoch.acked[event_class], seq)
        if refused:
            self.refused.append(refused)
        views = tuple(epoch.view() for epoch in self.epochs)
        return HeldAnswer(request.n, refused, views, () if refused else ack.want)


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
            self.process = subprocess.Popen(command, stdout=told, stderr=told)
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


def cloud_sync(
    agent: ScriptedAgent,
    settings: BrokerSettings,
    pace: float = 5000.0,
    batch_bytes: int = 64 * 1024,
    clock: SystemClock | None = None,
) -> CloudSync:
    rng = random.Random(3)

    async def open_agent() -> link_socket.LinkClient:
        return await link_socket.connect(agent.path)

    return CloudSync(
        open_agent=open_agent,
        broker=MqttBroker(settings),
        pacing=Pacing(pace, batch_bytes),
        clock=clock or FastClock(10.0),
        random=lambda: rng.random() / 20,
        new_token=lambda: rng.randbytes(8).hex(),
    )


@contextlib.asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work()`` for the length of the block; what kills it fails the test."""
    task: asyncio.Task[None] = asyncio.ensure_future(work())  # type: ignore[assignment,arg-type]
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


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
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


def unsigned(seal: bytes) -> bytes:
    return without_signature(seal)[0]
