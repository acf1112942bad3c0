"""Carries out what a plan has drawn: one method for each kind of fault, and how each is healed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.births import set_clock
from tests.faults.clone import Clone
from tests.faults.hostile import Hostile
from tests.faults.plan import BOUNDARIES, JUMPS_S, Fault, Kind, Plan
from tests.faults.relay import Way
from tests.faults.store import copied, put_back
from tests.faults.yard import Yard

LATE_DEATH_S = 0.3
"""An error that met the journal's own upkeep ends the agent a moment after the disk is well again."""

Heal = Callable[[], Awaitable[None]]

WAYS = {
    Kind.LINK_LATE: Way.LATE,
    Kind.LINK_STALLED: Way.STALLED,
    Kind.LINK_CUT: Way.CUT,
    Kind.LINK_HOLE: Way.HOLE,
    Kind.LINK_TRICKLE: Way.TRICKLE,
}
BEHIND = {"node": "cloud-sync", "cloud": "collector"}
"""Whose link is whose."""


class Strikes:
    """``done`` counts the faults that were made, ``left_out`` those that this machine cannot make."""

    def __init__(self, yard: Yard, hostile: Hostile, plan: Plan) -> None:
        self._yard = yard
        self._hostile = hostile
        self._wants_copies = {fault.kind for fault in plan.faults()}
        self.done: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.forgotten: set[str] = set()
        """Parcels that a restored database does not remember as they are."""
        self.consumer_lost = False
        self._lasting: list[tuple[int, Heal]] = []
        self._node_copy: dict[str, bytes] = {}
        self._acts: dict[Kind, Callable[[Fault, random.Random], Awaitable[None]]] = {
            Kind.KILL_LOCKER: self._kill("locker"),
            Kind.KILL_AT: self._kill_at,
            Kind.KILL_SYNC: self._kill("cloud-sync"),
            Kind.KILL_BROKER: self._kill_broker,
            Kind.KILL_COLLECTOR: self._kill("collector"),
            Kind.KILL_STORE: self._kill_store,
            Kind.STOP_LOCKER: self._stop("locker"),
            Kind.STOP_SYNC: self._stop("cloud-sync"),
            Kind.STOP_BROKER: self._stop("broker"),
            Kind.STOP_COLLECTOR: self._stop("collector"),
            **dict.fromkeys(WAYS, self._link),
            Kind.PACKETS: self._network,
            Kind.CABLE: self._network,
            Kind.SLOW: self._network,
            Kind.POWER_CUT: self._power_cut,
            Kind.COLLECTOR_CUT: self._collector_cut,
            Kind.DISK_FULL: self._disk_full,
            Kind.DISK_ERROR: self._disk_error,
            Kind.CLOCK: self._clock,
            Kind.ROLLED_BACK: self._roll_back,
            Kind.CONSUMER_LOST: self._lose_rows,
            Kind.CLONE: self._clone,
            Kind.REPLAY: self._replay,
            Kind.FORGE: self._forge,
            Kind.LOCK_STUCK: self._door("stuck", pulses=3),
            Kind.BUS_NOISE: self._door("lost_reply", p=0.3),
        }

    async def strike(self, fault: Fault) -> None:
        if not self._yard.ground.powers.allow(fault.kind):
            self.left_out[fault.kind.value] += 1
            return
        self.done[fault.kind.value] += 1
        await self._acts[fault.kind](fault, random.Random(fault.draw))

    async def take_copies(self) -> None:
        """Before an act, while nothing is under way: what a person might put back later."""
        yard = self._yard
        if Kind.ROLLED_BACK in self._wants_copies and not yard.struck["disk"]:
            await yard.children["locker"].halt()
            self._node_copy = self._copy_of_node()
            await self._go_on()
        if Kind.CONSUMER_LOST in self._wants_copies:
            await yard.children["collector"].halt()
            yard.store.copy()
            yard.children["collector"].signal(signal.SIGCONT)

    async def after_act(self) -> None:
        """Heal what has lasted long enough."""
        due = [heal for left, heal in self._lasting if left <= 0]
        self._lasting = [(left - 1, heal) for left, heal in self._lasting if left > 0]
        for heal in due:
            await heal()

    async def heal_all(self) -> None:
        while self._lasting:  # what is healed may count as struck for one more act
            lasting, self._lasting = self._lasting, []
            for _, heal in lasting:
                await heal()
        if self._yard.struck["boundary"]:
            await self._yard.kill("locker")
            await self._yard.again("locker")

    # -- processes -----------------------------------------------------------------------------------------------------

    def _kill(self, name: str) -> Callable[[Fault, random.Random], Awaitable[None]]:
        async def kill(_: Fault, chance: random.Random) -> None:
            await self._yard.kill(name)
            await asyncio.sleep(chance.uniform(0.0, 0.2))
            await self._yard.again(name)
            if name != "collector":
                self._presence_late()

        return kill

    async def _kill_at(self, _: Fault, chance: random.Random) -> None:
        """Two kills: one now, and one of the life after it, where it passes the boundary."""
        self._yard.trap(chance.choice(BOUNDARIES), chance.choice((1, 1, 2)))
        await self._kill("locker")(_, chance)

    async def _kill_broker(self, _: Fault, chance: random.Random) -> None:
        yard = self._yard
        yard.strike("broker")
        yard.broker.stop()
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        yard.broker.start()
        await self._reconnected("broker")

    async def _kill_store(self, _: Fault, chance: random.Random) -> None:
        self._yard.strike("postgres")
        await self._yard.kill_store(chance.choice(("server", "all", "backend")))
        await self._reconnected("postgres")

    def _stop(self, name: str) -> Callable[[Fault, random.Random], Awaitable[None]]:
        async def stop(_: Fault, chance: random.Random) -> None:
            yard = self._yard
            yard.strike(name)
            self._signal(name, signal.SIGSTOP)
            await asyncio.sleep(chance.choice((0.05, 0.3, 1.0)))
            self._signal(name, signal.SIGCONT)
            if name == "locker":
                await yard.serving()
            yard.calm(name)

        return stop

    def _signal(self, name: str, number: signal.Signals) -> None:
        if name == "broker":
            assert self._yard.broker._process is not None
            self._yard.broker._process.send_signal(number)
        else:
            self._yard.children[name].signal(number)

    def _presence_late(self) -> None:
        """After a restart the broker says for a moment what was true before it."""
        self._yard.strike("presence")
        self._last(1, self._calming("presence"))

    # -- links ---------------------------------------------------------------------------------------------------------

    async def _link(self, fault: Fault, chance: random.Random) -> None:
        yard, name = self._yard, f"link-{fault.side}"
        yard.strike(name)
        relay = yard.relays[fault.side]
        relay.become(WAYS[fault.kind], chance.uniform(0.02, 0.4))
        forget_dead = chance.random() < 0.2

        async def heal() -> None:
            relay.heal(forget_dead=forget_dead)
            await self._reconnected(name)

        self._last(fault.lasts, heal)

    async def _network(self, fault: Fault, chance: random.Random) -> None:
        yard, name = self._yard, f"link-{fault.side}"
        yard.strike(name)
        network = yard.ground.networks[fault.side]
        if fault.kind is Kind.SLOW:
            await network.heal()
            await network.slow(chance.choice((16, 64, 256)))
        else:
            await network.lose(100 if fault.kind is Kind.CABLE else chance.choice((10, 30)))

        async def heal() -> None:
            await network.heal()
            await self._reconnected(name)

        self._last(fault.lasts, heal)

    async def _reconnected(self, name: str) -> None:
        """A link counts as struck until a moment after it is healed: whoever lost it has to come back first."""

        self._last(1, self._calming(name))

    def _calming(self, name: str) -> Heal:
        async def calm() -> None:
            self._yard.calm(name)

        return calm

    # -- disks ---------------------------------------------------------------------------------------------------------

    async def _power_cut(self, _: Fault, chance: random.Random) -> None:
        yard = self._yard
        await yard.kill("locker", "cloud-sync")
        yard.disks["node"].call("cut", survival=chance.choice((0.0, 0.3, 0.9)))
        await yard.again("locker", "cloud-sync")
        self._presence_late()

    async def _collector_cut(self, _: Fault, chance: random.Random) -> None:
        yard = self._yard
        await yard.kill("collector")
        yard.disks["collector"].call("cut", survival=chance.choice((0.0, 0.3, 0.9)))
        await yard.again("collector")

    async def _disk_full(self, fault: Fault, _: random.Random) -> None:
        """Whoever brings a parcel may be refused from now on: it takes the locker a while to trust the space again."""
        if fault.side == "node":
            self._yard.strike("full")
        await self._disk(fault.lasts, fault.side, "fill")

    async def _disk_error(self, fault: Fault, chance: random.Random) -> None:
        call, times = chance.choice(("write", "sync", "sync")), chance.choice((1, 1, 3))
        await self._disk(0, fault.side, "fail", call=call, times=times)

    async def _disk(self, lasts: int, side: str, do: str, **more: Any) -> None:
        yard = self._yard
        disk = yard.disks["node" if side == "node" else "collector"]
        name = {"fill": "space", "fail": "disk"}[do] if side == "node" else "disk-collector"
        yard.strike(name)
        disk.call(do, **more)

        async def heal() -> None:
            disk.call("heal")
            if side == "node":
                await asyncio.sleep(LATE_DEATH_S)
                await yard.serving()
            await self._reconnected(name)

        self._last(lasts, heal)

    # -- time and copies -----------------------------------------------------------------------------------------------

    async def _clock(self, fault: Fault, chance: random.Random) -> None:
        """Not a fault that an act may fail of: nothing here may depend on the wall clock."""
        jump = chance.choice(JUMPS_S)
        for name in ("locker", "cloud-sync") if fault.side == "node" else ("collector",):
            set_clock(self._yard.clocks[name], jump)

    async def _roll_back(self, _: Fault, chance: random.Random) -> None:
        """Its database comes back as it was before the present act; every other time the anchor does too."""
        yard, place = self._yard, self._yard.site.database.parent
        await yard.children["locker"].halt()
        await yard.read()
        await yard.kill("locker")
        if not self._node_copy:
            await yard.again("locker")
            return
        yard.went_back = True
        files = dict(self._node_copy)
        if chance.random() < 0.5:
            files |= {path.name: path.read_bytes() for path in place.glob("*.anchor")}
        put_back(place, files)
        await yard.again("locker")
        there = {(entry.epoch, entry.digest) for entry in await yard.read()}
        gone = (entry.event["data"] for entry in yard.entries() if (entry.epoch, entry.digest) not in there)
        self.forgotten |= {data["parcel"] for data in gone if data.get("parcel")}
        self._presence_late()

    async def _clone(self, _: Fault, chance: random.Random) -> None:
        """Another machine with a copy of the card serves for a while, under the same name at the same broker."""
        yard = self._yard
        yard.strike("link-node")
        await yard.children["locker"].halt()
        files = self._copy_of_node()
        await self._go_on()
        number = self.done[Kind.CLONE.value]
        yard.foreign += await Clone(yard, number).live(files, deposits=chance.choice((0, 1, 2)))
        await self._reconnected("link-node")

    async def _go_on(self) -> None:
        """SIGCONT to the locker agent; what its board answered meanwhile was too late, so it has to ask again."""
        self._yard.children["locker"].signal(signal.SIGCONT)
        await self._yard.serving()

    def _copy_of_node(self) -> dict[str, bytes]:
        files = copied(self._yard.site.database.parent)
        return {name: content for name, content in files.items() if "reserve" not in name}

    async def _lose_rows(self, _: Fault, __: random.Random) -> None:
        yard = self._yard
        await yard.kill("collector")
        self.consumer_lost |= yard.store.restore()
        await yard.again("collector")

    # -- the broker is hostile -----------------------------------------------------------------------------------------

    async def _replay(self, _: Fault, chance: random.Random) -> None:
        await self._hostile.replay(chance)

    async def _forge(self, _: Fault, chance: random.Random) -> None:
        await self._hostile.forge(chance)

    # -- doors ---------------------------------------------------------------------------------------------------------

    def _door(self, kind: str, **more: Any) -> Callable[[Fault, random.Random], Awaitable[None]]:
        async def strike(_: Fault, __: random.Random) -> None:
            yard = self._yard
            yard.strike("door")
            if kind == "stuck":
                for lock in range(16):
                    yard.board.call("fault", kind=kind, board=0, lock=lock, **more)
            else:
                yard.board.call("fault", kind=kind, **more)

            async def heal() -> None:
                yard.board.call("heal")
                yard.calm("door")

            self._last(0, heal)

        return strike

    def _last(self, acts: int, heal: Heal) -> None:
        self._lasting.append((acts, heal))
