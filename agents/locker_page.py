"""Wires what a locker's page tells of itself: to the process's health, and to its voice."""

from __future__ import annotations

from starlette.routing import Route

from agents.settings import Kiosk
from edge.clock import Clock
from edge.health import Health
from locker.kiosk_page import QUIET_S, Drawn
from locker.page_http import page_routes
from locker.speech_process import Speaker

SCREEN = "screen"
"""The page's name among the parts whose health is told."""


def keep_page(kiosk: Kiosk, health: Health, clock: Clock) -> list[Route]:
    """The routes. Where a screen is expected, one that draws nothing new is late; this process goes on all the same."""
    if kiosk.expected:
        health.expect(SCREEN, mono=clock.mono(), limit_s=QUIET_S, vital=False)
    drawn = Drawn(lambda: health.progress(SCREEN, clock.mono()) if kiosk.expected else None)
    speech = kiosk.speech
    speaks = bool(speech.device or speech.headphones)
    return page_routes(drawn, Speaker(speech.device, speech.headphones).say if speaks else None)
