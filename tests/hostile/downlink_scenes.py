"""What a hostile broker may try with bookings, commands of two persons and desired documents; each is a promise."""

from __future__ import annotations

from typing import Any

import msgspec

from edge import command, jose
from edge.document import Desired, sign_desired
from edge.keys import SigningKey
from edge.result import Status
from tests.hostile.forgery import FORGER, Impostor
from tests.hostile.street import DAY, FAR, FORMER, GUARD, NODE, NOW, SPARE, STAFF, TOPICS, TRAINEE, Street

# Commands that two persons sign.


async def _clearing(street: Street, second: SigningKey = GUARD) -> bytes:
    return command.cosign(await _half(street), second)


async def _half(street: Street) -> bytes:
    return command.sign_first(await _clear(street), STAFF)


async def _clear(street: Street) -> command.Claims:
    asked = street.nonce_request(args={"name": "clear", "request": street._next_request()})
    (answer,) = await street.hears_command(asked, name="nonce")
    return street.claims("clear", args={"door": "01"}, nonce=answer.data["nonce"])


async def _clears_nothing(street: Street) -> None:
    """Nothing so far; two honest persons then do."""
    assert street.doors.cleared == []
    (answer,) = await street.hears_command(await _clearing(street), name="clear")
    assert answer.status is Status.DONE
    assert street.doors.cleared == ["01"]


async def one_person_alone_declares_a_door_empty(street: Street) -> None:
    await street.hears_command(command.sign_command(await _clear(street), STAFF), name="clear")
    assert await street.hears_command(await _half(street), name="clear") == []
    await _clears_nothing(street)


async def one_person_signs_with_two_keys(street: Street) -> None:
    """Two keys that stand under one name are one person's."""
    await street.hears_command(await _clearing(street, SPARE), name="clear")
    await _clears_nothing(street)


async def a_second_signature_that_is_none(street: Street) -> None:
    forged = command.cosign(await _half(street), Impostor(GUARD).as_key())
    assert await street.hears_command(forged, name="clear") == []
    general = msgspec.json.decode(await _clearing(street))
    general["signatures"][1]["signature"] = general["signatures"][0]["signature"]
    assert await street.hears_command(msgspec.json.encode(general), name="clear") == []
    await _clears_nothing(street)


async def a_second_signature_of_a_stranger(street: Street) -> None:
    await street.hears_command(await _clearing(street, FORGER), name="clear")
    await _clears_nothing(street)


async def a_second_person_without_the_scope(street: Street) -> None:
    await street.hears_command(await _clearing(street, TRAINEE), name="clear")
    await _clears_nothing(street)


async def a_command_of_two_is_spelt_otherwise(street: Street) -> None:
    """What nobody has signed is not looked at, however little it differs."""
    token = await _clearing(street)
    for other in (token + b" ", token.replace(b'","signatures"', b'", "signatures"')):
        assert await street.hears_command(other, name="clear") == []
    (answer,) = await street.hears_command(token, name="clear")
    assert answer.status is Status.DONE
    assert street.doors.cleared == ["01"]


async def a_signature_is_taken_off_a_command_of_two(street: Street) -> None:
    """Before it is done, to use its id up; afterwards, to have the node sign that it refused what it did."""
    token = await _clearing(street)
    general = msgspec.json.decode(token)
    first = general["signatures"][0]
    alone = f"{first['protected']}.{general['payload']}.{first['signature']}".encode()
    (refused,) = await street.hears_command(alone, name="clear")
    assert refused.status is Status.REJECTED
    assert street.doors.cleared == []
    for each in (token, alone):
        (answer,) = await street.hears_command(each, name="clear")
        assert answer.status is Status.DONE
    assert street.doors.cleared == ["01"]


# Bookings.


def _booking(street: Street, rev: int, lies_s: int = DAY) -> bytes:
    args = {"size": "S", "hold_hours": 24}
    proof: dict[str, Any] = {"rev": rev, "exp": int(street.clock.wall()) + lies_s}
    return command.sign_command(street.claims("expect", "b1", args=args, **proof), STAFF)


async def an_older_revision_comes_late(street: Street) -> None:
    """The broker has kept it back, and brings it after the newer one."""
    older = _booking(street, 1)
    await street.hears_command(_booking(street, 2), name="expect")
    (answer,) = await street.hears_command(older, name="expect")
    assert (answer.status, answer.reason) == (Status.REJECTED, "superseded")
    assert street.doors.booked == [("b1", 2)]


async def a_booking_comes_again(street: Street) -> None:
    token = _booking(street, 1)
    first = await street.hears_command(token, name="expect")
    assert [await street.hears_command(token, name="expect") for _ in range(3)] == [first] * 3
    assert street.doors.booked == [("b1", 1)]


async def a_booking_is_kept_back_past_its_expiry(street: Street) -> None:
    late = _booking(street, 1, lies_s=60)
    await street.clock.advance(61)
    await street.hears_command(late, name="expect")
    assert street.doors.booked == []


async def a_booking_for_ten_years(street: Street) -> None:
    """What lies with a broker for longer than the node remembers could be done twice."""
    await street.hears_command(_booking(street, 1, lies_s=3650 * DAY), name="expect")
    assert street.doors.booked == []


# What the operator wants.


def _wanted(version: int = 5, key: SigningKey = STAFF, iss: str = "staff", **changed: Any) -> Desired:
    members: dict[str, Any] = {"iss": iss, "aud": NODE.audience, "version": version, "issued_at": NOW}
    return Desired(**(members | {"body": {"hold_hours": version}} | changed))


async def _hears(street: Street, token: bytes) -> None:
    await street.hears(f"{TOPICS}/desired", token, retain=True)


async def _changes_nothing(street: Street, hours: int | None = None) -> None:
    """Nothing but ``hours``, which were in force before; an honest document then does."""
    assert street.terms.now == ({} if hours is None else {"hold_hours": hours})
    await _hears(street, sign_desired(_wanted(7), STAFF))
    assert street.terms.now == {"hold_hours": 7}


async def a_desired_by_an_unlisted_key(street: Street) -> None:
    await _hears(street, sign_desired(_wanted(iss="hub"), FORGER))
    await _changes_nothing(street)


async def a_desired_under_a_listed_keys_name(street: Street) -> None:
    await _hears(street, sign_desired(_wanted(), Impostor(STAFF).as_key()))
    await _changes_nothing(street)


async def a_desired_that_is_signed_as_something_else(street: Street) -> None:
    await _hears(street, jose.sign(_wanted(), jose.VOUCHER, STAFF))
    await _changes_nothing(street)


async def a_desired_without_the_scope(street: Street) -> None:
    await _hears(street, sign_desired(_wanted(iss="guard"), GUARD))
    await _changes_nothing(street)


async def a_desired_by_a_revoked_key(street: Street) -> None:
    await _hears(street, sign_desired(_wanted(iss="hub"), FORMER))
    await _changes_nothing(street)


async def a_desired_by_a_key_for_other_nodes(street: Street) -> None:
    await _hears(street, sign_desired(_wanted(iss="hub"), FAR))
    await _changes_nothing(street)


async def a_desired_for_another_node(street: Street) -> None:
    for audience in (f"acme_locker-8/{NODE.instance}", f"{NODE.node}/{FORGER.kid}"):
        await _hears(street, sign_desired(_wanted(aud=audience), STAFF))
    await _changes_nothing(street)


async def an_older_desired_comes_again(street: Street) -> None:
    """A broker may have kept it; it does not come back into force."""
    older = sign_desired(_wanted(5), STAFF)
    await _hears(street, older)
    await _hears(street, sign_desired(_wanted(6), STAFF))
    await _hears(street, older)
    await _changes_nothing(street, 6)


async def a_desired_with_one_bad_member(street: Street) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {"wiring": {}},
        {"issuers": []},
        {"out_of_service": ["99"]},
        {"hold_hours": -1},
    )
    for bad in bodies:
        await _hears(street, sign_desired(_wanted(body={"log_level": "debug", **bad}), STAFF))
    await _changes_nothing(street)
