"""Every check that stands between a hostile broker and the truth, taken away one at a time.

Each removal patches one check out of the product and nothing beside it. A check whose absence no scene notices would
be no check.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from unittest.mock import patch

import msgspec
from joserfc import jws
from joserfc.errors import SecurityWarning

from agents import locker_downlink
from cloud_sync import service as cloud_sync_service
from cloud_sync.service import CloudSync
from cloud_sync.topics import Topic, parse
from edge import acks, base64url, command, command_desk, issuers, jose, journal_keep_sql, link, link_desk_sql, nonce
from edge.claims import refused
from edge.command_desk import CommandDesk
from edge.errors import VerificationError
from edge.inbox_sql import SqlInbox
from edge.issuers import Entry, Issuer, Issuers
from edge.keys import SigningKey, VerifyKey
from edge.nonce import NonceBook
from tests.hostile.removals_consumer import REMOVALS as CONSUMER_REMOVALS
from tests.hostile.removals_downlink import REMOVALS as DOWNLINK_REMOVALS

STRANGERS = (SigningKey(b"s" * 32), SigningKey(b"f" * 32))
"""Keys that nobody lists."""

Patches = list[Any]
Removal = Callable[[], Patches]


@contextlib.contextmanager
def without(check: str) -> Iterator[None]:
    """The product without ``check``, for the length of the block."""
    with contextlib.ExitStack() as stack:
        for each in REMOVALS[check]():
            stack.enter_context(each)
        yield


# What every signed thing goes through.


def _signature() -> Patches:
    def unproven(token: bytes, *_: Any, **__: Any) -> Any:
        payload = base64url.decode(token.split(b".")[1])
        return type("Signed", (), {"payload": payload})()

    return [patch.object(jws, "deserialize_compact", unproven)]


def _algorithm() -> Patches:
    class Anything(str):
        """Equal to every name of an algorithm."""

        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    return [
        warnings.catch_warnings(action="ignore", category=SecurityWarning),
        patch.object(jose, "ALGORITHM", Anything("Ed25519")),
        patch.object(jose, "_jws", jws.JWSRegistry(algorithms=["Ed25519", "EdDSA"])),
    ]


def _type() -> Patches:
    verify = jose.verify

    def whatever_it_is(token: bytes, _typ: str, find_key: Callable[[str], VerifyKey]) -> jose.Verified:
        return verify(token, str(jose._header(token, 3).get("typ")), find_key)

    return [patch.object(jose, "verify", whatever_it_is)]


def _listed(strangers: Mapping[str, SigningKey]) -> Patches:
    """A key that nobody listed counts as listed for everything, as if it had been taken from the token."""
    listed = Issuers.listed

    def anybody(self: Issuers, kid: str) -> Issuer:
        try:
            return listed(self, kid)
        except VerificationError:
            key = strangers[kid].public
            scopes = ("ack", "nonce", "open", "clear", "desired")
            return Issuer(Entry("hub", key.jwk(), scopes, ("*",), 0, 2**40), key)

    return [patch.object(Issuers, "listed", anybody)]


class _All(tuple[str, ...]):
    """Has every scope."""

    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        return True


def _entry(**changed: Any) -> Patches:
    """Every listed key as if its entry said ``changed``."""
    listed = Issuers.listed

    def kinder(self: Issuers, kid: str) -> Issuer:
        issuer = listed(self, kid)
        return Issuer(msgspec.structs.replace(issuer.entry, **changed), issuer.key)

    return [patch.object(Issuers, "listed", kinder)]


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _issuer_name() -> Patches:
    return [patch.object(module, "require_issuer", _nothing) for module in (issuers, command)]


def _audience() -> Patches:
    return [patch.object(module, "require_audience", _nothing) for module in (issuers, command)]


# Documents.


def _root(strangers: Mapping[str, SigningKey]) -> Patches:
    def any_root(roots: Any, kid: str) -> VerifyKey:
        return next((root for root in roots if root.kid == kid), None) or strangers[kid].public

    return [patch.object(issuers, "_root", any_root)]


# Acks.


def _named_consumer() -> Patches:
    class Everybody:
        def __contains__(self, _: object) -> bool:
            return True

    read = acks.read_ack

    def from_anybody(*args: Any, consumers: Any, **named: Any) -> Any:
        return read(*args, consumers=cast("Any", Everybody()), **named)

    return [patch.object(link_desk_sql, "read_ack", from_anybody)]


def _taken_despite_doubt(reason: str) -> Patches:
    doubt = journal_keep_sql._doubt

    def kinder(*args: Any) -> str:
        found = doubt(*args)
        return "" if found == reason else found

    return [patch.object(journal_keep_sql, "_doubt", kinder)]


def _known_epoch() -> Patches:
    number = journal_keep_sql.epoch_number

    def newest_instead(sql: Any, epoch: str) -> int | None:
        found = number(sql, epoch)
        return sql.execute("SELECT max(no) FROM epoch").fetchone()[0] if found is None else found

    return [patch.object(journal_keep_sql, "epoch_number", newest_instead)]


def _cursor_only_rises() -> Patches:
    apply_ack = journal_keep_sql.apply_ack

    def and_set(transaction: Any, consumer: str, ack: acks.Ack) -> Any:
        outcome = apply_ack(transaction, consumer, ack)
        for classes in ack.journals.values():
            if not outcome.refused:
                transaction.sql.execute("UPDATE cursor SET seq = ? WHERE class = 0", (classes["audit"][0],))
        return outcome

    return [patch.object(link_desk_sql, "apply_ack", and_set)]


# Commands.


def _nonce_known() -> Patches:
    redeem = NonceBook.redeem

    def invented(self: NonceBook, *args: Any) -> None:
        try:
            redeem(self, *args)
        except VerificationError as error:
            if error.reason != "unknown_nonce":
                raise

    return [patch.object(NonceBook, "redeem", invented)]


def _nonce_once() -> Patches:
    redeem = NonceBook.redeem

    def again(self: NonceBook, kid: str, name: str, subject: str, value: str, mono: float) -> None:
        redeem(self, kid, name, subject, value, mono)
        self._slots[kid][name, subject].nonce = value

    return [patch.object(NonceBook, "redeem", again)]


def _nonce_place(*, same_key: bool, same_subject: bool) -> Patches:
    """A nonce is good for whatever key or subject, as long as it was given out at all."""
    redeem = NonceBook.redeem

    def anywhere(self: NonceBook, kid: str, name: str, subject: str, value: str, mono: float) -> None:
        for owner, slots in self._slots.items():
            for (what, whom), slot in slots.items():
                fits = (owner == kid or not same_key) and (whom == subject or not same_subject)
                if slot.nonce == value and what == name and fits:
                    return redeem(self, owner, what, whom, value, mono)
        raise refused("unknown_nonce", "none", "none")

    return [patch.object(NonceBook, "redeem", anywhere)]


def _nonce_age() -> Patches:
    return [patch.object(nonce, "_over", lambda *_: False)]


def _nonce_request() -> Patches:
    """Any request, however old, voids the nonce that is out."""
    issue = NonceBook.issue

    def fresh(self: NonceBook, kid: str, name: str, subject: str, request: int, mono: float) -> str:
        self._slots.get(kid, {}).pop((name, subject), None)
        return issue(self, kid, name, subject, request, mono)

    return [patch.object(NonceBook, "issue", fresh)]


def _door_is_the_subject() -> Patches:
    open_door = locker_downlink._open_door

    def whatever_subject(service: Any) -> Any:
        act = open_door(service)

        async def open_anything(wanted: Any, args: Any, take: Any, ended: Any) -> None:
            claims = msgspec.structs.replace(wanted.claims, subject=args.door)
            await act(msgspec.structs.replace(wanted, claims=claims), args, take, ended)

        return open_anything

    return [patch.object(locker_downlink, "_open_door", whatever_subject)]


def _session() -> Patches:
    admit = command.admit

    def any_session(wanted: Any, *args: Any, present: command.Present, **named: Any) -> Any:
        present = msgspec.structs.replace(present, session=wanted.claims.session or present.session)
        return admit(wanted, *args, present=present, **named)

    return [patch.object(command_desk, "admit", any_session)]


def _spent_id() -> Patches:
    async def unknown(self: SqlInbox, jti: str) -> None:
        return None

    return [patch.object(SqlInbox, "find", unknown)]


def _spent_content() -> Patches:
    def same_answer(self: CommandDesk, wanted: Any, known: Any) -> Any:
        return ((wanted.claims.jti, known.result),)

    return [patch.object(CommandDesk, "_answer_again", same_answer)]


# cloud-sync: what it never passes on.


def _retained() -> Patches:
    take = CloudSync._take

    async def as_if_live(self: CloudSync, message: Any) -> None:
        await take(self, msgspec.structs.replace(message, retain=False))

    return [patch.object(CloudSync, "_take", as_if_live)]


def _own_topic() -> Patches:
    def ours(topic: str) -> Topic:
        return msgspec.structs.replace(parse(topic), node="acme_locker-7")

    return [patch.object(cloud_sync_service, "parse", ours)]


def removals(strangers: Mapping[str, SigningKey]) -> dict[str, Removal]:
    """The node's checks by name. ``strangers``: private keys that no document lists, by kid."""
    return {
        "signature": _signature,
        "algorithm": _algorithm,
        "type": _type,
        "key is listed": lambda: _listed(strangers),
        "scope": lambda: _entry(scopes=_All()),
        "node pattern": lambda: _entry(nodes=("*",)),
        "revocation": lambda: _entry(revoked=False),
        "validity": lambda: _entry(not_before=0, not_after=2**40),
        "issuer's name": _issuer_name,
        "audience": _audience,
        "pinned root": lambda: _root(strangers),
        "newer version": lambda: [patch.object(issuers, "require_newer", _nothing)],
        "configured consumer": _named_consumer,
        "hash of the ack": lambda: _taken_despite_doubt("wrong_hash"),
        "bound of the ack": lambda: _taken_despite_doubt("ahead_of_us"),
        "epoch of the ack": _known_epoch,
        "cursor only rises": _cursor_only_rises,
        "nonce was given out": _nonce_known,
        "nonce is used once": _nonce_once,
        "nonce is for the door": lambda: _nonce_place(same_key=True, same_subject=False),
        "nonce is for the key": lambda: _nonce_place(same_key=False, same_subject=True),
        "nonce is young": _nonce_age,
        "nonce requests rise": _nonce_request,
        "door is the subject": _door_is_the_subject,
        "session": _session,
        "id is spent": _spent_id,
        "id belongs to its content": _spent_content,
        "retained command": _retained,
        "topic of this node": _own_topic,
        "size on the node": lambda: [patch.object(link, "MAX_TOKEN_BYTES", 2**30)],
    }


REMOVALS = removals({key.kid: key for key in STRANGERS}) | CONSUMER_REMOVALS | DOWNLINK_REMOVALS
