"""Where a secret is read from: the service manager's credentials first, the configured file otherwise.

A credential can be bound to the machine's TPM, so that a stolen card holds nothing that opens it (systemd.exec(5),
LoadCredentialEncrypted=). It has the name of the configured file: ``keys/role.pem`` is the credential ``role.pem``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CREDENTIALS_DIRECTORY"


def credential_or(path: Path, environ: Mapping[str, str]) -> Path:
    """The credential that stands for ``path``, or ``path`` itself where the unit loads none of that name."""
    directory = environ.get(VARIABLE)
    held = Path(directory) / path.name if directory else None
    return held if held is not None and held.is_file() else path
