"""What a locker says stays what it was: names, classes, subjects, and nothing that could tell who or which code."""

from typing import get_args

import msgspec
import pytest

from edge.command import Kind
from edge.event import EventClass
from locker import commands, contract, contract_cabinet
from locker.latch import Hook


def test_every_event_stands_in_the_table_under_its_own_name():
    told = {event for event, _ in contract.EVENTS.values()}
    written = {
        each
        for each in (*vars(contract).values(), *vars(contract_cabinet).values())
        if isinstance(each, type) and issubclass(each, contract.Event) and each is not contract.Event
    }
    assert told == written
    assert all(name == event.TYPE and event.CLASS is cls for name, (event, cls) in contract.EVENTS.items())


def test_names_that_consumers_already_read():
    audit = {name for name, (_, event_class) in contract.EVENTS.items() if event_class is EventClass.AUDIT}
    assert audit == {
        "parcel.deposit.begun",
        "parcel.deposited",
        "parcel.deposit.withdrawn",
        "parcel.collected",
        "parcel.removed",
        "parcel.claimed",
        "parcel.recalled",
        "parcel.taken_back",
        "locker.booking.changed",
        "locker.code.issued",
        "locker.drop_code.issued",
        "locker.drop.accepted",
        "locker.code.accepted",
        "locker.code.refused",
        "locker.badge.refused",
        "locker.voucher.accepted",
        "locker.voucher.refused",
        "locker.visit.continued",
        "locker.release.accepted",
        "locker.unlock.requested",
        "locker.unlock.unsent",
        "locker.door.opened",
        "locker.door.closed",
        "locker.door.jammed",
        "locker.door.found_open",
        "locker.door.unknown",
        "locker.door.forced",
        "locker.door.ajar",
        "locker.door.told",
        "locker.compartment.blocked",
        "locker.compartment.released",
        "cabinet.power.lost",
        "cabinet.power.restored",
        "cabinet.undervoltage",
        "cabinet.undervoltage.ended",
        "cabinet.tampered",
        "cabinet.tampered.ended",
        "cabinet.temperature.alarm",
        "cabinet.temperature.normal",
        "cabinet.sensor.silent",
        "cabinet.doors.many_open",
        "locker.audit.begun",
        "locker.audit.found",
        "locker.audit.done",
    }
    state = {name for name, (_, event_class) in contract.EVENTS.items() if event_class is EventClass.STATE}
    assert state == {"locker.door.state", "cabinet.sensor.state"}
    assert set(contract.EVENTS) - audit - state == {"cabinet.temperature"}


@pytest.mark.parametrize("event", [event for event, _ in contract.EVENTS.values()])
def test_no_event_has_a_place_for_a_code_a_pin_or_a_person(event):
    fields = set(event.__struct_fields__)
    assert not fields & {"code", "extension", "digits", "pin", "name", "phone", "address", "badge"}
    assert event.SUBJECT in fields


def test_a_draft_names_what_the_event_is_about():
    opened = contract.draft(contract.DoorOpened(door="07", parcel="bk-1"))
    assert (opened.type, opened.subject, opened.event_class) == ("locker.door.opened", "07", EventClass.AUDIT)
    refused = contract.draft(contract.CodeRefused(reason=contract.Reason.USED, minute=30_000_000, count=3))
    assert refused.subject == "used"


def test_an_event_reads_back_as_it_was_written():
    event = contract.UnlockRequested(
        door="A3", attempt="a1", pulse=2, session="s1", cause=contract.Cause.CODE, before="closed", parcel="bk-1"
    )
    assert msgspec.json.decode(msgspec.json.encode(event), type=contract.UnlockRequested) == event


@pytest.mark.parametrize("pulse", [0, 4])
def test_no_reader_accepts_a_fourth_pulse(pulse):
    told = {"door": "1", "attempt": "a", "pulse": pulse, "session": "s", "cause": "code", "before": "closed"}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(told, contract.UnlockRequested)


def test_the_sensor_has_the_same_words_on_the_wire_as_in_the_latch():
    words = {hook.value for hook in Hook}
    for event, field in (
        (contract.UnlockRequested, "before"),
        (contract.DoorUnknown, "hook"),
        (contract.DoorSnapshot, "hook"),
    ):
        kept = {each.name: each.type for each in msgspec.structs.fields(event)}
        assert set(get_args(kept[field])) == words


@pytest.mark.parametrize("args", [{}, {"door": ""}, {"door": "*"}, {"door": "1\n"}, {"door": "1", "all": True}])
def test_open_takes_one_door_and_nothing_else(args):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(args, commands.COMMANDS["open"].args)


def test_open_names_its_door_and_needs_a_nonce():
    rule = commands.COMMANDS["open"]
    assert msgspec.convert({"door": "A3"}, rule.args) == commands.Open("A3")
    assert (rule.kind, rule.scope) == (Kind.ACTUATION, "open")


def test_declaring_a_compartment_empty_takes_two_persons_and_bookings_may_wait():
    two = {name for name, rule in commands.COMMANDS.items() if rule.persons == 2}
    waiting = {name for name, rule in commands.COMMANDS.items() if rule.kind is Kind.BOOKING}
    assert two == {"clear", "audit"}
    assert waiting == {"expect", "cancel", "extend", "delegate", "revoke", "reissue", "redirect", "recall"}
