"""``lastmile demo --once`` plays its story to the end on this machine, with either broker, and its counts add up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.demo_broker import find_mosquitto
from agents.site import Site
from edge.keys_file import read_opening_key
from tests.crash.journal_file import Letters, read_journal

ROOT = Path(__file__).parents[2]
BROKERS = ("mosquitto", "in-process")

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("demo")]


class Story:
    """A demonstration that plays by itself and keeps its files."""

    def __init__(self, directory: Path, broker: str) -> None:
        self.site = Site(directory)
        self._said = (directory / "said.txt").open("w+")
        self._told = (directory / "told.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agents", "demo", "--once", "--json", "--broker", broker, "--dir", str(directory)],
            cwd=ROOT,
            stdout=self._told,
            stderr=self._said,
        )

    def end(self) -> tuple[int, str, str]:
        """(exit code, standard output, what was said on the way)"""
        code = self._process.wait()
        self._said.seek(0)
        self._told.seek(0)
        return code, self._told.read(), self._said.read()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        self._said.close()
        self._told.close()


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Story]]:
    """With both brokers beside each other: they mostly wait for doors."""
    assert find_mosquitto(), "mosquitto is not here. Run: apt-get install mosquitto"
    playing = {broker: Story(tmp_path_factory.mktemp(broker), broker) for broker in BROKERS}
    yield playing
    for story in playing.values():
        story.stop()


@pytest.mark.parametrize("broker", BROKERS)
def test_the_story_ends_well(broker: str, stories: dict[str, Story]) -> None:
    code, out, said = stories[broker].end()
    told = json.loads(out.splitlines()[-1])
    assert told["faults"] == []
    assert code == 0
    assert told["ok"] is True
    counts = told["counts"]
    assert counts["held"] == counts["audit_events"] > 50
    assert counts["twice"] == 0
    assert counts["unlock_frames"] == counts["unlocks_committed"] == 11
    assert counts["doors_opened"] == counts["openings_told"] == 7
    assert counts["deposited"] == counts["collected"] == 3
    assert "between commit and pulse" in said


def test_no_code_lies_about(stories: dict[str, Story]) -> None:
    """Every code was made, sealed and typed: none of them stands in a file that a process wrote."""
    story = stories["mosquitto"]
    story.end()
    letters = Letters(read_opening_key(story.site.key("hub.pem"))).read(read_journal(story.site.database))
    codes = [letter.code.encode() for letter in letters.values()]
    written = [path for path in story.site.directory.rglob("*") if path.is_file()]
    assert len(codes) == 3
    assert {"locker.log", "collector.db", "state.db", "witness.jsonl", "said.txt"} <= {path.name for path in written}
    assert [path for path in written if any(code in path.read_bytes() for code in codes)] == []
