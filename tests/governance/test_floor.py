"""The floor holds: no form slips past what a member decides meanwhile, and what is counted is what consent covers."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import grpc
import nats
import pytest
from assembly import Assembly, Member, found
from google.protobuf.message import Message
from house import House, request_id
from sqlalchemy.ext.asyncio import create_async_engine

from governance import store
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2 as scope
from rochdale_kit.clock import new_id, now
from rochdale_kit.consent import covers
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.purposes import PARENTS

NOTICE = hashlib.sha256(b"what was asked").hexdigest()
CATEGORIES = [scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_COMPANY, scope.BUYER_CATEGORY_SME]


def give(member: Member, dataset: str, purposes: list[str], categories: list[Any]) -> pb.GiveConsentRequest:
    return pb.GiveConsentRequest(
        request_id=request_id(),
        parent=member.name,
        dataset=dataset,
        purposes=purposes,
        categories=categories,
        notice_hash=NOTICE,
        language="en",
    )


def record(assembly: Assembly, dataset: str, references: list[str], evidence: str = "form 3") -> Any:
    return assembly.members_desk.RecordConsents(
        pb.RecordConsentsRequest(
            request_id=request_id(),
            parent=assembly.name,
            references=references,
            dataset=dataset,
            purposes=["ResearchAndDevelopment"],
            categories=CATEGORIES,
            evidence=evidence,
            notice_hash=NOTICE,
            language="en",
        ),
        metadata=assembly.steward.metadata,
    )


async def live(house: House, assembly: Assembly) -> list[pb.ConsentItem]:
    person = await house.colleague(assembly.steward, identity_pb2.ROLE_GATEWAY)
    page = await assembly.members_desk.ListLiveConsents(pb.ListLiveConsentsRequest(), metadata=person.metadata)
    return list(page.items)


async def tell(house: House, event: Message) -> None:
    """As a gateway would."""
    client = await nats.connect(house.nats.url())
    await ensure_stream(client, "data_gateway")
    id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
    await client.jetstream().publish(
        subject_of(message_type),
        event.SerializeToString(),
        stream="data_gateway",
        headers={"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id},
    )
    await client.close()


async def contributed(assembly: Assembly, member: Member) -> list[pb.Contribution]:
    page = await assembly.members_desk.ListContributions(
        pb.ListContributionsRequest(parent=member.name), metadata=member.metadata
    )
    return list(page.contributions)


async def test_who_refuses_while_forms_are_recorded_has_refused(house: House) -> None:
    assembly = await found(house, "meanwhile", voters=3)
    for number in range(30):
        dataset = f"{assembly.name}/datasets/wool-{number}"
        await asyncio.gather(
            record(assembly, dataset, ["voter-1", "voter-2", "voter-3"]),
            *(
                assembly.members_desk.GiveConsent(give(member, dataset, [], []), metadata=member.metadata)
                for member in assembly.voters
            ),
        )
    assert {item.consent.status for item in await live(house, assembly)} == {pb.CONSENT_STATUS_REFUSED}


async def test_who_withdraws_while_forms_are_recorded_has_withdrawn(house: House) -> None:
    assembly = await found(house, "retracted", voters=1)
    (rosa,) = assembly.voters
    for number in range(30):
        dataset = f"{assembly.name}/datasets/wool-{number}"
        await record(assembly, dataset, ["voter-1"])
        withdraw = pb.WithdrawConsentRequest(parent=rosa.name, dataset=dataset)
        await asyncio.gather(
            record(assembly, dataset, ["voter-1"]),
            assembly.members_desk.WithdrawConsent(withdraw, metadata=rosa.metadata),
        )
    assert await live(house, assembly) == []


async def test_who_is_erased_while_forms_are_recorded_consents_to_nothing(house: House) -> None:
    assembly = await found(house, "vanished", voters=4)
    for number, member in enumerate(assembly.voters, 1):
        answers: Any = await asyncio.gather(
            record(assembly, f"{assembly.name}/datasets/wool", [f"voter-{number}"]),
            assembly.members_desk.EraseMember(
                pb.EraseMemberRequest(name=member.name, confirm_name=member.name), metadata=member.metadata
            ),
            # Whichever comes first: a form for somebody who is gone is refused.
            return_exceptions=True,
        )
        assert answers[1].name == member.name
    assert await live(house, assembly) == []


async def test_forms_in_any_order_never_stand_in_each_others_way(house: House) -> None:
    assembly = await found(house, "crossed", voters=2)
    dataset = f"{assembly.name}/datasets/wool"
    orders = [["voter-1", "voter-2"], ["voter-2", "voter-1"]] * 5
    replies = await asyncio.gather(*(record(assembly, dataset, order) for order in orders))
    assert {reply.recorded_count for reply in replies} == {2}
    assert len(await live(house, assembly)) == 2


async def test_a_gateway_gives_rows_to_none_but_its_own_members(house: House) -> None:
    dale, peak = await found(house, "dale", voters=1), await found(house, "peak", voters=1)
    (rosa,), (mina,) = dale.voters, peak.voters
    others = [f"{dale.name}/members/{mina.name.rsplit('/', 1)[1]}", f"{dale.name}/members/{new_id('mem')}", mina.name]
    for number, other in enumerate(others, 1):
        rows = [
            gateway.MemberContribution(member=name, row_count=2, rows_hash="00" * 32) for name in (other, rosa.name)
        ]
        version = f"{dale.name}/datasets/wool/versions/{number}"
        await tell(house, gateway.ContributionsRecorded(version=version, contributions=rows))
    for _ in range(100):
        if len(await contributed(dale, rosa)) == len(others):
            break
        await asyncio.sleep(0.1)
    assert len(await contributed(dale, rosa)) == len(others)
    assert await contributed(peak, mina) == []


async def test_who_is_left_out_is_who_consent_does_not_cover(house: House) -> None:
    """Any consents, versions and questions: the count is what rochdale_kit.consent.covers says of the latest version."""
    assembly = await found(house, "counted", voters=0)
    members = await assembly.join(*(f"m{number}" for number in range(8)))
    name, words, chance = f"governance_{house.tag}", sorted(PARENTS), random.Random(1844)
    engine = create_async_engine(house.postgres.dsn(name, name, "test"))
    for number in range(20):
        dataset, given = f"{assembly.name}/datasets/set-{number}", {}
        for member in members:
            for _ in range(chance.choice([0, 1, 1, 2])):
                purposes = chance.sample(words, chance.choice([0, 1, 3, 8]))
                categories = chance.sample(CATEGORIES, chance.choice([1, 2, 3])) if purposes else []
                request = give(member, dataset, purposes, categories)
                given[member.name] = await assembly.members_desk.GiveConsent(request, metadata=member.metadata)
        latest = chance.sample(members, 5)
        async with engine.begin() as connection:
            for version, those in ((1, chance.sample(members, 6)), (2, latest)):
                rows = [gateway.MemberContribution(member=one.name, row_count=1, rows_hash="00") for one in those]
                await store.contributions.save(connection, "counted", f"{dataset}/versions/{version}", rows, now())
            for _ in range(5):
                asked, wanted = chance.sample(CATEGORIES, chance.choice([1, 2])), chance.sample(words, 1)
                left_out = sum(
                    one.name not in given
                    or not all(covers(given[one.name], dataset, category, wanted) for category in asked)
                    for one in latest
                )
                assert await store.consents.excluded_count(connection, dataset, asked, wanted) == left_out
            assert await store.contributions.counts(connection, [dataset]) == (5, 5)
    await engine.dispose()


@pytest.mark.parametrize(
    "text", ["\x00", "'; DROP TABLE consent; --", "\u202e", "%"], ids=["nul", "sql", "bidi", "like"]
)
async def test_hostile_words_break_nothing(house: House, text: str) -> None:
    assembly = await found(house, "hostile-" + hashlib.sha256(text.encode()).hexdigest()[:8], voters=1)
    (rosa,), dataset = assembly.voters, f"{assembly.name}/datasets/wool"
    calls = [
        record(assembly, dataset, [text]),
        record(assembly, dataset, ["voter-1"], evidence=text),
        assembly.members_desk.WithdrawConsent(
            pb.WithdrawConsentRequest(parent=rosa.name, dataset=text), metadata=rosa.metadata
        ),
    ]
    for call in calls:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
