"""Whether a process is well: every critical part has made progress lately, and nothing critical is at fault."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct):
    """One part of a process. ``limit_s`` is None for a part that only tells its faults and has no duty to move."""

    limit_s: float | None
    progressed: float
    restarts: int = 0
    fault: str = ""
    vital: bool = True


class Health:
    """Parts report, others ask. All times are running seconds of the process's clock."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}

    def expect(self, name: str, *, mono: float, limit_s: float | None = None, vital: bool = True) -> None:
        """Watch ``name`` from now on; with ``limit_s`` it is critical and must progress at least that often.

        One that is not ``vital`` is told when it is late, and the process goes on: its end would mend nothing.
        """
        self._parts[name] = Part(limit_s, mono, vital=vital)

    def progress(self, name: str, mono: float) -> None:
        """``name`` did a piece of work, or looked and found none. That ends its fault."""
        part = self._parts.setdefault(name, Part(None, mono))
        part.progressed = mono
        part.fault = ""

    def fail(self, name: str, fault: str, mono: float) -> None:
        """``name`` cannot do its work, for the reason ``fault``, until it next progresses."""
        self._parts.setdefault(name, Part(None, mono)).fault = fault

    def restarted(self, name: str, mono: float) -> None:
        self._parts.setdefault(name, Part(None, mono)).restarts += 1

    def forget(self, name: str) -> None:
        """``name`` has ended as it should."""
        self._parts.pop(name, None)

    def late(self, mono: float) -> tuple[str, ...]:
        """The critical parts whose last progress is longer ago than their limit."""
        return tuple(
            name
            for name, part in self._parts.items()
            if part.limit_s is not None and mono - part.progressed > part.limit_s
        )

    def healthy(self, mono: float) -> bool:
        """Whether the watchdog may be fed. A fault alone does not stop it: a restart mends no unplugged board."""
        return not any(self._parts[name].vital for name in self.late(mono))

    def report(self, mono: float) -> Report:
        """All of it, for ``lastmile doctor`` and the health socket."""
        late = self.late(mono)
        return Report(
            healthy=not late,
            parts={
                name: PartReport(
                    round(mono - part.progressed, 3), part.limit_s, part.restarts, part.fault, name in late
                )
                for name, part in self._parts.items()
            },
        )


class PartReport(msgspec.Struct, frozen=True):
    """``quiet_s``: seconds since its last progress."""

    quiet_s: float
    limit_s: float | None
    restarts: int
    fault: str
    late: bool


class Report(msgspec.Struct, frozen=True):
    """What the health socket answers."""

    healthy: bool
    parts: dict[str, PartReport]

    def summary(self) -> str:
        """One line for the service manager's status."""
        troubles = [
            f"{name}: {part.fault or f'no progress for {part.quiet_s:.0f} s'}"
            for name, part in self.parts.items()
            if part.late or part.fault
        ]
        return "; ".join(troubles) or "well"
