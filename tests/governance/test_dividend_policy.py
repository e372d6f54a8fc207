"""How surplus is divided: proposed, read, voted, signed, told to billing; and what members are told of their money."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
import pytest
import sqlalchemy as sa
from assembly import Assembly, Member, found, quick_charter
from google.protobuf.message import Message
from house import House, refused
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from governance.domain.dividends import month_words
from rochdale.billing.v1 import events_pb2 as billing
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import events_pb2, governance_pb2
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.type.v1 import dividend_policy_pb2 as policies
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.clock import new_id
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX, SigningKey

CONTRIBUTED = policies.CONTRIBUTION_BASIS_RECORD_DAYS
QUICK = quick_charter(voting_seconds=60)


def policy(**changed: Any) -> policies.DividendPolicy:
    fields: dict[str, Any] = {
        "reserve_bps": 1_000,
        "commons_bps": 500,
        "solidarity_bps": 250,
        "equal_bps": 2_000,
        "basis": CONTRIBUTED,
        "member_cap_bps": 200,
        "min_payout": Money(amount_minor=500, currency="EUR"),
        "min_membership_seconds": 30 * 86_400,
        "objection_seconds": 14 * 86_400,
    }
    return policies.DividendPolicy(**(fields | changed))


def delta(**changed: Any) -> pb.PolicyDelta:
    return pb.PolicyDelta(dividend_policy=policy(**changed))


async def rows(house: House, sql: str, **values: object) -> list[Any]:
    """Governance's own rows, as somebody with the database's password sees or changes them."""
    name = f"governance_{house.tag}"
    engine = create_async_engine(house.postgres.dsn(name, name, "test"))
    try:
        async with engine.begin() as connection:
            result = await connection.execute(sa.text(sql), values)
            return list(result) if result.returns_rows else []
    finally:
        await engine.dispose()


async def told(house: House, cooperative: str) -> list[events_pb2.DividendPolicyEnacted]:
    """What governance has announced of a cooperative's policies."""
    found = await rows(
        house, "SELECT body FROM outbox WHERE message_type LIKE '%DividendPolicyEnacted' ORDER BY position"
    )
    events = [events_pb2.DividendPolicyEnacted.FromString(row.body) for row in found]
    return [event for event in events if event.cooperative == cooperative]


async def test_members_decide_how_surplus_is_divided(house: House) -> None:
    assembly = await found(house, "dividers", QUICK, voters=2)
    drafted = await assembly.draft(delta=delta(), by=assembly.voters[0].person)
    assert drafted.decision_class == decisions.DECISION_CLASS_SENSITIVE
    assert list(drafted.class_reasons) == ["dividend_policy"]
    frozen = await assembly.freeze(await assembly.show(drafted.name))
    for words in (
        "Reserve: 10 % of each month's surplus, which meets losses first.",
        "Common projects: 5 % of each month's surplus.",
        "Members in need: 2.5 % of each month's surplus.",
        "Members: 82.5 % of each month's surplus.",
        "Equal parts: 20 % of what is the members', the same for everybody.",
        "Paid out: from EUR 5.00 on; what is less is carried forward and stays the member's.",
    ):
        assert words in frozen.impact.summary
    await assembly.vote(frozen)
    assert await assembly.enact(frozen.name) == []
    passed = await assembly.show(frozen.name)
    assert passed.state == pb.PROPOSAL_STATE_ENACTED and passed.delta.dividend_policy == policy()

    (event,) = await told(house, assembly.name)
    assert (event.version, event.policy, event.policy_hash) == (1, policy(), hash_of_dividend_policy(event))
    assert (event.proposal, event.tally_hash) == (passed.name, passed.tally.tally_hash)
    cooperative = await assembly.cooperatives_desk.GetCooperative(
        governance_pb2.GetCooperativeRequest(name=assembly.name)
    )
    keys = CooperativeKeys.follow(assembly.name, cooperative.signing_keys)
    assert keys.verify(event.signature, DIVIDEND_POLICY_PREFIX, event.policy_hash)

    # A later decision is the next version, and the one before stays as it was.
    await assembly.pass_through(await assembly.draft(delta=delta(reserve_bps=0)))
    assert [one.version for one in await told(house, assembly.name)] == [1, 2]
    kept = await rows(
        house, "SELECT version, body FROM dividend_policy WHERE cooperative_id = 'dividers' ORDER BY version"
    )
    assert [events_pb2.DividendPolicyEnacted.FromString(row.body) for row in kept] == await told(house, assembly.name)
    with pytest.raises(DBAPIError, match="a dividend policy never changes"):
        await rows(house, "UPDATE dividend_policy SET body = '' WHERE cooperative_id = 'dividers'")


@pytest.fixture(scope="module")
async def strict(house: House) -> Assembly:
    return await found(house, "strict", QUICK, voters=1)


RULE = pb.RuleDraft(effect=governance_pb2.RULE_EFFECT_DENY)
OURS = "cooperatives/strict/datasets/wool"
REFUSED: dict[str, tuple[str, pb.PolicyDelta]] = {
    "more than there is": ("DELTA_ILL_FORMED", delta(reserve_bps=5_000, commons_bps=4_000, solidarity_bps=1_001)),
    "more than all of it": ("REQUEST_INVALID", delta(reserve_bps=10_001)),
    "less than nothing": ("REQUEST_INVALID", delta(equal_bps=-1)),
    "no basis": ("REQUEST_INVALID", delta(basis=0)),
    "no least payment": ("REQUEST_INVALID", delta(min_payout=None)),
    "no currency": ("CURRENCY_UNKNOWN", delta(min_payout=Money(amount_minor=1, currency="ZZZ"))),
    "another's dataset": (
        "DATASET_NOT_OWN",
        delta(dataset_factors=[policies.DatasetFactor(dataset="cooperatives/dividers/datasets/wool", per_mille=1)]),
    ),
    "a dataset twice": (
        "DELTA_ILL_FORMED",
        delta(dataset_factors=[policies.DatasetFactor(dataset=OURS, per_mille=one) for one in (1, 2)]),
    ),
    "a charter with it": (
        "DELTA_ILL_FORMED",
        pb.PolicyDelta(dividend_policy=policy(), charter=governance_pb2.Charter(required_approvals=1)),
    ),
    "an end of a rule with it": (
        "DELTA_ILL_FORMED",
        pb.PolicyDelta(dividend_policy=policy(), end_rules=["cooperatives/strict/sharingRules/rule_1"]),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_policy_is_refused_for(strict: Assembly, name: str) -> None:
    reason, wrong = REFUSED[name]
    async with refused(reason):
        await strict.draft(delta=wrong)


async def test_all_of_it_may_be_the_reserve_s(strict: Assembly) -> None:
    drafted = await strict.draft(delta=delta(reserve_bps=10_000, commons_bps=0, solidarity_bps=0))
    assert drafted.delta.dividend_policy.reserve_bps == 10_000


async def test_nothing_is_divided_without_the_cooperative_s_signature(house: House) -> None:
    assembly = await found(house, "unsigned", QUICK, voters=1)
    frozen = await assembly.freeze(await assembly.draft(delta=delta()))
    await assembly.vote(frozen)
    own, assembly.authority.key = assembly.authority.key, SigningKey.generate()
    async with refused("SIGNATURE_INVALID"):
        await assembly.enact(frozen.name)
    assembly.authority.key = own
    request = await assembly.enactment(frozen.name)
    unsigned = pb.EnactProposalRequest()
    unsigned.CopyFrom(request)
    unsigned.ClearField("dividend_policy_signature")
    async with refused("SIGNATURE_INVALID"):
        await assembly.votes_desk.EnactProposal(unsigned, metadata=assembly.steward.metadata)
    assert not await told(house, assembly.name)
    reply = await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)
    again = await assembly.votes_desk.EnactProposal(request, metadata=assembly.steward.metadata)
    assert again == reply and len(await told(house, assembly.name)) == 1

    # Nor is a policy's signature taken for anything else.
    charter = pb.PolicyDelta(charter=QUICK)
    frozen = await assembly.freeze(await assembly.draft(delta=charter))
    await assembly.vote(frozen)
    other = await assembly.enactment(frozen.name)
    other.dividend_policy_signature.CopyFrom(request.dividend_policy_signature)
    async with refused("SIGNATURE_INVALID"):
        await assembly.votes_desk.EnactProposal(other, metadata=assembly.steward.metadata)


async def test_where_contributors_alone_vote_on_data_all_vote_on_money(house: House) -> None:
    charter = quick_charter(voting_seconds=60, contributors_only=True)
    assembly = await found(house, "everybody", charter, voters=2)
    frozen = await assembly.freeze(await assembly.draft(delta=delta()))
    assert frozen.roll.eligible_count == 2


# ---- what members are told of their money ----


async def tell(house: House, event: Message) -> None:
    """As billing's outbox would."""
    client = await nats.connect(house.nats.url())
    await ensure_stream(client, "billing")
    id, message_type = new_id("evt"), event.DESCRIPTOR.full_name
    headers = {"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id}
    await client.jetstream().publish(subject_of(message_type), event.SerializeToString(), headers=headers)
    for _ in range(400):
        if await rows(house, "SELECT 1 FROM inbox WHERE event_id = :id", id=id):
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError(f"{message_type} was not heard")
    await client.close()


async def letters(assembly: Assembly, member: Member) -> list[membership.Notice]:
    """What a member was told of money, oldest first."""
    answer = await assembly.members_desk.ListNotices(
        membership.ListNoticesRequest(parent=member.name), metadata=member.metadata
    )
    return [one for one in reversed(answer.notices) if one.kind == membership.NOTICE_KIND_PAYMENT]


def dividend(member: Member, cents: int, *, carried: bool = False) -> billing.MemberDividend:
    return billing.MemberDividend(
        member=member.name, amount=Money(amount_minor=cents, currency="EUR"), carried_forward=carried
    )


async def test_each_member_is_told_of_their_own_money_once(house: House) -> None:
    assembly = await found(house, "payees", voters=3)
    rosa, tom, nobody = assembly.voters
    strangers = await found(house, "strangers", voters=1)
    run = f"{assembly.name}/dividendRuns/{new_id('run')}"
    posted = billing.DividendPosted(
        dividend_run=run,
        month="2026-10",
        dividends=[
            dividend(rosa, 1_234),
            dividend(tom, 12, carried=True),
            dividend(nobody, 0),
            dividend(strangers.voters[0], 99),
        ],
    )
    await tell(house, posted)
    await tell(house, posted)
    (hers,) = await letters(assembly, rosa)
    assert (hers.subject, hers.about) == ("EUR 12.34 for October 2026", run)
    assert "will be paid" in hers.text and "0.12" not in hers.text
    (his,) = await letters(assembly, tom)
    assert his.subject == "EUR 0.12 for October 2026" and "carried forward, and stays yours" in his.text
    assert not await letters(assembly, nobody) and not await letters(strangers, strangers.voters[0])

    paid = billing.DividendPaid(dividend_run=run, month="2026-10", dividends=[dividend(rosa, 1_534)])
    await tell(house, paid)
    await tell(house, paid)
    assert [one.subject for one in await letters(assembly, rosa)] == [hers.subject, "Paid: EUR 15.34"]
    assert len(await letters(assembly, tom)) == 1


def test_a_month_in_words() -> None:
    assert month_words("2026-10") == "October 2026"
    for odd in ("", "2026", "2026-13", "2026-xx", "October"):
        assert month_words(odd) == odd
