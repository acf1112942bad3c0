"""What the enrolment service does: turns a claim into a certificate, renews it, and takes a node out in one act.

Every act is one transaction of the register. The files that others read (the list of nodes for collectors, the
revocation list for the broker) are written inside it, so that they come out in the order of the acts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cloud_sync import known_nodes
from cloud_sync.authority import CRL_BACKDATED_S, Authority
from cloud_sync.enrolment_sql import Claim, Happening, Issued, Records, Register
from edge.certificate import Certificate, Request, TlsKey, read_chain, read_request
from edge.claims import refused
from edge.enrolment import (
    Enrolled,
    EnrolRequest,
    Renewed,
    RenewRequest,
    check_enrolment,
    check_renewal,
    check_terms,
    claim_digest,
    new_claim,
    node_identity,
)
from edge.errors import ConfigError, VerificationError
from edge.identity import NAME_PATTERN, split_node
from edge.keys import Random, VerifyKey

EARLIEST_SHARE = 0.5
"""Of a certificate's life that must have passed before it is renewed. Nodes ask at two thirds; one that asks all the
time, by a defect or a wrong clock, must not fill the register."""
MAX_VALID = 8
"""Certificates of one node that are valid at once: an answer that was lost leaves one more behind."""


class Operator(msgspec.Struct, frozen=True):
    """What the operator gives to every node; all of it public. See ``edge.enrolment.Enrolled``."""

    roots: tuple[dict[str, str], ...]
    issuers: str
    hub: dict[str, str]


class Published(msgspec.Struct, frozen=True):
    """What others read: the list of nodes (JSON) and the revocation list (PEM)."""

    nodes: bytes
    revoked: bytes


class EnrolmentDesk:
    """One operator's. ``wall`` is the service's clock; ``publish`` writes the two files."""

    def __init__(
        self,
        *,
        register: Register,
        authority: Authority,
        operator: Callable[[], Operator],
        publish: Callable[[Published], None],
        wall: Callable[[], float],
        random: Random,
        days: float,
    ) -> None:
        self._register = register
        self._authority = authority
        self._operator = operator
        self._publish = publish
        self._wall = wall
        self._random = random
        self._days = days

    # For nodes.

    def enrol(self, asked: EnrolRequest) -> Enrolled:
        """A certificate for an unused claim. The same node that asks again with the same keys hears the same answer.

        Raises ``VerificationError``: a reason of ``read_request`` or ``check_enrolment``, or ``unknown_claim,
        claim_expired, claim_used, wrong_name, revoked_key, foreign_key``. ``StoreError`` or ``ConfigError``: ours.
        """
        node = ""
        try:
            request = _readable(asked.request)
            role = check_enrolment(asked, request.name, request.digest)
            with self._register.transaction() as records:
                claim = records.claim(claim_digest(asked.claim))
                node = claim.node if claim else ""
                return self._admit(records, _good(claim, request, self._wall()), asked, request, role)
        except VerificationError as refusal:
            self._count(refusal, node)
            raise

    def renew(self, asked: RenewRequest, peer: bytes) -> Renewed:
        """A new certificate for the holder of ``peer`` (PEM), whose key TLS has proven. The old one stays good.

        Raises ``VerificationError``: a reason of ``read_request`` or ``check_renewal``, or ``foreign_certificate,
        revoked, wrong_name, same_key, too_early, too_many``.
        """
        node = ""
        try:
            own = read_chain(peer)[0]
            request = _readable(asked.request)
            with self._register.transaction() as records:
                self._require_known(records, own)
                node = own.name
                return self._renewed(records, own, asked, request)
        except VerificationError as refusal:
            self._count(refusal, node)
            raise

    # For the operator.

    def claim(self, node: str, *, hours: float) -> str:
        """A new claim for this name; it is shown once, and kept only as a digest. Raises ``ConfigError``."""
        split_node(node)
        self.operator_terms()
        made, now = new_claim(self._random), self._wall()
        with self._register.transaction() as records:
            records.add_claim(claim_digest(made), node, made_at=now, expires_at=now + hours * 3600)
            records.note("claimed", node, f"valid for {hours:g} h", now)
        return made

    def certify(self, name: str, key: TlsKey, hosts: Sequence[str], *, days: float) -> bytes:
        """A certificate for a broker at ``hosts``, or for a consumer or issuer (no hosts) called ``name``.

        Raises ``ConfigError`` for a node's name: nodes enrol themselves.
        """
        if NAME_PATTERN.fullmatch(name) is None:
            raise ConfigError(
                f"{name!r} is no name of a broker, consumer or issuer",
                remedy="use a-z, 0-9 and - only; nodes enrol themselves: `lastmile enrol claim`",
            )
        now = self._wall()
        with self._register.transaction() as records:
            if hosts:
                pem = self._authority.server(key, hosts, random=self._random, wall=now, days=days)
            else:
                pem = self._authority.client(read_request(key.request(name)), random=self._random, wall=now, days=days)
            records.add_certificate(read_chain(pem)[0], name, pem.decode())
            records.note("certified", name, ", ".join(hosts) or "client", now)
        return pem

    def revoke(self, node: str) -> tuple[int, int]:
        """Take a node out, or a broker, consumer or issuer; (certificates, role keys) that are good no more.

        Raises ``ConfigError`` for a stranger.
        """
        now = self._wall()
        with self._register.transaction() as records:
            if not records.certificates(node):
                raise ConfigError(
                    f"{node} was never enrolled here", remedy="`lastmile enrol nodes` lists those that were"
                )
            records.void_claims(node)
            ended = records.revoke_certificates(node, now), records.end_keys(node, now)
            records.note("revoked", node, f"{ended[0]} certificate(s), {ended[1]} role key(s)", now)
            self._write_files(records)
        return ended

    def refresh(self) -> None:
        """Write the two files anew: at start, and daily so that the revocation list stays young."""
        with self._register.transaction() as records:
            self._write_files(records)

    def nodes(self) -> list[tuple[str, str, Issued | None]]:
        """(node, its role key's thumbprint or "" when it is revoked, its latest good certificate)."""
        with self._register.transaction() as records:
            found = []
            for node in records.role_keys():
                key = records.present_key(node)
                good = records.certificates(node, valid_at=self._wall())
                found.append((node, key.kid if key else "", good[-1] if good else None))
            return found

    def audit(self, most: int) -> tuple[list[Happening], list[tuple[float, str, str, int]]]:
        """What happened, and what was refused by minute, reason and name."""
        with self._register.transaction() as records:
            return records.happenings(most), records.refusals()

    def operator_terms(self) -> tuple[Operator, int]:
        """What every node is given now, and the issuers' version. Raises ``ConfigError``."""
        operator = self._operator()
        try:
            terms = check_terms(Enrolled("", "", operator.roots, operator.issuers, 1, operator.hub))
        except VerificationError as error:
            raise ConfigError(f"the issuers document: {error.what}", remedy=error.remedy) from error
        return operator, terms.issuers.version

    # How.

    def _admit(
        self, records: Records, claim: Claim, asked: EnrolRequest, request: Request, role: VerifyKey
    ) -> Enrolled:
        if claim.used_at is not None:
            return self._enrolled(records, self._given_before(records, claim, request, role))
        node, now = claim.node, self._wall()
        _require_own_key(records, node, role)
        if not records.use_claim(claim_digest(asked.claim), kid=role.kid, thumbprint=request.thumbprint, at=now):
            raise refused("claim_used", "the claim was used", "make another with `lastmile enrol claim`")
        former = records.revoke_certificates(node, now), records.end_keys(node, now, but=role.kid)
        if records.present_key(node) is None:
            records.add_key(node, role, now)
        pem = self._issue(records, request, now)
        records.note(
            "enrolled", node, f"role key {role.kid}; ended {former[0]} certificate(s), {former[1]} key(s)", now
        )
        answer = self._enrolled(records, pem)
        self._write_files(records)
        return answer

    def _given_before(self, records: Records, claim: Claim, request: Request, role: VerifyKey) -> str:
        """The certificate that the same keys were given for this claim: their answer was lost on its way."""
        if (claim.kid, claim.thumbprint) == (role.kid, request.thumbprint):
            for issued in records.certificates(claim.node, valid_at=self._wall()):
                if issued.thumbprint == request.thumbprint:
                    return issued.pem
        raise refused("claim_used", "the claim was used", "make another with `lastmile enrol claim`")

    def _issue(self, records: Records, request: Request, now: float) -> str:
        pem = self._authority.client(request, random=self._random, wall=now, days=self._days)
        records.add_certificate(read_chain(pem)[0], request.name, pem.decode())
        return pem.decode()

    def _enrolled(self, records: Records, pem: str) -> Enrolled:
        operator, version = self.operator_terms()
        lowest = int(records.fact("lowest_issuers"))
        if version < lowest:
            raise ConfigError(
                f"the issuers document has version {version}; {lowest} was given out before",
                remedy="put the newest edition where enrol.toml names it",
            )
        records.set_fact("lowest_issuers", version)
        authority = self._authority.root_pem.decode()
        return Enrolled(pem, authority, operator.roots, operator.issuers, version, operator.hub)

    def _require_known(self, records: Records, own: Certificate) -> None:
        issued = {each.serial: each for each in records.certificates(own.name)}.get(own.serial)
        # The very one: by whichever issuing authority of ours, since a new one takes over while nodes renew.
        if issued is None or read_chain(issued.pem.encode())[0].fingerprint != own.fingerprint:
            raise refused("foreign_certificate", "not a certificate that was given out here", "enrol with a new claim")
        if issued.revoked_at is not None:
            raise refused("revoked", "the certificate is revoked", "ask the operator; enrol with a new claim")

    def _renewed(self, records: Records, own: Certificate, asked: RenewRequest, request: Request) -> Renewed:
        now = self._wall()
        role = records.present_key(own.name)
        if request.name != own.name:
            raise refused("wrong_name", "the request is for another name", "ask for the node's own")
        if role is None:
            raise refused("revoked", "the node's role key is revoked", "ask the operator; enrol with a new claim")
        check_renewal(asked.proof, request.digest, node_identity(own.name, role), role)
        if request.thumbprint == own.thumbprint:
            raise refused("same_key", "the request is for the present key", "make a new key for each certificate")
        if now < own.not_before + EARLIEST_SHARE * (own.not_after - own.not_before):
            raise refused(
                "too_early", f"good for {own.days_left(now):.0f} more days", "ask again at two thirds of life"
            )
        if len(records.certificates(own.name, valid_at=now)) >= MAX_VALID:
            raise refused("too_many", f"{MAX_VALID} certificates are valid", "look at the node: it uses none of them")
        pem = self._issue(records, request, now)
        records.note("renewed", own.name, f"after serial {own.serial}", now)
        return Renewed(pem)

    def _write_files(self, records: Records) -> None:
        now = self._wall()
        edition = int(records.fact("edition")) + 1
        # Strictly later than the one before, in whole seconds: only then a broker takes it for the newer one.
        made_at = max(int(now - CRL_BACKDATED_S), int(records.fact("list_made_at")) + 1)
        records.set_fact("edition", edition)
        records.set_fact("list_made_at", made_at)
        nodes = known_nodes.encode(records.role_keys(), edition=edition)
        revoked = self._authority.revoked(records.revocations(now), number=edition, made_at=made_at)
        self._publish(Published(nodes, revoked))

    def _count(self, refusal: VerificationError, node: str) -> None:
        with self._register.transaction() as records:
            records.count_refusal(refusal.reason, node, self._wall())


def _readable(pem: str) -> Request:
    request = read_request(pem.encode())
    try:
        split_node(request.name)
    except ConfigError as error:
        raise refused("bad_request", error.what, error.remedy) from error
    return request


def _good(claim: Claim | None, request: Request, wall: float) -> Claim:
    if claim is None:
        raise refused("unknown_claim", "no such claim", "copy it again, or make one with `lastmile enrol claim`")
    if claim.node != request.name:
        raise refused("wrong_name", "the claim is for another name", "use it on the node it was made for")
    if wall >= claim.expires_at:
        raise refused("claim_expired", "the claim has expired", "make another with `lastmile enrol claim`")
    return claim


def _require_own_key(records: Records, node: str, role: VerifyKey) -> None:
    """No key belongs to two nodes, and one that was revoked never comes back."""
    state = records.key_state(role.kid)
    if state is None:
        return
    owner, until = state
    if owner != node:
        raise refused("foreign_key", "the role key belongs to another node", "make keys of its own on every node")
    if until is not None:
        raise refused("revoked_key", "the role key is revoked", "make a new one with `lastmile identity new`")
