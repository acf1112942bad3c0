"""Hostile code with cloud-sync's rights that floods and stalls the socket. Told on stdin what to do, until "rest".

Each line names attacks of ``ATTACKS``, a thread for each; "rest" ends them and is answered, on stdout, with how often
each acted.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle

from edge import jose, link
from edge.issuers import Entry, IssuersDocument, sign_issuers
from edge.keys import SigningKey

SOCKET_S = 0.2
"""So that a thread whose packet is not taken sees that it is to rest."""
RETRY_S = 0.001
BEGUN_S = 3.0
"""For an attack to come to act, on a busy machine."""
OURS = SigningKey.generate(os.urandom)
"""A true key that nobody has listed."""


class Hostile:
    """One attack after another against the role agent's socket."""

    def __init__(self, path: str, kids: list[str], node: str) -> None:
        self.path = path
        self.resting = threading.Event()
        self.acts: collections.Counter[str] = collections.Counter()
        self.epoch = ""
        self.tokens = list(forgeries(kids, node))
        self._threads: list[threading.Thread] = []

    def begin(self, names: list[str]) -> None:
        """Start one after the other, each once the one before acts: a storm let in first would shut out the others."""
        self.resting.clear()
        self.acts.clear()
        for name in names:
            thread = threading.Thread(target=ATTACKS[name], args=(self, name), daemon=True)
            self._threads.append(thread)
            thread.start()
            deadline = time.monotonic() + BEGUN_S
            while not self.acts[name] and time.monotonic() < deadline:
                time.sleep(RETRY_S)

    def rest(self) -> dict[str, int]:
        self.resting.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        return dict(self.acts)

    def each(self, act: Callable[[socket.socket], None]) -> None:
        """``act`` on one connection after the other, as each breaks, until it is time to rest."""
        while not self.resting.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                peer.settimeout(SOCKET_S)
                try:
                    peer.connect(self.path)
                    act(peer)
                except OSError:
                    time.sleep(RETRY_S)

    def send_all(self, peer: socket.socket, requests: Iterator[link.Request], name: str) -> None:
        for request in requests:
            if self.resting.is_set():
                return
            peer.send(link.encode(request))
            self.acts[name] += 1

    def greet(self, peer: socket.socket) -> None:
        """Say HELLO and learn what a well-formed request needs."""
        peer.send(link.encode(link.Hello(0)))
        answer = peer.recv(link.MAX_PACKET_BYTES)
        if not answer:
            raise ConnectionResetError
        welcome = link.decode_reply(answer)
        if isinstance(welcome, link.Welcome):
            self.epoch = welcome.journals[-1].epoch


def storm(hostile: Hostile, name: str) -> None:
    """Connect and leave, as fast as it goes, whether the kernel lets us or not."""
    while not hostile.resting.is_set():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer, contextlib.suppress(OSError):
            hostile.acts[name] += 1
            peer.setblocking(False)
            peer.connect(hostile.path)


def garbage(hostile: Hostile, name: str) -> None:
    """Packets that are none: random, cut short, of no known kind, longer than any may be."""
    chance = random.Random(1)
    whole = link.encode(link.Pull(1, "0" * 36, "audit", 0, 500))

    def act(peer: socket.socket) -> None:
        packets = (
            chance.randbytes(chance.randrange(1, 300)),
            whole[: chance.randrange(1, len(whole))],
            whole.replace(b"pull", b"push"),
            bytes(link.MAX_PACKET_BYTES + chance.randrange(1, 4096)),
            b"\xdf\xff\xff\xff\xff" + whole,
            b"\xdd\xff\xff\xff\xff" * 50,
        )
        peer.send(chance.choice(packets))
        hostile.acts[name] += 1

    hostile.each(act)


def flood(make: Callable[[Hostile], Iterator[link.Request]]) -> Callable[[Hostile, str], None]:
    """Well-formed requests without end, their answers read as fast as they come."""

    def begin(hostile: Hostile, name: str) -> None:
        def act(peer: socket.socket) -> None:
            hostile.greet(peer)
            reader = threading.Thread(target=drain, args=(peer,))
            reader.start()
            try:
                hostile.send_all(peer, make(hostile), name)
            finally:
                peer.shutdown(socket.SHUT_RDWR)
                reader.join()

        hostile.each(act)

    return begin


def drain(peer: socket.socket) -> None:
    while True:
        try:
            if not peer.recv(link.MAX_PACKET_BYTES):
                return
        except TimeoutError:
            continue
        except OSError:
            return


def pulls(hostile: Hostile) -> Iterator[link.Request]:
    for n, event_class in zip(count(1), cycle(("audit", "state", "telemetry", "nonsense"))):
        yield link.Pull(n, hostile.epoch, event_class, -(n % 2) * 2**40, 2**31)


def links(_hostile: Hostile) -> Iterator[link.Request]:
    for n in count(1):
        yield link.Link(n)


def hellos(_hostile: Hostile) -> Iterator[link.Request]:
    for n in count(1):
        yield link.Hello(n)


def helds(hostile: Hostile) -> Iterator[link.Request]:
    for n, token in zip(count(1), cycle(hostile.tokens)):
        yield link.Held(n, "hub", token)


def offers(hostile: Hostile) -> Iterator[link.Request]:
    for n, token, kind in zip(count(1), cycle(hostile.tokens), cycle(("cmd", "issuers", "desired", "nonsense", "cmd"))):
        yield link.Offer(n, kind, "open", token)


def forgeries(kids: list[str], node: str) -> Iterator[bytes]:
    """What is not signed by whom it says: noise, unsigned, signed with our own key, under a listed key's name."""
    claims = {"iss": "staff", "aud": node, "jti": "0", "name": "open", "subject": "0-00", "args": {"door": "0-00"}}
    for number in range(8):
        yield os.urandom(200 + number)
        for typ in (jose.COMMAND, jose.ACK, jose.ISSUERS):
            signed = jose.sign(claims | {"jti": str(number)}, typ, OURS)
            yield signed
            _, payload, signature = signed.split(b".")
            for kid in kids:
                for alg in ("Ed25519", "none", "HS256"):
                    header = _b64(json.dumps({"alg": alg, "typ": typ, "kid": kid}).encode())
                    yield b".".join((header, payload, b"" if alg == "none" else signature))
    listed = Entry(jwk=OURS.public.jwk(), name="staff", scopes=("open",), nodes=("*",), not_before=0, not_after=2**40)
    yield sign_issuers(IssuersDocument(version=2**40, issued_at=1, keys=(listed,)), OURS)


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def stall(hostile: Hostile, name: str) -> None:
    """Ask for all there is and read none of it; stay when nothing more can be sent."""

    def act(peer: socket.socket) -> None:
        hostile.greet(peer)
        with contextlib.suppress(TimeoutError):
            hostile.send_all(peer, pulls(hostile), name)
        hostile.resting.wait()

    hostile.each(act)


def idle(hostile: Hostile, name: str) -> None:
    """Hold a connection and say nothing, or a HELLO and nothing more."""

    def act(peer: socket.socket) -> None:
        hostile.acts[name] += 1
        if hostile.acts[name] % 2:
            hostile.greet(peer)
        hostile.resting.wait()

    hostile.each(act)


def burn(hostile: Hostile, name: str) -> None:
    """Take all the processor there is, beside everything else."""
    child = os.fork()
    if child == 0:
        while True:
            pass
    hostile.acts[name] += 1
    hostile.resting.wait()
    os.kill(child, 9)
    os.waitpid(child, 0)


ATTACKS: dict[str, Callable[[Hostile, str], None]] = {
    "storm": storm,
    "garbage": garbage,
    "pulls": flood(pulls),
    "links": flood(links),
    "hellos": flood(hellos),
    "helds": flood(helds),
    "offers": flood(offers),
    "stall": stall,
    "idle": idle,
    "burn": burn,
}


def main() -> None:
    told = json.loads(sys.argv[1])
    hostile = Hostile(told["socket"], told["kids"], told["node"])
    for line in sys.stdin:
        if line.strip() == "rest":
            sys.stdout.write(json.dumps(hostile.rest()) + "\n")
        else:
            hostile.begin(line.split())
            sys.stdout.write(json.dumps({"begun": line.split()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
