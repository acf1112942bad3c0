"""What the attacker tries with bookings, acks and documents. Each scene is a promise."""

from __future__ import annotations

import time
from typing import Any

from edge import jose
from edge.acks import Ack, sign_ack
from edge.document import sign_desired
from edge.identifiers import uuid7
from edge.issuers import IssuersDocument, sign_issuers
from edge.keys import SigningKey
from edge.keys_file import read_signing_key
from edge.result import Status
from tests.hostile.forgery import FORGER, Impostor
from tests.redteam.cast import (
    ASKER,
    CLERK,
    FAR,
    FORMER,
    INSIDER,
    LATE,
    OUTSIDER,
    PORTER,
    SHOP,
    SPARE,
    STAFF,
    edition,
    entry,
    listed,
)
from tests.redteam.duel import Duel

DAY = 86_400
STOLEN = (
    (FORGER, "hub"),
    (FORMER, "hub"),
    (LATE, "hub"),
    (FAR, "hub"),
    (CLERK, "hub"),
    (OUTSIDER, "outsider"),
    (ASKER, "asker"),
    (PORTER, "porter"),
    (INSIDER, "insider"),
    (SPARE, "staff"),
    (FORGER, "staff"),
    (INSIDER, "staff"),
)
"""None of them may book, sign for what is held, or say what is desired."""


# -- bookings ----------------------------------------------------------------------------------------------------------


async def revisions_are_poisoned_and_come_late(duel: Duel) -> None:
    """Whoever may not book cannot spend an honest booking's revisions, and no older one comes after a newer."""
    honest, booking = duel.honest, f"booking-{duel.chance.randrange(10**9)}"
    now = int(time.time())
    args: dict[str, Any] = {"size": "M", "hold_hours": 24}
    older = honest.sign("expect", booking, args, rev=now - 100, exp=now + DAY)
    short = honest.sign("cancel", booking, {}, rev=now + 10**6, exp=now + 2)
    for_ever = honest.sign("cancel", booking, {}, rev=now + 10**6, exp=now + 3650 * DAY)
    poison = [
        duel.signed(key, iss, name, booking, args=args if name == "expect" else {}, rev=rev, exp=now + DAY)
        for key, iss in STOLEN
        for name, rev in (("cancel", 2**53), ("expect", 2**62))
    ]
    await duel.try_all(poison, name="cancel")
    assert await honest.book("expect", booking, **args)
    await duel.try_all([*poison, for_ever], name="cancel")
    (late,) = await duel.try_all([older], name="expect")
    assert (late.status, late.reason) == (Status.REJECTED, "superseded"), late
    assert await honest.book("extend", booking, hours=24)
    changes = _changes(duel, booking)
    assert changes == ["expected", "extended"], f"{booking} is {changes}"

    async def expired() -> None:
        await duel.until("the booking's command to be over", lambda: time.time() > now + 3, 4.0)
        await duel.try_all([short], name="cancel")
        assert _changes(duel, booking) == changes, "a command was done after its expiry"

    duel.due.append(expired)


def _changes(duel: Duel, booking: str) -> list[str]:
    told = (entry.event for entry in duel.stage.present())
    return [
        e["data"]["change"] for e in told if e["type"] == "locker.booking.changed" and e["data"]["booking"] == booking
    ]


# -- acks --------------------------------------------------------------------------------------------------------------


async def acks_are_forged_while_the_true_ones_are_kept_back(duel: Duel) -> None:
    """No cursor moves, no epoch begins; the next true ack does what it should."""
    hub = read_signing_key(duel.stage.site.key("hub-ack.pem"))
    await duel.until("the consumer to hold something", lambda: max(duel.cursor().values()) > 0)
    older = duel.attacker.recorded("ack/hub")[0]
    async with duel.attacker.catching("ack/hub"):
        await duel.honest.come()
        before, epochs = duel.cursor(), duel.epochs()
        for token in [*_forged_acks(duel, hub), older]:
            for consumer in ("hub", "outsider", "nobody", "x" * 64):
                await duel.attacker.acknowledge(token, consumer)
            assert (duel.cursor(), duel.epochs()) == (before, epochs), "a forged ack was believed"
        for noise in (b"", b"a.b.c", b"\xff" * 100, b"[" * 5000, b"x" * 30_000):
            await duel.attacker.acknowledge(noise)
        assert (duel.cursor(), duel.epochs()) == (before, epochs)
    await duel.honest.collect()
    await duel.until("the true acks to be believed", lambda: duel.cursor() != before)


def _forged_acks(duel: Duel, hub: SigningKey) -> list[bytes]:
    """For what is there, and for what is not yet; by every key but the right one, and by that to somebody else."""
    last = duel.stage.present()[-1]
    aud = duel.stage.audience
    true: dict[str, Any] = {last.epoch: {"audit": (last.seq, last.digest.hex())}}
    ahead: dict[str, Any] = {last.epoch: {"audit": (last.seq + 1000, "ab" * 32)}}
    strange: dict[str, Any] = {uuid7(time.time(), bytes(10)): {"audit": (5, "ab" * 32)}}
    node, _, instance = aud.partition("/")
    made = []
    for journals in (true, ahead, strange):
        said = Ack("hub", aud, journals)
        made += [sign_ack(said, key) for key, _ in STOLEN]
        made += [sign_ack(Ack(iss, aud, journals), key) for key, iss in STOLEN]
        made += [sign_ack(said, Impostor(hub).as_key()), jose.sign(said, jose.COMMAND, hub)]
        made += [sign_ack(Ack("hub", other, journals), hub) for other in (f"acme_locker-8/{instance}", f"{node}/x", "")]
    for crooked in ((-1, "ab" * 32), (2**63, "ab" * 32), (10**30, "ab" * 32), (last.seq, None), (1.5, "ab" * 32)):
        said_so = {"iss": "hub", "aud": aud, "journals": {last.epoch: {"audit": crooked}}}
        made.append(jose.sign(said_so, jose.ACK, hub))
    return made


async def a_consumer_that_was_deceived_frees_nothing(duel: Duel) -> None:
    """By the right key, for a true number with another hash. Nothing here is freed by it."""
    hub = read_signing_key(duel.stage.site.key("hub-ack.pem"))
    async with duel.attacker.catching("ack/hub"):
        await duel.honest.come()
        last, before = duel.stage.present()[-1], duel.cursor()
        wrong: dict[str, Any] = {last.epoch: {"audit": (last.seq, "cd" * 32)}}
        duel.stage.contradicted = True
        refused = await duel.attacker.acknowledge(sign_ack(Ack("hub", duel.stage.audience, wrong), hub))
        assert refused == "wrong_hash"
        invented: dict[str, Any] = {uuid7(time.time(), bytes(10)): {"state": (3, None)}}
        refused = await duel.attacker.acknowledge(sign_ack(Ack("hub", duel.stage.audience, invented), hub))
        assert refused == "unknown_epoch"
        assert {place: seq for place, seq in duel.cursor().items() if place in before} == before


# -- documents ---------------------------------------------------------------------------------------------------------


async def hostile_wishes_change_nothing(duel: Duel) -> None:
    """Honest ones in between do; collection goes on through all of it."""
    older = duel.wish({"hold_hours": 5})
    document = await duel.desire({"hold_hours": 48, "languages": ["ru", "en"]})
    later = document.version + 5
    aud, (node, _, instance) = duel.stage.audience, duel.stage.audience.partition("/")
    evil: dict[str, Any] = {"hold_hours": 1, "out_of_service": ["12"], "opening_hours": []}
    tokens = [sign_desired(duel.wish(evil, iss=iss), key) for key, iss in (*STOLEN, (SHOP, "shop"))]
    tokens += [sign_desired(duel.wish(evil), key) for key, _ in (*STOLEN, (SHOP, "shop"))]
    tokens += [sign_desired(duel.wish(evil), Impostor(STAFF).as_key()), jose.sign(duel.wish(evil), jose.COMMAND, STAFF)]
    tokens += [
        sign_desired(duel.wish(evil, aud=other), STAFF) for other in (f"acme_locker-8/{instance}", f"{node}/x", "")
    ]
    tokens += [sign_desired(older, STAFF), sign_desired(duel.wish(evil, version=document.version), STAFF)]
    duel.chance.shuffle(tokens)
    await duel.try_all(tokens, kind="desired")
    bad: tuple[dict[str, Any], ...] = (
        {"wiring": {}},
        {"issuers": []},
        {"calibration": 1},
        {"collection": False},
        {"out_of_service": ["99"]},
        {"hold_hours": -1},
        {"hold_hours": 10**9},
        {"languages": []},
        {f"m{n}": n for n in range(2000)},
    )
    for body in bad:
        await duel.try_all([sign_desired(duel.wish({"hold_hours": 2} | body), STAFF)], kind="desired")
    told = duel.reported()
    assert (told["desired_version"], told["applied"]["hold_hours"]) == (document.version, 48), told
    assert later > document.version
    await duel.honest.collect()
    await duel.desire({"hold_hours": 72})
    assert aud == duel.stage.audience


async def versions_that_no_database_can_count(duel: Duel) -> None:
    """By a key that may say what is desired: it could do harm enough by itself, but not end the node."""
    for version in (0, -1, 2**53, 2**63, 2**64, 10**30):
        token = jose.sign(
            {
                "iss": "staff",
                "aud": duel.stage.audience,
                "version": version,
                "issued_at": 2**70,
                "body": {"log_level": "nonsense"},
            },
            jose.DESIRED,
            STAFF,
        )
        await duel.try_all([token] * 2, kind="desired")
    await duel.honest.open(duel.door())


async def issuers_of_other_roots_and_older_editions(duel: Duel) -> None:
    """The burglar's key is listed by everybody but the operator's own root, and opens nothing."""
    site = duel.stage.site
    burglar = entry(FORGER, "burglar", ("nonce", "open", "ack", "desired"))
    pardoned = entry(FORMER, "hub", ("nonce", "open"), nodes=("*",))
    root = read_signing_key(site.key("root.pem"))
    own = tuple(each for each in listed(site) if each.jwk != pardoned.jwk)
    for key in (FORGER, STAFF, Impostor(root).as_key()):
        forged = sign_issuers(IssuersDocument(99, int(time.time()), (burglar,)), key)
        await duel.try_all([forged], kind="issuers")
    for version in (1, 2):
        older = sign_issuers(IssuersDocument(version, int(time.time()) - DAY, (*own, pardoned)), root)
        await duel.try_all([older], kind="issuers")
    wrong = jose.sign(IssuersDocument(99, 1, (burglar,)), jose.DESIRED, root)
    await duel.try_all([wrong, b"{}"], kind="issuers")
    for key, iss in ((FORGER, "burglar"), (FORMER, "hub")):
        told = await duel.two_steps(key, iss, duel.door())
        assert all(each.status is Status.REJECTED for each in told), told
    await duel.nothing_opened()
    await duel.honest.open(duel.door())


async def a_newer_edition_by_the_root_counts(duel: Duel) -> None:
    """The honest one, in between."""
    await duel.try_all([edition(duel.stage.site, 3)], kind="issuers")
    await duel.until("the edition to be in force", lambda: duel.reported()["issuers_version"] == 3)
