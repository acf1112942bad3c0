"""Speaks with the distribution's espeak-ng, through ALSA's aplay."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from typing import Final

from edge import log
from locker.speech import Saying

WORDS_A_MINUTE: Final = 150
"""espeak-ng's own 175 is hard to follow for whoever hears it for the first time, in the street."""
LONGEST_S: Final = 60.0
"""A saying that takes longer hangs in its device."""

_log = log.get_logger("locker.speech")


def aplay(device: str) -> Sequence[str]:
    """Plays a WAV file from its standard input on an ALSA device, such as ``plughw:1``."""
    return ("aplay", "--quiet", "--device", device, "-")


class Speaker:
    """One voice for each output. ``device`` is heard by everybody, ``headphones`` by one person; "" is none."""

    def __init__(
        self, device: str, headphones: str, *, player: Callable[[str], Sequence[str]] = aplay, espeak: str = "espeak-ng"
    ) -> None:
        self._outputs = (device, headphones)
        self._player = player
        self._espeak = espeak
        self._newest = 0
        self._running: list[Process] = []

    async def say(self, what: Saying) -> None:
        """Speak, and return when it is said. What is still being said is broken off: the screen has gone on.

        A missing program or a device that fails is told in the log alone: a locker opens doors without a voice.
        """
        self._newest += 1
        self.stop()
        turn, voice = self._newest, what.voice
        outputs = zip(self._outputs, (what.aloud, what.private), strict=True)
        await asyncio.gather(*(self._speak(device, voice, text, turn) for device, text in outputs if device and text))

    def stop(self) -> None:
        """Be silent."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _speak(self, device: str, voice: str, text: str, turn: int) -> None:
        reading, writing = os.pipe()
        started: list[Process] = []
        try:
            speed = str(WORDS_A_MINUTE)
            command = (self._espeak, "-v", voice, "-s", speed, "--stdin", "--stdout")
            voiced = await self._start(started, command, stdin=PIPE, stdout=writing)
            await self._start(started, self._player(device), stdin=reading, stdout=DEVNULL)
        except OSError as error:
            _log.warning("speech.failed", what=str(error), remedy="install espeak-ng and alsa-utils")
            voiced = None
        finally:
            os.close(reading)
            os.close(writing)
        if turn != self._newest:  # something newer is being said already
            voiced = None
        await self._finish(started, voiced, text)

    async def _start(self, started: list[Process], command: Sequence[str], *, stdin: int, stdout: int) -> Process:
        process = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=stdout, stderr=DEVNULL)
        started.append(process)
        self._running.append(process)
        return process

    async def _finish(self, started: list[Process], voiced: Process | None, text: str) -> None:
        """Hand the text over and wait for both ends, however they end."""
        try:
            async with asyncio.timeout(LONGEST_S):
                await _speak_through(started, voiced, text)
        except TimeoutError:
            _log.warning("speech.hangs", remedy="look at the sound device")
        finally:
            for process in started:
                await _end(process)
                self._running.remove(process)


async def _speak_through(started: list[Process], voiced: Process | None, text: str) -> None:
    if voiced is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await voiced.communicate(text.encode())
    for process in started:
        await process.wait()


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
