"""One tree of errors. Each says what happened, who is at fault and what to do next."""

from __future__ import annotations

import enum
from typing import ClassVar


class Fault(enum.Enum):
    """Who has to act for the error to go away."""

    OPERATOR = "operator"
    """Configuration, wiring or rights: a person with access to the node mends it."""
    PEER = "peer"
    """The other end of a wire sent what its protocol or our rules forbid; nothing is wrong here."""
    HARDWARE = "hardware"
    """A device is missing, silent or contradicts itself."""
    STORE = "store"
    """The disk or the database cannot keep what it was given."""
    OURS = "ours"
    """A defect in this program."""


class LastmileError(Exception):
    """Root of every error this product raises on purpose.

    ``what`` states the fact, ``remedy`` the next step for whoever is at fault. Neither may carry a secret or a
    pickup code: both are logged.
    """

    fault: ClassVar[Fault] = Fault.OURS

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


class ConfigError(LastmileError, ValueError):
    """A configuration file cannot be used. ``what`` names file, line and key."""

    fault = Fault.OPERATOR


class ProtocolError(LastmileError, ValueError):
    """Bytes broke their protocol. The receiver has dropped them and goes on."""

    fault = Fault.PEER


class VerificationError(LastmileError, ValueError):
    """A signed thing is not what it must be: signature, type, audience, scope, validity. Nothing was done.

    ``reason`` is one stable word for counters and answers, such as ``bad_signature`` or ``wrong_audience``.
    """

    fault = Fault.PEER

    def __init__(self, reason: str, what: str, *, remedy: str) -> None:
        super().__init__(what, remedy=remedy)
        self.reason = reason


class DeviceError(LastmileError, OSError):
    """A device cannot be used now; the owner of the port retries by itself."""

    fault = Fault.HARDWARE


class DeviceMissing(DeviceError):
    """The device file is not there: unplugged, or a wrong path in the configuration."""


class DeviceBusy(DeviceError):
    """Another process holds the device."""


class DeviceSilent(DeviceError):
    """No valid answer within the deadline. What the device did is not known."""


class StoreError(LastmileError):
    """The store did not keep what it was given; the caller must treat it as not done."""

    fault = Fault.STORE


class StoreFull(StoreError):
    """No space is left for this class of data. Collections and safety have a reserve of their own."""


class StoreCorrupt(StoreError):
    """The database is damaged. It is quarantined and rebuilt at the next start."""


class TransitionError(LastmileError, RuntimeError):
    """A state machine was given an input that its table does not have. A defect, never a user's error."""
