"""Whatever kills the making of an identity, the one in force is whole, and the next can be finished."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.certificate import read_request
from edge.credentials_systemd import credential_or
from edge.enrolled_file import read_enrolled
from edge.enrolment import Enrolled, check_terms
from edge.errors import ConfigError, StoreError, VerificationError
from edge.identity_file import CODE_KEY_BYTES, begin, install, read_draft, read_identity
from edge.issuers import read_issuers
from edge.keys import SigningKey
from locker.pickup_code import KEY_BYTES
from tests.enrolment.rig import HUB, ROOT, Office, changed, issuers

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.chmod", "os.rmdir", "shutil.rmtree"}
"""Audit events (PEP 578) of what changes a disk; an ``open`` for reading is one more place to die at."""


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "office")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def answer_for(office: Office, directory: Path) -> Enrolled:
    """What the service says to the request that lies in ``directory``."""
    request = read_request(read_draft(directory).request)
    chain = office.authority.client(request, random=os.urandom, wall=office.wall, days=90)
    authority = office.root_pem.decode()
    return Enrolled(chain.decode(), authority, (ROOT.public.jwk(),), office.issuers, 3, HUB.public.jwk())


def enrol(office: Office, directory: Path, **begun: bool) -> Enrolled:
    begin(directory, "acme", "l1", random=os.urandom, keep_role_key=begun.get("keep_role_key", False))
    enrolled = answer_for(office, directory)
    install(directory, enrolled, check_terms(enrolled))
    return enrolled


def test_private_files_are_readable_by_their_user_alone(office, directory):
    enrol(office, directory)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}
    assert {name for name, mode in modes.items() if mode != 0o600} == {
        *("role.jwk", "root-1.jwk", "issuers.jws", "hub.jwk", "enrolled.json", "node.csr", "ca.pem")
    }
    assert all(b"PRIVATE" not in path.read_bytes() for path in directory.rglob("*") if modes.get(path.name) == 0o644)
    assert stat.S_IMODE((directory / "current" / "role").stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "current" / "tls").stat().st_mode) == 0o700


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that dies before its ``step``-th act on the disk; whether it died."""
    child = os.fork()
    if child == 0:
        left = [step]

        def die(event: str, _arguments: object) -> None:
            if event in EVENTS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), 9)

        sys.addaudithook(die)
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_kill_9_anywhere_leaves_a_whole_identity_and_a_way_on(office, directory, monkeypatch):
    """Re-enrolment, killed before each of its acts in turn: what is in force is the old or the new, never a mixture.

    A killed process loses nothing that it wrote, so nothing is waited for to reach the disk.
    """
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    enrol(office, directory)
    code = (directory / "current" / "role" / "code.key").read_bytes()
    step, finished = 0, 0
    while not finished or step < 40:
        step += 1
        before = read_identity(directory / "current", wall=None).identity.instance
        if not (directory / "next").is_symlink():
            killed_at(step, lambda: begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False))
            assert read_identity(directory / "current", wall=None).identity.instance == before
        if not (directory / "next").is_symlink():
            begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
        enrolled = answer_for(office, directory)
        terms, fresh = check_terms(enrolled), read_draft(directory).identity.instance
        finished += not killed_at(step, functools.partial(install, directory, enrolled, terms))
        now = read_identity(directory / "current", wall=None).identity.instance
        assert now in {before, fresh}
        if now != fresh:
            assert read_draft(directory).identity.instance == fresh
            install(directory, enrolled, terms)
            assert read_identity(directory / "current", wall=None).identity.instance == fresh
        assert (directory / "current" / "role" / "code.key").read_bytes() == code
    begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
    assert sum(each.is_dir() and not each.is_symlink() for each in directory.iterdir()) == 2, "nothing is left lying"


def test_what_does_not_fit_is_not_put_in_force(office, directory):
    enrol(office, directory)
    before = read_identity(directory / "current", wall=None)
    begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
    good = answer_for(office, directory)
    other = office.enrolled("l2")[1]
    wrong = Path(other.certificate).read_text()
    with pytest.raises(ConfigError, match="acme_l2"):
        install(directory, changed(good, certificate=wrong), check_terms(good))
    old = changed(good, certificate=_certificate_for_another_key(office))
    with pytest.raises(ConfigError, match="does not belong to the private key"):
        install(directory, old, check_terms(good))
    with pytest.raises(ConfigError, match="no certificate in PEM"):
        install(directory, changed(good, authority="nonsense"), check_terms(good))
    assert read_identity(directory / "current", wall=None).identity == before.identity
    install(directory, good, check_terms(good))
    assert read_identity(directory / "current", wall=None).identity != before.identity


def _certificate_for_another_key(office: Office) -> str:
    return Path(office.enrolled("l1")[1].certificate).read_text()


def test_a_disk_that_refuses_is_told_and_changes_nothing(office, directory, monkeypatch):
    enrol(office, directory)
    begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
    good, before = answer_for(office, directory), read_identity(directory / "current", wall=None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        install(directory, good, check_terms(good))
    monkeypatch.undo()
    assert read_identity(directory / "current", wall=None).identity == before.identity


def test_the_code_key_outlives_a_new_identity_and_the_role_key_if_it_is_kept(office, directory):
    assert CODE_KEY_BYTES == KEY_BYTES
    enrol(office, directory)
    role, code = ((directory / "current" / "role" / name).read_bytes() for name in ("role.pem", "code.key"))
    enrol(office, directory, keep_role_key=True)
    assert (directory / "current" / "role" / "role.pem").read_bytes() == role
    enrol(office, directory)
    assert (directory / "current" / "role" / "role.pem").read_bytes() != role
    assert (directory / "current" / "role" / "code.key").read_bytes() == code


def test_an_unfinished_identity_is_not_written_over(directory):
    begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
    with pytest.raises(ConfigError, match="not enrolled yet"):
        begin(directory, "acme", "l1", random=os.urandom, keep_role_key=False)
    with pytest.raises(ConfigError, match="holds no role key"):
        begin(directory.parent / "other", "acme", "l1", random=os.urandom, keep_role_key=True)


def test_a_service_that_is_taken_over_gets_below_no_pin(office):
    """It can hand out roots of its own, or an old edition of the issuers; the person at the node has pinned both."""
    evil = SigningKey(b"e" * 32)
    good = Enrolled("", "", (ROOT.public.jwk(),), issuers(3), 3, HUB.public.jwk())
    check_terms(good, pinned_roots=(ROOT.kid,), lowest_issuers=3)
    with pytest.raises(ConfigError, match="not pinned"):
        check_terms(changed(good, roots=(evil.public.jwk(),)), pinned_roots=(ROOT.kid,))
    both = (ROOT.public.jwk(), evil.public.jwk())
    with pytest.raises(ConfigError, match="not pinned"):
        check_terms(changed(good, roots=both), pinned_roots=(ROOT.kid,))
    old = changed(good, issuers=issuers(2), lowest_issuers=1)
    with pytest.raises(VerificationError, match="version 2"):
        check_terms(old, lowest_issuers=3)


def test_no_older_issuers_document_is_believed_after_enrolment(office, directory):
    """Whoever can write the file, or a broker that kept an old edition, brings no revoked key back."""
    enrol(office, directory)
    lowest = read_enrolled(directory / "current" / "role" / "enrolled.json").lowest_issuers
    assert lowest == 3
    with pytest.raises(VerificationError, match="version 2"):
        read_issuers(issuers(2).encode(), [ROOT.public], held_version=lowest - 1)
    (directory / "current" / "role" / "issuers.jws").write_text(issuers(2))
    with pytest.raises(VerificationError):
        read_identity(directory / "current", wall=None)


def test_a_credential_stands_for_the_file_of_its_name(tmp_path):
    configured, held = tmp_path / "keys" / "role.pem", tmp_path / "credentials"
    held.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(held)}
    assert credential_or(configured, environ) == configured
    (held / "role.pem").write_text("key")
    assert credential_or(configured, environ) == held / "role.pem"
    assert credential_or(configured, {}) == configured
