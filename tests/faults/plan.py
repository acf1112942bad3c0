"""What happens in a run: people's acts, and the faults that befall them, all drawn from one number."""

from __future__ import annotations

import enum
import random

import msgspec

from locker.contract import DoorOpened, UnlockRequested


class Act(enum.Enum):
    """What a person does. Who finds nothing to collect brings a parcel."""

    DEPOSIT = "deposit"
    COLLECT = "collect"
    WRONG = "wrong code"
    USED = "used code"
    COMMAND = "command"


class Moment(enum.Enum):
    """When a fault strikes, as the act goes on. An act that does not come so far is struck at its end."""

    BEFORE = "before"
    ASKED = "asked"
    ANSWERED = "answered"
    OPENED = "opened"
    AFTER = "after"


class Kind(enum.Enum):
    """What may go wrong. Each value is how the report calls it."""

    KILL_LOCKER = "kill -9 locker"
    KILL_AT = "kill -9 locker at a boundary"
    KILL_SYNC = "kill -9 cloud-sync"
    KILL_BROKER = "kill -9 broker"
    KILL_COLLECTOR = "kill -9 collector"
    KILL_STORE = "kill -9 collector's PostgreSQL"
    STOP_LOCKER = "SIGSTOP locker"
    STOP_SYNC = "SIGSTOP cloud-sync"
    STOP_BROKER = "SIGSTOP broker"
    STOP_COLLECTOR = "SIGSTOP collector"
    LINK_LATE = "link: delay"
    LINK_STALLED = "link: stall"
    LINK_CUT = "link: cut"
    LINK_HOLE = "link: half open"
    LINK_TRICKLE = "link: trickle"
    PACKETS = "network: packets lost"
    CABLE = "network: cable out"
    SLOW = "network: HTB limit"
    POWER_CUT = "power cut at the node"
    COLLECTOR_CUT = "power cut at the collector"
    DISK_FULL = "ENOSPC"
    DISK_ERROR = "EIO"
    CLOCK = "wall clock jumps"
    ROLLED_BACK = "node's database restored"
    CONSUMER_LOST = "collector's database restored"
    REPLAY = "messages repeated, out of order"
    FORGE = "messages forged"
    CLONE = "node's card cloned"
    LOCK_STUCK = "lock stuck"
    BUS_NOISE = "answers of the lock board lost"


LASTING = frozenset(
    {
        *(Kind.LINK_LATE, Kind.LINK_STALLED, Kind.LINK_CUT, Kind.LINK_HOLE, Kind.LINK_TRICKLE),
        *(Kind.PACKETS, Kind.CABLE, Kind.SLOW, Kind.DISK_FULL),
    }
)
"""These go on over the acts after them until they are healed."""

NETWORK = frozenset({Kind.PACKETS, Kind.CABLE, Kind.SLOW})
DRAWN = tuple(kind for kind in Kind if kind is not Kind.KILL_STORE)
"""Of every plan; a world with PostgreSQL has some of its faults turned into others."""
DISK = frozenset({Kind.POWER_CUT, Kind.COLLECTOR_CUT, Kind.DISK_FULL, Kind.DISK_ERROR})

BOUNDARIES = (
    *(f"{side}:{what}" for side in ("before", "after") for what in (UnlockRequested.TYPE, DoorOpened.TYPE)),
    *("before:pulse", "after:pulse", "before:ack", "after:ack", "after:parcel.collected"),
)
JUMPS_S = (10 * 365 * 86_400, -10 * 365 * 86_400, 86_400, -86_400, 7200, -7200, 90)


class Powers(msgspec.Struct, frozen=True):
    """What this machine lets the lab do; a fault that it cannot make is left out, and the run says so."""

    network: bool
    disk: bool
    postgres: bool = False

    def allow(self, kind: Kind) -> bool:
        possible = (self.network or kind not in NETWORK) and (self.disk or kind not in DISK)
        return possible and (self.postgres or kind is not Kind.KILL_STORE)


class Fault(msgspec.Struct, frozen=True):
    """``side`` is "node" or "cloud": which link, or whose clock. ``draw`` seeds whatever else it has to choose."""

    kind: Kind
    moment: Moment
    side: str
    draw: int
    lasts: int = 0
    """Acts."""


class Step(msgspec.Struct, frozen=True):
    act: Act
    faults: tuple[Fault, ...]
    pick: int
    """Chooses among the parcels that wait."""


class Plan(msgspec.Struct, frozen=True):
    seed: int
    steps: tuple[Step, ...]
    postgres: bool = False
    """Whether the consumer keeps its events in PostgreSQL; where there is none, in a file after all."""

    def faults(self) -> list[Fault]:
        return [fault for step in self.steps for fault in step.faults]


STEPS = 6
EVERY, POSTGRES = 7, 5
"""One world of seven has its consumer on PostgreSQL: it takes a second longer to begin."""
ACTS = (Act.DEPOSIT,) * 3 + (Act.COLLECT,) * 5 + (Act.WRONG, Act.USED) + (Act.COMMAND,) * 3


def draw_plan(seed: int) -> Plan:
    """The same for every machine: what one lacks is left out when it is played, not when it is drawn."""
    chance = random.Random(seed)
    steps = [_step(chance, Act.DEPOSIT, chance.random() < 0.5)]
    steps += [_step(chance, chance.choice(ACTS), chance.random() < 0.75) for _ in range(STEPS - 1)]
    if seed % EVERY != POSTGRES:
        return Plan(seed, tuple(steps))
    return Plan(seed, tuple(_of_postgres(step) for step in steps), postgres=True)


def _of_postgres(step: Step) -> Step:
    """Its disk is not the lab's: what was to befall the collector's befalls PostgreSQL's processes, or the node's."""
    return msgspec.structs.replace(step, faults=tuple(map(_turned, step.faults)))


HALF_TURNED = frozenset({Kind.KILL_COLLECTOR, Kind.STOP_COLLECTOR})


def _turned(fault: Fault) -> Fault:
    if fault.kind is Kind.COLLECTOR_CUT or (fault.kind in HALF_TURNED and fault.draw % 2):
        return msgspec.structs.replace(fault, kind=Kind.KILL_STORE)
    return msgspec.structs.replace(fault, side="node") if fault.kind in DISK else fault


def _step(chance: random.Random, act: Act, struck: bool) -> Step:
    count = chance.choice((1, 1, 2)) if struck else 0
    return Step(act, tuple(_fault(chance) for _ in range(count)), chance.randrange(1 << 30))


def _fault(chance: random.Random) -> Fault:
    kind = chance.choice(DRAWN)
    return Fault(
        kind,
        chance.choice(list(Moment)),
        chance.choice(("node", "cloud")),
        chance.randrange(1 << 30),
        chance.choice((0, 1, 1, 2)) if kind in LASTING else 0,
    )
