"""Who received a member's rows, heard from gateways and licensing as they tell it, and the notices to delete them."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import nats
from assembly import Assembly, Member, found
from google.protobuf.message import Message
from house import House, Person, refused, request_id

from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.governance.v1 import governance_pb2
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.signing import DELETION_NOTICE_PREFIX, KeySet, canonical_hash, verify_hash

NOTICE = hashlib.sha256(b"what was asked").hexdigest()
SIGNED = (
    "name",
    "cooperative",
    "license",
    "recipient",
    "versions",
    "rows_hashes",
    "row_count",
    "ground",
    "due_time",
    "issue_time",
)


async def tell(house: House, stream: str, event: Message) -> None:
    """As the outbox of another service would."""
    client = await nats.connect(house.nats.url())
    await ensure_stream(client, stream)
    id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
    headers = {"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id}
    await client.jetstream().publish(
        subject_of(message_type), event.SerializeToString(), stream=stream, headers=headers
    )
    await client.close()


@dataclass
class Story:
    """A cooperative with a dataset of wool, one member with rows in it, and a buyer with a license."""

    house: House
    assembly: Assembly
    member: Member
    buyer: Person
    license: licensing.License

    @property
    def dataset(self) -> str:
        return f"{self.assembly.name}/datasets/wool"

    @property
    def version(self) -> str:
        return f"{self.dataset}/versions/1"

    async def consent(self, *purposes: str) -> None:
        await self.assembly.members_desk.GiveConsent(
            pb.GiveConsentRequest(
                request_id=request_id(),
                parent=self.member.name,
                dataset=self.dataset,
                purposes=purposes,
                categories=[scope.BUYER_CATEGORY_ACADEMIC] if purposes else [],
                notice_hash=NOTICE,
                language="en",
            ),
            metadata=self.member.metadata,
        )

    async def withdraw(self) -> pb.WithdrawConsentResponse:
        reply: pb.WithdrawConsentResponse = await self.assembly.members_desk.WithdrawConsent(
            pb.WithdrawConsentRequest(parent=self.member.name), metadata=self.member.metadata
        )
        return reply

    async def deliver(self, at: dt.datetime) -> None:
        await tell(
            self.house,
            "data_gateway",
            gateway.UsageRecorded(license=self.license.name, version=self.version, record_time=to_timestamp(at)),
        )

    async def uses(self, count: int) -> list[pb.Use]:
        """The member's uses, once there are so many."""
        for _ in range(100):
            page = await self.assembly.members_desk.ListUses(
                pb.ListUsesRequest(parent=self.member.name), metadata=self.member.metadata
            )
            if len(page.uses) == count:
                return list(page.uses)
            await asyncio.sleep(0.1)
        raise AssertionError(f"{len(page.uses)} uses, not {count}")

    async def notices(self, person: Person, count: int) -> list[pb.DeletionNotice]:
        for _ in range(100):
            page = await self.assembly.members_desk.ListDeletionNotices(
                pb.ListDeletionNoticesRequest(open_only=True), metadata=person.metadata
            )
            if len(page.deletion_notices) == count:
                return list(page.deletion_notices)
            await asyncio.sleep(0.1)
        raise AssertionError(f"{len(page.deletion_notices)} notices, not {count}")


async def story(house: House, id: str) -> Story:
    assembly = await found(house, id, voters=1)
    (member,) = assembly.voters
    buyer = await house.buyer(f"{id}-lab")
    name = new_id("lic")
    license = licensing.License(
        name=f"licenses/{name}",
        terms=licensing.LicenseTerms(
            license=f"licenses/{name}",
            licensor=assembly.name,
            licensee=f"licensees/{id}-lab",
            category=scope.BUYER_CATEGORY_ACADEMIC,
            sharing_rule=f"{assembly.name}/sharingRules/{new_id('rule')}",
            scope=scope.SharingScope(purposes=["AcademicResearch"]),
            price=Money(amount_minor=12_500, currency="EUR"),
        ),
    )
    told = Story(house, assembly, member, buyer, license)
    await tell(house, "licensing", licensing_events.LicenseAgreed(license=license))
    await tell(
        house,
        "data_gateway",
        gateway.ContributionsRecorded(
            version=told.version,
            contributions=[gateway.MemberContribution(member=member.name, row_count=7, rows_hash="ab" * 32)],
        ),
    )
    return told


async def test_a_member_sees_who_received_their_rows_and_that_they_were_deleted(house: House) -> None:
    it = await story(house, "shearers")
    await it.consent("ResearchAndDevelopment")
    await it.deliver(now())
    await it.deliver(now())
    (use,) = await it.uses(1)
    assert (use.license, use.recipient, use.version) == (it.license.name, "organizations/shearers-lab", it.version)
    assert (use.row_count, use.price.amount_minor, list(use.purposes)) == (7, 12_500, ["AcademicResearch"])
    assert use.sharing_rule == it.license.terms.sharing_rule and not use.deletion_notice
    inbox = await it.assembly.members_desk.ListNotices(
        pb.ListNoticesRequest(parent=it.member.name), metadata=it.member.metadata
    )
    assert [one.kind for one in inbox.notices].count(pb.NOTICE_KIND_USE) == 1, "told once, not at every delivery"

    (ended,) = (await it.withdraw()).consents
    assert ended.status == pb.CONSENT_STATUS_WITHDRAWN
    (notice,) = await it.notices(it.buyer, 1)
    assert (notice.ground, notice.row_count, list(notice.rows_hashes)) == (1, 7, ["ab" * 32])
    assert list(notice.versions) == [it.version] and notice.recipient == "organizations/shearers-lab"
    assert notice.due_time.seconds - notice.issue_time.seconds == 30 * 86_400
    desk: Any = it.assembly.cooperatives_desk
    keys = KeySet.from_jwks((await desk.GetKeySet(governance_pb2.GetKeySetRequest())).jwks_json)
    assert verify_hash(keys, notice.signature, DELETION_NOTICE_PREFIX, canonical_hash(notice, *SIGNED))
    assert (await it.withdraw()).consents == [] and await it.notices(it.buyer, 1) == [notice]

    stranger = await house.buyer("shearers-rival")
    assert await it.notices(stranger, 0) == []
    attest = pb.AttestDeletionRequest(request_id=request_id(), name=notice.name, attestation="Deleted everywhere.")
    async with refused("NOT_FOUND"):
        await it.assembly.members_desk.AttestDeletion(attest, metadata=stranger.metadata)
    done = await it.assembly.members_desk.AttestDeletion(attest, metadata=it.buyer.metadata)
    assert await it.assembly.members_desk.AttestDeletion(attest, metadata=it.buyer.metadata) == done
    async with refused("DELETION_ATTESTED"):
        attest.request_id = request_id()
        await it.assembly.members_desk.AttestDeletion(attest, metadata=it.buyer.metadata)
    (use,) = await it.uses(1)
    assert use.deletion_notice == notice.name and use.HasField("attest_time")
    assert await it.notices(it.assembly.steward, 0) == []


async def test_a_delivery_heard_of_after_the_withdrawal_is_asked_back_too(house: House) -> None:
    it = await story(house, "latecomers")
    await it.consent("AcademicResearch")
    delivered = now()
    await it.withdraw()
    await it.deliver(delivered)
    (notice,) = await it.notices(it.buyer, 1)
    assert notice.ground == pb.DELETION_GROUND_WITHDRAWAL
    (use,) = await it.uses(1)
    assert use.deletion_notice == notice.name


async def test_who_was_erased_before_a_delivery_was_heard_of_is_asked_back_as_erased(house: House) -> None:
    it = await story(house, "departed")
    await it.consent("AcademicResearch")
    delivered = now()
    await it.assembly.members_desk.EraseMember(
        pb.EraseMemberRequest(name=it.member.name, confirm_name=it.member.name), metadata=it.member.metadata
    )
    await it.deliver(delivered)
    (notice,) = await it.notices(it.buyer, 1)
    assert notice.ground == pb.DELETION_GROUND_ERASURE


async def test_rows_no_consent_covered_reached_nobody(house: House) -> None:
    it = await story(house, "careful")
    await it.consent("CommercialPurpose")
    await it.deliver(now())
    other = await story(house, "agreeable")
    await other.consent("AcademicResearch")
    await other.deliver(now())
    # The consumer is one and hears in order: what came later was heard, so what came first was.
    await other.uses(1)
    assert await it.uses(0) == []
    await it.withdraw()
    assert await it.notices(it.buyer, 0) == []
