"""A certificate is renewed in two phases: whatever fails or dies, the node has one that its broker takes."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agents.renewal import keep_certificate
from agents.settings import NodeSettings
from cloud_sync.authority import Revocation
from cloud_sync.ports import BrokerConnection, BrokerLost, Will
from cloud_sync.renewal import (
    ANEW_S,
    CHECK_S,
    SHARE,
    SPREAD,
    TRANSITIONS,
    TRIALS,
    RenewalInput,
    RenewalState,
    after,
    alarming,
    due_at,
)
from cloud_sync.renewal_asyncio import FIRST_LOOK_S, Renewal
from cloud_sync.renewal_file import PairFile
from edge.certificate import Certificate, TlsKey, read_chain
from edge.clock_sim import ManualClock
from edge.enrolment import RenewRequest
from edge.errors import ConfigError, TransitionError
from edge.keys import SigningKey
from edge.settings_file import read_settings
from edge.tls_socket import TlsFiles
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.rig import NODE, ScriptedAgent, cloud_sync, running
from tests.enrolment.broker import OperatorsBroker
from tests.enrolment.rig import DAY, Asker, Office, serving

EXAMPLE = Path(__file__).parents[2] / "docs/examples/node.toml"


class Away(BrokerLost):
    def __init__(self) -> None:
        super().__init__("away", remedy="wait")


class Connection:
    """Of a scripted broker; knows the pair that it was made with."""

    def __init__(self, pair: str) -> None:
        self.pair = pair
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class ScriptedBroker:
    def __init__(self, pair: str) -> None:
        self.pair = pair
        self.away = False
        self.tried = 0

    async def connect(self, _will: Will | None) -> BrokerConnection:
        self.tried += 1
        if self.away:
            raise Away
        return Connection(self.pair)  # type: ignore[return-value]


class Bench:
    """Renewal with real files and a real desk behind ``ask``, a clock moved by hand, and scripted brokers."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.office = Office(folder, wall=self.clock.wall())
        self.asker, files = self.office.enrolled("l1")
        self.pair = PairFile(Path(files.certificate), self.asker.node)
        self.present, self.trial = ScriptedBroker("present"), ScriptedBroker("trial")
        self.asked = 0
        self.service_away = False
        self.renewal = self.again()

    def again(self) -> Renewal:
        """As after a restart of the process."""
        return Renewal(
            present=self.present,
            trial=self.trial,
            pair=self.pair,
            ask=self._ask,
            new_key=lambda: TlsKey.generate(os.urandom),
            clock=self.clock,
        )

    async def _ask(self, key: TlsKey) -> str:
        self.asked += 1
        if self.service_away:
            raise Away
        self.office.wall = self.clock.wall()
        peer = self.pair.path.read_bytes()
        return self.office.desk().renew(self.asker.renews(key), peer).certificate

    def serial(self) -> str:
        return self.pair.present().serial


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def days(bench: Bench, count: float) -> None:
    await bench.clock.advance(count * DAY)


async def test_the_new_certificate_takes_over_when_the_broker_has_taken_it(bench):
    old = bench.serial()
    connection = await bench.renewal.connect(None)
    async with running(bench.renewal.run):
        await days(bench, 50)
        assert bench.asked == 0
        await days(bench, 15)
        assert bench.asked == 1
        # Phase one: both are there, the old one is in force, and the connection is asked to be made anew.
        assert (bench.renewal.state, bench.serial()) == (RenewalState.TRYING, old)
        assert bench.pair.next_path.exists()
        assert connection.closed
        # Phase two.
        second = await bench.renewal.connect(None)
        assert second.pair == "trial"
        assert (bench.renewal.state, bench.pair.next_path.exists()) == (RenewalState.GOOD, False)
        assert bench.serial() != old
        await days(bench, 40)  # 55 at the least, since it is drawn
        assert bench.asked == 1


async def test_a_service_that_is_away_changes_nothing_and_is_asked_again(bench):
    old = bench.serial()
    bench.service_away = True
    async with running(bench.renewal.run):
        await days(bench, 70)
        assert bench.asked > 10
        assert (bench.renewal.state, bench.serial(), bench.pair.next_path.exists()) == (RenewalState.GOOD, old, False)
        bench.service_away = False
        await days(bench, 1)
        assert bench.renewal.state is RenewalState.TRYING


async def test_a_broker_that_does_not_take_the_new_one_goes_on_with_the_old(bench):
    old = bench.serial()
    bench.trial.away = True
    async with running(bench.renewal.run):
        await days(bench, 66)
        for turn in range(TRIALS):
            assert bench.renewal.state is RenewalState.TRYING, turn
            assert (await bench.renewal.connect(None)).pair == "present"
        assert (bench.renewal.state, bench.serial(), bench.pair.next_path.exists()) == (RenewalState.GOOD, old, False)
        asked = bench.asked
        bench.trial.away = False
        await days(bench, 1)
        assert bench.asked == asked + 1
        assert (await bench.renewal.connect(None)).pair == "trial"


async def test_a_broker_that_is_away_speaks_against_neither(bench):
    async with running(bench.renewal.run):
        await days(bench, 66)
        bench.trial.away = bench.present.away = True
        for _ in range(TRIALS * 3):
            with pytest.raises(BrokerLost):
                await bench.renewal.connect(None)
        assert bench.pair.next_path.exists()
        bench.trial.away = bench.present.away = False
        assert (await bench.renewal.connect(None)).pair == "trial"


async def test_a_process_that_dies_between_the_phases_finds_the_new_pair_and_goes_on(bench):
    async with running(bench.renewal.run):
        await days(bench, 66)
    anew = bench.again()
    assert anew.state is RenewalState.GOOD
    assert (await anew.connect(None)).pair == "trial"
    assert not bench.pair.next_path.exists()


@pytest.mark.parametrize("left", [b"", b"half a fi", b"-----BEGIN PRIVATE KEY-----\n"], ids=["empty", "half", "key"])
async def test_a_new_pair_that_cannot_be_used_is_thrown_away(bench, left):
    old = bench.serial()
    bench.pair.next_path.write_bytes(left)
    assert (await bench.renewal.connect(None)).pair == "present"
    assert (bench.serial(), bench.pair.next_path.exists(), bench.trial.tried) == (old, False, 0)


async def test_an_answer_that_is_not_ours_is_not_kept(bench):
    stranger = Asker("l2")
    desk = bench.office.desk()
    theirs = desk.enrol(stranger.asks(desk.claim("acme_l2", hours=1))).certificate
    with pytest.raises(ConfigError, match="acme_l2"):
        bench.pair.keep_next(stranger.tls, theirs)
    other = Asker("l1", role=bench.asker.role)
    mine = desk.enrol(other.asks(desk.claim("acme_l1", hours=1))).certificate
    with pytest.raises(ConfigError, match="does not belong to the private key"):
        bench.pair.keep_next(TlsKey.generate(os.urandom), mine)
    assert not bench.pair.next_path.exists()


async def test_a_clock_that_nobody_has_set_is_not_asked_for_the_date(bench):
    """The service knows the time: it says "too early" once a day, and renews when it is due."""
    bench.clock.trust(False)
    async with running(bench.renewal.run):
        bench.clock.step_wall(-3650 * DAY)
        for _ in range(30):
            await bench.clock.advance(ANEW_S)
        assert 25 <= bench.asked <= 31
        assert bench.renewal.state is RenewalState.GOOD


async def test_a_clock_that_leads_by_years_gets_no_more_certificates_than_one_that_is_right(tmp_path):
    bench = Bench(tmp_path)
    async with running(bench.renewal.run):
        true = bench.clock.wall()
        bench.clock.step_wall(3650 * DAY)
        ask = bench._ask

        async def by_the_services_clock(key: TlsKey) -> str:
            wall, bench.office.wall = bench.clock.wall, true
            bench.clock.wall = lambda: true  # type: ignore[method-assign]
            try:
                return await ask(key)
            finally:
                bench.clock.wall = wall  # type: ignore[method-assign]

        bench.renewal._ask = by_the_services_clock
        await days(bench, 2)
        assert bench.asked > 1
        assert len(bench.office.desk().audit(100)[0]) == 2, "claimed, enrolled, and never renewed"


def test_nodes_that_were_enrolled_together_do_not_ask_together():
    def drawn(serial: str) -> float:
        one = Certificate("n", "ca", serial, 0.0, 90 * DAY, "", True, (), "")
        assert due_at(one) == due_at(one)
        return due_at(one) / (90 * DAY)

    shares = sorted(drawn(f"{n:X}") for n in range(1000))
    assert SHARE - SPREAD <= shares[0] < SHARE - 0.9 * SPREAD
    assert SHARE + 0.9 * SPREAD < shares[-1] <= SHARE + SPREAD
    assert all(later - earlier < 0.002 for earlier, later in itertools.pairwise(shares))


def test_a_person_is_told_before_it_is_too_late():
    one = Certificate("n", "ca", "1", 0.0, 90 * DAY, "", True, (), "")
    assert not alarming(one, 74 * DAY)
    assert alarming(one, 76 * DAY)


@pytest.mark.parametrize("state", RenewalState)
@pytest.mark.parametrize("happened", RenewalInput)
def test_what_is_not_in_the_table_cannot_happen(state, happened):
    if (state, happened) in TRANSITIONS:
        assert after(state, happened) is TRANSITIONS[state, happened]
    else:
        with pytest.raises(TransitionError):
            after(state, happened)


# With everything real: service, broker, role agent's socket, cloud-sync.


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(tmp_path / "role.sock", SigningKey(b"r" * 32), SigningKey(b"c" * 32))
    await agent.start()
    yield agent
    await agent.stop()


def node_settings(agent: ScriptedAgent, url: str, files: TlsFiles) -> NodeSettings:
    settings = read_settings(EXAMPLE, NodeSettings)
    replace = msgspec.structs.replace
    assert settings.renewal is not None
    return replace(
        settings,
        link=replace(settings.link, socket=str(agent.path)),
        renewal=replace(settings.renewal, url=url, ca=files.ca),
    )


Whole = tuple[Office, OperatorsBroker, Renewal, PairFile]


@contextlib.asynccontextmanager
async def whole(
    tmp_path: Path, agent: ScriptedAgent
) -> AsyncIterator[tuple[Office, OperatorsBroker, Renewal, PairFile]]:
    office = Office(tmp_path / "office", wall=time.time() - 65 * DAY)
    _, files = office.enrolled("l1", role=agent.key)
    office.wall = time.time()
    broker = OperatorsBroker(office)
    await broker.start()
    async with serving(office) as url:
        clock = ManualClock(wall=time.time())
        settings = broker.secure(NODE, files)
        renewal = keep_certificate(node_settings(agent, url, files), settings, Path("/"), clock)
        try:
            async with running(renewal.run):
                await clock.advance(0)
                yield office, broker, renewal, PairFile(Path(files.certificate), NODE)
        finally:
            broker.kill()


async def look(renewal: Renewal) -> None:
    clock = renewal._clock
    assert isinstance(clock, ManualClock)
    await clock.advance(max(FIRST_LOOK_S, CHECK_S))


async def test_a_node_renews_while_its_events_flow(tmp_path, agent):
    async with whole(tmp_path, agent) as (office, broker, renewal, pair):
        old = pair.present().serial
        sync = cloud_sync(agent, broker.secure(NODE, TlsFiles(str(office.ca), str(pair.path), str(pair.path))))
        sync._broker = renewal
        async with running(sync.run):
            await until(lambda: sync._connection)
            first = sync._connection
            await look(renewal)
            await until(lambda: pair.present().serial != old)
            await until(lambda: sync._connection not in (None, first))
            assert renewal.state is RenewalState.GOOD
            assert not pair.next_path.exists()
        assert [each.what for each in office.desk().audit(10)[0]] == ["claimed", "enrolled", "renewed"]


async def test_a_stolen_certificate_cannot_be_renewed_without_the_role_agent(tmp_path, agent):
    async with whole(tmp_path, agent) as (office, _, renewal, pair):
        await agent.stop()
        await look(renewal)
        await until(lambda: renewal._asked_at > 0 and renewal.state is RenewalState.GOOD)
        assert not pair.next_path.exists()
        thief = Asker("l1", role=SigningKey(b"t" * 32))
        ask = thief.renews(TlsKey.generate(os.urandom))
        with pytest.raises(Exception, match="another key than the role key"):
            office.desk().renew(RenewRequest(ask.request, ask.proof), pair.path.read_bytes())
        await agent.start()


async def test_the_broker_refuses_the_new_certificate_and_the_node_stays_connected(tmp_path, agent):
    """The broker's revocation list has it, as after a mistake: three tries, then the old one alone."""
    async with whole(tmp_path, agent) as (office, broker, renewal, pair):
        await (await renewal.connect(None)).close()
        await look(renewal)
        await until(lambda: renewal.state is RenewalState.TRYING)
        fresh = read_chain(pair.next_path.read_bytes())[0]
        listed = office.authority.revoked([Revocation(fresh.serial, time.time())], number=9, made_at=time.time() - 60)
        office.revoked_file.write_bytes(listed)
        broker.kill()
        await broker.start()
        for _ in range(TRIALS):
            connection = await renewal.connect(None)
            assert await (await connection.send(f"lm/v1/acme/{NODE}/probe", b"x")) in (0, 0x10)
            await connection.close()
        assert (renewal.state, pair.next_path.exists()) == (RenewalState.GOOD, False)
        await (await renewal.connect(None)).close()
