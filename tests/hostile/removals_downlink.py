"""The checks of bookings, commands of two persons and desired documents, taken away one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from edge import command, command_desk, document, inbox_sql, jose
from edge.desired_sql import HeldDesired
from edge.errors import VerificationError
from edge.inbox_sql import SqlInbox
from edge.keys import VerifyKey

Patches = list[Any]


def _persons(reason: str) -> Patches:
    require = command._require_persons

    def kinder(names: list[str], rule: command.Rule) -> None:
        try:
            require(names, rule)
        except VerificationError as error:
            if error.reason != reason:
                raise

    return [patch.object(command, "_require_persons", kinder)]


def _second_signature() -> Patches:
    def first_alone(token: bytes, typ: str, find_key: Callable[[str], VerifyKey]) -> tuple[jose.Verified, ...]:
        if not token.startswith(b"{"):
            return (jose.verify(token, typ, find_key),)
        general = jose._general(token, 2)
        first = jose.verify(general.compact(0), typ, find_key)
        kid = str(jose._header(general.compact(1), 3)["kid"])
        find_key(kid)
        return (first, jose.Verified(first.claims, kid))

    return [patch.object(jose, "verify_all", first_alone)]


def _one_spelling() -> Patches:
    def any_spelling(token: bytes, _signatures: int) -> Any:
        return msgspec.json.decode(token, type=jose._General)

    return [patch.object(jose, "_general", any_spelling)]


def _revision_rises() -> Patches:
    async def none_held(_self: SqlInbox, _subject: str) -> int:
        return 0

    return [patch.object(SqlInbox, "held_rev", none_held)]


def _expiry() -> Patches:
    admit = command.admit

    def whenever(wanted: Any, *args: Any, present: command.Present, **named: Any) -> Any:
        return admit(wanted, *args, present=msgspec.structs.replace(present, wall=None, passed=0.0), **named)

    return [patch.object(command_desk, "admit", whenever)]


def _whole() -> Patches:
    async def all_the_same(self: HeldDesired, desired: Any, digest: str, _refused: Any) -> None:
        await self._take(desired, digest)

    return [patch.object(HeldDesired, "_refuse", all_the_same)]


def _nothing(*_: Any) -> None:
    return None


REMOVALS: dict[str, Callable[[], Patches]] = {
    "two persons": lambda: _persons("wrong_persons"),
    "different persons": lambda: _persons("same_person"),
    "second signature": _second_signature,
    "one spelling": _one_spelling,
    "known by its first signature": lambda: [patch.object(jose, "first_alone", lambda token: token)],
    "half a command spends no id": lambda: [patch.object(command_desk, "UNENTITLED", frozenset())],
    "revision rises": _revision_rises,
    "revision is spent": lambda: [patch.object(inbox_sql, "_raise_rev", _nothing)],
    "booking expires": _expiry,
    "booking's wait is bounded": lambda: [patch.object(command, "MAX_WAIT_S", 2**40)],
    "newer desired": lambda: [patch.object(document, "require_newer", _nothing)],
    "whole or not at all": _whole,
}
