"""A claim is worth one certificate for one name, once, and only to the node whose role key asks."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud_sync.enrolment_desk_sql import MAX_VALID, EnrolmentDesk
from cloud_sync.known_nodes import decode
from edge.certificate import TlsKey, read_chain, read_request
from edge.enrolment import Enrolled, check_terms, vouch_for
from edge.errors import ConfigError, VerificationError
from edge.identity import identify
from edge.keys import SigningKey
from tests.enrolment.rig import DAY, NOW, TENANT, Asker, Office, changed, issuers


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def desk(office: Office) -> EnrolmentDesk:
    return office.desk()


def reason(work) -> str:
    with pytest.raises(VerificationError) as refusal:
        work()
    return refusal.value.reason


def pair_of(asker: Asker, answer: Enrolled) -> bytes:
    return asker.tls.pem() + answer.certificate.encode()


def counted(desk: EnrolmentDesk) -> dict[tuple[str, str], int]:
    return {(why, node): count for _, why, node, count in desk.audit(100)[1]}


def happened(desk: EnrolmentDesk) -> list[tuple[str, str]]:
    return [(each.what, each.node) for each in desk.audit(100)[0]]


def test_a_claim_gives_a_certificate_for_its_name_and_all_that_a_node_believes(office, desk):
    asker = Asker("l1")
    answer = desk.enrol(asker.asks(desk.claim("acme_l1", hours=1)))
    own, issuing = read_chain(answer.certificate.encode())
    assert (own.name, own.thumbprint, own.client, own.hosts) == ("acme_l1", asker.tls.thumbprint, True, ())
    assert own.issuer == "CN=test issuing"
    assert issuing.issuer == "CN=test root"
    assert round(own.days_left(NOW)) == 90
    terms = check_terms(answer)
    assert (terms.issuers.version, answer.lowest_issuers) == (3, 3)
    assert decode(office.nodes_file.read_bytes())["acme_l1"].keys == {asker.role.kid: asker.role.public}
    assert happened(desk) == [("claimed", "acme_l1"), ("enrolled", "acme_l1")]


def test_of_two_nodes_that_race_for_one_claim_one_wins(office):
    start = threading.Barrier(2)

    def ask(asker: Asker, claim: str) -> str:
        start.wait()
        try:
            office.desk().enrol(asker.asks(claim))
        except VerificationError as refusal:
            return refusal.reason
        return "enrolled"

    for turn in range(5):
        claim = office.desk().claim("acme_l1", hours=1)
        askers = [Asker("l1"), Asker("l1")]
        with ThreadPoolExecutor(2) as threads:
            heard = list(threads.map(ask, askers, [claim, claim]))
        assert sorted(heard) == ["claim_used", "enrolled"], turn
        ((node, kid, _),) = office.desk().nodes()
        assert (node, kid in {asker.role.kid for asker in askers}) == ("acme_l1", True)


def test_a_claim_that_was_used_is_refused_and_the_audit_tells(office, desk):
    claim = desk.claim("acme_l1", hours=1)
    desk.enrol(Asker("l1").asks(claim))
    second = Asker("l1")
    assert reason(lambda: office.desk().enrol(second.asks(claim))) == "claim_used"
    assert reason(lambda: desk.enrol(second.asks(claim))) == "claim_used"
    assert counted(desk) == {("claim_used", "acme_l1"): 2}


def test_a_node_whose_answer_was_lost_hears_the_same_answer(office, desk):
    claim, asker = desk.claim("acme_l1", hours=1), Asker("l1")
    first = desk.enrol(asker.asks(claim))
    again = office.desk().enrol(asker.asks(claim))
    assert again == first
    # With another key of either kind it is somebody else.
    other_tls = Asker("l1", role=asker.role)
    assert reason(lambda: desk.enrol(other_tls.asks(claim))) == "claim_used"
    desk.revoke("acme_l1")
    assert reason(lambda: desk.enrol(asker.asks(claim))) == "claim_used"


def test_a_claim_is_bound_to_its_name_and_not_burnt_by_another(desk):
    claim = desk.claim("acme_l1", hours=1)
    assert reason(lambda: desk.enrol(Asker("l2").asks(claim))) == "wrong_name"
    assert counted(desk) == {("wrong_name", "acme_l1"): 1}
    desk.enrol(Asker("l1").asks(claim))


def test_a_stolen_request_or_claim_without_the_role_key_is_worth_nothing(desk):
    claim, asker, thief = desk.claim("acme_l1", hours=1), Asker("l1"), SigningKey(b"t" * 32)
    assert reason(lambda: desk.enrol(asker.asks(claim, role=thief))) == "bad_proof"
    honest = asker.asks(claim)
    other = desk.claim("acme_l2", hours=1)
    assert reason(lambda: desk.enrol(changed(honest, claim=other))) == "bad_proof"
    exchanged = Asker("l1", role=asker.role).request.decode()
    assert reason(lambda: desk.enrol(changed(honest, request=exchanged))) == "bad_proof"
    assert reason(lambda: desk.enrol(changed(honest, role=thief.public.jwk()))) == "bad_proof"
    forged = bytearray(asker.request)
    forged[200] ^= 1
    assert reason(lambda: desk.enrol(changed(honest, request=forged.decode("latin1")))) in {"bad_request", "bad_proof"}
    desk.enrol(honest)


def test_unknown_and_expired_claims_are_refused(office, desk):
    claim = desk.claim("acme_l1", hours=1)
    assert reason(lambda: desk.enrol(Asker("l1").asks("x" * 27))) == "unknown_claim"
    office.wall += 3600
    assert reason(lambda: desk.enrol(Asker("l1").asks(claim))) == "claim_expired"
    assert counted(desk) == {("unknown_claim", ""): 1, ("claim_expired", "acme_l1"): 1}


def test_a_newer_claim_voids_the_one_that_was_not_used(desk):
    first, second = desk.claim("acme_l1", hours=1), desk.claim("acme_l1", hours=1)
    assert reason(lambda: desk.enrol(Asker("l1").asks(first))) == "unknown_claim"
    desk.enrol(Asker("l1").asks(second))


def test_no_claim_stands_in_the_database(office, desk):
    claim = desk.claim("acme_l1", hours=1)
    held = b"".join(path.read_bytes() for path in office.folder.glob("enrol.db*"))
    assert b"acme_l1" in held
    assert claim.encode() not in held


def test_enrolling_a_name_anew_ends_its_former_certificate_and_role_key(office, desk):
    old, new = Asker("l1"), Asker("l1")
    first = desk.enrol(old.asks(desk.claim("acme_l1", hours=1)))
    office.wall += DAY
    desk.enrol(new.asks(desk.claim("acme_l1", hours=1)))
    assert decode(office.nodes_file.read_bytes())["acme_l1"].keys == {new.role.kid: new.role.public}
    assert revoked(office) == {read_chain(first.certificate.encode())[0].serial}
    office.wall += 50 * DAY
    ask = old.renews(TlsKey.generate(os.urandom))
    assert reason(lambda: desk.renew(ask, pair_of(old, first))) == "revoked"
    # And it never comes back.
    assert reason(lambda: desk.enrol(old.asks(desk.claim("acme_l1", hours=1)))) == "revoked_key"


def test_a_new_certificate_for_the_same_role_key_keeps_the_key(office, desk):
    old = Asker("l1")
    desk.enrol(old.asks(desk.claim("acme_l1", hours=1)))
    office.wall += 200 * DAY
    again = Asker("l1", role=old.role)
    desk.enrol(again.asks(desk.claim("acme_l1", hours=1)))
    assert decode(office.nodes_file.read_bytes())["acme_l1"].instance == old.role.kid
    assert revoked(office) == set(), "an expired certificate needs no revocation"


def test_no_role_key_belongs_to_two_nodes(desk):
    first = Asker("l1")
    desk.enrol(first.asks(desk.claim("acme_l1", hours=1)))
    copy = Asker("l2", role=first.role)
    assert reason(lambda: desk.enrol(copy.asks(desk.claim("acme_l2", hours=1)))) == "foreign_key"


def test_revoking_ends_all_of_a_node_in_one_act_and_nothing_of_others(office, desk):
    first, second = Asker("l1"), Asker("l2")
    gone = desk.enrol(first.asks(desk.claim("acme_l1", hours=1)))
    desk.enrol(second.asks(desk.claim("acme_l2", hours=1)))
    unused = desk.claim("acme_l1", hours=1)
    assert desk.revoke("acme_l1") == (1, 1)
    assert set(decode(office.nodes_file.read_bytes())) == {"acme_l2"}
    assert revoked(office) == {read_chain(gone.certificate.encode())[0].serial}
    assert reason(lambda: desk.enrol(Asker("l1").asks(unused))) == "unknown_claim"
    assert [(node, bool(kid)) for node, kid, _ in desk.nodes()] == [("acme_l1", False), ("acme_l2", True)]
    with pytest.raises(ConfigError, match="never enrolled"):
        desk.revoke("acme_l3")


def test_revocation_lists_made_within_one_second_are_still_in_order(office, desk):
    """Of two lists with one date a broker may keep the older, and the revoked node with it."""
    from cryptography import x509

    seen = []
    for _ in range(3):
        desk.refresh()
        made = x509.load_pem_x509_crl(office.revoked_file.read_bytes())
        seen.append((made.last_update_utc, made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number))
    assert seen == sorted(set(seen))
    assert max(at for at, _ in seen).timestamp() < NOW, "a list from the future locks every node out"


def test_renewal_is_for_the_holder_of_the_certificate_whose_role_key_vouches(office, desk):
    asker, other = Asker("l1"), Asker("l2")
    pair = pair_of(asker, desk.enrol(asker.asks(desk.claim("acme_l1", hours=1))))
    stranger = pair_of(other, desk.enrol(other.asks(desk.claim("acme_l2", hours=1))))
    key = TlsKey.generate(os.urandom)
    office.wall += 55 * DAY
    ask = asker.renews(key)
    assert reason(lambda: desk.renew(ask, stranger)) == "wrong_name"
    assert reason(lambda: desk.renew(asker.renews(key, role=other.role), pair)) == "bad_proof"
    assert reason(lambda: desk.renew(asker.renews(key, name="acme_l2"), pair)) == "wrong_name"
    assert reason(lambda: desk.renew(asker.renews(asker.tls), pair)) == "same_key"
    swapped = changed_request(ask, TlsKey.generate(os.urandom).request("acme_l1"))
    assert reason(lambda: desk.renew(swapped, pair)) == "bad_proof"
    enrolment_proof = asker.asks("claim").proof
    assert reason(lambda: desk.renew(type(ask)(ask.request, enrolment_proof), pair)) == "wrong_type"
    own = read_chain(desk.renew(ask, pair).certificate.encode())[0]
    assert (own.name, own.thumbprint, round(own.days_left(office.wall))) == ("acme_l1", key.thumbprint, 90)
    assert revoked(office) == set(), "the old one stays good until the new one is proven"


def test_a_certificate_of_another_authority_with_the_same_names_is_foreign(office, desk, tmp_path):
    asker = Asker("l1")
    desk.enrol(asker.asks(desk.claim("acme_l1", hours=1)))
    elsewhere = Office(tmp_path / "elsewhere")
    theirs, files = elsewhere.enrolled("l1", role=asker.role)
    office.wall += 55 * DAY
    ask = theirs.renews(TlsKey.generate(os.urandom))
    assert reason(lambda: desk.renew(ask, Path(files.certificate).read_bytes())) == "foreign_certificate"


def test_a_node_with_a_wrong_clock_that_asks_all_the_time_fills_nothing(office, desk):
    asker = Asker("l1")
    pair = pair_of(asker, desk.enrol(asker.asks(desk.claim("acme_l1", hours=1))))
    for _ in range(20):
        assert reason(lambda: desk.renew(asker.renews(TlsKey.generate(os.urandom)), pair)) == "too_early"
    assert counted(desk) == {("too_early", "acme_l1"): 20}
    office.wall += 60 * DAY
    for _ in range(MAX_VALID - 1):
        desk.renew(asker.renews(TlsKey.generate(os.urandom)), pair)
    assert reason(lambda: desk.renew(asker.renews(TlsKey.generate(os.urandom)), pair)) == "too_many"


def test_a_node_whose_clock_lags_a_day_takes_its_certificate_for_good(desk):
    own = read_chain(desk.enrol(Asker("l1").asks(desk.claim("acme_l1", hours=1))).certificate.encode())[0]
    assert own.not_before <= NOW - DAY


def test_an_older_issuers_document_is_never_handed_out_again(office, desk):
    desk.enrol(Asker("l1").asks(desk.claim("acme_l1", hours=1)))
    office.issuers = issuers(2)
    claim = desk.claim("acme_l2", hours=1)
    with pytest.raises(ConfigError, match="3 was given out before"):
        desk.enrol(Asker("l2").asks(claim))
    office.issuers = issuers(4)
    assert desk.enrol(Asker("l2").asks(claim)).lowest_issuers == 4


def test_a_restart_forgets_nothing(office):
    claim = office.desk().claim("acme_l1", hours=1)
    asker = Asker("l1")
    answer = office.desk().enrol(asker.asks(claim))
    office.wall += 60 * DAY
    renewed = office.desk().renew(asker.renews(TlsKey.generate(os.urandom)), pair_of(asker, answer))
    assert read_chain(renewed.certificate.encode())[0].name == "acme_l1"


def test_the_role_agents_word_is_bound_to_the_instance(office, desk):
    """What the former role key of a rebuilt node has signed says nothing for the new one."""
    asker = Asker("l1")
    pair = pair_of(asker, desk.enrol(asker.asks(desk.claim("acme_l1", hours=1))))
    office.wall += 60 * DAY
    key = TlsKey.generate(os.urandom)
    request = key.request("acme_l1")
    former = identify(TENANT, "l1", SigningKey(b"f" * 32).public)
    proof = vouch_for(read_request(request).digest, former, asker.role).decode()
    ask = type(asker.renews(key))(request.decode(), proof)
    assert reason(lambda: desk.renew(ask, pair)) == "bad_proof"


def revoked(office: Office) -> set[str]:
    from cryptography import x509

    return {f"{each.serial_number:X}" for each in x509.load_pem_x509_crl(office.revoked_file.read_bytes())}


def changed_request(ask, request: bytes):
    return type(ask)(request.decode(), ask.proof)
