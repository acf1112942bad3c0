"""What people may declare of a compartment that they have looked into: it is empty, and its door works."""

from __future__ import annotations

from edge.claims import refused
from locker import compartment, contract
from locker.announcing import tell
from locker.commands import Clear
from locker.compartment import CompartmentInput, LedgerState
from locker.latch import Hook, Reading
from locker.ledger import Ledger
from locker.settling import remove


def clear(ledger: Ledger, order: Clear, reading: Reading, *, command: str = "", by: str = "") -> None:
    """Offer the compartment again; the parcels that were known to be inside, if the order names all, are gone.

    ``command`` is that of two persons, ``by`` the badge of one who stands there and may name no parcel. ``reading`` is
    what its sensors show. Raises ``VerificationError``, and then nothing was changed: ``busy`` while an attempt at the
    door runs, ``door_open``, ``item_seen``, ``parcel_inside`` while one is not named, ``no_such_parcel`` for one that
    is not inside, ``nothing_to_clear``.
    """
    door = order.door
    require_quiet(ledger, door, reading)
    held = ledger.parcels_at(door)
    named = {order.parcel, *order.also} - {None}
    inside = {each.parcel for each in held}
    if named - inside:
        wrong = ", ".join(sorted(str(each) for each in named - inside))
        raise refused("no_such_parcel", f"not behind {door}: {wrong}", "name those that are, or none")
    if inside - named:
        raise refused("parcel_inside", f"a parcel lies behind {door}", "look, and name each that is not there")
    state = ledger.compartment(door).state
    if state is LedgerState.FREE and not held:
        raise refused("nothing_to_clear", f"{door} is free", "nothing: it is offered")
    for each in held:
        remove(ledger, each, command=command)
    seen = CompartmentInput.EMPTY if state is LedgerState.OCCUPIED else CompartmentInput.SEEN_EMPTY
    ledger.set_compartment(door, compartment.move(state, seen))
    tell(ledger, contract.CompartmentReleased(door=door, command=command, by=by))


def require_quiet(ledger: Ledger, door: str, reading: Reading) -> None:
    """Raises ``VerificationError`` (``busy, door_open, item_seen``) where something speaks against an empty one."""
    last = ledger.unlocking(door)
    if last is not None and not last.ended:
        raise refused("busy", f"{door} is being opened", "wait until that is over")
    if reading.hook is Hook.OPEN:
        raise refused("door_open", f"{door} stands open, or its sensor says so", "shut it, or have it repaired")
    if reading.item:
        raise refused("item_seen", f"the sensor sees something behind {door}", "take it out, or have it repaired")
