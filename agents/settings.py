"""What stands in the configuration files: ``node.toml`` for a node's processes, ``collector.toml`` for a consumer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from agents.cabinet_sensors import SensorSettings
from agents.input_settings import InputSettings
from edge.settings import Settings
from locker.plan import Plan

Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
"""Of a file; a relative one is meant from the configuration file's own directory."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,48}\Z")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Node(Settings, frozen=True):
    """Who this node is."""

    tenant: Name
    name: Name
    role: Literal["locker"]
    consumers: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=3)]
    """Who keeps its events; each has a key with the scope ``ack`` in the issuers document."""


class Store(Settings, frozen=True):
    """Where the role agent keeps its database and how large it may grow."""

    directory: Path
    max_mib: Annotated[int, msgspec.Meta(ge=16, le=65_536)] = 512
    reserve_mib: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 16
    audit_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30


class Keys(Settings, frozen=True):
    """Key files of the role agent; private ones must be readable by its user alone."""

    role: Path
    """Ed25519, private: signs seals and results."""
    code: Path
    """32 random bytes: pickup codes are hashed with it."""
    roots: Annotated[tuple[Path, ...], msgspec.Meta(min_length=1, max_length=2)]
    """Ed25519, public: the operator's roots."""
    issuers: Path
    """The issuers document, signed by one of the roots."""
    hub: Path
    """X25519, public: pickup codes leave the node sealed to it."""
    enrolled: Path = ""
    """What enrolment wrote: the lowest version of the issuers document to believe. Empty where nobody said so."""


class Link(Settings, frozen=True):
    """The socket between the two processes of the node."""

    socket: Path
    users: tuple[Annotated[str, msgspec.Meta(min_length=1)] | int, ...] = ("lm-sync",)
    """Whose processes may connect: user names or numbers."""


class Speech(Settings, frozen=True):
    """Reads the screen out, by espeak-ng and aplay. Outputs are ALSA devices, such as ``plughw:1``."""

    device: str = ""
    """Heard by everybody: nothing personal is said there. Empty for none."""
    headphones: str = ""
    """Heard by one person, who is also told their door. Empty for none."""


class Kiosk(Settings, frozen=True):
    """The kiosk's server."""

    token_file: Path
    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    port: Port = 8080
    page: Path = ""
    """The built page; empty for the one that came with the program."""
    expected: bool = False
    """Whether a screen stands here: one on which nothing new is drawn for 30 s is then told as hung."""
    speech: Speech = Speech()


class Bus(Settings, frozen=True):
    """A serial line that lock boards of one kind share."""

    name: Name
    port: Path
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] | None = None
    """None for what the factory sets on boards of this kind."""
    answer_ms: Annotated[int, msgspec.Meta(ge=20, le=2000)] | None = None
    """What a board is given to answer; None for what its driver says."""


class BoardPlace(Settings, frozen=True):
    """What every board's table has; all other keys in it are its driver's."""

    board: Annotated[int, msgspec.Meta(ge=0, le=255)]
    """What the compartments call it."""
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=48)]
    """``kerong``, or another entry point of the group ``lastmile.lock_board``."""
    bus: str = ""
    """The bus that it stands on; empty for a kind that needs none."""


class Terms(Settings, frozen=True):
    """What the operator promises."""

    hold_hours: Annotated[int, msgspec.Meta(ge=1, le=2160)] = 72
    deposits_without_mains: bool = True
    """Whether couriers may bring parcels while the mains are gone. Customers collect as long as there is power."""


class Locker(Settings, frozen=True):
    """The cabinet."""

    boards: Annotated[tuple[dict[str, Any], ...], msgspec.Meta(min_length=1, max_length=64)]
    """``BoardPlace``, and the options of its kind's driver, which ``agents.lock_boards`` reads."""
    cabinet: Plan
    kiosk: Kiosk
    buses: Annotated[tuple[Bus, ...], msgspec.Meta(max_length=16)] = ()
    terms: Terms = Terms()
    sensors: Annotated[tuple[SensorSettings, ...], msgspec.Meta(max_length=32)] = ()
    inputs: InputSettings = InputSettings()


class Tls(Settings, frozen=True):
    """PEM files of mutual TLS."""

    ca: Path
    certificate: Path
    key: Path


class Broker(Settings, frozen=True):
    """Where the broker is."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    port: Port = 8883
    protocol: Literal["5", "3.1.1"] = "5"
    tls: Tls | None = None
    keepalive: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 30


class Sync(Settings, frozen=True):
    """How cloud-sync sends."""

    pace: Annotated[float, msgspec.Meta(gt=0, le=100_000)] = 50.0
    """MQTT messages a second, a batch being one."""
    batch_kib: Annotated[int, msgspec.Meta(ge=0, le=64)] = 64
    """KiB of a batch while a backlog drains; 0 lets every event travel alone. To be set lower for a broker that takes
    no such message and cannot say so (3.1.1)."""
    repeat_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    """Without an acknowledgement for so long, events go again."""
    ack: Literal["consumer", "broker"] = "consumer"
    """Whose word ends state and telemetry: a consumer's signed receipt, or the broker's PUBACK. Audit always needs the
    receipt."""
    max_backoff_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 300.0


class Renewal(Settings, frozen=True):
    """Where the certificate is renewed. Key and certificate must then stand in one file (``lastmile identity``)."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https://[^/ ]+/?\Z")]
    ca: Path = ""
    """Who signs the enrolment service; empty for the broker's authority."""


class Log(Settings, frozen=True):
    """What is written to the journal of the service manager."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class NodeSettings(Settings, frozen=True):
    """``node.toml``."""

    node: Node
    store: Store
    keys: Keys
    link: Link
    broker: Broker
    locker: Locker
    sync: Sync = Sync()
    renewal: Renewal | None = None
    health: Path = ""
    """Directory of the health sockets; empty for none."""
    log: Log = Log()


class KnownNode(Settings, frozen=True):
    """A node whose events a collector keeps, with the public role key that its seals must carry."""

    tenant: Name
    name: Name
    role_key: Path


class CollectorKeys(Settings, frozen=True):
    ack: Path
    """Ed25519, private: signs acks; its public half stands in the issuers document with the scope ``ack``."""


class Amqp(Settings, frozen=True):
    """RabbitMQ's own protocol, for ``subscribe = "amqp"``; ``broker`` is not looked at then."""

    urls: Annotated[tuple[Annotated[str, msgspec.Meta(pattern=r"^amqps?://")], ...], msgspec.Meta(min_length=1)]
    """amqp(s)://host:port/vhost of the cluster's nodes, tried in turn."""
    user: str = "guest"
    password_file: Path = ""
    """Whose first line is the password; "" for RabbitMQ's own ``guest``, which it takes on the loopback alone."""
    tls: Tls | None = None


class CollectorSettings(Settings, frozen=True):
    """``collector.toml``."""

    name: Name
    """The consumer's name, as the nodes' configurations have it."""
    database: Path
    """A SQLite file, or ``postgresql://user@host:port/name``; the password in ~/.pgpass, not here."""
    broker: Broker
    keys: CollectorKeys
    nodes: tuple[KnownNode, ...] = ()
    nodes_file: Path = ""
    """The list that ``lastmile enrol`` writes, read again whenever it changes. Nodes stand here or there."""
    subscribe: Literal["shared", "plain", "amqp"] = "shared"
    amqp: Amqp | None = None
    worker: Name = "1"
    """Tells the collectors of one consumer apart; each needs one of its own, and keeps it."""
    health: Path = ""
    worst_nodes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    """Nodes with a metric of their own: those that wait for longest. A label for each would burden the scraper."""
    log: Log = Log()


class IssuerSettings(Settings, frozen=True):
    """``issuer.toml``: whoever signs commands, and the nodes they are for."""

    name: Name
    """As the issuers document lists the key."""
    key: Path
    """Ed25519, private."""
    broker: Broker
    nodes: Annotated[tuple[KnownNode, ...], msgspec.Meta(min_length=1)]
    outbox: Path = "outbox.db"
    """Every command that was signed, with what the nodes said of it. Several issuers may share one."""
