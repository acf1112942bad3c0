"""Who a node is: tenant, name, and the thumbprint of its role key."""

from __future__ import annotations

import re

import msgspec

from edge.errors import ConfigError
from edge.keys import VerifyKey

NAME = r"[a-z0-9-]{1,48}"
"""Of a tenant, and of a node within it. Without ``_ + # /``: it stands in topics, client ids and certificates."""

NAME_PATTERN = re.compile(NAME)
_NODE = re.compile(rf"({NAME})_({NAME})")


class Identity(msgspec.Struct, frozen=True):
    """One node as others address it. ``instance`` changes when the node is rebuilt with a new role key."""

    tenant: str
    name: str
    instance: str

    @property
    def node(self) -> str:
        """Certificate name, client id and topic level: unique where tenants share a broker."""
        return f"{self.tenant}_{self.name}"

    @property
    def audience(self) -> str:
        """The ``aud`` of everything signed for this node, so that a rebuilt one honours nothing older."""
        return f"{self.node}/{self.instance}"

    @property
    def source(self) -> str:
        """The ``source`` of its CloudEvents."""
        return f"/lm/v1/{self.tenant}/{self.node}"


def identify(tenant: str, name: str, role_key: VerifyKey) -> Identity:
    """Raises ``ConfigError`` for a tenant or name that cannot stand in a topic."""
    for what, value in (("tenant", tenant), ("name", name)):
        if not NAME_PATTERN.fullmatch(value):
            raise ConfigError(f"{what} {value!r}", remedy="use 1 to 48 of a-z, 0-9 and -")
    return Identity(tenant, name, role_key.kid)


def split_node(node: str) -> tuple[str, str]:
    """Tenant and name. Raises ``ConfigError``."""
    match = _NODE.fullmatch(node)
    if match is None:
        raise ConfigError(f"node {node!r}", remedy="write tenant_name, each 1 to 48 of a-z, 0-9 and -")
    return match[1], match[2]
