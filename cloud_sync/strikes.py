"""Whether connections end over one and the same event: some brokers answer what they will not take by hanging up."""

from __future__ import annotations

from collections.abc import Collection

from cloud_sync.stream import Stream

STRIKES = 2
"""Connections that ended with the same message in flight before events go one at a time; as many again before one is
set aside. A bad link may do the same by chance, over an event that it lets through in none of the four: one of state or
telemetry is given up then and told as unsendable, one of audit waits for cloud-sync's next start."""


class Strikes:
    """Counts them. ``careful``: events go one at a time now; ``proven``: the present connection has carried others."""

    def __init__(self) -> None:
        self.careful = False
        self.proven = False
        self._stream: Stream | None = None
        self._position = 0
        self._upto = 0
        """All that was in flight when the trouble began lies at or below."""
        self._count = 0

    def lost(self, stream: Stream, upto: int) -> bool:
        """A connection has ended with this stream's next event in flight; True when that event is to be set aside.

        While ``careful`` the pump sends none before the connection has carried others: a single event that was in
        flight is then to blame.
        """
        if stream is not self._stream or stream.position != self._position:
            self._stream, self._position = stream, stream.position
            self._count = STRIKES if self.careful else 0
        self._count += 1
        if not self.careful and self._count >= STRIKES:
            self.careful, self._upto = True, upto
            return False
        return self.careful and self._count >= 2 * STRIKES

    def moved(self) -> None:
        """Something has come through: back to the usual way once all that was in flight at first has."""
        if self.careful and self._stream is not None and self._stream.position >= self._upto:
            self.careful = False

    def keep_to(self, streams: Collection[Stream]) -> None:
        """Forget a stream that has left."""
        if self._stream not in streams:
            self.careful, self._stream, self._count = False, None, 0
