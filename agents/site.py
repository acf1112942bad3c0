"""Makes everything a site needs to run on one machine: fresh keys, the issuers document, configurations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from edge import jose
from edge.identifiers import uuid7
from edge.issuers import ACK, BADGE, BOOK, DESIRED, NONCE, OPEN, VOUCHER, Entry, IssuersDocument, sign_issuers
from edge.keys import OpeningKey, SigningKey
from edge.keys_file import read_signing_key, write_private_key, write_public_key
from locker.badge import Role, claims_for
from locker.pickup_code import KEY_BYTES

YEAR_S = 365 * 86_400
SHIFT_S = 8 * 3600
_NODE = """[node]
tenant = "{tenant}"
name = "{name}"
role = "locker"
consumers = ["hub"]

[store]
directory = "store"
reserve_mib = 1

[keys]
role = "keys/role.pem"
code = "keys/code.key"
roots = ["keys/root.jwk"]
issuers = "keys/issuers.jws"
hub = "keys/hub.jwk"

[link]
socket = "run/role.sock"
users = [{uid}]

[broker]
{broker}
[sync]
repeat_s = 4.0
max_backoff_s = 2.0

[[locker.buses]]
name = "main"
port = "run/bus"

[[locker.boards]]
board = 0
kind = "kerong"
bus = "main"
address = 0
item_sensors = true

[locker.kiosk]
token_file = "run/kiosk.token"
port = {kiosk_port}

[locker.cabinet]
base_mm = 150
column_mm = 450
door_mm = {{ S = 250, M = 300, L = 400 }}
columns = [
    {{ name = "1", rows = "S S M L", doors = "01..04", latches = "0:0..3" }},
    {{ name = "2", rows = "S S M L", doors = "05..08", latches = "0:4..7" }},
    {{ name = "screen", rows = "blank:600 screen:600" }},
    {{ name = "3", rows = "S S M L", doors = "09..12", latches = "0:8..11" }},
    {{ name = "4", rows = "S S M L", doors = "13..16", latches = "0:12..15" }},
]
"""

_COLLECTOR = """name = "hub"
database = "collector.db"
subscribe = "{subscribe}"

[broker]
{broker}
[keys]
ack = "keys/hub-ack.pem"

[[nodes]]
tenant = "{tenant}"
name = "{name}"
role_key = "keys/role.jwk"
"""

_ISSUER = """name = "staff"
key = "keys/issuer.pem"

[broker]
{broker}
[[nodes]]
tenant = "{tenant}"
name = "{name}"
role_key = "keys/role.jwk"
"""


class Site(msgspec.Struct, frozen=True):
    """Where the parts of a site lie, below ``directory``."""

    directory: Path
    tenant: str = "demo"
    name: str = "corner"

    @property
    def node(self) -> str:
        return f"{self.tenant}_{self.name}"

    @property
    def node_toml(self) -> Path:
        return self.directory / "node.toml"

    @property
    def collector_toml(self) -> Path:
        return self.directory / "collector.toml"

    @property
    def issuer_toml(self) -> Path:
        """For the staff's commands."""
        return self.directory / "issuer.toml"

    @property
    def database(self) -> Path:
        return self.directory / "store" / "state.db"

    @property
    def collected(self) -> Path:
        return self.directory / "collector.db"

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "role.sock"

    @property
    def token(self) -> Path:
        return self.directory / "run" / "kiosk.token"

    @property
    def port(self) -> Path:
        return self.directory / "run" / "bus"

    @property
    def sim_control(self) -> Path:
        return self.directory / "run" / "sim.sock"

    @property
    def witness(self) -> Path:
        return self.directory / "witness.jsonl"

    def key(self, name: str) -> Path:
        return self.directory / "keys" / name


class Courier(msgspec.Struct, frozen=True):
    """What a courier of the demonstration carries, or somebody of service."""

    badge: str
    pin: str


def make_keys(site: Site, *, wall: float, random: Callable[[int], bytes] = os.urandom) -> Courier:
    """Make every key of the site, list the public ones, and issue one courier's badge."""
    site.key("").mkdir(parents=True, exist_ok=True)
    made = {name: SigningKey.generate(random) for name in ("root", "role", "issuer", "hub-ack", "badges")}
    for name, key in made.items():
        write_private_key(site.key(f"{name}.pem"), key)
        write_public_key(site.key(f"{name}.jwk"), key.public)
    hub = OpeningKey.generate(random)
    write_private_key(site.key("hub.pem"), hub)
    write_public_key(site.key("hub.jwk"), hub.public)
    code_key = site.key("code.key")
    code_key.touch(mode=0o600)
    code_key.write_bytes(random(KEY_BYTES))
    now = int(wall)
    listed = (
        ("issuer", "staff", (NONCE, OPEN, BOOK, VOUCHER, DESIRED)),
        ("hub-ack", "hub", (ACK,)),
        ("badges", "badges", (BADGE,)),
    )
    entries = tuple(
        Entry(
            jwk=made[key].public.jwk(),
            name=name,
            scopes=scopes,
            nodes=(f"{site.tenant}_*",),
            not_before=now - 3600,
            not_after=now + YEAR_S,
        )
        for key, name, scopes in listed
    )
    document = IssuersDocument(version=1, issued_at=now, keys=entries)
    site.key("issuers.jws").write_bytes(sign_issuers(document, made["root"]))
    return make_badge(site, wall=wall, random=random)


def make_badge(
    site: Site,
    *,
    wall: float,
    role: Role = Role.COURIER,
    recall: Literal["expired"] | tuple[str, ...] = "expired",
    random: Callable[[int], bytes] = os.urandom,
) -> Courier:
    """A badge for one shift; a courier's takes back whatever has waited too long, unless it says otherwise."""
    pin = f"{int.from_bytes(random(8), 'big') % 10**8:08d}"
    claims = claims_for(
        jti=uuid7(wall, random(10)),
        courier=f"{role.value}-{random(4).hex()}",
        nodes=(site.node,),
        run=f"run-{random(4).hex()}",
        nbf=int(wall) - 3600,
        exp=int(wall) - 3600 + SHIFT_S,
        pin=pin,
        random=random,
        role=role,
        recall=recall if role is Role.COURIER else (),
    )
    key = read_signing_key(site.key("badges.pem"))
    return Courier(jose.sign({**claims, "iss": "badges"}, jose.BADGE, key).decode(), pin)


def write_settings(site: Site, *, broker_port: int, kiosk_port: int, protocol: str, subscribe: str, uid: int) -> None:
    """Write ``node.toml``, ``collector.toml`` and ``issuer.toml``. Plain MQTT, so only for a broker on this machine."""
    for directory in ("run", "store"):
        (site.directory / directory).mkdir(parents=True, exist_ok=True)
    broker = f'host = "127.0.0.1"\nport = {broker_port}\nprotocol = "{protocol}"\n'
    site.node_toml.write_text(
        _NODE.format(
            tenant=site.tenant,
            name=site.name,
            uid=uid,
            broker=broker,
            kiosk_port=kiosk_port,
        )
    )
    site.collector_toml.write_text(
        _COLLECTOR.format(subscribe=subscribe, broker=broker, tenant=site.tenant, name=site.name)
    )
    site.issuer_toml.write_text(_ISSUER.format(broker=broker, tenant=site.tenant, name=site.name))
