"""The faces of the product, built by Vite and shipped as package data."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KIOSK: Final = Path(__file__).parent / "dist" / "kiosk"
"""The built kiosk page; there after ``make setup`` or in an installed distribution."""
