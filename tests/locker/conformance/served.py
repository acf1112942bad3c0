"""A whole locker on a rig's boards: real ledger, journal and service, and every code that a jam must leave valid."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from locker.compartment import Compartment, Size
from locker.kiosk import Accepted, SessionState
from locker.latch import Latch, LockBoards, Reading
from tests.locker.conformance.operations import Misdeed
from tests.locker.conformance.rig import Rig, Trouble
from tests.locker.conformance.rigs import Maker
from tests.locker.rig import LockerRig

TROUBLES: Final = (
    None,
    Trouble("stuck"),
    Trouble("deaf"),
    Trouble("weak", {"pulses": 3}),
    Trouble("cut", {"reads": "open"}),
    Trouble("dead"),
    Trouble("unplug"),
    Trouble("lost_reply", {"p": 0.5}),
)
"""What a customer may find, in turn. Each must end in an open door, a jam, or a doubt that is told."""

OUTCOME_S: Final = 10
"""Seconds in which every attempt has ended: three pulses two seconds apart, and what a silent board costs."""


class _Watched:
    """The rig's boards; every pulse must stand in the database before it goes out."""

    def __init__(self, locker: ServedLocker, boards: LockBoards) -> None:
        self._locker = locker
        self._boards = boards

    async def readings(self, board: int) -> tuple[Reading, ...]:
        return await self._boards.readings(board)

    async def pulse(self, latch: Latch) -> None:
        self._locker.committed_before(latch)
        await self._boards.pulse(latch)


class ServedLocker(LockerRig):
    """``LockerRig`` whose cabinet is a rig's."""

    def __init__(self, folder: Path, maker: Maker, seed: int) -> None:
        super().__init__(folder)
        self.hardware: Rig = maker(seed, self.clock)
        self.boards = _Watched(self, self.hardware.boards)
        self.compartments = [Compartment(self.door_of(latch), latch, Size.S, 800) for latch in self.hardware.latches]
        self.step = 0.2
        self.seed = seed

    @staticmethod
    def door_of(latch: Latch) -> str:
        return f"{latch.board}-{latch.lock}"

    def latch_of(self, door: str) -> Latch:
        return next(each.latch for each in self.compartments if each.door == door)

    def committed_before(self, latch: Latch) -> None:
        ((attempt, pulses, ended),) = self.rows(
            "SELECT attempt, pulses, ended FROM unlocking WHERE door = ?", self.door_of(latch)
        )
        self.sent[attempt] += 1
        if not self.sent[attempt] == pulses <= 3 or ended:
            raise Misdeed(f"pulse {self.sent[attempt]} of {latch} was sent, {pulses} are committed, ended: {ended}")

    async def parcel_in_and_out(self, parcel: str, trouble: Trouble | None) -> SessionState:
        """A parcel is left, its customer meets ``trouble``, and gets the parcel once that is over.

        Returns what the customer was told of the troubled attempt.
        """
        answer = await self.deposit(parcel)
        assert isinstance(answer, Accepted), answer
        await self.pass_time(2.0)
        latch = self.latch_of(answer.door)
        self._opened(latch)
        self.hardware.shut(latch)
        await self.pass_time(1.0)
        if trouble:
            self.hardware.inflict(trouble, latch)
        accepted = await self.accepted(parcel)
        told = await self._told(accepted)
        opened = self.hardware.is_open(latch)
        self._judge(latch, told, opened, parcel)
        self.hardware.heal()
        self.hardware.shut(latch)
        await self.pass_time(2.5)  # longer than a port is left alone that could not be opened
        if told is not SessionState.OPEN:
            await self._again(parcel, latch)
        self._only(latch)
        return told

    async def _told(self, accepted: Accepted) -> SessionState:
        """How the attempt ended, as the customer is told."""
        for _ in range(OUTCOME_S):
            await self.pass_time(1.0)
            if (told := self.view(accepted).state) is not SessionState.UNLOCKING:
                return told
        raise Misdeed(f"door {accepted.door} has been unlocking for {OUTCOME_S} s")

    def _judge(self, latch: Latch, told: SessionState, opened: bool, parcel: str) -> None:
        if told is SessionState.OPEN and not opened:
            raise Misdeed(f"{latch} was told open and is shut")
        if told is SessionState.JAMMED and self.parcel(parcel) != "stored":
            raise Misdeed(f"{latch} jammed and {parcel} is {self.parcel(parcel)}")
        if told not in {SessionState.OPEN, SessionState.JAMMED, SessionState.UNKNOWN, SessionState.ENDED}:
            raise Misdeed(f"{latch} ended {told}")

    async def _again(self, parcel: str, latch: Latch) -> None:
        """The same code, after the trouble."""
        again = await self.accepted(parcel, confirm=True)
        if (told := await self._told(again)) is not SessionState.OPEN:
            raise Misdeed(f"the code of {parcel} no longer opens {latch}: {told}")
        self.hardware.shut(latch)
        await self.pass_time(1.0)

    def _opened(self, latch: Latch) -> None:
        if not self.hardware.is_open(latch):
            raise Misdeed(f"{latch} was to open for a deposit")

    def _only(self, latch: Latch) -> None:
        seen = self.hardware.seen()
        if wrong := [each for each in seen if each.latch != latch or each.what in {"double_coil", "overheated"}]:
            raise Misdeed(f"for {latch}: {wrong}")


async def serve(folder: Path, maker: Maker, seed: int, parcels: int) -> list[SessionState]:
    """So many parcels in and out, under each trouble in turn that the hardware can have."""
    locker = ServedLocker(folder, maker, seed)
    troubles = [each for each in TROUBLES if each is None or each.kind in locker.hardware.kinds]
    random.Random(seed).shuffle(troubles)
    await locker.start()
    try:
        await locker.pass_time(1.0)
        return [
            await locker.parcel_in_and_out(f"parcel-{place}", troubles[place % len(troubles)])
            for place in range(min(parcels, len(locker.compartments)))
        ]
    finally:
        await locker.stop()
