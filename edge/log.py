"""Logs as data: a JSON line an event to stdout for journald, readable lines on a terminal, no secrets in either.

An event is a constant name such as ``door.opened`` with keys beside it. Nothing is set up at import.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, TextIO, cast


@contextlib.contextmanager
def _not_installed(name: str) -> Iterator[None]:
    """Imports inside find no package ``name``, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # importlib's own way to say so
    try:
        yield
    finally:
        del sys.modules[name]


# structlog loads rich wherever it is, for tracebacks that we do not print: 45 ms and 5 MB in every process of a node.
with _not_installed("rich"):
    import structlog
    from structlog.typing import FilteringBoundLogger, Processor

HIDDEN: Final = "[hidden]"

_SECRET_WORDS: Final = frozenset(
    {"authorization", "badge", "code", "codes", "cookie", "extension", "jwe", "jwk", "jws", "key", "keys", "nonce"}
    | {"password", "passphrase", "pin", "secret", "token", "voucher"}
)
"""Hidden where one of them is a key's whole name or its last word: ``code``, ``pickup_code``, ``kiosk_token``."""

_PLAIN_KEYS: Final = frozenset({"exit_code", "reason_code", "status_code"})

_TELLING: Final = re.compile(
    r"(?P<kept>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}"
    r"|(?<!\d)(?:\d{8,9}|\d{3}[ -]\d{3}[ -]\d{3}|\d{4}[ -]\d{4}[ -]?\d?)(?!\d)",
    re.DOTALL,
)
"""Keys, signed or sealed things, and runs of 8 or 9 digits, which may be a pickup code. Ids and hashes (``kept``) are
matched first, because they may hold such a run by chance."""

MAX_DEPTH: Final = 6
"""Of nested values; deeper ones are hidden, because nobody reads them and nobody has looked through them."""


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``part=name``."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=name))


def configure(*, level: str = "info", stream: TextIO | None = None, pretty: bool | None = None) -> None:
    """Send all logs of the process to ``stream`` (stdout), the libraries' from warnings up.

    ``pretty`` makes lines for people; by default it is on where the stream is a terminal.
    """
    out = stream or sys.stdout
    for_people = out.isatty() if pretty is None else pretty
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [*_exceptions(for_people=for_people), scrub, _renderer(for_people=for_people)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _library_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def set_level(level: str) -> None:
    """From here on write what is of ``level`` or above, for every logger of the process."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    logging.getLogger().setLevel(max(number, logging.WARNING))


def scrub(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hide what is secret by its key's name or by its looks, at any depth."""
    return {scrub_text(name): _value(name, value, 0) for name, value in event.items()}


def _library_name(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["part"] = event["_record"].name
    return event


def _value(name: object, value: object, depth: int) -> Any:
    if _is_secret(name) and value is not None and not isinstance(value, bool):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        return {scrub_text(str(inner)): _value(inner, below, depth + 1) for inner, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(None, below, depth + 1) for below in value]
    return scrub_text(value if isinstance(value, str) else repr(value))


def _is_secret(name: object) -> bool:
    if not isinstance(name, str):
        return False
    lowered = name.lower()
    return lowered not in _PLAIN_KEYS and re.split(r"[_.-]", lowered)[-1] in _SECRET_WORDS


def scrub_text(value: str) -> str:
    """``value`` with everything hidden that looks like a code, a key, or a signed or sealed thing."""
    return _TELLING.sub(lambda match: match["kept"] or HIDDEN, value)


def _exceptions(*, for_people: bool) -> list[Processor]:
    if for_people:
        return [structlog.processors.format_exc_info]
    # Locals would carry codes and keys into the log.
    return [structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))]


def _renderer(*, for_people: bool) -> Processor:
    if for_people:
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(ensure_ascii=False)
