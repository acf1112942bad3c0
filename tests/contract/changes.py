"""Which changes of a schema break those who were written against the older one: the rules of docs/contract.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def breaks_readers(old: Json, new: Json) -> list[str]:
    """What a consumer written for ``old`` can no longer rely on when a node says ``new``."""
    return sorted(_walk(_inlined(old), _inlined(new), "", reading=True))


def breaks_writers(old: Json, new: Json) -> list[str]:
    """What an issuer written for ``old`` says that a node of ``new`` would refuse."""
    return sorted(_walk(_inlined(old), _inlined(new), "", reading=False))


def _walk(old: Any, new: Any, at: str, *, reading: bool) -> Iterator[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield f"{at or '/'}: {old!r} became {new!r}"
        return
    for part, (before, now) in enumerate(zip(old.get("allOf", []), new.get("allOf", []), strict=False)):
        yield from _walk(before, now, f"{at}/{part}", reading=reading)
    for keyword in ("type", "const", "pattern", "items", "additionalProperties", "anyOf", "prefixItems"):
        if old.get(keyword) != new.get(keyword):
            yield f"{at or '/'}: {keyword} {old.get(keyword)!r} became {new.get(keyword)!r}"
    taken: list[Any] = old.get("enum", [])
    still: list[Any] = new.get("enum", taken)
    gone = set(map(str, taken)) - set(map(str, still))
    # A node may say less than it did; what issuers may say must go on being taken.
    if gone and not reading:
        yield f"{at or '/'}: no longer takes {sorted(gone)}"
    yield from _members(old, new, at, reading=reading)


def _members(old: Json, new: Json, at: str, *, reading: bool) -> Iterator[str]:
    before, now = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name in now:
            yield from _walk(before[name], now[name], f"{at}/{name}", reading=reading)
        else:
            yield f"{at}/{name}: is gone"
    was, is_now = set(old.get("required", [])), set(new.get("required", []))
    if reading:
        yield from (f"{at}/{name}: may be absent now" for name in was - is_now if name in now)
    else:
        yield from (f"{at}/{name}: has to be there now" for name in is_now - was)


def _inlined(schema: Json) -> Json:
    """The schema without references, titles and descriptions; a struct that holds itself would not end."""
    definitions = schema.get("$defs", {})

    def inline(part: Any) -> Any:
        match part:
            case {"$ref": str(reference)}:
                return inline(definitions[reference.removeprefix("#/$defs/")])
            case dict():
                told = {"$defs", "$id", "$schema", "title", "description", "default"}
                return {
                    key: {name: inline(each) for name, each in value.items()} if key == "properties" else inline(value)
                    for key, value in part.items()
                    if key not in told
                }
            case list():
                return [inline(each) for each in part]
        return part

    inlined: Json = inline(schema)
    return inlined
