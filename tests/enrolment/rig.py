"""An operator with an authority, a desk or a real service of it, and nodes that ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec

from cloud_sync.enrolment_desk_sql import EnrolmentDesk, Operator, Published
from cloud_sync.enrolment_http import build_enrolment, serve_enrolment, server_context
from cloud_sync.enrolment_sql import Register
from edge.certificate import TlsKey, read_request
from edge.enrolment import EnrolRequest, RenewRequest, prove_enrolment, vouch_for
from edge.identity import identify
from edge.issuers import Entry, IssuersDocument, sign_issuers
from edge.keys import OpeningKey, SigningKey
from edge.serve_http import listen
from edge.tls_socket import TlsFiles
from tests.authority import Certifier

S = TypeVar("S", bound=msgspec.Struct)
NOW = 1_800_000_000.0
DAY = 86_400.0
TENANT = "acme"
ROOT = SigningKey(b"o" * 32)
HUB = OpeningKey(b"h" * 32)
ISSUER = SigningKey(b"i" * 32)


def issuers(version: int) -> str:
    entry = Entry("hub", ISSUER.public.jwk(), ("ack",), ("acme_*",), 0, 2**33)
    return sign_issuers(IssuersDocument(version, int(NOW), (entry,)), ROOT).decode()


class Asker:
    """A node as far as enrolment sees it: a role key, a TLS key, a request."""

    def __init__(self, name: str, role: SigningKey | None = None) -> None:
        self.name = name
        self.node = f"{TENANT}_{name}"
        self.role = role or SigningKey.generate(os.urandom)
        self.tls = TlsKey.generate(os.urandom)
        self.request = self.tls.request(self.node)

    def asks(self, claim: str, *, role: SigningKey | None = None) -> EnrolRequest:
        """``role`` signs in the place of the node's own key."""
        digest = read_request(self.request).digest
        proof = prove_enrolment(self.node, digest, claim, role or self.role)
        return EnrolRequest(claim, self.request.decode(), self.role.public.jwk(), proof)

    def renews(self, key: TlsKey, *, role: SigningKey | None = None, name: str = "") -> RenewRequest:
        request = key.request(name or self.node)
        proof = vouch_for(
            read_request(request).digest, identify(TENANT, self.name, self.role.public), role or self.role
        )
        return RenewRequest(request.decode(), proof.decode())


class Office(Certifier):
    """The operator's side in one directory. ``wall`` is its clock."""

    def __init__(self, folder: Path, wall: float = NOW, days: float = 90.0) -> None:
        super().__init__(folder, wall, days)
        self.issuers = issuers(3)
        self.nodes_file = folder / "nodes.json"
        self.revoked_file = folder / "revoked.pem"

    def desk(self) -> EnrolmentDesk:
        """A new one on the same file, as after a restart."""

        def publish(published: Published) -> None:
            self.nodes_file.write_bytes(published.nodes)
            self.revoked_file.write_bytes(published.revoked)

        return EnrolmentDesk(
            register=Register(self.folder / "enrol.db"),
            authority=self.authority,
            operator=lambda: Operator((ROOT.public.jwk(),), self.issuers, HUB.public.jwk()),
            publish=publish,
            wall=lambda: self.wall,
            random=os.urandom,
            days=self.days,
        )

    def enrolled(self, name: str, role: SigningKey | None = None) -> tuple[Asker, TlsFiles]:
        """A node with its certificate, in a file as a node keeps it."""
        desk, asker = self.desk(), Asker(name, role)
        answer = desk.enrol(asker.asks(desk.claim(asker.node, hours=1)))
        pair = self.folder / f"{name}.pem"
        pair.write_bytes(asker.tls.pem() + answer.certificate.encode())
        return asker, TlsFiles(str(self.ca), str(pair), str(pair))


@contextlib.asynccontextmanager
async def serving(office: Office, desk: EnrolmentDesk | None = None) -> AsyncIterator[str]:
    """The real service on a port of its own; its address."""
    pair = Path(office.server("localhost", name="service").certificate)
    listener = listen("127.0.0.1", 0, what="the service")
    app = build_enrolment(desk or office.desk(), office.root_pem)
    task = asyncio.create_task(serve_enrolment(app, listener, server_context(pair, office.ca)))
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def changed(said: S, **members: object) -> S:
    return msgspec.structs.replace(said, **members)
