"""What stands in ``enrol.toml``: the enrolment service of an operator who has no certificate authority."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agents.settings import Log, Path, Port
from edge.settings import Settings


class Listen(Settings, frozen=True):
    """Where nodes reach it. The loopback unless the operator says otherwise."""

    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Port = 8884


class AuthorityFiles(Settings, frozen=True):
    """The files of ``lastmile enrol init``. The root's own key is not among them: it lies in a safe."""

    root: Path
    certificate: Path
    key: Path
    """P-256, private: readable by the service alone."""


class OperatorFiles(Settings, frozen=True):
    """What every node is given; all of it public, and read again for every enrolment."""

    roots: Annotated[tuple[Path, ...], msgspec.Meta(min_length=1, max_length=2)]
    """Ed25519, public: who signs the issuers document."""
    issuers: Path
    hub: Path
    """X25519, public: pickup codes are sealed to it."""


class EnrolSettings(Settings, frozen=True):
    """``enrol.toml``."""

    database: Path
    hosts: Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)]
    """The names or addresses under which nodes reach it; its own certificate is made for them."""
    authority: AuthorityFiles
    operator: OperatorFiles
    nodes_file: Path
    """Written: the list of nodes for collectors."""
    revoked_file: Path
    """Written: the revocation list for the broker (mosquitto's ``crlfile``)."""
    listen: Listen = Listen()
    days: Annotated[float, msgspec.Meta(ge=1, le=825)] = 90
    """For which a node's certificate is good: at least three times the longest time that a node may be offline."""
    claim_hours: Annotated[float, msgspec.Meta(gt=0, le=720)] = 72
    health: Path = ""
    log: Log = Log()
