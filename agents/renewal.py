"""The renewal of a node's certificate, joined: files, the role agent's word, the enrolment service, the broker."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from agents.settings import NodeSettings
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.ports import expected
from cloud_sync.renewal_asyncio import Ask, Renewal
from cloud_sync.renewal_file import PairFile
from edge import enrolment_http, link
from edge.certificate import TlsKey, read_request
from edge.clock import Clock
from edge.enrolment import RenewRequest
from edge.errors import ConfigError
from edge.link_socket import connect
from edge.tls_socket import TlsFiles


def keep_certificate(settings: NodeSettings, broker: BrokerSettings, base: Path, clock: Clock) -> Renewal:
    """The broker through which the next certificate proves itself. Raises ``ConfigError``."""
    tls, node = broker.tls, broker.client_id
    if tls is None or tls.certificate != tls.key:
        raise ConfigError(
            "a certificate can be renewed only where key and certificate stand in one file",
            remedy="name the file that `lastmile identity enrol` made (tls/node.pem) as both, or leave [renewal] out",
        )
    pair = PairFile(Path(tls.certificate), node)
    following = str(pair.next_path)
    trial = msgspec.structs.replace(broker, tls=TlsFiles(tls.ca, following, following))
    return Renewal(
        present=MqttBroker(broker, clock_trusted=clock.trusted),
        trial=MqttBroker(trial, clock_trusted=clock.trusted),
        pair=pair,
        ask=_asking(settings, tls, pair, node, base),
        new_key=lambda: TlsKey.generate(os.urandom),
        clock=clock,
    )


def _asking(settings: NodeSettings, tls: TlsFiles, pair: PairFile, node: str, base: Path) -> Ask:
    where = settings.renewal
    if where is None:
        raise ConfigError("[renewal] is missing", remedy="name the enrolment service's url")
    url, ca, own = where.url, str(base / where.ca) if where.ca else tls.ca, str(pair.path)

    async def ask(key: TlsKey) -> str:
        request = key.request(node)
        proof = await _vouched(base / settings.link.socket, read_request(request).digest)
        asked = RenewRequest(request.decode(), proof.decode())
        renewed = await asyncio.to_thread(enrolment_http.renew, url, asked, ca=ca, certificate=own, key=own)
        return renewed.certificate

    return ask


async def _vouched(socket: Path, digest: str) -> bytes:
    """The role agent's word for the request, over a short connection of its own."""
    agent = await connect(socket)
    try:
        expected(await agent.ask(link.Hello), link.Welcome)
        return expected(await agent.ask(lambda n: link.Vouch(n, digest)), link.Vouched).proof
    finally:
        await agent.close()
