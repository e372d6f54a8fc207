"""Consent: given, recorded, refused, withdrawn; the receipt; what the gateway is told; and mail."""

from __future__ import annotations

import asyncio
import hashlib
import json
from email import message_from_bytes
from email.policy import default
from typing import Any

import sqlalchemy as sa
from assembly import Assembly, Member, asked, found, quick_charter
from house import House, refused, request_id
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from governance.mail import Mailer
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2 as scope
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.signing import DOCUMENT_PREFIX, KeySet, verify_hash

NOTICE = hashlib.sha256(b"what was asked").hexdigest()
ACADEMIC, COMPANY = scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_COMPANY


def give(member: Member, dataset: str, *purposes: str, id: str = "") -> pb.GiveConsentRequest:
    return pb.GiveConsentRequest(
        request_id=id or request_id(),
        parent=member.name,
        dataset=dataset,
        purposes=purposes,
        categories=[ACADEMIC] if purposes else [],
        notice_hash=NOTICE,
        language="en",
    )


def record(assembly: Assembly, dataset: str, references: list[str]) -> pb.RecordConsentsRequest:
    return pb.RecordConsentsRequest(
        request_id=request_id(),
        parent=assembly.name,
        references=references,
        dataset=dataset,
        purposes=["ResearchAndDevelopment"],
        categories=[ACADEMIC, COMPANY],
        evidence="form 3",
        notice_hash=NOTICE,
        language="en",
    )


async def live(house: House, assembly: Assembly) -> list[pb.ConsentItem]:
    gateway = await house.colleague(assembly.steward, identity_pb2.ROLE_GATEWAY)
    page = await assembly.members_desk.ListLiveConsents(pb.ListLiveConsentsRequest(), metadata=gateway.metadata)
    return list(page.items)


async def test_what_a_member_says_takes_the_place_of_what_they_said(house: House) -> None:
    assembly = await found(house, "changers", voters=1)
    (rosa,), dataset = assembly.voters, "cooperatives/changers/datasets/wool"
    first = await assembly.members_desk.GiveConsent(give(rosa, dataset, "AcademicResearch"), metadata=rosa.metadata)
    assert first.status == pb.CONSENT_STATUS_GIVEN and first.method == pb.CONSENT_METHOD_MEMBER
    refusal = give(rosa, dataset, id="the-same-request")
    second = await assembly.members_desk.GiveConsent(refusal, metadata=rosa.metadata)
    assert second.status == pb.CONSENT_STATUS_REFUSED
    assert await assembly.members_desk.GiveConsent(refusal, metadata=rosa.metadata) == second
    page = await assembly.members_desk.ListConsents(pb.ListConsentsRequest(parent=rosa.name), metadata=rosa.metadata)
    assert [one.status for one in page.consents] == [pb.CONSENT_STATUS_REFUSED, pb.CONSENT_STATUS_WITHDRAWN]
    (item,) = await live(house, assembly)
    assert (item.reference, item.consent.status) == ("voter-1", pb.CONSENT_STATUS_REFUSED)
    assert not item.consent.notice_hash


async def test_nonsense_is_refused(house: House) -> None:
    assembly = await found(house, "nonsense", voters=1)
    (rosa,), dataset = assembly.voters, "cooperatives/nonsense/datasets/wool"
    async with refused("PURPOSE_UNKNOWN"):
        await assembly.members_desk.GiveConsent(give(rosa, dataset, "MakingMoney"), metadata=rosa.metadata)
    async with refused("DATASET_NOT_OWN"):
        await assembly.members_desk.GiveConsent(
            give(rosa, "cooperatives/other/datasets/wool", "AcademicResearch"), metadata=rosa.metadata
        )
    half = give(rosa, dataset, "AcademicResearch")
    del half.categories[:]
    async with refused("CONSENT_ILL_FORMED"):
        await assembly.members_desk.GiveConsent(half, metadata=rosa.metadata)


async def test_a_form_never_overrides_what_a_member_decided(house: House) -> None:
    assembly = await found(house, "forms", voters=2)
    (rosa, tom), dataset = assembly.voters, "cooperatives/forms/datasets/wool"
    await assembly.cooperatives_desk.AddMembers(
        governance.AddMembersRequest(request_id=request_id(), parent=assembly.name, references=["paper"]),
        metadata=assembly.steward.metadata,
    )
    await assembly.members_desk.GiveConsent(give(rosa, dataset), metadata=rosa.metadata)
    references = ["voter-1", "voter-2", "paper"]
    reply = await assembly.members_desk.RecordConsents(
        record(assembly, dataset, references), metadata=assembly.steward.metadata
    )
    assert (reply.recorded_count, reply.kept_count) == (2, 1)
    await assembly.members_desk.WithdrawConsent(pb.WithdrawConsentRequest(parent=tom.name), metadata=tom.metadata)
    # A withdrawal of what a form said is tom's own word from then on.
    reply = await assembly.members_desk.RecordConsents(
        record(assembly, dataset, references), metadata=assembly.steward.metadata
    )
    assert (reply.recorded_count, reply.kept_count) == (1, 2)
    async with refused("MEMBER_UNKNOWN", reference="nobody"):
        await assembly.members_desk.RecordConsents(
            record(assembly, dataset, ["paper", "nobody"]), metadata=assembly.steward.metadata
        )


async def test_a_thousand_forms_at_once(house: House) -> None:
    assembly = await found(house, "thousand", voters=0)
    references = [f"r{number}" for number in range(1000)]
    await assembly.cooperatives_desk.AddMembers(
        governance.AddMembersRequest(request_id=request_id(), parent=assembly.name, references=references),
        metadata=assembly.steward.metadata,
    )
    reply = await assembly.members_desk.RecordConsents(
        record(assembly, "cooperatives/thousand/datasets/wool", references), metadata=assembly.steward.metadata
    )
    assert reply.recorded_count == 1000 and len(await live(house, assembly)) == 1000


async def test_giving_and_withdrawing_at_once_leave_one_answer(house: House) -> None:
    assembly = await found(house, "torn", voters=1)
    (rosa,), dataset = assembly.voters, "cooperatives/torn/datasets/wool"
    withdraw = pb.WithdrawConsentRequest(parent=rosa.name, dataset=dataset)
    await asyncio.gather(
        *(
            assembly.members_desk.GiveConsent(give(rosa, dataset, "AcademicResearch"), metadata=rosa.metadata)
            for _ in range(10)
        ),
        *(assembly.members_desk.WithdrawConsent(withdraw, metadata=rosa.metadata) for _ in range(10)),
    )
    assert len(await live(house, assembly)) <= 1
    await assembly.members_desk.WithdrawConsent(withdraw, metadata=rosa.metadata)
    assert await live(house, assembly) == []
    again = await assembly.members_desk.WithdrawConsent(withdraw, metadata=rosa.metadata)
    assert not again.consents


async def test_a_receipt_can_be_kept_and_checked(house: House) -> None:
    assembly = await found(house, "keepers", voters=2)
    (rosa, tom), dataset = assembly.voters, "cooperatives/keepers/datasets/wool"
    consent = await assembly.members_desk.GiveConsent(give(rosa, dataset, "AcademicResearch"), metadata=rosa.metadata)
    receipt = await assembly.members_desk.GetConsentReceipt(
        pb.GetConsentReceiptRequest(name=consent.name), metadata=rosa.metadata
    )
    keys = await assembly.cooperatives_desk.GetKeySet(governance.GetKeySetRequest())
    hashed = hashlib.sha256(receipt.content_json.encode()).hexdigest()
    assert verify_hash(KeySet.from_jwks(keys.jwks_json), receipt.signature, DOCUMENT_PREFIX, hashed)
    document = json.loads(receipt.content_json)
    mandatory = {
        "schema_version", "record_id", "receipt_id", "pii_principal_id", "privacy_notice", "language", "purposes",
        "pii_information", "pii_controllers", "storage_locations", "retention_period", "jurisdiction",
        "recipient_third_parties", "withdrawal_method", "party", "events", "lawful_basis", "privacy_rights",
    }  # fmt: skip
    assert mandatory <= set(document)
    assert document["purposes"] == ["https://w3id.org/dpv/2.3#AcademicResearch"]
    async with refused("NOT_FOUND"):
        await assembly.members_desk.GetConsentReceipt(
            pb.GetConsentReceiptRequest(name=consent.name), metadata=tom.metadata
        )


async def test_the_database_keeps_consents_as_they_were(house: House) -> None:
    assembly = await found(house, "history", voters=1)
    (rosa,), dataset = assembly.voters, "cooperatives/history/datasets/wool"
    consent = await assembly.members_desk.GiveConsent(give(rosa, dataset, "AcademicResearch"), metadata=rosa.metadata)
    name = f"governance_{house.tag}"
    engine = create_async_engine(house.postgres.dsn(name, name, "test"))
    for change in ("purposes = '{Purpose}'", "categories = '{6}'", "give_time = now()"):
        try:
            async with engine.begin() as connection:
                await connection.execute(
                    sa.text(f"UPDATE consent SET {change} WHERE id = :id"), {"id": consent.name.rsplit("/", 1)[1]}
                )
        except DBAPIError as error:
            assert "history" in str(error)
        else:
            raise AssertionError(change)
    await engine.dispose()


async def test_only_a_members_own_letters_are_mailed_each_to_one_person(house: House) -> None:
    """The folder stands in for a mail server on a laptop; what is in it is what would be sent."""
    assembly = await found(house, "letters", quick_charter(voting_seconds=60), voters=0)
    (rosa,) = await assembly.join("1", email="rosa@valley.example")
    (tom,) = await assembly.join("2", email="tom@valley.example")
    (quiet,) = await assembly.join("3")
    draft = proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("letters"))
    frozen = await assembly.freeze(await assembly.draft([draft], title="A vote\u2028with a\ttwist"))
    folder = house.folder / "mail"
    mailed: list[Any] = []
    for _ in range(200):
        mailed = [message_from_bytes(path.read_bytes(), policy=default) for path in folder.glob("*.eml")]
        mailed = [one for one in mailed if "twist" in str(one["Subject"]) or "twist" in str(one.get_content())]
        if len(mailed) >= 2:
            break
        await asyncio.sleep(0.1)
    assert {one["To"] for one in mailed} == {"rosa@valley.example", "tom@valley.example"}
    assert all("\n" not in one["To"] for one in mailed)
    inbox = await assembly.members_desk.ListNotices(pb.ListNoticesRequest(parent=quiet.name), metadata=quiet.metadata)
    assert any(one.about == frozen.name for one in inbox.notices)
    read = await assembly.members_desk.ReadNotices(pb.ReadNoticesRequest(parent=quiet.name), metadata=quiet.metadata)
    assert read.read_count == len(inbox.notices)
    assert rosa.name != tom.name


async def test_a_mail_server_that_is_away_loses_nothing(house: House) -> None:
    class Away:
        def __init__(self) -> None:
            self.sent: list[str] = []
            self.up = False

        def send(self, message: Any, id: str) -> None:
            if not self.up:
                raise ConnectionRefusedError
            self.sent.append(str(message["To"]))

    assembly = await found(house, "outage", voters=0)
    (rosa,) = await assembly.join("1", email="rosa@outage.example")
    (odd,) = await assembly.join("2")
    async with refused("EMAIL_INVALID"):
        await assembly.join("3", email="a@[b.example")
    name = f"governance_{house.tag}"
    engine = create_async_engine(house.postgres.dsn(name, name, "test"))
    async with engine.begin() as connection:
        # An address that once was let in and that no header can hold: it holds up nobody.
        await connection.execute(
            sa.text("UPDATE member SET email = 'a@[b.example' WHERE id = :id"), {"id": odd.name.rsplit("/", 1)[1]}
        )
        # Due in a time of its own, where governance's own mailer does not look.
        await connection.execute(
            sa.text(
                "INSERT INTO notice (id, member_id, kind, subject, text, about, create_time, mail_time, mail_attempts) "
                "VALUES (:key, :id, 5, 's', 't', '', now(), now() + interval '10 years', 0)"
            ),
            [{"key": f"not_{one.name[-20:]}", "id": one.name.rsplit("/", 1)[1]} for one in (odd, rosa)],
        )
    database, post = Database(house.postgres.dsn(name, name, "test")), Away()
    mailer = Mailer(database, post, "a@b.example")
    at = now().replace(year=now().year + 11)
    assert await mailer.send_due(at) >= 1 and post.sent == []
    assert await mailer.send_due(at) == 0, "tried again too soon"
    post.up = True
    assert await mailer.send_due(at.replace(year=at.year + 1)) >= 1 and "rosa@outage.example" in post.sent
    assert await mailer.send_due(at.replace(year=at.year + 2)) == 0
    await database.close()
    await engine.dispose()
