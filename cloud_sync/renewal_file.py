"""A key and its certificate in one file, and the next ones beside it: one rename puts both in the other's place."""

from __future__ import annotations

from pathlib import Path

from edge import log
from edge.atomic_file import sync_directory, write_whole
from edge.certificate import Certificate, TlsKey, read_chain, require_usable
from edge.errors import ConfigError, StoreError

NEXT = ".next"
"""Added to the name of the pair's file."""

_log = log.get_logger("cloud_sync.renewal")


class PairFile:
    """``cloud_sync.renewal_asyncio.Pair`` for ``node`` in the PEM file ``path``."""

    def __init__(self, path: Path, node: str) -> None:
        self.path = path
        self.next_path = path.with_name(path.name + NEXT)
        self._node = node

    def present(self) -> Certificate:
        return self._checked(self.path)

    def next(self) -> Certificate | None:
        if not self.next_path.exists():
            return None
        try:
            return self._checked(self.next_path)
        except ConfigError as error:
            _log.error("renewal.unusable", what=error.what, remedy="it is thrown away")
            self.drop_next()
            return None

    def keep_next(self, key: TlsKey, chain: str) -> None:
        require_usable(read_chain(chain.encode()), key, self._node, None)
        write_whole(self.next_path, key.pem() + chain.encode())

    def use_next(self) -> None:
        try:
            self.next_path.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}", remedy="let this user write its directory") from error

    def drop_next(self) -> None:
        try:
            self.next_path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("renewal.not_dropped", what=f"{self.next_path}: {error.strerror}", remedy="remove the file")

    def _checked(self, path: Path) -> Certificate:
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
        return require_usable(read_chain(pem), TlsKey.parse(pem), self._node, None)
