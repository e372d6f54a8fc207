"""What buyers and operators see: requests outside the mandate, deletion notices, register entries, proofs."""

from __future__ import annotations

import pytest

from rochdale.access_broker.v1 import access_broker_pb2
from rochdale.client.commands import deletion, licensee, mandate
from rochdale.client.proof_views import show_report
from rochdale.client.terms import left_until, moment, moment_of, now
from rochdale.governance.v1 import membership_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import money_pb2, scope_pb2


def test_a_request_outside_the_mandate_shows_what_is_outside_and_its_clock(capsys: pytest.CaptureFixture[str]) -> None:
    soon = now()
    soon.seconds += 3 * 86_400 + 60
    request = licensing_pb2.MandateRequest(
        name="mandateRequests/mreq_1",
        cooperative="cooperatives/valley",
        outside=["pretrain is not among the actions."],
        state=licensing_pb2.MANDATE_REQUEST_STATE_DRAFTED,
        proposal="cooperatives/valley/proposals/prop_1",
        scope=scope_pb2.SharingScope(floor_price=money_pb2.Money(amount_minor=500_000, currency="EUR")),
        beneficiaries=["lab.example"],
        respond_by_time=soon,
    )
    mandate._show(request)
    said = capsys.readouterr()
    assert "pretrain is not among the actions." in said.out and "(in 3 days)" in said.out
    assert "5000.00 EUR" in said.out and "members tied to lab.example" in said.out
    assert "rochdale proposal show valley/prop_1" in said.err
    request.state, request.decline_reason = licensing_pb2.MANDATE_REQUEST_STATE_DECLINED, "Members said no."
    mandate._show(request)
    declined = capsys.readouterr().out
    assert "Members said no." in declined and "in 3 days" not in declined


def test_a_notice_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    notice = membership_pb2.DeletionNotice(
        name="deletionNotices/del_1",
        versions=["cooperatives/valley/datasets/randhie/versions/2"],
        row_count=1200,
        ground=membership_pb2.DELETION_GROUND_WITHDRAWAL,
        due_time=moment("2020-01-01"),
    )
    told = deletion._fields(notice)
    assert (told["versions"], told["rows"], told["why"]) == ("randhie/2", "1,200", "withdrawal")
    assert told["due"] == "2020-01-01T00:00:00Z (over)"
    notice.attest_time.CopyFrom(moment("2020-01-02"))
    assert deletion._fields(notice)["due"] == "attested 2020-01-02T00:00:00Z"


def test_a_category_by_hand_takes_two(capsys: pytest.CaptureFixture[str]) -> None:
    found = licensing_pb2.Licensee(
        approvals=["organizations/operator/apiKeys/key_1"], approved_category=scope_pb2.BUYER_CATEGORY_ACADEMIC
    )
    assert licensee._approvals(found) == "academic, by key_1; a second operator has to say the same"
    found.approvals.append("organizations/operator/apiKeys/key_2")
    assert licensee._approvals(found) == "academic, by key_1, key_2"
    found.claims.add(register=licensing_pb2.REGISTER_LEI, identifier="5493", state=licensing_pb2.CLAIM_STATE_VERIFIED)
    licensee._claims_table(found)
    assert "verified" in capsys.readouterr().out


def test_what_does_not_hold_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(access_broker_pb2.ProofReport(proved_count=3))
    assert "3 grants proved from the vote on." in (told := capsys.readouterr().out) and "Everything holds." in told
    failure = access_broker_pb2.ProofFailure(
        license="licenses/lic_1", reason="RULE_HASH_MISMATCH", message="It is not."
    )
    show_report(access_broker_pb2.ProofReport(unanswered_count=1, failures=[failure]))
    told = capsys.readouterr().out
    assert "RULE_HASH_MISMATCH" in told and "1 could not be" in told


def test_what_is_said_again_takes_effect_at_the_same_time() -> None:
    from ulid import ULID

    made = str(ULID())
    assert moment_of(made) == moment_of(made) and abs(moment_of(made).seconds - now().seconds) <= 1
    old = "01JABCDEFGHJKMNPQRSTVWXYZ0"
    assert abs(moment_of(old).seconds - now().seconds) <= 1 and abs(moment_of("any-id").seconds - now().seconds) <= 1
    assert moment_of(made).nanos % 1_000_000 == 0, "whole milliseconds survive every database"
    assert left_until(moment("2020-01-01")) == "over"
