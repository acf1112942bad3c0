"""One world of the red team: the lab's processes with this cast, some of their waits shortened, any check taken out."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agents.settings import Broker as BrokerAt
from agents.settings import IssuerSettings, KnownNode
from agents.site import Site
from edge import link_socket, nonce
from edge.identity import identify
from edge.keys_file import read_verify_key
from locker import announcing
from tests.crash.nursery import preload
from tests.faults import births
from tests.faults.plan import Powers
from tests.faults.yard import Ground, Yard
from tests.hostile.removals import without
from tests.redteam import cast

NONCE_S = 6.0
"""Instead of a minute, so that one can be seen to expire."""
OPENINGS_A_MINUTE = 1000
"""Instead of 3: the honest people of a run have many doors opened by command."""
OFFERS_PER_S = 2000.0
"""Instead of 20: the pace that spares the disk would only make a run longer."""


def hurry() -> None:
    announced: Any = announcing
    announced.REMOTE_CAPS = ((60.0, OPENINGS_A_MINUTE),)
    given: Any = nonce
    given.LIFETIME_S = NONCE_S
    server: Any = link_socket
    server.COMMITS_PER_S = server.ACKS_PER_S = OFFERS_PER_S


def prepare(directory: Path, check: str = "", mutant: str = "") -> Ground:
    """Before the first thread and the first event loop. Every process of the product lacks ``check``; we do not.

    ``mutant`` is a module of ``tests.mutants``.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "synchronised").touch()
    preload()
    if mutant:
        importlib.import_module(f"tests.mutants.{mutant}").apply()
    with contextlib.ExitStack() as weakened:
        births.hurry(directory / "synchronised")
        hurry()
        if check:
            weakened.enter_context(without(check))
        nursery = births.Nursery()
    return Ground(directory, nursery, Powers(network=False, disk=False), {})


class Stage(Yard):
    """A yard whose people and keys are those of ``cast``. Its names are those that ``tests.hostile.removals`` knows."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground, seed)
        self.site = Site(ground.directory, "acme", "locker-7")
        self.contradicted = False
        """Whether a true consumer has signed for another history: the node may then part from its own."""

    def _settings(self) -> None:
        cast.cast(self.site)
        super()._settings()

    def person(self, name: str) -> IssuerSettings:
        """What an honest person keeps on their machine."""
        site = self.site
        return IssuerSettings(
            name=name,
            key=f"keys/{name}.pem",
            outbox=f"{name}.db",
            broker=BrokerAt(host="127.0.0.1", port=self.broker.port, protocol="5", keepalive=5),
            nodes=(KnownNode(tenant=site.tenant, name=site.name, role_key="keys/role.jwk"),),
        )

    @property
    def audience(self) -> str:
        site = self.site
        return identify(site.tenant, site.name, read_verify_key(site.key("role.jwk"))).audience

    def opened(self) -> Iterator[str]:
        """The door of every opening that physically happened."""
        for line in self.witness():
            if line["what"] == "opened":
                yield f"{line['lock'] + 1:02d}"
