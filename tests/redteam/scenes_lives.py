"""What the attacker tries around restarts, restored databases, rebuilt nodes and floods. Each scene is a promise."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

from edge.keys import SigningKey
from edge.keys_file import write_private_key, write_public_key
from edge.link_socket import LinkClosed
from edge.result import Status
from tests.crash.bench import Bench
from tests.faults import judge
from tests.faults.births import Child
from tests.faults.store import copied, put_back
from tests.isolation import flood
from tests.redteam.attacker import payload_of
from tests.redteam.cast import INSIDER
from tests.redteam.duel import Duel

FLOOD_S = 1.0
ATTACKS = ("garbage", "pulls", "offers", "helds", "stall")


async def the_agent_is_killed_between_nonce_and_command(duel: Duel) -> None:
    """And the attacker brings the command to the next life, with everything else that it has recorded."""
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    late = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    kept = {jti: told[-1] for jti, told in duel.attacker.results.items()}
    await _another_life(duel)
    (told,) = await duel.try_all([late])
    assert (told.status, told.reason) == (Status.REJECTED, "unknown_nonce"), told
    recorded = duel.attacker.recorded("cmd/")
    duel.chance.shuffle(recorded)
    for token in recorded:
        claims = payload_of(token)
        for jti, answer in (await duel.attacker.offer(token)).items():
            if claims["name"] != "nonce" and jti in kept:
                assert answer == kept[jti], f"after a restart {claims['name']} was answered otherwise"
    await duel.nothing_opened()
    await duel.honest.open(duel.door())


async def _another_life(duel: Duel) -> None:
    await duel.attacker.step_aside()
    await duel.stage.kill("locker")
    await duel.stage.again("locker")
    await duel.attacker.take_the_place()


async def an_older_database_is_put_back(duel: Duel) -> None:
    """While the attacker has every ack and command that came after it. No door opens again, and all that the consumer
    held it still holds.
    """
    stage, attacker, honest = duel.stage, duel.attacker, duel.honest
    await stage.kill("locker")
    place = stage.site.database.parent
    files = {name: told for name, told in copied(place).items() if "reserve" not in name}
    await attacker.step_aside()
    await stage.again("locker")
    await attacker.take_the_place()
    door = duel.door()
    seen = len(attacker.heard)
    nonce = await duel.nonce(INSIDER, "insider", door)
    unsent = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    await honest.open(door)
    await honest.open(duel.door())
    await all_held(duel)
    after = [each for each in attacker.heard[seen:] if "/cmd/" in each.topic or "/ack/" in each.topic]
    await attacker.step_aside()
    await stage.read()
    await stage.kill("locker")
    stage.went_back = True
    put_back(place, files)
    await stage.again("locker")
    await attacker.take_the_place()
    await duel.try_all([unsent])
    duel.chance.shuffle(after)
    for message in after:
        if "/ack/" in message.topic:
            with contextlib.suppress(LinkClosed):
                await attacker.acknowledge(message.payload)
        else:
            told = await duel.try_all([message.payload])
            assert all(each.status is Status.REJECTED for each in told), told
    await duel.nothing_opened()
    await honest.open(duel.door())


async def all_held(duel: Duel, patience: float = 30.0) -> None:
    """The consumer holds the node's whole audit.

    What was written into an epoch after an older database had been put back, before the node knew of it, is disputed
    there: the consumer holds the other history, and has raised an alarm.
    """

    def held() -> bool:
        try:
            now, tables = duel.stage.present(), duel.stage.tables()
        except sqlite3.Error:
            return False
        return bool(now) and not judge.unheld(now, tables) and not list(judge.untold_forks(now, tables))

    await duel.until("the consumer to hold the node's whole audit", held, patience)


class Neighbour(Bench):
    """A node that was rebuilt under the same name: a new role key, an empty store, a cabinet of its own."""

    def __init__(self, duel: Duel) -> None:
        super().__init__(duel.stage.site.directory / "rebuilt")
        self._stage = duel.stage
        self._children: list[Child] = []

    async def begin_anew(self) -> None:
        stage, site = self._stage, self.site
        for each in ("run", "store", "keys"):
            (site.directory / each).mkdir(parents=True)
        for key in stage.site.key("").iterdir():
            if not key.name.startswith("role."):
                (site.key("") / key.name).symlink_to(key)
        role = SigningKey.generate(os.urandom)
        write_private_key(site.key("role.pem"), role)
        write_public_key(site.key("role.jwk"), role.public)
        told = stage.site.node_toml.read_text()
        site.node_toml.write_text(told.replace(f"port = {stage.kiosk_port}\n", f"port = {self._port}\n"))
        board = (str(site.port), str(site.sim_control), str(self.log))
        self._children.append(stage.bear_beside("lock-board", "rebuilt-board", board))
        await stage.until("the rebuilt node's board", site.port.is_symlink)
        self._children.append(stage.bear_beside("locker", "rebuilt-locker", (str(site.node_toml),)))
        await stage.until("the rebuilt node", lambda: site.socket.exists() or None)

    @property
    def log(self) -> Path:
        return self.site.directory / "witness.jsonl"

    async def end(self) -> None:
        for child in reversed(self._children):
            await child.kill()


async def all_is_brought_to_a_rebuilt_node(duel: Duel) -> None:
    """Everything that was ever signed for the one before, and a command with that one's living nonce."""
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    living = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    other = Neighbour(duel)
    await other.begin_anew()
    site, true_site = other.site, duel.stage.site
    try:
        await duel.attacker.step_aside()
        duel.stage.site = site
        await duel.attacker.take_the_place()
        for token in [living, *duel.attacker.recorded("cmd/")]:
            assert await duel.try_all([token]) == [], "a rebuilt node has answered what was signed for the one before"
        for token in duel.attacker.recorded("desired"):
            await duel.try_all([token], kind="desired")
        for token in duel.attacker.recorded("ack/hub"):
            assert await duel.attacker.acknowledge(token) == "wrong_audience"
    finally:
        await duel.attacker.step_aside()
        duel.stage.site = true_site
        await duel.attacker.take_the_place()
        opened = "opened" in other.log.read_text() if other.log.exists() else False
        await other.end()
    assert not opened, "a rebuilt node has opened a door for what was signed for the one before"
    await duel.nothing_opened()


async def the_socket_is_flooded(duel: Duel) -> None:
    """Garbage, half packets, requests without end and peers that never read, while a customer comes."""
    site = duel.stage.site
    hostile = flood.Hostile(str(site.socket), [duel.role.kid], duel.stage.audience)
    chosen = duel.chance.sample(ATTACKS, 3)
    loop = asyncio.get_running_loop()
    await duel.attacker.step_aside()
    await loop.run_in_executor(None, hostile.begin, chosen)
    try:
        await duel.honest.deposit()
        await duel.honest.collect()
    finally:
        await asyncio.sleep(FLOOD_S / 10)
        acts = await loop.run_in_executor(None, hostile.rest)
        await duel.attacker.take_the_place()
    duel.attacker.sent += sum(acts.values())
    await duel.honest.open(duel.door())
