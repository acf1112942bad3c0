"""What the attacker tries with commands, honest ones under way all the while. Each scene is a promise."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from edge import base64url, command, jose
from edge.command import sign_command
from edge.keys_file import read_signing_key
from edge.link import MAX_TOKEN_BYTES
from edge.result import Status
from tests.hostile.forgery import FORGER, Impostor
from tests.redteam.attacker import payload_of
from tests.redteam.cast import ASKER, CLERK, FAR, FORMER, GUARD, INSIDER, LATE, OUTSIDER, PORTER, SHOP, SPARE, STAFF
from tests.redteam.duel import LATE_DOOR, SOON_S, Duel, under_way
from tests.redteam.spelling import respelt, unsigned, wrong_headers, wrong_json
from tests.redteam.stage import NONCE_S

T = TypeVar("T")

BARE = (
    (FORGER, "hub"),
    (FORGER, "staff"),
    (FORMER, "hub"),
    (LATE, "hub"),
    (FAR, "hub"),
    (CLERK, "hub"),
    (OUTSIDER, "outsider"),
    (ASKER, "asker"),
    (PORTER, "porter"),
    (SHOP, "shop"),
    (SPARE, "staff"),
)
"""Keys that may not open a door, or may not ask for the nonce that it takes, each under its own name and one under
another's."""


def batched(each: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (each[at : at + most] for at in range(0, len(each), most))


async def every_stolen_key_tries_by_itself(duel: Duel) -> None:
    for key, iss in BARE:
        told = await duel.two_steps(key, iss, duel.door())
        assert all(each.status is Status.REJECTED for each in told), told
        await duel.nothing_opened()


async def the_badges_and_the_consumers_keys_sign_commands(duel: Duel) -> None:
    for name, iss in (("badges", "badges"), ("hub-ack", "hub")):
        key = read_signing_key(duel.stage.site.key(f"{name}.pem"))
        for says in (iss, "staff"):
            await duel.two_steps(key, says, duel.door())
    await duel.nothing_opened()


async def a_living_nonce_is_used_by_others(duel: Duel) -> None:
    """The attacker has seen it and keeps the honest command back. Whatever it tries, that command is then done."""
    door = duel.door()
    async with duel.an_open_kept_back(door) as (message, claims):
        fresh = {"nonce": claims["nonce"]}
        tokens = [duel.signed(key, iss, "open", door, **fresh) for key, iss in BARE if key is not SPARE]
        tokens += [duel.signed(Impostor(STAFF).as_key(), "staff", "open", door, **fresh)]
        tokens += [duel.signed(key, "staff", "open", door, **fresh) for key in (PORTER, ASKER, INSIDER, SPARE)]
        payload = base64url.decode(message.payload.split(b".")[1])
        tokens += unsigned(payload, STAFF)
        tokens += respelt(message.payload)
        head, _, signature = message.payload.split(b".")
        for other in ({"subject": "01", "args": {"door": "01"}}, {"jti": "0" * 8 + claims["jti"][8:]}):
            body = base64url.encode(msgspec.json.encode(claims | other)).encode()
            tokens.append(b".".join((head, body, signature)))
        tokens += _signed_by_one_more(message.payload)
        duel.chance.shuffle(tokens)
        for some in batched(tokens, 8):
            await duel.try_all(some)
            await duel.nothing_opened()


def _signed_by_one_more(token: bytes) -> list[bytes]:
    """What one person signed, made into what two have: else the node might say of it that it was refused."""
    protected, payload, signature = token.decode().split(".")
    half = msgspec.json.encode({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]})
    return [command.cosign(half, key) for key in (SPARE, ASKER, PORTER, INSIDER, SHOP, FAR, FORMER, LATE, FORGER)]


async def an_insider_says_it_wrong_in_every_way(duel: Duel) -> None:
    """A stolen key that may open gets one door for each nonce, said as it must be said; nothing else opens any."""
    door, other = duel.door(), duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    right = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    claims = payload_of(right)
    payload = base64url.decode(right.split(b".")[1])
    tokens = [*wrong_headers(payload, INSIDER), *wrong_json(payload, INSIDER)]
    tokens += [sign_command(_claims(claims | wrong), INSIDER) for wrong in _wrong_claims(duel, claims, other)]
    tokens += [jose.sign(claims, typ, INSIDER) for typ in (jose.VOUCHER, jose.RESULT, jose.DESIRED)]
    duel.chance.shuffle(tokens)
    for some in batched(tokens, 8):
        told = await duel.try_all(some)
        assert all(each.status is Status.REJECTED for each in told), told
        await duel.nothing_opened()
    crooked = duel.signed(INSIDER, "insider", "open", other, args={"door": door}, nonce=await _own(duel, other))
    (answer,) = await duel.try_all([crooked])
    assert (answer.status, answer.reason) == (Status.REJECTED, "bad_args"), answer
    await duel.paid(door, await duel.try_all([right]))
    again = _claims(claims | {"jti": _other_id(claims)})
    (refused,) = await duel.try_all([sign_command(again, INSIDER)])
    assert refused.status is Status.REJECTED, "a nonce is good for one command"
    await _another_under_its_id(duel, claims, other)


def _wrong_claims(duel: Duel, claims: dict[str, Any], other: str) -> list[dict[str, Any]]:
    node, _, instance = claims["aud"].partition("/")
    away: list[dict[str, Any]] = [
        {"aud": aud} for aud in (f"acme_locker-8/{instance}", f"{node}/{FORGER.kid}", node, "")
    ]
    elsewhere: list[dict[str, Any]] = [{"subject": other, "args": {"door": other}}, {"subject": other}]
    names: list[dict[str, Any]] = [{"iss": name} for name in ("guard", "staff", "hub")]
    proofs: list[dict[str, Any]] = [
        {"nonce": None},
        {"nonce": ""},
        {"nonce": None, "session": duel.attacker.welcome.session},
        {"session": duel.attacker.welcome.session},
        {"nonce": None, "rev": 1, "exp": int(time.time()) + 60},
    ]
    return [{"jti": _other_id(claims)} | wrong for wrong in (*away, *elsewhere, *names, *proofs)]


async def _own(duel: Duel, door: str) -> str:
    return await duel.nonce(INSIDER, "insider", door)


async def _another_under_its_id(duel: Duel, claims: dict[str, Any], other: str) -> None:
    nonce = await duel.nonce(INSIDER, "insider", other)
    same = _claims(claims | {"subject": other, "args": {"door": other}, "nonce": nonce})
    (told,) = await duel.try_all([sign_command(same, INSIDER)])
    assert (told.status, told.reason) == (Status.REJECTED, "id_used")


async def nonces_are_guessed(duel: Duel) -> None:
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door)
    near = nonce[:-1] + ("A" if nonce[-1] != "A" else "Q")
    guesses = [near, "A" * 22, "", nonce[:-1], nonce + "A", nonce.swapcase(), "é" * 22]
    guesses += [base64url.encode(os.urandom(16)) for _ in range(4)]
    for guess in guesses:
        await duel.try_all([duel.signed(INSIDER, "insider", "open", door, nonce=guess)])
        await duel.try_all([duel.signed(PORTER, "porter", "open", door, nonce=guess)])
    await duel.nothing_opened()


async def a_flood_of_nonces_crowds_out_nobody(duel: Duel) -> None:
    """The stolen key is limited to its own few; an honest open goes through meanwhile."""
    given = [await duel.nonce(ASKER, "asker", f"{n:02d}") for n in range(1, 41)]
    assert 0 < sum(map(bool, given)) < 40
    await duel.honest.open(duel.door())


async def a_nonce_request_of_an_earlier_run(duel: Duel) -> None:
    door = duel.door()
    nonce = await duel.nonce(INSIDER, "insider", door, session="0" * 24)
    told = await duel.try_all([duel.signed(INSIDER, "insider", "open", door, nonce=nonce or "A" * 22)])
    assert all(each.status is Status.REJECTED for each in told), told
    await duel.nothing_opened()


async def old_requests_come_again_and_void_nothing(duel: Duel) -> None:
    door = duel.door()
    await duel.honest.open(door)
    async with duel.an_open_kept_back(door):
        for token in duel.attacker.recorded("cmd/nonce") * 2:
            await duel.try_all([token], name="nonce")


async def every_recording_comes_again(duel: Duel) -> None:
    """Shuffled and twice, as any kind of thing: answered as it was, and done no second time."""
    recorded = duel.attacker.recorded("cmd/")
    duel.chance.shuffle(recorded)
    kept = {jti: told[-1] for jti, told in duel.attacker.results.items()}
    for token in recorded * 2:
        answers = await duel.attacker.offer(token)
        for jti, answer in answers.items():
            if payload_of(token)["name"] != "nonce" and jti in kept:
                assert answer == kept[jti], f"a repeat of {payload_of(token)['name']} was answered otherwise"
    for kind in ("desired", "issuers", "cmd/open", "nonsense"):
        await duel.try_all(recorded[:8], kind=kind)
    await duel.nothing_opened()


async def the_word_comes_late(duel: Duel) -> None:
    """The attacker keeps a command back until its nonce is over; nobody expects it then, and nothing opens."""
    door = LATE_DOOR
    nonce = await duel.nonce(INSIDER, "insider", door)
    late = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
    given = time.monotonic()

    async def comes_late() -> None:
        await duel.until("the nonce to be over", lambda: time.monotonic() > given + NONCE_S + 0.1, NONCE_S + 1.0)
        (told,) = await duel.try_all([late])
        assert told.status is Status.REJECTED, told
        assert told.reason in {"nonce_expired", "unknown_nonce"}, "after a restart it is not even known"
        await duel.nothing_opened()

    duel.due.append(comes_late)


async def what_is_no_command_at_all(duel: Duel) -> None:
    noise = [b"", b"\x00" * 50, b"eyJ.e30.AA", b"." * 30_000, b"[" * 5000, b"{" * 5000, b'{"payload":1}', b"\xff" * 400]
    noise += [b"x" * MAX_TOKEN_BYTES, b"x" * (MAX_TOKEN_BYTES + 1), os.urandom(60_000)]
    for token in noise:
        for kind in ("cmd", "desired", "issuers"):
            assert await duel.try_all([token], kind=kind) == []
    for name, args in (("open-all", {}), ("open", {"door": "*"}), ("open", {"door": ["01", "02"]}), ("open", {})):
        nonce = await duel.nonce(INSIDER, "insider", "01")
        told = await duel.try_all([duel.signed(INSIDER, "insider", name, "01", args=args, nonce=nonce)])
        assert [each.status for each in told] == [Status.REJECTED]
    await duel.honest.open(duel.door())


async def numbers_that_no_database_can_count(duel: Duel) -> None:
    """A stolen key that may book sends them, again and again as a broker would; the node goes on."""
    wall = int(time.time())
    day = {"exp": wall + 86_400}
    huge: tuple[dict[str, Any], ...] = (
        *({"rev": rev} | day for rev in (0, -1, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 1.5)),
        *({"rev": 1, "iat": iat, "exp": iat + 60} for iat in (2**63, 2**64, 10**40)),
        {"rev": 1, "iat": wall, "exp": 10**40},
    )
    args = {"size": "S", "hold_hours": 24}
    for number, proof in enumerate(huge):
        claims = payload_of(duel.signed(SHOP, "shop", "expect", f"huge-{number}", args=args)) | proof
        await duel.try_all([jose.sign(claims, jose.COMMAND, SHOP)] * 2, name="expect")
    await duel.honest.open(duel.door())


def _claims(members: dict[str, Any]) -> command.Claims:
    return command.Claims(**members)


def _other_id(claims: dict[str, Any]) -> str:
    return str(claims["jti"][:-6]) + os.urandom(3).hex()


async def two_signatures_are_played_with(duel: Duel) -> None:
    """The attacker keeps back what two honest persons have signed, and makes of it whatever it can."""
    parcel, door = duel.honest.parcel_and_door()
    await duel.honest.empty(door)
    async with duel.attacker.catching("cmd/clear") as caught, under_way(duel.honest.clear(door, parcel)) as asked:
        message = await asyncio.wait_for(caught.get(), SOON_S)
        tokens = list(_played_with(message.payload))
        duel.chance.shuffle(tokens)
        for token in tokens:
            await duel.try_all([token], name="clear")
            assert not _cleared(duel, door), "a door was cleared by what two honest persons had not signed"
        await duel.attacker.pass_on(message)
        await asked
    assert _cleared(duel, door)
    await duel.nothing_opened()


def _cleared(duel: Duel, door: str) -> bool:
    told = (entry.event for entry in duel.stage.present())
    return any(e["type"] == "locker.compartment.released" and e["data"]["door"] == door for e in told)


def _played_with(whole: bytes) -> list[bytes]:
    general = msgspec.json.decode(whole)
    first, second = general["signatures"]
    payload = general["payload"]
    half = msgspec.json.encode({"payload": payload, "signatures": [first]})
    claims = base64url.decode(payload.encode())
    other = base64url.encode(claims.replace(b'"parcel":', b'"parcel":"p0","was":')).encode().decode()
    both = [
        [second, first],
        [first, first],
        [second, second],
        [first, second, second],
        [first, second | {"signature": first["signature"]}],
        [first | {"header": {"kid": "x"}}, second],
    ]
    made = [msgspec.json.encode({"payload": payload, "signatures": each}) for each in both]
    made += [msgspec.json.encode({"payload": other, "signatures": [first, second]}), half]
    made += [f"{each['protected']}.{payload}.{each['signature']}".encode() for each in (first, second)]
    stolen = (SPARE, ASKER, PORTER, INSIDER, SHOP, FAR, FORMER, LATE, FORGER, Impostor(GUARD).as_key())
    made += [command.cosign(half, key) for key in stolen]
    made += [whole + b" ", whole.replace(b'","signatures"', b'", "signatures"')]
    return made
