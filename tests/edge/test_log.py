"""What a log line says can be searched for; what it must not say is not in it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from edge import jose, log
from tests.edge.trust import HUB, OPENER, ROLE

TOKEN = jose.sign({"door": "7"}, jose.COMMAND, HUB).decode()
SEALED = jose.seal(b"123", OPENER.public).decode()


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """The stream that all logs go to; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.configure(stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_keys(out: io.StringIO) -> None:
    log.get_logger("locker").info("door.opened", door="7", after_ms=41, ok=True, none=None)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "part": "locker",
        "level": "info",
        "event": "door.opened",
        "door": "7",
        "after_ms": 41,
        "ok": True,
        "none": None,
    }


def test_below_its_level_nothing_is_written(out: io.StringIO) -> None:
    log.configure(stream=out, level="warning")
    logger = log.get_logger("locker")
    logger.info("door.opened")
    logger.warning("door.jammed")
    assert [line["event"] for line in lines(out)] == ["door.jammed"]


@pytest.mark.parametrize(
    "name", ["code", "codes", "pickup_code", "extension", "PIN", "kiosk_token", "badge", "Authorization", "role.key"]
)
@pytest.mark.parametrize("value", ["1234", 1234, b"x", ["1234"], {"a": "1234"}])
def test_a_secret_is_hidden_by_the_name_of_its_key(out: io.StringIO, name: str, value: object) -> None:
    log.get_logger("locker").info("x", **{name: value}, deeper=[{name: value}])
    (line,) = lines(out)
    assert line[name] == log.HIDDEN
    assert line["deeper"] == [{name: log.HIDDEN}]


def test_harmless_neighbours_of_secret_names_are_kept(out: io.StringIO) -> None:
    log.get_logger("x").info("x", exit_code=3, kid=ROLE.kid, codec="kerong", token=None, pin=False)
    (line,) = lines(out)
    assert (line["exit_code"], line["kid"], line["codec"], line["token"], line["pin"]) == (
        3,
        ROLE.kid,
        "kerong",
        None,
        False,
    )


SECRETS = {
    "8 digits": "12345678",
    "9 digits": "123456789",
    "spaced": "123 456 789",
    "dashed": "123-456-789",
    "in fours": "1234 5678 9",
    "signed": TOKEN,
    "sealed": SEALED,
    "key": HUB.pem().decode(),
    "cut key": HUB.pem().decode()[:80],
}


class Holder(msgspec.Struct):
    inner: str


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_hidden_by_its_looks_wherever_it_stands(out: io.StringIO, secret: str) -> None:
    log.get_logger("x").info(
        f"typed {secret}", said=f"<{secret}>", raw=secret.encode(), nested={"a": [(secret,)]}, struct=Holder(secret)
    )
    log.get_logger("x").info("x", **{secret: 1})
    log.get_logger("x").info("x", deep=[[[[[[[secret]]]]]]])
    for part in secret.splitlines():
        assert part not in out.getvalue()
    assert log.HIDDEN in out.getvalue()


def test_ids_hashes_and_times_are_kept_although_they_hold_digits(out: io.StringIO) -> None:
    kept = ["01234567-1234-7123-8123-123456789012", "12345678" * 8, "2026-11-23T10:20:30.123456Z", "1800000000", "1234"]
    log.get_logger("x").info("x", kept=kept)
    assert lines(out)[0]["kept"] == kept


@given(
    code=st.from_regex(r"\A[0-9]{8,9}\Z"), around=st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=8)
)
def test_no_code_survives_in_any_surrounding_text(code: str, around: str) -> None:
    shown = log.scrub(None, "info", {"event": around + code + around, "list": [code]})
    assert code not in json.dumps(shown)


def test_an_exception_is_told_as_data_without_locals_and_without_its_secrets(out: io.StringIO) -> None:
    def fail() -> None:
        local = "SECRET-" + "LOCAL"
        raise ValueError("bad code 87654321 " + local[:0])

    try:
        fail()
    except ValueError:
        log.get_logger("x").exception("it.failed")
    (line,) = lines(out)
    (told,) = line["exception"]
    assert told["exc_type"] == "ValueError"
    assert told["frames"][-1]["name"] == "fail"
    assert "SECRET-LOCAL" not in out.getvalue()
    assert "87654321" not in out.getvalue()


def test_for_people_the_same_is_hidden(out: io.StringIO) -> None:
    log.configure(stream=out, pretty=True)
    try:
        int("code 87654321")
    except ValueError:
        log.get_logger("x").exception("it.failed", code="1234", said="87654321")
    text = out.getvalue()
    assert "it.failed" in text
    assert "Traceback (most recent call last)" in text
    assert "87654321" not in text
    assert "1234" not in text


def test_a_terminal_gets_lines_for_people_and_a_pipe_gets_json(out: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    log.configure(stream=terminal)
    log.get_logger("x").info("door.opened")
    assert "door.opened" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    log.configure(stream=out)
    log.get_logger("x").info("door.opened")
    assert lines(out)[0]["event"] == "door.opened"


def test_a_value_that_holds_itself_does_not_stop_the_log(out: io.StringIO) -> None:
    endless: list[object] = []
    endless.append(endless)
    log.get_logger("x").info("x", endless=endless)
    assert log.HIDDEN in out.getvalue()


def test_a_librarys_warning_comes_out_scrubbed_as_well(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("request with code %s", "87654321")
    logging.getLogger("uvicorn.access").info("GET /")
    (line,) = lines(out)
    assert line["event"] == f"request with code {log.HIDDEN}"
    assert line["part"] == "uvicorn.error"
    assert line["level"] == "warning"


def test_importing_sets_nothing_up_and_prints_nothing() -> None:
    script = (
        "import edge.log, logging, structlog; assert not structlog.is_configured(); assert not logging.root.handlers"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
