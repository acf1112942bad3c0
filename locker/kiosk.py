"""The words of the kiosk's HTTP API: what the page may ask, what it hears, and what the desk behind it must do."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from typing import Annotated, Literal, Protocol

import msgspec

from locker.compartment import NOWHERE, Place
from locker.contract import DoorState, Reason, Word

SUBPROTOCOL = "lastmile.kiosk.v1"
"""What a watching WebSocket speaks; the token travels beside it, as a second offer that begins with ``token.``."""

BODY_LIMIT = 4096
"""Bytes of a request. The largest honest one carries a courier's signed badge of about 1 KiB."""


STATUS: dict[Reason, int] = {
    Reason.TYPO: 422,
    Reason.NO_SUCH_CODE: 404,
    Reason.EXPIRED: 410,
    Reason.USED: 410,
    Reason.WAIT: 429,
    Reason.EXTENSION_NEEDED: 422,
    Reason.BUSY: 409,
    Reason.OUT_OF_SERVICE: 409,
    Reason.CONFIRM_NEEDED: 409,
    Reason.NOT_ALLOWED: 403,
    Reason.BOOKING_REFUSED: 409,
    Reason.NO_ROOM: 409,
    Reason.VOUCHER_REFUSED: 403,
    Reason.OTHER_LOCKER: 404,
    Reason.TOO_EARLY: 409,
    Reason.SUPERSEDED: 410,
    Reason.NOT_HERE: 404,
    Reason.CLOSED: 409,
    Reason.RECALLED: 410,
    Reason.NOTHING_DUE: 404,
    Reason.PARCEL_INSIDE: 409,
    Reason.LOOK_FIRST: 409,
    Reason.DOOR_OPEN: 409,
    Reason.ITEM_SEEN: 409,
}
"""One HTTP status for each reason: 422 type it again, 404 and 410 no such door for you, 429 later, 409 not as things
stand now. Always 4xx, also for ``out_of_service``: the server is well and knows that the door is not."""


class SessionKind(enum.Enum):
    """What the door is opened for."""

    COLLECT = "collect"
    DEPOSIT = "deposit"
    LOOK = "look"
    """Somebody looks inside: staff, or whoever signed a command."""
    RECALL = "recall"
    """A courier takes out what is not for its customer."""


class SessionState(enum.Enum):
    """How far an attempt to open one door has come, as the page is told. ``ENDED`` is final."""

    UNLOCKING = "unlocking"
    OPEN = "open"
    JAMMED = "jammed"
    UNKNOWN = "unknown"
    CLOSED = "closed"
    ENDED = "ended"


class SessionView(msgspec.Struct, frozen=True):
    """A session as the page sees it.

    ``opened`` says whether the door was *seen* to open in this session, so that a page that comes late and finds only
    ``ended`` can still tell a parcel that was handed over from a door that never moved.
    """

    session: str
    kind: SessionKind
    door: str
    state: SessionState
    opened: bool
    count: int = 1
    """How many parcels lie behind the door, or are put there."""
    carry: str = ""
    """After a deposit that nobody far away knows of yet: the sealed codes, a space between them, as a QR for the
    courier's phone to carry. Only the hub opens them."""
    shut: Literal["", "chime", "alarm"] = ""
    """The door has stood open for longer than anybody needs, or for so long that staff are told."""
    next: Literal["", "collect", "deposit"] = ""
    """Once the door is closed: another one belongs to the same visit, and ``POST /api/sessions/{id}/next`` opens it."""

    @property
    def awaits_word(self) -> bool:
        """A deposit that nobody could see: the courier knows whether the parcel is inside."""
        return self.kind is SessionKind.DEPOSIT and self.state is SessionState.UNKNOWN


class DoorView(msgspec.Struct, frozen=True):
    """A door for ``GET /api/doors``: its name, size and place on the front, whether a seated person reaches it, its
    state.

    What lies behind a door is not told.
    """

    door: str
    size: str
    low: bool
    state: DoorState
    place: Place = NOWHERE


class FrontView(msgspec.Struct, frozen=True):
    """The cabinet's front in mm, for a picture of it. ``screen`` is where the person stands, None where nobody said."""

    width_mm: int
    height_mm: int
    screen: Place | None = None


class ShownCode(msgspec.Struct, frozen=True):
    """``GET /api/shown``: the digits by which a customer's app proves that they stand here, for ``until_s`` seconds."""

    shown: str
    until_s: float


class Accepted(msgspec.Struct, frozen=True):
    """Committed, and about to be pulsed: the session to follow and the door to stand at."""

    session: str
    door: str


class Refused(msgspec.Struct, frozen=True):
    """Not done. ``retry_after`` is seconds until asking again may help, None if time alone will not."""

    reason: Reason
    retry_after: float | None = None


class CollectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/collect``: a code or a voucher.

    The digits as typed; spaces and dashes are the desk's to judge. The voucher as scanned, or ``scan:`` and the
    reference that a scanner's agent gave for it.
    """

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    extension: Annotated[str, msgspec.Meta(min_length=1, max_length=16)] | None = None
    voucher: Annotated[str, msgspec.Meta(min_length=1, max_length=3072)] | None = None
    confirm: bool = False

    def __post_init__(self) -> None:
        if (self.code is None) == (self.voucher is None):
            raise ValueError("a code or a voucher")
        if self.voucher is not None and self.extension is not None:
            raise ValueError("an extension stands beside a code")

    def __repr__(self) -> str:
        return f"CollectRequest(confirm={self.confirm})"  # never the code: whatever is printed may be logged


class DepositRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/deposit``. ``badge`` is the courier's signed badge as scanned, or the reference of that scan
    (``locker.terminal``); ``low`` asks for a door in reach. ``also``: labels of more parcels for the same compartment.
    """

    badge: Annotated[str, msgspec.Meta(min_length=1, max_length=3072)]
    pin: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
    booking: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    size: Literal["S", "M", "L"]
    low: bool = False
    also: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...], msgspec.Meta(max_length=7)
    ] = ()

    def __repr__(self) -> str:
        return f"DepositRequest(booking={self.booking!r}, size={self.size!r}, low={self.low})"


class EndRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/sessions/{id}/end``."""

    word: Word = Word.NONE


class Desk(Protocol):
    """What stands behind the kiosk. Its methods raise only ``edge.errors.LastmileError``."""

    async def collect(self, code: str, extension: str | None, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """Judge a typed code. Returns after the commit and before the pulse; the door is told by the session."""
        ...

    async def collect_by_voucher(self, voucher: str, confirm: bool) -> Accepted | Refused:  # noqa: FBT001 - the API's own word
        """``collect``, for a customer who shows a signed QR: its token, or ``scan:`` and a reference to it."""
        ...

    async def deposit(
        self,
        badge: str,
        pin: str,
        bookings: tuple[str, ...],
        size: str,
        low: bool,  # noqa: FBT001 - the API's own word
    ) -> Accepted | Refused:
        """Choose one compartment for a courier's parcels and open it. The deposit is complete when the door has
        closed.
        """
        ...

    def session(self, session: str) -> SessionView | None:
        """The session as it stands, or None if it is not known (any more)."""
        ...

    def current(self) -> SessionView | None:
        """The newest session that was begun from afar and goes on: whoever stands here is to be shown its door."""
        ...

    def shown(self) -> ShownCode:
        """The digits to show now."""
        ...

    def watch(self, session: str) -> AsyncIterator[SessionView]:
        """The session as it stands, then each change, ending after ``ENDED``. Only for a session that is known."""
        ...

    def languages(self) -> tuple[str, ...]:
        """What the screen may speak, the first to begin with; none: whatever it can."""
        ...

    def doors(self) -> list[DoorView]:
        """Every door, in the order of their names."""
        ...

    async def next(self, session: str) -> Accepted | Refused | None:
        """Open the door that the session's ``next`` promises; None if the session is not known (any more)."""
        ...

    def front(self) -> FrontView:
        """How large the cabinet is, in which ``DoorView.place`` says where a door is."""
        ...

    async def end(self, session: str, word: Word) -> SessionView | None:
        """The person at the kiosk is through with the session; returns it as it then stands, None if not known.

        A jammed or unknown session ends at once. While the door is open the session goes on until it closes: an open
        door stays open whatever a page says. Where the word is that it cannot be shut, the session ends all the same.
        """
        ...


class Allowance:
    """A bounded rate: ``burst`` requests at once, ``rate`` a second on the long run. Times are monotonic seconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._at = 0.0

    def take(self, mono: float) -> float:
        """Take one request at ``mono``: 0.0 if it may go on, else the seconds until the next may."""
        self._left = min(self._burst, self._left + max(0.0, mono - self._at) * self._rate)
        self._at = mono
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._rate
