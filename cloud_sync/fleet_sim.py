"""A fleet of simulated nodes in one process: each runs the product's own cloud-sync, on a light journal and wire."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from cloud_sync.client_sim import SimBroker
from cloud_sync.node_sim import SimAgent
from cloud_sync.pump import REPEAT_AFTER, Pacing
from cloud_sync.service import CloudSync
from cloud_sync.session import LinkState
from edge.clock import Clock
from edge.identity import identify
from edge.issuers import Issuers
from edge.keys import SigningKey

DOORS = 16
"""Of each simulated locker."""
SEED = 1


class FleetSettings(msgspec.Struct, frozen=True):
    """``certificates`` holds ``{node}.pem`` and ``{node}.key`` for every node beside ``ca.pem``.

    ``events_per_minute`` is what each node tells; ``ramp_s`` over how many seconds the nodes start;
    ``repeat_s`` is ``Pacing.repeat_after``.
    """

    host: str
    port: int
    tenant: str
    names: Sequence[str]
    certificates: Path | None
    consumer: str = "hub"
    events_per_minute: float = 1.0
    ramp_s: float = 10.0
    repeat_s: float = REPEAT_AFTER
    keepalive_s: int = 60


class Standing(msgspec.Struct, frozen=True):
    """The fleet at one moment, ``at`` in running seconds. ``states`` counts nodes by the state of their link."""

    at: float
    nodes: int
    online: int
    states: dict[str, int]
    handshakes: int
    produced: int
    acked: int
    refused: int


class Fleet:
    """Runs until cancelled."""

    def __init__(self, settings: FleetSettings, role_key: SigningKey, issuers: Issuers, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = random.Random(SEED)
        self._telling = asyncio.Event()
        self._telling.set()
        self.handshakes = 0
        self._nodes = [self._node(name, role_key, issuers) for name in settings.names]

    @property
    def standing(self) -> Standing:
        states = Counter(sync.state for _, sync in self._nodes)
        agents = [agent for agent, _ in self._nodes]
        return Standing(
            at=self._clock.mono(),
            nodes=len(agents),
            online=states[LinkState.ONLINE],
            states={state.value: count for state, count in states.items()},
            handshakes=self.handshakes,
            produced=sum(agent.produced for agent in agents),
            acked=sum(agent.acked for agent in agents),
            refused=sum(agent.refused for agent in agents),
        )

    def produced(self) -> dict[str, int]:
        """Audit events by node: the witness of what a consumer has to hold in the end."""
        return {agent.identity.node: agent.produced for agent, _ in self._nodes}

    def hush(self) -> None:
        """Tell nothing new; what was told is still carried."""
        self._telling.clear()

    async def run(self) -> None:
        settings = self._settings
        async with asyncio.TaskGroup() as tasks:
            for at, (agent, sync) in enumerate(self._nodes):
                delay = settings.ramp_s * at / len(self._nodes)
                tasks.create_task(self._start(sync, delay), name=agent.identity.node)
                if settings.events_per_minute > 0:
                    tasks.create_task(self._live(agent, delay), name=f"{agent.identity.node}-doors")

    async def _start(self, sync: CloudSync, delay: float) -> None:
        await self._clock.sleep(delay)
        await sync.run()

    async def _live(self, agent: SimAgent, delay: float) -> None:
        """Doors open now and then, evenly spread over the fleet."""
        period = 60.0 / self._settings.events_per_minute
        await self._clock.sleep(delay)
        while True:
            await self._clock.sleep(self._rng.random() * 2 * period)
            await self._telling.wait()
            agent.tell(f"{self._rng.randrange(DOORS) + 1:02d}")

    def _node(self, name: str, role_key: SigningKey, issuers: Issuers) -> tuple[SimAgent, CloudSync]:
        settings = self._settings
        identity = identify(settings.tenant, name, role_key.public)
        agent = SimAgent(identity, role_key, issuers, settings.consumer, self._clock, self._rng.randbytes)
        broker = SimBroker(
            settings.host,
            settings.port,
            identity.node,
            self._context(identity.node),
            keepalive_s=settings.keepalive_s,
            shaken=self._shaken,
        )

        async def open_agent() -> SimAgent:
            return agent

        sync = CloudSync(
            open_agent=open_agent,
            broker=broker,
            pacing=Pacing(repeat_after=settings.repeat_s),
            clock=self._clock,
            random=self._rng.random,
            new_token=lambda: self._rng.randbytes(8).hex(),
        )
        return agent, sync

    def _shaken(self) -> None:
        self.handshakes += 1

    def _context(self, node: str) -> Callable[[], ssl.SSLContext | None]:
        folder = self._settings.certificates
        if folder is None:
            return lambda: None

        def made() -> ssl.SSLContext:
            # Made for each connection and let go: ten thousand that live on would be a gigabyte.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(folder / "ca.pem")
            context.load_cert_chain(folder / f"{node}.pem", folder / f"{node}.key")
            return context

        return made


def names(count: int) -> Iterator[str]:
    """``sim-00000`` and on."""
    return (f"sim-{n:05d}" for n in range(count))
