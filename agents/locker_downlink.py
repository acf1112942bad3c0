"""What a locker is told from afar: each command's act, and the document that changes its terms."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from agents.settings import NodeSettings
from agents.trust import Trust
from edge import log
from edge.command import Command
from edge.command_desk import Act, CommandDesk, Ended, Take
from edge.contract import input_refused
from edge.desired_sql import HeldDesired
from edge.document import RefusedMember
from edge.errors import VerificationError
from edge.floored_clock import FlooredClock
from edge.inbox_sql import SqlInbox
from edge.journal_sql import SqlJournal
from edge.link import Out
from edge.link_desk_sql import HeldIssuers
from edge.nonce import NonceBook
from edge.refusals import EVERY_S, RefusalMeter
from edge.result import Status
from edge.time_command import TIME_RULES
from edge.time_floor_sql import set_time
from locker.bookings import Order
from locker.commands import ALL_DOORS, COMMANDS, Audit, Clear, Open, Release, is_id
from locker.desired import Wishes, read_wishes
from locker.door import Done, Outcome
from locker.layout import lay_out
from locker.office_asyncio import Office
from locker.service import LockerService, Terms

FORGET_S = 3600.0
"""Between two looks for what may be forgotten: a few rows an hour at most."""

STATUS = {
    Outcome.OPENED: Status.DONE,
    Outcome.JAMMED: Status.FAILED,
    Outcome.UNSENT: Status.FAILED,
    Outcome.UNKNOWN: Status.UNKNOWN,
}


def software() -> str:
    """The release that runs, as presence, HELLO and ``reported`` tell it."""
    return importlib.metadata.version("lastmile-edge")


class Downlink:
    """Commands and documents of one locker, joined. ``push`` gives cloud-sync what is to be published."""

    def __init__(
        self,
        settings: NodeSettings,
        trust: Trust,
        journal: SqlJournal,
        clock: FlooredClock,
        issuers: HeldIssuers,
        *,
        service: LockerService,
        office: Office,
        push: Callable[[Out], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self.inbox = SqlInbox(journal)
        self.desk = CommandDesk(
            identity=trust.identity,
            session=journal.session,
            role_key=trust.role,
            clock=clock,
            nonces=NonceBook(os.urandom),
            inbox=self.inbox,
            rules={**TIME_RULES, **COMMANDS},
            acts={"time": set_time(journal, clock), **acts(service, office)},
            send=lambda command, result: push(Out("res", command, result)),
            passed=lambda: clock.memory.floor,
        )

        def use(terms: Terms) -> None:
            service.terms = terms

        self.desired = HeldDesired(
            identity=trust.identity,
            software=software(),
            role_key=trust.role,
            journal=journal,
            clock=clock,
            subject=LockerWishes(settings, service.terms, use),
            issuers=lambda: issuers.now,
            push=lambda reported: push(Out("reported", "", reported)),
        )

    async def tell_refusals(self, meter: RefusalMeter) -> None:
        """One event for each reason and minute, for ever."""
        while True:
            for what, reason, count in meter.news():
                event = input_refused(what=what, reason=reason, count=count)
                await self._journal.write(lambda transaction: transaction.append(event))  # noqa: B023 - awaited at once
            await self._clock.sleep(EVERY_S)

    async def forget_old(self) -> None:
        """Once an hour, for ever."""
        while True:
            await self.inbox.forget_old(self._clock.memory.floor)
            await self._clock.sleep(FORGET_S)


def acts(service: LockerService, office: Office) -> dict[str, Act]:
    """What each command of ``locker.commands.COMMANDS`` does."""
    booking = _book(office)
    return {
        "open": _open_door(service),
        "release": _release(service),
        "clear": _clear(office),
        "audit": _audit(office),
        "expect": booking,
        "cancel": booking,
        "extend": booking,
        "delegate": booking,
        "revoke": booking,
        "reissue": booking,
        "redirect": booking,
        "recall": booking,
    }


def _open_door(service: LockerService) -> Act:
    async def act(command: Command, args: msgspec.Struct, take: Take, ended: Ended) -> None:
        if not isinstance(args, Open) or args.door != command.claims.subject:
            raise _other_subject()
        jti = command.claims.jti
        await service.open_by_command(args.door, jti, lambda ledger: take(_transaction(ledger)), _told(ended))

    return act


def _release(service: LockerService) -> Act:
    async def act(command: Command, args: msgspec.Struct, take: Take, ended: Ended) -> None:
        if not isinstance(args, Release) or args.parcel != command.claims.subject:
            raise VerificationError("bad_args", "the parcel is not the command's subject", remedy="name one parcel")
        jti = command.claims.jti
        await service.release_by_command(args, jti, lambda ledger: take(_transaction(ledger)), _told(ended))

    return act


def _told(ended: Ended) -> Callable[[Done], Awaitable[None]]:
    """Tells a command's issuer what became of its door."""

    async def told(done: Done) -> None:
        await ended(STATUS[done.outcome], done.doubt.value if done.doubt else done.outcome.value)

    return told


def _clear(office: Office) -> Act:
    async def act(command: Command, args: msgspec.Struct, take: Take, _: Ended) -> None:
        if not isinstance(args, Clear) or args.door != command.claims.subject:
            raise _other_subject()
        await office.clear(args, command.claims.jti, _at_once(take))

    return act


def _audit(office: Office) -> Act:
    async def act(command: Command, args: msgspec.Struct, take: Take, _: Ended) -> None:
        if not isinstance(args, Audit) or command.claims.subject != ALL_DOORS:
            raise VerificationError("bad_args", f"the subject is not {ALL_DOORS}", remedy=f"say {ALL_DOORS}")
        await office.audit(command.claims.jti, _at_once(take))

    return act


def _book(office: Office) -> Act:
    async def act(command: Command, args: msgspec.Struct, take: Take, _: Ended) -> None:
        claims = command.claims
        if not isinstance(args, Order) or not is_id(claims.subject):
            raise VerificationError("bad_args", "the subject is no booking id", remedy="name the booking by its id")
        await office.book(claims.subject, args, claims.rev or 0, _at_once(take))

    return act


def _other_subject() -> VerificationError:
    # The nonce was given out for the subject: arguments may not name another door.
    return VerificationError("bad_args", "the door is not the command's subject", remedy="name one door")


def _at_once(take: Take) -> Callable[[Any], None]:
    """For what one transaction does: the command is spent and done in it."""
    return lambda ledger: take(_transaction(ledger), Status.DONE)


def _transaction(ledger: Any) -> Any:
    return ledger.transaction


class LockerWishes:
    """``edge.desired_sql.Subject``: applies a document to the running locker, on top of its configuration."""

    def __init__(self, settings: NodeSettings, terms: Terms, use: Callable[[Terms], None]) -> None:
        self._doors = lay_out(settings.locker.cabinet).doors()
        self._level = settings.log.level
        self._terms = terms
        self._use = use

    def refusals(self, body: Mapping[str, Any]) -> tuple[RefusedMember, ...]:
        return read_wishes(body, self._doors)[1]

    def apply(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        wishes, _ = read_wishes(body, self._doors)
        self._use(self._terms.under(wishes))
        log.set_level(wishes.log_level or self._level)
        return in_force(wishes)


def in_force(wishes: Wishes) -> dict[str, Any]:
    """The members that a document has set, as JSON."""
    told: dict[str, Any] = msgspec.to_builtins(wishes)
    return told


def local_time(wall: float) -> tuple[int, int]:
    """Day of the week (1 is Monday) and minute of the day in the machine's own time zone."""
    now = dt.datetime.fromtimestamp(wall).astimezone()
    return now.isoweekday(), now.hour * 60 + now.minute
