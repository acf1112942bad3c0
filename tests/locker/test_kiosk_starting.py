"""What keeps a kiosk's server from starting, and what the operator is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.clock_sim import ManualClock
from edge.errors import ConfigError, DeviceBusy
from locker.kiosk_http import build_kiosk, listen_kiosk
from tests.locker.kiosk_rig import TOKEN, ScriptedDesk, tiny_page


def test_a_page_that_is_not_built_is_said_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make setup"):
        build_kiosk(ScriptedDesk(), token=TOKEN, static=tmp_path, hosts=frozenset(), clock=ManualClock())


@pytest.mark.parametrize("token", ["", "short", "x" * 31, "x" * 40 + " ", "é" * 40])
def test_a_weak_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        build_kiosk(ScriptedDesk(), token=token, static=tiny_page(tmp_path), hosts=frozenset(), clock=ManualClock())


def test_a_port_in_use_is_said_so() -> None:
    with listen_kiosk("127.0.0.1", 0) as taken, pytest.raises(DeviceBusy, match="in use"):
        listen_kiosk("127.0.0.1", taken.getsockname()[1])


def test_an_address_that_is_not_ours_is_said_so() -> None:
    with pytest.raises(ConfigError, match="address of this machine"):
        listen_kiosk("192.0.2.1", 0)
