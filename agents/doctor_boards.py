"""The lock boards under examination: who answers, who answers twice, who echoes, and at which speed. Moves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from agents.doctor_bus import DoctorBus, Heard, Scan, heard_at
from agents.doctor_report import Finding, failed, fault, good, note
from edge.errors import DeviceError


async def examine_bus(bus: DoctorBus, scan: Scan, heard: Callable[[Heard], None]) -> AsyncIterator[Finding]:
    """Everything that questions alone can tell. ``heard`` gets what each address said."""
    where = f"bus {bus.path}"
    try:
        bus.open()
    except DeviceError as error:
        yield failed(where, error)
        return
    answers = []
    try:
        for address in bus.addresses(scan):
            answers.append(await bus.ask(address, scan))
            heard(answers[-1])
    except DeviceError as error:
        yield failed(where, error)
        return
    finally:
        bus.close()
    for finding in _told(bus, answers, where):
        yield finding
    if not any(each.answers or each.ruins for each in answers):
        yield await _silent(bus, scan, where)


def _told(bus: DoctorBus, answers: list[Heard], where: str) -> list[Finding]:
    found = []
    if any(each.echoed for each in answers):
        found.append(note(where, "the adapter hands back what is sent", "harmless here; its echo can be switched off"))
    for each in answers:
        board = f"address {each.address}" if each.board is None else f"board {each.board}"
        if each.answers > 1:
            found.append(
                fault(board, f"{each.answers} boards answer to one address", "give each an address of its own, at once")
            )
        elif each.ruins:
            what = "its answers are damaged"
            found.append(fault(board, what, "look for a second board with its address, swapped wires or bad contacts"))
        elif each.answers and each.board is not None:
            found.append(good(board, f"answers at {bus.baud} baud, and alone"))
        elif each.answers:
            found.append(fault(board, "answers and is not configured", "add it to the configuration, or take it out"))
    if any(each.answers or each.ruins for each in answers):
        found += [
            fault(f"board {each.board}", "does not answer", "look at its power, its wires and its address")
            for each in answers
            if each.board is not None and not each.answers and not each.ruins
        ]
    return found


async def _silent(bus: DoctorBus, scan: Scan, where: str) -> Finding:
    """Nobody answered: at another speed somebody may."""
    baud = await heard_at(bus, scan)
    if baud is None:
        return fault(where, "no board answers at any usual speed", "look at power, wires A and B, and the adapter")
    return fault(where, f"boards answer at {baud} baud, not at {bus.baud}", f"set baud = {baud} in the configuration")
