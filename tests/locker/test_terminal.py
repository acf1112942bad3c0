"""What is keyed in and scanned: told apart by its form, kept from the page if it is a token, ignored if foreign."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import base64url, jose
from edge.clock_sim import ManualClock
from locker.inputs_asyncio import Inputs
from locker.pickup_code import check_digit
from locker.scan_frames import IDLE_S, QUIET_S, ScanFrames
from locker.terminal import (
    KEPT,
    REFERENCE_S,
    SCAN_LIMIT,
    Key,
    KeyPressed,
    ScanKind,
    Scanned,
    Terminal,
    classify,
)

CODE = "12345678" + check_digit("12345678")


def signed(typ: str) -> bytes:
    """What looks like a token of ours. Nothing here checks signatures."""
    head = base64url.encode(f'{{"alg":"Ed25519","typ":"{typ}","kid":"k"}}'.encode())
    return f"{head}.{base64url.encode(b'claims')}.{base64url.encode(bytes(64))}".encode()


def terminal() -> Terminal:
    numbers = itertools.count()
    return Terminal(lambda size: next(numbers).to_bytes(size, "big"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (CODE.encode(), ScanKind.CODE),
        (CODE.encode() + b"0417", ScanKind.CODE),
        (signed(jose.VOUCHER), ScanKind.VOUCHER),
        (signed(jose.BADGE), ScanKind.BADGE),
        (b"bk-7f3a", ScanKind.BOOKING),
        (b"RR473124829PL", ScanKind.BOOKING),
        (b"4006381333931", ScanKind.BOOKING),
    ],
    ids=lambda value: value.value if isinstance(value, ScanKind) else "",
)
def test_a_scan_is_told_by_its_form(data, kind):
    assert classify(data) is kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"https://example.com/pay?x=1",
        b"javascript:alert(1)",
        b"WIFI:S:free;T:WPA;P:secret;;",
        CODE.encode() + b"\n" + CODE.encode(),
        b"\x1b[15~" + CODE.encode(),
        CODE.encode() + b"\x00",
        b"\x10\x01config",
        b"A" * 10_000,
        signed(jose.BADGE) + b"A" * SCAN_LIMIT,
        signed(jose.COMMAND),
        signed("lm-badge+jwt "),
        b"a.b.c d",
        "Пакет".encode(),
        b"<script>",
        b"../../etc/passwd",
        b"x" * 65,
    ],
)
def test_a_foreign_scan_is_counted_and_tells_the_page_nothing(data):
    assert terminal().scan(data, 0.0) == Scanned(ScanKind.FOREIGN)
    inputs = Inputs(terminal(), ManualClock())
    inputs.scan(data)
    assert inputs.refused == {"foreign": 1}


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data):
    assert classify(data) in ScanKind


@pytest.mark.parametrize("typ", [jose.BADGE, jose.VOUCHER])
def test_the_page_gets_the_reference_of_a_token_and_never_the_token(typ):
    here, token = terminal(), signed(typ)
    scanned = here.scan(token, 0.0)
    assert scanned is not None
    assert scanned.text is None
    assert scanned.ref is not None
    assert token.decode() not in repr(scanned) + scanned.ref
    assert here.resolve(scanned.ref, 1.0) == token.decode()


def test_a_reference_ends_and_each_use_keeps_it():
    here = terminal()
    scanned = here.scan(signed(jose.BADGE), 0.0)
    assert scanned is not None
    assert scanned.ref is not None
    late = REFERENCE_S - 1
    assert here.resolve(scanned.ref, late) != scanned.ref
    assert here.resolve(scanned.ref, late * 2) != scanned.ref
    assert here.resolve(scanned.ref, late * 2 + REFERENCE_S) == scanned.ref, "it resolves to nothing any more"


def test_references_are_bounded_and_the_newest_stay():
    here = terminal()
    refs = [here.scan(signed(jose.BADGE), at * 2.0) for at in range(KEPT + 1)]
    known = [here.resolve(each.ref or "", 40.0) != each.ref for each in refs if each]
    assert known == [False] + [True] * KEPT


def test_what_is_no_reference_is_left_alone():
    assert terminal().resolve("eyJ.a.b", 0.0) == "eyJ.a.b"
    assert terminal().resolve("scan:unknown", 0.0) == "scan:unknown"


def test_a_scanner_that_reads_on_is_heard_once():
    here = terminal()
    heard = [here.scan(b"bk-1", at) for at in (0.0, 0.5, 1.2, 2.5)]
    assert [each is not None for each in heard] == [True, False, False, True]


def test_nothing_that_is_printed_holds_what_was_typed_or_scanned():
    scanned = terminal().scan(CODE.encode(), 0.0)
    assert CODE not in f"{scanned!r} {KeyPressed('7')!r}"
    assert "7" not in repr(KeyPressed("7"))


# Where a scan ends.


def frames_of(*pieces: tuple[float, bytes]) -> list[bytes]:
    """The scans in ``pieces``, each at its time, looked for every 5 ms."""
    frames, found, left, now = ScanFrames(), [], list(pieces), 0.0
    while left or frames.due is not None:
        while left and left[0][0] <= now:
            frames.feed(left.pop(0)[1], now)
        if (scan := frames.take(now)) is not None:
            found.append(scan)
        now += 0.005
    return found


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b""])
def test_a_scan_ends_with_a_line_or_with_silence(end):
    assert frames_of((0.0, b"12345"), (0.01, b"6789" + end), (1.0, b"next" + end)) == [b"123456789", b"next"]


def test_byte_by_byte_is_the_same():
    whole = signed(jose.BADGE) + b"\r\n"
    assert frames_of(*((at * 0.008, bytes([byte])) for at, byte in enumerate(whole))) == [whole[:-2]]


def test_a_barcode_of_several_lines_is_one_scan_and_a_foreign_one():
    (scan,) = frames_of((0.0, b"x\r"), (0.01, CODE.encode() + b"\r"))
    assert classify(scan) is ScanKind.FOREIGN


def test_a_flood_is_one_scan_of_bounded_length_and_a_foreign_one():
    (scan,) = frames_of(*((at * 0.001, b"1" * 500) for at in range(200)))
    assert SCAN_LIMIT < len(scan) < SCAN_LIMIT + 10
    assert classify(scan) is ScanKind.FOREIGN


def test_the_wait_after_a_line_is_shorter_than_without():
    frames = ScanFrames()
    frames.feed(b"1", 0.0)
    assert frames.due == IDLE_S
    frames.feed(b"\r", 0.0)
    assert frames.due == QUIET_S


# One stream.


async def test_keypad_and_scanners_are_one_stream_and_the_newest_page_hears_it():
    clock = ManualClock()
    inputs = Inputs(terminal(), clock)
    first, second = inputs.listen(), inputs.listen()
    old = asyncio.ensure_future(anext(first))
    await asyncio.sleep(0)
    inputs.press("5")
    assert await old == KeyPressed("5")
    new, gone = asyncio.ensure_future(anext(second)), asyncio.ensure_future(anext(first, None))
    await asyncio.sleep(0)
    assert await gone is None
    inputs.scan(CODE.encode())
    assert await new == Scanned(ScanKind.CODE, text=CODE)
    inputs.press(Key.ENTER)
    assert await anext(second) == KeyPressed("enter")
    await second.aclose()  # type: ignore[attr-defined]
    inputs.press("1")
    third = inputs.listen()
    waiting = asyncio.ensure_future(anext(third))
    await asyncio.sleep(0)
    assert not waiting.done(), "what nobody heard is forgotten"
    waiting.cancel()


async def test_a_page_that_does_not_read_costs_bounded_memory():
    inputs = Inputs(terminal(), ManualClock())
    stream = inputs.listen()
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    for _ in range(1000):
        inputs.press("1")
    heard = 1
    await waiting
    newer = inputs.listen()
    taking = asyncio.ensure_future(anext(newer))
    await asyncio.sleep(0)
    async for _ in stream:
        heard += 1
    assert heard < 100
    taking.cancel()
