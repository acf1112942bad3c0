"""What the locker reads out of its screen, and to whom: everybody hears what anybody may see from afar."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final

import msgspec

VOICES: Final = {"en": "en-gb", "ru": "ru"}
"""espeak-ng's voices for the languages of the page."""

LONGEST: Final = 300
"""Characters of one saying, 20 s of speech. The page says less; nobody has the locker recite."""

_CODE: Final = re.compile(r"\d(?:[\s.\-]*\d){3,}")
"""Four digits or more in a row, however they are grouped: a code, a PIN or its extension. Doors have fewer."""

Text = Annotated[str, msgspec.Meta(max_length=LONGEST)]


class SpeakRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/speak``. ``personal`` is what only whoever wears the headphones may hear, in the place of ``text``:
    which door, and how many parcels.
    """

    language: Annotated[str, msgspec.Meta(pattern="^[a-z]{2}$")]
    text: Text
    personal: Text = ""


class Saying(msgspec.Struct, frozen=True):
    """``aloud`` and ``private`` in ``voice``; "" is silence."""

    voice: str
    aloud: str
    private: str


def saying(asked: SpeakRequest) -> Saying | None:
    """What is said for ``asked``; None in a language that has no voice here.

    A page that was made to hand over a code does not have it spoken: digits in a row are left out.
    """
    voice = VOICES.get(asked.language)
    if voice is None:
        return None
    return Saying(voice, _plain(asked.text), _plain(asked.personal) or _plain(asked.text))


def _plain(text: str) -> str:
    spoken = "".join(" " if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Co", "Cn"} else sign for sign in text)
    return " ".join(_CODE.sub(" ", spoken).split())
