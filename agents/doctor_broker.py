"""Which MQTT the broker speaks: a bare CONNECT each, so that the running node is not disturbed."""

from __future__ import annotations

import secrets
import socket
import ssl
from typing import Final

from agents.doctor_report import Finding, fault, good, note
from cloud_sync.client_mqtt import BrokerSettings
from edge.tls_socket import client_context

PATIENCE_S: Final = 5.0
LEVELS: Final = {"5": 5, "3.1.1": 4}
"""The protocol's name on the wire, by the name in the configuration (MQTT 5.0 and 3.1.1, section 3.1.2.2)."""

_REFUSED_VERSION: Final = frozenset({0x84, 0x01})
"""In the words of MQTT 5 and of 3.1.1; an old broker answers a new protocol in its own."""


def connect_packet(protocol: str, client_id: str) -> bytes:
    """A CONNECT that begins clean and asks for nothing. ``protocol`` is a key of ``LEVELS``."""
    level = LEVELS[protocol]
    name = client_id.encode()
    body = b"\x00\x04MQTT" + bytes([level, 0x02]) + b"\x00\x0a" + (b"\x00" if protocol == "5" else b"")
    body += len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body


def examine_broker(settings: BrokerSettings) -> list[Finding]:
    """Reaches the broker once for each protocol. Blocks for as long as ``PATIENCE_S`` each."""
    where = f"broker {settings.host}:{settings.port}"
    spoken, trouble = [], ""
    for protocol in LEVELS:
        try:
            code = _asked(settings, protocol)
        except (OSError, ssl.SSLError) as error:
            trouble = str(error)
            continue
        if code is None:
            trouble = "it hangs up"
        elif code not in _REFUSED_VERSION:
            spoken.append(protocol)
    if not spoken:
        return [fault(where, f"speaks no MQTT with us ({trouble})", "look at its address, its certificate and its log")]
    if settings.protocol not in spoken:
        return [fault(where, f"speaks {' and '.join(spoken)}", f'set protocol = "{spoken[0]}" under [broker]')]
    found = [good(where, f"speaks MQTT {' and '.join(spoken)}")]
    if settings.protocol != spoken[0]:
        found.append(note(where, f"could speak MQTT {spoken[0]}", "it says more of what is wrong"))
    return found


def _asked(settings: BrokerSettings, protocol: str) -> int | None:
    """The broker's answer to a CONNECT, None where it hung up without one."""
    # Never the node's own id, whose session the running node has.
    packet = connect_packet(protocol, f"doctor{secrets.token_hex(6)}")
    with socket.create_connection((settings.host, settings.port), PATIENCE_S) as plain:
        if settings.tls is None:
            return _answer(plain, packet)
        context = client_context(settings.tls.ca, settings.tls.certificate, settings.tls.key)
        with context.wrap_socket(plain, server_hostname=settings.host) as secured:
            return _answer(secured, packet)


def _answer(connection: socket.socket, packet: bytes) -> int | None:
    connection.sendall(packet)
    answer = b""
    while len(answer) < 4:  # noqa: PLR2004 - type, length, flags, code
        more = connection.recv(4 - len(answer))
        if not more:
            return None
        answer += more
    return answer[3] if answer[0] == 0x20 else None  # noqa: PLR2004 - CONNACK
