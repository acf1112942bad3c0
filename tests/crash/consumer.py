"""The collector's half of the contract, written anew for the crash suite: pull, check chain and seals, sign acks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agents.site import Site
from edge import link_socket
from edge.acks import Ack, sign_ack
from edge.errors import ProtocolError
from edge.keys_file import read_signing_key
from edge.link import Events, Held, HeldAnswer, Hello, Pull, Welcome
from edge.link_socket import LinkClient, LinkClosed
from tests.crash.journal_file import GENESIS, Entry, chain_faults

RETRY_S = 0.02
LOOK_S = 0.05
SEALED = "node.journal.sealed"


class Consumer:
    """Keeps what it was sent over all lives of the node. One epoch, because nothing is restored here."""

    def __init__(self, site: Site) -> None:
        self._socket = site.socket
        self._ack_key = read_signing_key(site.key("hub-ack.pem"))
        jwk = json.loads(site.key("role.jwk").read_bytes())
        self._role = Ed25519PublicKey.from_public_bytes(_bytes(jwk["x"]))
        self._audience = ""
        self.entries: list[Entry] = []
        """All that came, in order; the seq is the index plus one."""
        self.held = 0
        """Up to here a seal vouches for it."""
        self.acknowledged = 0
        """Up to here the node has confirmed our ack."""
        self.faults: list[str] = []

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        while True:
            try:
                client = await link_socket.connect(self._socket)
            except LinkClosed:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._serve(client)
            except (LinkClosed, ProtocolError):
                await asyncio.sleep(RETRY_S)
            finally:
                await client.close()

    async def _serve(self, client: LinkClient) -> None:
        welcome = await client.ask(Hello)
        assert isinstance(welcome, Welcome)
        self._audience = f"{welcome.node}/{welcome.instance}"
        while True:
            for view in welcome.journals:
                await self._pull(client, view.epoch)
            if self.held > self.acknowledged:
                await self._acknowledge(client)
            await asyncio.sleep(LOOK_S)

    async def _pull(self, client: LinkClient, epoch: str) -> None:
        after = len(self.entries)
        answer = await client.ask(lambda n: Pull(n, epoch, "audit", after, 500))
        assert isinstance(answer, Events)
        before = self.entries[-1].digest if self.entries else GENESIS
        for seq, body in enumerate(answer.bodies, after + 1):
            before = hashlib.sha256(before + body).digest()
            self._take(Entry(epoch, seq, body, before))

    def _take(self, entry: Entry) -> None:
        event = entry.event
        self.entries.append(entry)
        if len(self.entries) != entry.seq or event["seq"] != entry.seq:
            self.faults.append(f"{entry.seq} was sent where {len(self.entries)} was due")
        elif event["type"] == SEALED and self._is_sealed(entry.body, event["data"]["signature"]):
            self.held = entry.seq

    def _is_sealed(self, body: bytes, signature: str) -> bool:
        unsigned = body.replace(f'"signature":"{signature}"'.encode(), b'"signature":""')
        try:
            self._role.verify(_bytes(signature), unsigned)
        except InvalidSignature:
            self.faults.append("a seal is not signed by the role key")
            return False
        faults = chain_faults(self.entries)
        self.faults += faults
        return not faults

    async def _acknowledge(self, client: LinkClient) -> None:
        last = self.entries[self.held - 1]
        ack = Ack("hub", self._audience, {last.epoch: {"audit": (last.seq, last.digest.hex())}})
        token = sign_ack(ack, self._ack_key)
        answer = await client.ask(lambda n: Held(n, "hub", token))
        assert isinstance(answer, HeldAnswer)
        if answer.refused:
            self.faults.append(f"a true ack was refused: {answer.refused}")
        else:
            self.acknowledged = last.seq

    async def until_all_held(self, journal_length: int, patience: float) -> bool:
        """Whether all of the journal was acknowledged in time."""
        deadline = time.monotonic() + patience
        while self.acknowledged < journal_length and time.monotonic() < deadline:  # noqa: ASYNC110  it is polled
            await asyncio.sleep(LOOK_S)
        return self.acknowledged >= journal_length


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
