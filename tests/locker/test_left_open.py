"""A door left open: the person is reminded, then it is an alarm; and many open at once are told as that."""

from __future__ import annotations

from pathlib import Path

from locker.kiosk import SessionState
from tests.locker.rig import running


async def test_who_walks_away_is_reminded_after_a_minute_and_reported_after_five(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.load("p1")
        accepted = await rig.accepted("p1")
        rig.step = 0.5
        await rig.pass_time(59)
        assert (rig.view(accepted).state, rig.view(accepted).shut) == (SessionState.OPEN, "")
        await rig.pass_time(3)
        assert (rig.view(accepted).state, rig.view(accepted).shut) == (SessionState.OPEN, "chime")
        assert rig.events("locker.door.ajar") == []
        await rig.pass_time(240)
        assert [each["door"] for each in rig.events("locker.door.ajar")] == [accepted.door]
        rig.bench.shut(accepted.door)
        await rig.pass_time(1)
        assert rig.view(accepted).state is SessionState.ENDED


async def test_more_doors_open_than_people_open_is_told_once_each_time(tmp_path: Path) -> None:
    async with running(tmp_path, boards=2) as rig:
        doors = sorted(each.door for each in rig.compartments)
        for door in doors[:4]:
            rig.bench.force(door)
            await rig.pass_time(0.5)
        assert rig.events("cabinet.doors.many_open") == []
        for door in doors[4:]:
            rig.bench.force(door)
            await rig.pass_time(0.5)
        assert [each["doors"] for each in rig.events("cabinet.doors.many_open")] == [doors[:5]]
        for door in doors[:4]:
            rig.bench.shut(door)
            await rig.pass_time(0.5)
        rig.bench.force(doors[0])
        await rig.pass_time(0.5)
        assert [each["most"] for each in rig.events("cabinet.doors.many_open")] == [4, 4]
