"""What a hostile broker may try on a node. Each scene is a promise: it fails where the promise is broken."""

from __future__ import annotations

import os
import warnings
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from edge import jose
from edge.acks import Ack
from edge.command import sign_command
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.link import MAX_TOKEN_BYTES, Offer
from edge.result import Status
from tests.cloud_sync.rig import new_epoch
from tests.hostile.forgery import FORGER, Impostor
from tests.hostile.street import (
    ARCHIVE,
    CLERK,
    FAR,
    FORMER,
    GUARD,
    HUB,
    LATE,
    NODE,
    OUTSIDER,
    ROOT,
    STAFF,
    TOPICS,
    TRAINEE,
    Street,
    document,
    listed,
)

WRONG_HASH = "ab" * 32


async def _moves_nothing(street: Street, token: bytes, consumer: str = "hub") -> None:
    """The ack is not believed; the true one afterwards is."""
    before, epochs = street.cursors(), street.epochs()
    await street.hears_ack(token, consumer)
    assert street.cursors() == before
    assert street.epochs() == epochs
    await _true_ack_counts(street)


async def _true_ack_counts(street: Street) -> None:
    journals = await street.journals()
    await street.hears_ack(street.ack(journals))
    assert street.cursors()["hub", 0] == journals[street.epoch]["audit"][0]


# Acks.


async def an_ack_by_an_unlisted_key(street: Street) -> None:
    await _moves_nothing(street, street.ack(await street.journals(), FORGER))


async def an_ack_under_a_listed_keys_name(street: Street) -> None:
    """The header names the consumer's key; the signature is another's."""
    await _moves_nothing(street, street.ack(await street.journals(), Impostor(HUB).as_key()))


async def an_ack_that_is_signed_as_something_else(street: Street) -> None:
    """What the consumer's key signs elsewhere is no ack, whatever its members are."""
    said = Ack("hub", NODE.audience, await street.journals())
    await _moves_nothing(street, jose.sign(said, jose.REPORTED, HUB))


async def an_ack_by_another_algorithm(street: Street) -> None:
    header = {"alg": "EdDSA", "typ": jose.ACK, "kid": HUB.kid}
    said = msgspec.json.encode(Ack("hub", NODE.audience, await street.journals()))
    registry = jws.JWSRegistry(algorithms=["EdDSA"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # the library knows, too, that this name is out of use
        token = jws.serialize_compact(header, said, OKPKey.import_key(HUB.crypto), registry=registry)
    await _moves_nothing(street, token.encode())


async def an_ack_without_the_scope(street: Street) -> None:
    """Listed under the consumer's name, but for badges."""
    await _moves_nothing(street, street.ack(await street.journals(), CLERK))


async def an_ack_by_a_key_for_other_nodes(street: Street) -> None:
    await _moves_nothing(street, street.ack(await street.journals(), FAR))


async def an_ack_by_a_revoked_key(street: Street) -> None:
    await _moves_nothing(street, street.ack(await street.journals(), FORMER))


async def an_ack_by_an_expired_key(street: Street) -> None:
    await _moves_nothing(street, street.ack(await street.journals(), LATE))


async def an_ack_in_another_consumers_name(street: Street) -> None:
    """One consumer cannot free what the other has not got."""
    await _moves_nothing(street, street.ack(await street.journals(), ARCHIVE))


async def an_ack_for_another_node(street: Street) -> None:
    await _moves_nothing(street, street.ack(await street.journals(), aud=f"acme_locker-8/{NODE.instance}"))


async def an_ack_for_an_earlier_instance(street: Street) -> None:
    """Signed for the same name before the node was rebuilt with a new role key."""
    await _moves_nothing(street, street.ack(await street.journals(), aud=f"{NODE.node}/{FORGER.kid}"))


async def an_ack_of_nobodys_consumer(street: Street) -> None:
    """A key with the scope that the node's config does not name cannot even make it doubt its own file."""
    ahead = {street.epoch: {"audit": (10_000, WRONG_HASH)}}
    await _moves_nothing(street, street.ack(ahead, OUTSIDER, "outsider"), "outsider")


async def the_right_seq_with_a_wrong_hash(street: Street) -> None:
    """By the right key: the consumer holds something else, so nothing of ours is freed."""
    (seq, _) = (await street.journals())[street.epoch]["audit"]
    before = street.cursors()
    await street.hears_ack(street.ack({street.epoch: {"audit": (seq, WRONG_HASH)}}))
    assert street.cursors() == before
    await _true_ack_counts(street)


async def a_seq_above_our_last(street: Street) -> None:
    """By the right key: no cursor stands where no event is."""
    before = street.cursors()
    await street.hears_ack(street.ack({street.epoch: {"audit": (10_000, WRONG_HASH)}}))
    assert street.cursors() == before
    await _true_ack_counts(street)


async def an_epoch_that_is_not_ours(street: Street) -> None:
    await _moves_nothing(street, street.ack({new_epoch(): {"state": (3, None)}}))


async def an_ack_of_impossible_numbers(street: Street) -> None:
    """Negative, fractional, beyond what can be counted, without its hash, with one too many: a count each."""
    (seq, digest) = (await street.journals())[street.epoch]["audit"]
    for crooked in (
        {"audit": (-1, digest)},
        {"audit": (1.5, digest)},
        {"audit": (2**63, digest)},
        {"audit": (seq, None)},
        {"state": (1, digest)},
        {"noise": (1, None)},
        {"audit": (seq, digest.upper())},
    ):
        said: dict[str, Any] = {"iss": "hub", "aud": NODE.audience, "journals": {street.epoch: crooked}}
        await _moves_nothing(street, jose.sign(said, jose.ACK, HUB))


async def an_old_ack_comes_again(street: Street) -> None:
    """A replayed ack never moves a cursor back: what was freed may be gone already."""
    early = street.ack(await street.journals(2))
    await street.hears_ack(early)
    assert street.cursors()["hub", 0] == 2
    await _true_ack_counts(street)
    after = street.cursors()
    await street.hears_ack(early)
    assert street.cursors() == after


async def an_ack_of_noise(street: Street) -> None:
    for payload in (b"", b"\xff" * 100, b"a.b.c", b"[" * 5000, b"." * 40_000, b"x" * MAX_TOKEN_BYTES):
        await _moves_nothing(street, payload)


async def one_consumers_ack_leaves_the_others_alone(street: Street) -> None:
    await _true_ack_counts(street)
    assert street.cursors()["archive", 0] == 0


# Commands. The broker reads every nonce on its way.


async def _opens_nothing(street: Street) -> None:
    """Nothing has moved so far; an honest command afterwards opens its door."""
    assert street.doors.opened == []
    await street.open("04")
    assert street.doors.opened == ["04"]


async def a_command_by_an_unlisted_key(street: Street) -> None:
    await street.open(key=FORGER, iss="hub")
    await _opens_nothing(street)


async def a_command_under_a_listed_keys_name(street: Street) -> None:
    claims = street.claims(nonce=await street.nonce())
    assert await street.hears_command(sign_command(claims, Impostor(STAFF).as_key())) == []
    await _opens_nothing(street)


async def a_command_that_is_signed_as_something_else(street: Street) -> None:
    claims = street.claims(nonce=await street.nonce())
    assert await street.hears_command(jose.sign(claims, jose.VOUCHER, STAFF)) == []
    await _opens_nothing(street)


async def a_command_without_the_scope(street: Street) -> None:
    """May ask for nonces, may not open."""
    await street.open(key=TRAINEE, iss="trainee")
    await _opens_nothing(street)


async def a_command_by_a_key_for_other_nodes(street: Street) -> None:
    await street.open(key=FAR, iss="hub")
    await _opens_nothing(street)


async def a_command_by_a_revoked_key(street: Street) -> None:
    await street.open(key=FORMER, iss="hub")
    await _opens_nothing(street)


async def a_command_by_an_expired_key(street: Street) -> None:
    await street.open(key=LATE, iss="hub")
    await _opens_nothing(street)


async def a_command_in_anothers_name(street: Street) -> None:
    """The audit would tell of the wrong person."""
    claims = street.claims(iss="guard", nonce=await street.nonce())
    assert await street.hears_command(sign_command(claims, STAFF), "guard") == []
    await _opens_nothing(street)


async def a_command_for_another_node(street: Street) -> None:
    for audience in (f"acme_locker-8/{NODE.instance}", f"{NODE.node}/{FORGER.kid}", NODE.node, ""):
        claims = street.claims(nonce=await street.nonce(), aud=audience)
        assert await street.hears_command(sign_command(claims, STAFF)) == []
    await _opens_nothing(street)


async def a_nonce_that_nobody_gave(street: Street) -> None:
    await street.nonce()
    for invented in ("", "A" * 22, "x"):
        (answer,) = await street.hears_command(sign_command(street.claims(nonce=invented), STAFF))
        assert (answer.status, answer.reason) == (Status.REJECTED, "unknown_nonce")
    await _opens_nothing(street)


async def no_nonce_at_all(street: Street) -> None:
    """A session or an expiry is no stand-in for it."""
    for proof in ({}, {"session": street.journal.session}, {"rev": 1, "exp": int(street.clock.wall()) + 60}):
        await street.hears_command(sign_command(street.claims(**proof), STAFF))
    await _opens_nothing(street)


async def a_nonce_used_twice(street: Street) -> None:
    nonce = await street.nonce()
    for _ in range(2):
        await street.hears_command(sign_command(street.claims(nonce=nonce), STAFF))
    assert street.doors.opened == ["01"]


async def a_nonce_for_another_door(street: Street) -> None:
    nonce = await street.nonce("01")
    await street.hears_command(sign_command(street.claims(door="02", nonce=nonce), STAFF))
    await _opens_nothing(street)


async def a_nonce_of_another_person(street: Street) -> None:
    nonce = await street.nonce("01", GUARD, "guard")
    await street.hears_command(sign_command(street.claims(nonce=nonce), STAFF))
    await _opens_nothing(street)


async def a_nonce_that_is_over_a_minute_old(street: Street) -> None:
    """The broker keeps a command back until nobody expects it any more."""
    nonce = await street.nonce()
    await street.clock.advance(61)
    await street.hears_command(sign_command(street.claims(nonce=nonce), STAFF))
    await _opens_nothing(street)


async def arguments_that_name_another_door(street: Street) -> None:
    """The nonce is for the subject, and so must the door be."""
    nonce = await street.nonce("01")
    await street.hears_command(sign_command(street.claims(door="01", args={"door": "02"}, nonce=nonce), STAFF))
    await _opens_nothing(street)


async def an_old_nonce_request_comes_again(street: Street) -> None:
    """It does not void the nonce that is out, so the broker cannot make an honest command fail with it."""
    early = street.nonce_request()
    await street.hears_command(early, name="nonce")
    nonce = await street.nonce()
    await street.hears_command(early, name="nonce")
    await street.hears_command(sign_command(street.claims(nonce=nonce), STAFF))
    assert street.doors.opened == ["01"]


async def a_nonce_request_of_an_earlier_run(street: Street) -> None:
    (answer,) = await street.hears_command(street.nonce_request(session="0" * 24), name="nonce")
    assert (answer.status, answer.reason) == (Status.REJECTED, "wrong_session")
    await _opens_nothing(street)


async def a_command_comes_again(street: Street) -> None:
    """It is answered as before, and done once."""
    token = sign_command(street.claims(nonce=await street.nonce()), STAFF)
    first = await street.hears_command(token)
    assert [await street.hears_command(token) for _ in range(3)] == [first] * 3
    assert street.doors.opened == ["01"]


async def another_command_under_a_spent_id(street: Street) -> None:
    """Not done, and not told what became of the first."""
    claims = street.claims(nonce=await street.nonce())
    await street.hears_command(sign_command(claims, STAFF))
    other = msgspec.structs.replace(claims, subject="02", args={"door": "02"}, nonce=await street.nonce("02"))
    (answer,) = await street.hears_command(sign_command(other, STAFF))
    assert (answer.status, answer.reason) == (Status.REJECTED, "id_used")
    assert street.doors.opened == ["01"]


async def a_retained_command(street: Street) -> None:
    """A kept command would come again at every reconnect: it does not even reach the role agent."""
    token = sign_command(street.claims(nonce=await street.nonce()), STAFF)
    await street.hears(f"{TOPICS}/cmd/open", token, retain=True)
    await _opens_nothing(street)


async def a_command_on_another_nodes_topic(street: Street) -> None:
    token = sign_command(street.claims(nonce=await street.nonce()), STAFF)
    for topic in ("lm/v1/acme/acme_locker-8/cmd/open", f"lm/v1/other/{NODE.node}/cmd/open", f"{TOPICS}/cmd/open/now"):
        await street.hears(topic, token)
    await _opens_nothing(street)


async def an_oversized_command(street: Street) -> None:
    """Not handed to the process that holds the hardware."""
    await street.hears(f"{TOPICS}/cmd/open", b"x" * (MAX_TOKEN_BYTES + 1))
    assert not [each for each in street.agent.asked if isinstance(each, Offer)]
    await _opens_nothing(street)


async def a_command_of_noise(street: Street) -> None:
    for payload in (b"", b"\x00" * 50, b"eyJ.e30.AA", b"." * 30_000, b"[" * 5000):
        assert await street.hears_command(payload) == []
    for name, args in (("open-all", {}), ("open", {"door": "*"}), ("open", {"door": ["01", "02"]}), ("open", {})):
        claims = street.claims(name, args=args, nonce=await street.nonce())
        (answer,) = await street.hears_command(sign_command(claims, STAFF))
        assert answer.status is Status.REJECTED
    await _opens_nothing(street)


# The document that says whom to believe.


async def issuers_of_a_foreign_root(street: Street) -> None:
    forged = document(9, FORGER, more=[listed(FORGER, "burglar", "nonce", "open")])
    await street.hears(f"{TOPICS}/issuers", forged, retain=True)
    await street.open(key=FORGER, iss="burglar")
    await _opens_nothing(street)


async def issuers_under_the_roots_name(street: Street) -> None:
    forged = document(9, Impostor(ROOT).as_key(), more=[listed(FORGER, "burglar", "nonce", "open")])
    await street.hears(f"{TOPICS}/issuers", forged, retain=True)
    await street.open(key=FORGER, iss="burglar")
    await _opens_nothing(street)


async def an_older_edition_of_the_issuers(street: Street) -> None:
    """The one from before a key was revoked is the root's own work, and does not come back into force."""
    await street.hears(f"{TOPICS}/issuers", document(1, pardoned=True), retain=True)
    await street.open(key=FORMER, iss="hub")
    await _opens_nothing(street)


async def a_newer_edition_counts(street: Street) -> None:
    """The honest one, in between: a new colleague may open from now on."""
    colleague = SigningKey(os.urandom(32))
    await street.hears(f"{TOPICS}/issuers", document(3, more=[listed(colleague, "colleague", "nonce", "open")]))
    await street.open("02", colleague, "colleague")
    assert street.doors.opened == ["02"]
    assert uuid7(street.clock.wall(), bytes(10)) > street.epoch
