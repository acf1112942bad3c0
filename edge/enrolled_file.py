"""What enrolment said to a node beside its keys. Read by role agents, so nothing of X.509 is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from edge.atomic_file import write_whole
from edge.errors import ConfigError


class EnrolledFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``enrolled.json``."""

    lowest_issuers: Annotated[int, msgspec.Meta(ge=1)]
    """No issuers document with a lower version may be believed."""


def write_enrolled(path: Path, said: EnrolledFile) -> None:
    """Raises ``StoreError``."""
    write_whole(path, msgspec.json.encode(said) + b"\n", mode=0o644)


def read_enrolled(path: Path) -> EnrolledFile:
    """Raises ``ConfigError`` naming the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=EnrolledFile)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name the file that enrolment wrote") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}", remedy="enrol again with a new claim") from error
