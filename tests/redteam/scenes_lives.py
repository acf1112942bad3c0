"""What the attacker tries around restarts, restored databases, rebuilt nodes and floods. Each scene is a promise."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec

from edge import link_socket
from edge.event import SEALED, EventClass
from edge.keys import SigningKey
from edge.keys_file import write_private_key, write_public_key
from edge.link import MAX_PULL_EVENTS, Events, Held, Hello, Offer, OfferAnswer, Pull, Welcome
from edge.link_socket import LinkClient, LinkClosed
from edge.result import Status
from locker.witness_file import read_witness
from tests.crash.bench import Bench
from tests.faults import judge
from tests.faults.births import Child
from tests.faults.store import copied, put_back
from tests.hostile.forgery import batch
from tests.isolation import flood
from tests.redteam.attacker import payload_of
from tests.redteam.cast import INSIDER
from tests.redteam.duel import Duel
from tests.redteam.verdict import set_aside

COURIERS = 3
"""That come to a copied card: enough for its journal to go further than the node's."""
FLOOD_S = 1.0
ATTACKS = ("garbage", "pulls", "offers", "helds", "stall")


async def the_agent_is_killed_between_nonce_and_command(duel: Duel) -> None:
    """And the attacker brings the command to the next life, with everything else that it has recorded."""
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    late = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    kept = {jti: told[-1] for jti, told in duel.attacker.results.items()}
    await another_life(duel)
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


async def another_life(duel: Duel) -> None:
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
    """Another node under the same name, with a cabinet of its own."""

    def __init__(self, duel: Duel, name: str) -> None:
        super().__init__(duel.stage.site.directory / name)
        self._name = name
        self._stage = duel.stage
        self._children: list[Child] = []
        self.courier = duel.stage.courier

    async def begin_anew(self) -> None:
        """Rebuilt: a new role key and an empty store."""
        role = SigningKey.generate(os.urandom)
        self._make(keys=lambda name: not name.startswith("role."))
        write_private_key(self.site.key("role.pem"), role)
        write_public_key(self.site.key("role.jwk"), role.public)
        await self._start()

    async def begin_as_copy(self, files: dict[str, bytes]) -> None:
        """The same keys, and these files of the store."""
        self._make(keys=lambda _: True)
        put_back(self.site.database.parent, files)
        await self._start()

    def _make(self, keys: Callable[[str], bool]) -> None:
        site = self.site
        for each in ("run", "store", "keys"):
            (site.directory / each).mkdir(parents=True)
        for key in self._stage.site.key("").iterdir():
            if keys(key.name):
                (site.key("") / key.name).symlink_to(key)

    async def _start(self) -> None:
        stage, site = self._stage, self.site
        told = stage.site.node_toml.read_text()
        site.node_toml.write_text(told.replace(f"port = {stage.kiosk_port}\n", f"port = {self._port}\n"))
        board = (str(site.port), str(site.sim_control), str(self.log))
        self._children.append(stage.bear_beside("lock-board", f"{self._name}-board", board))
        await stage.until(f"the {self._name}'s board", site.port.is_symlink)
        self._children.append(stage.bear_beside("locker", f"{self._name}-locker", (str(site.node_toml),)))
        await stage.until(f"the {self._name}", lambda: site.socket.exists() or None)

    @property
    def log(self) -> Path:
        return self.site.directory / "witness.jsonl"

    def openings(self) -> int:
        return sum(line["what"] == "opened" for line in read_witness(self.log))

    async def courier_comes(self, number: int) -> Callable[[], Awaitable[bool]]:
        """Whether the courier's door is seen open."""
        call = await self.deposit(f"of-the-{self._name}-{number}")
        assert call.status == 202, call.answer

        async def open_door() -> bool:
            _, view = await self.ask("GET", f"/api/sessions/{call.answer['session']}")
            return bool(view.get("state", "unlocking") != "unlocking")

        return open_door

    async def at_rest(self) -> bool:
        """Whether every door is known and seen shut; one may spring open late, and is shut again."""
        for lock in self.open_locks():
            await self.shut(f"{lock + 1:02d}")
        status, answer = await self.ask("GET", "/api/doors")
        return status == 200 and not {each["state"] for each in answer["doors"]} & {"unknown", "unlocking", "open"}

    async def end(self) -> None:
        for child in reversed(self._children):
            await child.kill()


async def all_is_brought_to_a_rebuilt_node(duel: Duel) -> None:
    """Everything that was ever signed for the one before, and a command with that one's living nonce."""
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    living = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    other = Neighbour(duel, "rebuilt")
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
        opened = other.openings()
        await other.end()
    assert not opened, "a rebuilt node has opened a door for what was signed for the one before"
    await duel.nothing_opened()


async def a_copied_card_lives_beside_the_node(duel: Duel) -> None:
    """The same keys, the journal of a while ago, and the attacker at both sockets. What was signed opens no door of the
    copy; the consumer keeps the node's own history and raises an alarm; the first receipt tells the copy what it is.
    """
    await duel.honest.make_room()
    files = await _copied(duel)
    door = duel.door()
    await duel.honest.open(duel.door())
    await all_held(duel)
    nonce = await duel.nonce(INSIDER, "insider", door)
    living = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    copy = Neighbour(duel, "copy")
    await copy.begin_as_copy(files)
    try:
        link = await _at_home(duel, copy)
        try:
            await _brings_all(duel, link, living)
            assert not copy.openings(), "a copy has opened a door for what was signed for the node"
            await duel.try_all([await _with_a_nonce_of(duel, link, door)])
            await _tells(duel, copy, link)
            await _hears_receipts(duel, link)
        finally:
            await link.close()
    finally:
        await copy.end()
    assert copy.openings() == COURIERS, "a copy has opened a door for what was signed for the node"
    await duel.paid(door, await duel.try_all([living]))
    await all_held(duel)
    await duel.nobody_is_deceived()


async def _copied(duel: Duel) -> dict[str, bytes]:
    """What is on the node's card now; it goes on with another life."""
    stage = duel.stage
    await duel.attacker.step_aside()
    await stage.kill("locker")
    files = {name: told for name, told in copied(stage.site.database.parent).items() if "reserve" not in name}
    await stage.again("locker")
    await duel.attacker.take_the_place()
    return files


async def _at_home(duel: Duel, copy: Neighbour) -> LinkClient:
    """A connection to the copy's socket, once it serves."""
    assert await duel.stage.until_true("the copy to serve", copy.at_rest)
    link = await link_socket.connect(copy.site.socket)
    await link.ask(Hello)
    return link


async def _brings_all(duel: Duel, link: LinkClient, living: bytes) -> None:
    for token in [living, *duel.attacker.recorded("cmd/")]:
        duel.attacker.sent += 1
        await link.ask(lambda n: Offer(n, "cmd", "open", token))  # noqa: B023  asked now


async def _with_a_nonce_of(duel: Duel, link: LinkClient, door: str) -> bytes:
    """An open that the copy would do, for the node."""
    session = cast("Welcome", await link.ask(Hello)).session
    args = {"name": "open", "request": 1}
    asked = duel.signed(INSIDER, "insider", "nonce", door, args=args, session=session)
    answer = cast("OfferAnswer", await link.ask(lambda n: Offer(n, "cmd", "nonce", asked)))
    (told,) = [duel.read(jti, token) for jti, token in answer.results]
    return duel.signed(INSIDER, "insider", "open", door, nonce=str(told.data["nonce"]))


async def _tells(duel: Duel, copy: Neighbour, link: LinkClient) -> None:
    """Couriers come to the copy, until its journal goes further than the node's; the consumer is told all of it."""
    for number in range(COURIERS):
        assert await duel.stage.until_true("the courier to be served", await copy.courier_comes(number))
        assert await duel.stage.until_true("the courier to be gone", copy.at_rest)
    epoch, held = duel.stage.present()[-1].epoch, duel.cursor()[duel.stage.present()[-1].epoch, "audit"]
    told: dict[int, bytes] = {}

    async def goes_on() -> bool:
        after = max(told, default=0)
        answer = cast("Events", await link.ask(lambda n: Pull(n, epoch, "audit", after, MAX_PULL_EVENTS)))
        told.update({msgspec.json.decode(body)["seq"]: body for body in answer.bodies})
        return any(seq > held + 1 and SEALED.encode() in body for seq, body in told.items())

    assert await duel.stage.until_true("the copy to seal what it has", goes_on)
    await duel.attacker.publish(duel.attacker.topics.batch(EventClass.AUDIT), batch(told.values()))
    await duel.nobody_is_deceived()
    apart = {entry.body for entry in duel.stage.entries()}
    rivals = {body for seq, body in told.items() if seq <= held} - apart
    assert rivals, "the copy has told nothing else than the node"
    assert rivals <= set_aside(duel.stage.store), "a copy told its own, and nobody heard"


async def _hears_receipts(duel: Duel, link: LinkClient) -> None:
    """The consumer's word for the node's own rows is no word for the copy's."""
    before = cast("Welcome", await link.ask(Hello)).journals
    for token in duel.attacker.recorded("ack/hub"):
        duel.attacker.sent += 1
        await link.ask(lambda n: Held(n, "hub", token))  # noqa: B023  asked now
    after = cast("Welcome", await link.ask(Hello)).journals
    assert len(after) == len(before) + 1, "a copy goes on in an epoch of which the consumer holds another history"


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
