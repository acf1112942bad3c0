"""Whose processes may connect to a local socket: names in a configuration become numbers."""

from __future__ import annotations

import pwd
from collections.abc import Iterable

from edge.errors import ConfigError


def uids_of(users: Iterable[str | int], key: str) -> frozenset[int]:
    """Raises ``ConfigError`` for a name that nobody has here. ``key`` is where it stands in the configuration."""
    found = set()
    for user in users:
        try:
            found.add(user if isinstance(user, int) else pwd.getpwnam(user).pw_uid)
        except KeyError as error:
            raise ConfigError(
                f"{key} names {user!r}, who is no user here", remedy="install the sysusers file, or name another"
            ) from error
    return frozenset(found)
