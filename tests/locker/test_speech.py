"""The locker reads its screen out: the distribution's espeak-ng speaks, and nobody hears another person's door."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from locker.speech import Saying, SpeakRequest, saying
from locker.speech_process import Speaker

HEADER = 44
"""Bytes of a WAV before its sound."""


def into_file(device: str) -> tuple[str, ...]:
    """The file named like the device is what its listeners would hear."""
    return ("dd", f"of={device}", "status=none")


def seconds(heard: Path) -> float:
    """How long a WAV is whose length espeak-ng could not know when it began to write."""
    with wave.open(str(heard)) as sound:
        bytes_a_second: int = sound.getframerate() * sound.getsampwidth() * sound.getnchannels()
    return (heard.stat().st_size - HEADER) / bytes_a_second


def test_a_code_is_never_said() -> None:
    asked = SpeakRequest("en", "Type 123 456 785 or 4821-73 now. Door 12.", "1234")
    assert saying(asked) == Saying("en-gb", "Type or now. Door 12.", "Type or now. Door 12.")


def test_what_is_personal_is_for_headphones_alone() -> None:
    assert saying(SpeakRequest("ru", "Ячейка открыта.", "12. Ячейка открыта.")) == Saying(
        "ru", "Ячейка открыта.", "12. Ячейка открыта."
    )


def test_control_characters_are_no_speech_and_an_unknown_language_is_silence() -> None:
    assert saying(SpeakRequest("en", "a\x1b[2Jb\n\u202ec")) == Saying("en-gb", "a [2Jb c", "a [2Jb c")
    assert saying(SpeakRequest("xx", "hello")) is None


@pytest.mark.parametrize(("voice", "word"), [("en-gb", "Door"), ("ru", "Ячейка")])
async def test_it_is_heard_and_a_longer_text_for_longer(tmp_path: Path, voice: str, word: str) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    await Speaker(str(short), "", player=into_file).say(Saying(voice, word, ""))
    await Speaker(str(long), "", player=into_file).say(Saying(voice, " ".join([word] * 8), ""))
    assert 0.2 < seconds(short) < seconds(long)


async def test_each_output_hears_its_own(tmp_path: Path) -> None:
    everybody, one = tmp_path / "everybody", tmp_path / "one"
    await Speaker(str(everybody), str(one), player=into_file).say(Saying("en-gb", "Hello", "Hello. Go to door twelve"))
    assert seconds(everybody) < seconds(one)


async def test_a_new_screen_breaks_off_what_is_said_of_the_last() -> None:
    started = asyncio.Event()

    def endless(device: str) -> tuple[str, ...]:
        started.set()
        return ("sleep", "60") if device == "device" else ("true",)

    speaker = Speaker("device", "", player=endless)
    first = asyncio.create_task(speaker.say(Saying("en-gb", "Hello", "")))
    await started.wait()
    second = asyncio.create_task(speaker.say(Saying("en-gb", "", "")))
    async with asyncio.timeout(10):
        await asyncio.gather(first, second)


async def test_a_locker_without_a_voice_goes_on() -> None:
    speaker = Speaker("device", "", player=into_file, espeak="/nowhere/espeak-ng")
    with capture_logs() as logs:
        await speaker.say(Saying("en-gb", "Hello", ""))
    assert [line["event"] for line in logs] == ["speech.failed"]
