"""An operator's certificate authority for a test, made by the product's own, and pairs from it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cloud_sync.authority import Authority, make_issuing, make_root
from edge.certificate import TlsKey, read_request
from edge.tls_socket import TlsFiles


class Certifier:
    """Everything in one directory. ``wall`` is its clock, the machine's where none is given."""

    def __init__(self, folder: Path, wall: float | None = None, days: float = 90.0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.wall = time.time() if wall is None else wall
        self.days = days
        root, self.root_pem = make_root("test", os.urandom, self.wall)
        key, issuing = make_issuing("test", root, self.root_pem, os.urandom, self.wall)
        self.authority = Authority(key, issuing, self.root_pem)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.root_pem)

    def client(self, name: str) -> TlsFiles:
        """Of a node, a consumer or an issuer."""
        key = TlsKey.generate(os.urandom)
        request = read_request(key.request(name))
        return self._pair(name, key, self.authority.client(request, random=os.urandom, wall=self.wall, days=self.days))

    def server(
        self,
        *hosts: str,
        name: str = "broker",
        days: float = 90.0,
        wall: float | None = None,
    ) -> TlsFiles:
        """For this machine where no host is named."""
        key, at = TlsKey.generate(os.urandom), self.wall if wall is None else wall
        there = hosts or ("localhost", "127.0.0.1")
        return self._pair(name, key, self.authority.server(key, there, random=os.urandom, wall=at, days=days))

    def _pair(self, name: str, key: TlsKey, chain: bytes) -> TlsFiles:
        """Both in one file, as a node keeps them; the key also in one of its own, as brokers and fleets want it."""
        pair, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pair.write_bytes(key.pem() + chain)
        private.write_bytes(key.pem())
        return TlsFiles(str(self.ca), str(pair), str(private))
