"""Draw every transition table as a Mermaid diagram: ``python -m tools.states > docs/states.md``.

The picture is the table: `tests/repository/test_states.py` keeps the two equal.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

from cloud_sync import outbox, renewal, session
from locker import booking, compartment, door, parcel, sensors
from locker.contract import DoorState
from locker.contract_cabinet import SensorState

Table = Mapping[tuple[Any, Any], Any]


class Machine(NamedTuple):
    """``begin`` are the states in which a thing may first be seen."""

    title: str
    told: str
    source: str
    table: Table
    begin: tuple[enum.Enum, ...]


MACHINES = (
    Machine(
        "A door",
        "As far as its sensor lets us know. Not knowing is its first state; an unknown door is never offered.",
        "locker/door.py",
        door.TRANSITIONS,
        (DoorState.UNKNOWN,),
    ),
    Machine(
        "A compartment",
        "What the ledger holds of it. Only a free one is offered, and only where its sensors say so too.",
        "locker/compartment.py",
        compartment.TRANSITIONS,
        (compartment.LedgerState.FREE, compartment.LedgerState.UNKNOWN),
    ),
    Machine("A parcel", "Its life in the locker.", "locker/parcel.py", parcel.TRANSITIONS, (parcel.FIRST,)),
    Machine(
        "A booking",
        "What the locker was told will come.",
        "locker/booking.py",
        booking.TRANSITIONS,
        (booking.BookingState.EXPECTED,),
    ),
    Machine(
        "A sensor of the cabinet",
        "Or the temperature of a zone. A zone that is not known to be normal takes no parcel.",
        "locker/sensors.py",
        sensors.TRANSITIONS,
        (SensorState.UNKNOWN,),
    ),
    Machine(
        "A command at its issuer",
        "From the signature to the node's last word.",
        "cloud_sync/outbox.py",
        outbox.TRANSITIONS,
        (outbox.State.SIGNED,),
    ),
    Machine(
        "The connection to the broker",
        "As cloud-sync holds it.",
        "cloud_sync/session.py",
        session.TRANSITIONS,
        (session.LinkState.WAITING,),
    ),
    Machine(
        "A certificate's renewal",
        "In two phases, so that a crash loses neither the old one nor the new one.",
        "cloud_sync/renewal.py",
        renewal.TRANSITIONS,
        (renewal.RenewalState.GOOD,),
    ),
)

HEAD = """# States

Each thing that has a life of its own has one enum and one table; what is not in its table cannot happen. These pictures
are drawn from the tables (`python -m tools.states > docs/states.md`), and a test keeps them equal.
"""


def page() -> str:
    """The whole of ``docs/states.md``."""
    return "\n".join([HEAD, *(_section(machine) for machine in MACHINES)])


def _section(machine: Machine) -> str:
    return f"## {machine.title}\n\n{machine.told} Table: `{machine.source}`.\n\n```mermaid\n{diagram(machine)}\n```\n"


def diagram(machine: Machine) -> str:
    """One state diagram. Arrows between the same two states share a line, in the table's order."""
    final = _final(machine)
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, happened), following in machine.table.items():
        if state not in final:
            arrows.setdefault((state.value, following.value), []).append(happened.value)
    lines = ["stateDiagram-v2", *(f"    [*] --> {state.value}" for state in machine.begin)]
    lines += [f"    {before} --> {after}: {', '.join(words)}" for (before, after), words in arrows.items()]
    lines += [f"    {state.value} --> [*]" for state in final]
    return "\n".join(lines)


def _final(machine: Machine) -> list[enum.Enum]:
    """The states that nothing leads out of, in the order of their enum."""
    left = {state for (state, _), following in machine.table.items() if following is not state}
    return [state for state in type(machine.begin[0]) if state not in left]


if __name__ == "__main__":
    print(page(), end="")
