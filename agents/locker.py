"""The role agent of a locker: everything that holds its hardware, its ledger and its decisions, joined here."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

import web
from agents.board_vetting import Vetting
from agents.cabinet_check import sound_cabinet
from agents.cabinet_sensors import wire_sensors
from agents.lock_boards import connect, plan_boards
from agents.locker_downlink import STATUS, Downlink, local_time, software
from agents.locker_inputs import keep_inputs
from agents.locker_page import keep_page
from agents.locker_upkeep import LockerUpkeep
from agents.settings import NodeSettings
from agents.trust import read_trust
from agents.users import uids_of
from edge import jose, log, voucher
from edge.enrolment import vouch_for
from edge.errors import StoreError
from edge.floored_clock import FlooredClock
from edge.health import Health
from edge.health_http import CountedBy, serve_health
from edge.health_systemd import Notifier, feed
from edge.issuers import BADGE
from edge.journal import Limits
from edge.journal_open_sql import Place, open_journal
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.journal_upkeep_asyncio import Upkeep
from edge.link import Out, Serving
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.link_socket import LinkServer
from edge.refusals import RefusalMeter
from edge.result import Status
from edge.supervisor import OnDeath, Supervisor
from edge.system_clock import SystemClock, boot_id
from edge.time_floor_sql import keep_time, resume_time
from edge.voucher import Voucher
from locker.cabinet_asyncio import Cabinet
from locker.door import Done
from locker.door_times import DEFAULT_TIMES, DoorTimes
from locker.inputs_asyncio import Inputs
from locker.issuing import IssuedCode
from locker.kiosk import FrontView
from locker.kiosk_http import build_kiosk, listen_kiosk, serve_kiosk
from locker.ledger_file import overtake_ledger, rebuild_ledger
from locker.ledger_sql import LOCKER_STEPS, LedgerStore, RunningTime, SqlLedger
from locker.office_asyncio import Office
from locker.pickup_code import issue
from locker.sensors_asyncio import CabinetSensors
from locker.service import LockerService, Readers, Terms
from locker.sessions_asyncio import Sessions
from locker.shown import Shown
from locker.staff_asyncio import StaffDesk
from locker.terminal import Terminal

_MIB = 1024 * 1024
POLL_LIMIT_S = 30.0
"""A bus whose every board times out needs 16 x 0.6 s a round; beyond three rounds its owner hangs."""
UPKEEP_LIMIT_S = 60.0
"""A slow card may sync for seconds; a minute without a commit means that nothing can be kept."""
TOKEN_BYTES = 32
SOURCE = "the node's configuration"
"""What messages call the file, of which the agent knows only what stood in it."""
RECEIPT_S = 60.0
"""From a consumer's last signed receipt until the kiosk takes it to be out of reach. A deposit's first event is sealed
within 2 s, so that where all is well its receipt has come before a person has shut the door."""


class LockerAgent:
    """One locker, wired. ``run`` serves until the process is told to stop."""

    def __init__(self, settings: NodeSettings, base: Path) -> None:
        self._settings = settings
        self._base = base
        self._clock = FlooredClock(SystemClock(), boot_id())
        self._health = Health()
        self._log = log.get_logger("agents.locker")
        self._supervisor = Supervisor(self._clock, random.random, self._health)
        self._trust = read_trust(settings, base)
        self._layout = sound_cabinet(settings.locker, source=SOURCE)
        self._inputs = Inputs(Terminal(os.urandom), self._clock)
        self._place = Place(base / settings.store.directory / "state.db")
        self._links: RoleLinkDesk | None = None
        store = settings.store
        self._limits = Limits(store.max_mib * _MIB, store.reserve_mib * _MIB, store.audit_days * 86_400.0)

    async def run(self) -> None:
        """Open, recover, serve. Raises ``LastmileError`` for what an operator has to mend first."""
        journal = self._open_journal()
        journal.start()
        try:
            await self._serve(journal)
        finally:
            await journal.close()

    def _open_journal(self) -> SqlJournal:
        directory = self._place.database.parent
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(
                f"{directory}: {error.strerror}", remedy="name a store directory that this user may make and write"
            ) from error
        opened = open_journal(
            self._place,
            steps=LOCKER_STEPS,
            rebuild=lambda connection: rebuild_ledger(connection, self._place.database),
            consumers=self._settings.node.consumers,
            source=self._trust.identity.source,
            clock=self._clock,
            random=os.urandom,
            sealer=self._trust.role,
            limits=self._limits,
        )
        if opened.quarantined is not None:
            self._log.error("store.quarantined", file=str(opened.quarantined))
        return opened.journal

    async def _serve(self, journal: SqlJournal) -> None:
        trust, clock = self._trust, self._clock
        await resume_time(journal, clock)
        running = RunningTime(await journal.write(lambda transaction: stored_running(transaction.sql)), clock)
        upkeep = LockerUpkeep(self._place.database, clock)
        store = LedgerStore(journal, running, upkeep)
        await store.keep(self._begin)
        issuers = HeldIssuers(trust.issuers, trust.roots, journal)
        await issuers.load()
        service = self._service(store, issuers)
        cabinet = await self._cabinet(service)
        sensors = CabinetSensors(wire_sensors(self._settings.locker.sensors, self._layout, self._base), store, clock)
        service.attach(cabinet, sensors)
        server: LinkServer

        def push(out: Out) -> None:
            server.push(out)

        downlink = Downlink(
            self._settings,
            trust,
            journal,
            clock,
            issuers,
            service=service,
            office=Office(store, cabinet, self._make_code),
            push=push,
        )
        await downlink.desired.load()
        link_desk = self._links = self._link_desk(journal, issuers, downlink, cabinet)
        uids = uids_of(self._settings.link.users, "link.users")
        server = LinkServer(self._base / self._settings.link.socket, link_desk, uids=uids, clock=clock)
        journal.on_growth = server.wake
        await self._recover(service, downlink, store)
        await downlink.desired.report()
        self._keep_tasks(journal, cabinet, server, upkeep, store)
        self._keep_downlink(downlink, link_desk, server)
        for name in sensors.names:
            self._supervisor.keep(f"sensor-{name}", functools.partial(sensors.follow, name))
        await self._open_kiosk(service, self._staff(service, store))
        try:
            await self._supervisor.run_until_signal()
        finally:
            link_desk.close()

    def _begin(self, ledger: SqlLedger) -> None:
        overtake_ledger(ledger.transaction.sql, self._place.database)
        ledger.add_compartments(each.door for each in self._layout.compartments)

    def _service(self, store: LedgerStore, issuers: HeldIssuers) -> LockerService:
        trust, clock = self._trust, self._clock
        told = self._settings.locker.terms
        terms = Terms(trust.identity.node, told.hold_hours * 3600.0, told.deposits_without_mains, local=local_time)

        def read_badge(token: str) -> Mapping[str, Any]:
            wall = clock.wall() if clock.trusted() else None
            claims, _ = issuers.now.check(
                token.encode(), jose.BADGE, BADGE, node=trust.identity.node, audience=None, wall=wall
            )
            return claims

        def read_voucher(token: str) -> Voucher:
            wall = clock.wall() if clock.trusted() else None
            # Which editions were seen is the ledger's to say, in the transaction that opens the door.
            return voucher.read_voucher(token.encode(), issuers.now, trust.identity, highest_gen=lambda _: 0, wall=wall)

        return LockerService(
            terms=terms,
            store=store,
            sessions=Sessions(os.urandom),
            clock=clock,
            issue=self._make_code,
            readers=Readers(trust.hasher, read_badge, read_voucher, Shown(os.urandom), self._inputs.resolve),
            offline=self._offline,
            background=lambda name, work: self._supervisor.spawn(name, work, fatal=True),
        )

    def _staff(self, service: LockerService, store: LedgerStore) -> StaffDesk:
        return StaffDesk(
            node=self._trust.identity.node,
            store=store,
            clock=self._clock,
            random=os.urandom,
            admission=service.admission,
            openings=service.openings,
            cabinet=service.cabinet,
            doors=service.door_facts,
        )

    def _offline(self) -> bool:
        """Whether no consumer has signed for anything lately: presence is the broker's word, a receipt is signed."""
        last = None if self._links is None else self._links.receipt_at
        return last is None or self._clock.mono() - last > RECEIPT_S

    def _make_code(self, taken: Callable[[bytes], bool], parcel: str) -> IssuedCode:
        trust = self._trust
        code = issue(os.urandom, trust.hasher, taken)
        told = {"parcel": parcel, "code": code.typed, "extension": code.extension}
        sealed = jose.seal(msgspec.json.encode(told), trust.hub).decode()
        return IssuedCode(trust.hasher.of(code), sealed, trust.hub.kid)

    async def _cabinet(self, service: LockerService) -> Cabinet:
        locker = self._settings.locker
        boards, buses = connect(plan_boards(locker, source=SOURCE), self._clock, self._base)
        cabinet = Cabinet(
            self._layout.compartments,
            boards,
            self._clock,
            told=service.heard,
            times=DoorTimes(coil=max(DEFAULT_TIMES.coil, boards.coil)),
            front=FrontView(self._layout.width_mm, self._layout.height_mm, self._layout.screen),
        )
        vetting = Vetting(buses, cabinet, self._clock)
        await vetting.begin()
        self._supervisor.keep("vetting", vetting.run)
        return cabinet

    def _link_desk(
        self, journal: SqlJournal, issuers: HeldIssuers, downlink: Downlink, cabinet: Cabinet
    ) -> RoleLinkDesk:
        identity = self._trust.identity
        return RoleLinkDesk(
            facts=RoleFacts(identity, "locker", software(), self._settings.node.consumers),
            journal=journal,
            reader=JournalReader(self._place.database, identity.source, journal.session, self._clock),
            issuers=issuers,
            commands=downlink.desk,
            clock=self._clock,
            serving=lambda: any(cabinet.serviceable(door) for door in cabinet.compartments),
            desired=downlink.desired,
            vouch=lambda digest: vouch_for(digest, identity, self._trust.role),
            puback_ends=self._settings.sync.ack == "broker",
        )

    async def _recover(self, service: LockerService, downlink: Downlink, store: LedgerStore) -> None:
        """Follow what a crash cut short; a command whose door is not being followed has no outcome to be known."""
        followed: dict[str, asyncio.Future[Status]] = {}
        loop = asyncio.get_running_loop()

        async def ended(jti: str, done: Done) -> None:
            followed[jti].set_result(STATUS[done.outcome])

        followed.update({jti: loop.create_future() for jti in await service.recover(ended)})

        async def outcome(jti: str) -> Status:
            if jti in followed:
                return await followed[jti]
            # The door's own outcome may have been kept before the crash, and the command's not.
            opened = await store.keep(lambda ledger: ledger.opened_by_command(jti))
            return Status.DONE if opened else Status.UNKNOWN

        if await downlink.inbox.unfinished():
            self._supervisor.spawn("recover-commands", lambda: downlink.desk.recover(outcome), fatal=True)

    def _keep_tasks(
        self, journal: SqlJournal, cabinet: Cabinet, server: LinkServer, upkeep: LockerUpkeep, store: LedgerStore
    ) -> None:
        clock, health, keep = self._clock, self._health, self._supervisor.keep
        health.expect("bus", mono=clock.mono(), limit_s=POLL_LIMIT_S)
        health.expect("journal", mono=clock.mono(), limit_s=UPKEEP_LIMIT_S)
        journal_upkeep = Upkeep(
            journal, self._place, self._limits, clock, lambda: health.progress("journal", clock.mono())
        )
        # What it has read and not told would be forgotten by a restart of the task alone; a restart of all finds it.
        keep("bus", lambda: cabinet.poll(lambda: health.progress("bus", clock.mono())), on_death=OnDeath.END)
        keep("journal", journal_upkeep.run, on_death=OnDeath.END)
        keep("link", server.serve)
        keep("copies", upkeep.write_copies)
        keep("time", lambda: keep_time(journal, clock))
        keep("upkeep", lambda: upkeep.sweep(store, cabinet.in_service))
        keep("serving", lambda: self._tell_serving(cabinet, server))

    def _keep_downlink(self, downlink: Downlink, link_desk: RoleLinkDesk, server: LinkServer) -> None:
        """What was refused is told by the minute, what can never matter again is forgotten, and both can be scraped."""
        meter = RefusalMeter({"command": downlink.desk.refused, "document": link_desk.refused})
        self._supervisor.keep("refusals", lambda: downlink.tell_refusals(meter))
        self._supervisor.keep("inbox", downlink.forget_old)
        if not self._settings.health:
            return
        metrics = CollectorRegistry()
        downlinked = {"command": downlink.desk.refused, "document": link_desk.refused, "link": server.refused}
        every = RefusalMeter({**downlinked, "scan": self._inputs.refused})
        metrics.register(CountedBy("lastmile_input_refused", "What came from outside and was refused.", every.totals))
        path = self._base / self._settings.health / "role.sock"
        self._supervisor.keep("health", lambda: serve_health(path, self._health, metrics, self._clock))

    async def _tell_serving(self, cabinet: Cabinet, server: LinkServer) -> None:
        told: bool | None = None
        while True:
            serving = any(cabinet.serviceable(door) for door in cabinet.compartments)
            if serving is not told:
                told = serving
                server.push(Serving(serving))
            await self._clock.sleep(1.0)

    async def _open_kiosk(self, service: LockerService, staff: StaffDesk) -> None:
        kiosk = self._settings.locker.kiosk
        token = boot_token(self._base / kiosk.token_file)
        page = self._base / kiosk.page if kiosk.page else web.KIOSK
        host = f"[{kiosk.host}]" if ":" in kiosk.host else kiosk.host
        names = {f"{host}:{kiosk.port}", f"localhost:{kiosk.port}"}
        app = build_kiosk(
            service,
            token=token,
            static=page,
            hosts=frozenset(names),
            clock=self._clock,
            inputs=self._inputs,
            staff=staff,
            page=keep_page(kiosk, self._health, self._clock),
        )
        keep_inputs(self._settings.locker.inputs, self._base, self._inputs, self._clock, self._supervisor)
        listener = listen_kiosk(kiosk.host, kiosk.port)
        self._supervisor.keep("kiosk", lambda: serve_kiosk(app, listener), on_death=OnDeath.END)
        notifier = Notifier(os.environ, pid=os.getpid())
        notifier.ready()
        self._log.info("locker.ready", node=self._trust.identity.node, kiosk=f"http://{host}:{kiosk.port}/")
        self._supervisor.keep("watchdog", lambda: feed(notifier, self._health, self._clock))


def boot_token(path: Path) -> str:
    """The kiosk's token: made once a boot (the file lies in /run) and kept over restarts of this process."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(token)
        # Whatever the umask: the directory's group is the browser's user and nobody else.
        fresh.chmod(0o640)
        fresh.rename(path)
        return token


def stored_running(connection: Any) -> float:
    """Running seconds as the process before stored them."""
    (seconds,) = connection.execute("SELECT running FROM budget").fetchone()
    return float(seconds)
