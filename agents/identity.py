"""The identity of a node: made on it, enrolled by a claim or by an existing authority, shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from edge import enrolment_http
from edge.atomic_file import write_whole
from edge.certificate import read_request
from edge.enrolment import Enrolled, EnrolRequest, check_terms, prove_enrolment
from edge.errors import ConfigError
from edge.identity_file import CURRENT, NEXT, begin, install, read_draft, read_identity
from edge.keys_file import read_sealing_key, read_verify_key


def new(directory: Path, tenant: str, name: str, *, keep_role_key: bool) -> Iterator[str]:
    """Lines for a person."""
    draft = begin(directory, tenant, name, random=os.urandom, keep_role_key=keep_role_key)
    yield f"made {draft.identity.node}: role key {draft.identity.instance}"
    yield f"request for a certificate: {directory / NEXT / 'tls' / 'node.csr'}"
    yield "private keys stay here, mode 0600. Next: `lastmile identity enrol`, or `install` with your own authority"


def enrol(
    directory: Path,
    *,
    url: str,
    ca: str,
    claim: str,
    pinned_roots: tuple[str, ...],
    lowest_issuers: int,
    role_user: str,
    sync_user: str,
) -> Iterator[str]:
    """Ask the service for everything the node needs and put it in force. ``ca``: a file or ``sha256:...``."""
    draft = read_draft(directory)
    root = directory / NEXT / "tls" / "ca.pem"
    pem = enrolment_http.fetch_root(url, ca) if ca.startswith("sha256:") else _read(Path(ca))
    write_whole(root, pem, mode=0o644)
    digest = read_request(draft.request).digest
    asked = EnrolRequest(
        claim=claim.strip(),
        request=draft.request.decode(),
        role=draft.role.public.jwk(),
        proof=prove_enrolment(draft.identity.node, digest, claim.strip(), draft.role),
    )
    enrolled = enrolment_http.enrol(url, asked, ca=str(root))
    terms = check_terms(enrolled, pinned_roots=pinned_roots, lowest_issuers=lowest_issuers)
    if not pinned_roots:
        yield f"believed on the service's word alone: root {', '.join(root.kid for root in terms.roots)}"
    whole = install(directory, enrolled, terms, role_user=role_user, sync_user=sync_user)
    yield f"{whole.identity.node} is enrolled: {whole.certificate.days_left(time.time()):.0f} days"
    yield f"in force: {directory / CURRENT}; restart the node's services"


def install_files(
    directory: Path,
    *,
    certificate: Path,
    ca: Path,
    roots: tuple[Path, ...],
    issuers: Path,
    hub: Path,
    role_user: str,
    sync_user: str,
) -> Iterator[str]:
    """The same with a certificate of an existing authority and the operator's files."""
    enrolled = Enrolled(
        certificate=_read(certificate).decode(),
        authority=_read(ca).decode(),
        roots=tuple(read_verify_key(each).jwk() for each in roots),
        issuers=_read(issuers).decode().strip(),
        lowest_issuers=1,
        hub=read_sealing_key(hub).jwk(),
    )
    whole = install(directory, enrolled, check_terms(enrolled), role_user=role_user, sync_user=sync_user)
    yield f"{whole.identity.node} is in force: {directory / CURRENT}; restart the node's services"


def show(directory: Path) -> Iterator[str]:
    """What is in force and what is being made. Raises ``ConfigError`` or ``VerificationError``: what does not fit."""
    found = False
    if (directory / CURRENT).is_symlink():
        found = True
        whole, wall = read_identity(directory / CURRENT, wall=None), time.time()
        yield f"{whole.identity.node}: role key {whole.identity.instance}"
        yield f"certificate: serial {whole.certificate.serial}, {whole.certificate.days_left(wall):.1f} days left"
        yield f"root(s): {', '.join(root.kid for root in whole.terms.roots)}"
        yield f"issuers: version {whole.terms.issuers.version}, none below {whole.lowest_issuers}"
    if (directory / NEXT).is_symlink():
        found = True
        draft = read_draft(directory)
        yield f"not enrolled yet: {draft.identity.node}, role key {draft.identity.instance}"
    if not found:
        raise ConfigError(f"{directory} holds no identity", remedy="make one with `lastmile identity new`")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="name a file that this user can read") from error
