"""Makes what a simulated fleet needs on one machine: certificates for everybody, keys, and ready configurations."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cloud_sync.authority import Authority, make_issuing, make_root
from cloud_sync.fleet_sim import names
from cloud_sync.known_nodes import KnownKey, encode
from cloud_sync.rights import mosquitto_acl
from edge.certificate import TlsKey, read_request
from edge.issuers import ACK, Entry, Issuers, IssuersDocument, read_issuers, sign_issuers
from edge.keys import SigningKey
from edge.keys_file import read_verify_key, write_private_key, write_public_key

DAYS = 30.0
"""How long the certificates of a simulation live."""
CONSUMER = "hub"
WATCHER = "watcher"
"""A client that may read all: for whoever looks at the fleet from outside."""
SAY_EVERY = 500
"""Certificates between two words on how far it is."""

_MOSQUITTO = """# The broker of a simulated fleet, on the loopback alone.
# Started by root it would become somebody who may not read these files.
user {user}
listener {port} 127.0.0.1
cafile {directory}/certificates/ca.pem
certfile {directory}/certificates/broker.pem
keyfile {directory}/certificates/broker.key
require_certificate true
use_identity_as_username true
acl_file {directory}/acl
tls_version tlsv1.3
set_tcp_nodelay true
max_queued_messages 0
persistence false
log_type error
log_type warning
"""

_COLLECTOR = """name = "{consumer}"
database = "collector.db"
nodes_file = "nodes.json"

[broker]
host = "127.0.0.1"
port = {port}

[broker.tls]
ca = "certificates/ca.pem"
certificate = "certificates/{consumer}.pem"
key = "certificates/{consumer}.key"

[keys]
ack = "keys/ack.pem"
"""


class FleetSite(msgspec.Struct, frozen=True):
    """Where the parts lie. All nodes share one role key: they are told apart by their names and certificates."""

    directory: Path
    tenant: str = "sim"

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    @property
    def collector_toml(self) -> Path:
        return self.directory / "collector.toml"

    @property
    def collected(self) -> Path:
        return self.directory / "collector.db"

    @property
    def mosquitto_conf(self) -> Path:
        return self.directory / "mosquitto.conf"

    @property
    def produced(self) -> Path:
        """Written when the fleet ends: audit events by node, as the nodes themselves have counted them."""
        return self.directory / "produced.json"

    def key(self, name: str) -> Path:
        return self.directory / "keys" / name

    def issuers(self) -> Issuers:
        root = read_verify_key(self.key("root.jwk"))
        return read_issuers(self.key("issuers.jws").read_bytes(), [root], held_version=0)


def make_fleet(site: FleetSite, *, nodes: int, port: int, wall: float) -> Iterator[str]:
    """Make everything below the site's directory, which must be new; says how far it is."""
    site.certificates.mkdir(parents=True)
    site.key("").mkdir()
    _keys(site, wall)
    chosen = tuple(names(nodes))
    site.mosquitto_conf.write_text(
        _MOSQUITTO.format(port=port, user=getpass.getuser(), directory=site.directory.resolve())
    )
    (site.directory / "acl").write_text(mosquitto_acl([CONSUMER, WATCHER], []))
    site.collector_toml.write_text(_COLLECTOR.format(port=port, consumer=CONSUMER))
    listed = [f"{site.tenant}_{name}" for name in chosen]
    role = KnownKey(read_verify_key(site.key("role.jwk")).jwk(), wall)
    (site.directory / "nodes.json").write_bytes(encode({node: [role] for node in listed}, edition=1))
    yield from _certificates(site, listed, wall)


def _keys(site: FleetSite, wall: float) -> None:
    made = {name: SigningKey.generate(os.urandom) for name in ("root", "role", "ack")}
    for name, key in made.items():
        write_private_key(site.key(f"{name}.pem"), key)
        write_public_key(site.key(f"{name}.jwk"), key.public)
    listed = Entry(
        name=CONSUMER,
        jwk=made["ack"].public.jwk(),
        scopes=(ACK,),
        nodes=(f"{site.tenant}_*",),
        not_before=int(wall) - 3600,
        not_after=int(wall + DAYS * 86_400),
    )
    document = IssuersDocument(version=1, issued_at=int(wall), keys=(listed,))
    site.key("issuers.jws").write_bytes(sign_issuers(document, made["root"]))


def _certificates(site: FleetSite, nodes: list[str], wall: float) -> Iterator[str]:
    root, root_pem = make_root("simulated fleet", os.urandom, wall)
    issuing, issuing_pem = make_issuing("simulated fleet", root, root_pem, os.urandom, wall)
    authority = Authority(issuing, issuing_pem, root_pem)
    (site.certificates / "ca.pem").write_bytes(root_pem)
    key = TlsKey.generate(os.urandom)
    hosts = ["localhost", "127.0.0.1"]
    _write_pair(site, "broker", key, authority.server(key, hosts, random=os.urandom, wall=wall, days=DAYS))
    for at, name in enumerate([CONSUMER, WATCHER, *nodes]):
        key = TlsKey.generate(os.urandom)
        request = read_request(key.request(name))
        _write_pair(site, name, key, authority.client(request, random=os.urandom, wall=wall, days=DAYS))
        if at % SAY_EVERY == 0 and at:
            yield f"{at} certificates"
    yield f"{site.directory}: {len(nodes)} nodes, broker, collector and watcher"


def _write_pair(site: FleetSite, name: str, key: TlsKey, certificate: bytes) -> None:
    (site.certificates / f"{name}.pem").write_bytes(certificate)
    private = site.certificates / f"{name}.key"
    private.touch(mode=0o600)
    private.write_bytes(key.pem())
