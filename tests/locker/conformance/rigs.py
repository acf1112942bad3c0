"""A rig for each kind of board that ships with the product. Another package's is named by ``--lock-board``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge.clock import Clock
from locker import kerong_sim, modbus_relay_sim, wkly_sim, x8a_sim
from locker.boards import kerong, modbus_relay, wkly, x8a
from tests.locker.conformance.operations import JAMMED
from tests.locker.conformance.rig import Rig, SerialRig, Trouble
from tests.locker.conformance.rig_gpio import gpio_rig

NOWHERE: Final = Path("/nonexistent")

Maker = Callable[[int, Clock | None], Rig]
"""Builds a rig from the seed of its chances and, where it is not to have its own, a clock."""


def kerong_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Two boards; they say something to an unlock, which nobody may believe."""
    config = kerong_sim.SimConfig(
        NOWHERE, NOWHERE, NOWHERE, boards=2, locks=8, seed=seed, coil_ms=500, unlock_answer="status"
    )
    options = [{"address": address, "locks": 8} for address in (0, 1)]
    return SerialRig(kerong.DRIVER, options, config, kerong_sim.electronics(config), clock=clock)


def x8a_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Asked as a whole; its bits and its bytes say the opposite of each other."""
    config = x8a_sim.SimConfig(NOWHERE, NOWHERE, NOWHERE, boards=2, locks=8, seed=seed, shut_bit=0, shut_single=0x11)
    options = [{"address": address, "locks": 8, "closed_bit": 0} for address in (1, 2)]
    return SerialRig(x8a.DRIVER, options, config, x8a_sim.electronics(config), clock=clock)


def x8a_by_lock_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Asked lock by lock, on boards of 32 ways that hear nothing while they drive a coil."""
    config = x8a_sim.SimConfig(
        NOWHERE, NOWHERE, NOWHERE, boards=2, locks=2, ways=32, seed=seed, shut_bit=1, shut_single=0x00, busy=True
    )
    options = [
        {"address": address, "locks": 2, "asked": "lock", "closed_single": "00", "status_bytes": 4}
        for address in (1, 2)
    ]
    return SerialRig(x8a.DRIVER, options, config, x8a_sim.electronics(config), clock=clock)


def wkly_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Boards that push what their switches do, and such as push again, truly or not, before they answer."""
    config = wkly_sim.SimConfig(NOWHERE, NOWHERE, NOWHERE, boards=2, locks=7, first=30, seed=seed, shut_bit=0)
    options = [{"address": address, "locks": 7, "closed_state": 0, "coil_ms": 300} for address in (30, 31)]
    own = [Trouble("push", how) for how in ({}, {"state": 0}, {"state": 1}, {"state": 255})]
    return SerialRig(wkly.DRIVER, options, config, wkly_sim.electronics(config), clock=clock, own=own)


def modbus_relay_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Boards that time their pulses as they are told, and such as confirm a pulse and give none."""
    config = modbus_relay_sim.SimConfig(NOWHERE, NOWHERE, NOWHERE, boards=2, first=246, seed=seed)
    options = [{"address": address, "closed_bit": 1} for address in (246, 247)]
    own = [Trouble("flash_ignored", {}, JAMMED, opens=False)]
    return SerialRig(modbus_relay.DRIVER, options, config, modbus_relay_sim.electronics(config), clock=clock, own=own)


OURS: Final[dict[str, Maker]] = {
    "kerong": kerong_rig,
    "0x8a": x8a_rig,
    "0x8a-by-lock": x8a_by_lock_rig,
    "wkly": wkly_rig,
    "modbus-relay": modbus_relay_rig,
    "gpio": gpio_rig,
}


def rigs(named: Sequence[str]) -> dict[str, Maker]:
    """Ours, or those that ``--lock-board module:maker`` names."""
    if not named:
        return dict(OURS)
    found: dict[str, Maker] = {}
    for name in named:
        module, _, maker = name.partition(":")
        found[name] = getattr(importlib.import_module(module), maker)
    return found
