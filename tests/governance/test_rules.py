"""Sharing rules over a real governance service: proposed, approved, narrowed, ended, and who may look."""

import asyncio
from typing import Any

import assembly
import grpc
import nats
import pytest
import sqlalchemy as sa
from assembly import Assembly, quick_charter
from house import House, Person, refused, request_id
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.governance.v1 import events_pb2, governance_pb2_grpc
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import hash_of_rule
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.refusals import refusal_of
from rochdale_kit.signing import SigningKey


@pytest.fixture
def governance(house: House) -> Any:
    return governance_pb2_grpc.GovernanceServiceStub(house.channel("governance"))


def terms(cooperative: str, **changes: Any) -> scope.SharingScope:
    wanted: dict[str, Any] = {
        "datasets": [
            scope.DatasetScope(
                dataset=f"cooperatives/{cooperative}/datasets/randhie", first_version=1, columns=["mdvis", "age"]
            )
        ],
        "categories": [scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_SME],
        "purposes": ["ResearchAndDevelopment"],
        "actions": [scope.USE_ACTION_ANALYZE],
        "max_mode": scope.ACCESS_MODE_DOWNLOAD,
        "floor_price": Money(amount_minor=0, currency="EUR"),
        "territories": ["WORLD"],
        "max_duration_seconds": 365 * 86_400,
        "duties": [scope.DUTY_NO_REIDENTIFICATION],
    }
    return scope.SharingScope(**(wanted | changes))


async def found(house: House, governance: Any, id: str, required_approvals: int = 1) -> Person:
    """A cooperative in which nobody votes: for what its board does."""
    charter = quick_charter()
    charter.required_approvals = required_approvals
    return (await assembly.found(house, id, charter, voters=0)).steward


async def ruled(house: House, id: str) -> tuple[Assembly, pb.SharingRule]:
    """A cooperative whose members allowed something."""
    made = await assembly.found(house, id)
    (rule,) = await made.decide(terms(id))
    return made, rule


async def propose(governance: Any, steward: Person, **changes: Any) -> pb.SharingRule:
    """An emergency prohibition of the board."""
    request = pb.ProposeSharingRuleRequest(
        request_id=request_id(),
        parent=f"cooperatives/{steward.organization}",
        effect=pb.RULE_EFFECT_DENY,
        scope=terms(steward.organization, **changes),
        rationale="Something is wrong.",
    )
    rule: pb.SharingRule = await governance.ProposeSharingRule(request, metadata=steward.metadata)
    return rule


async def end(governance: Any, steward: Person, rule: pb.SharingRule) -> pb.SharingRule:
    """Asks to end a rule, as somebody without the cooperative's key would."""
    narrowed: pb.SharingRule = await governance.NarrowSharingRule(
        pb.NarrowSharingRuleRequest(
            request_id=request_id(), name=rule.name, revision=rule.revision, effective_time=to_timestamp(now())
        ),
        metadata=steward.metadata,
    )
    return narrowed


async def events(house: House, count: int, about: str, only: str = "") -> list[Any]:
    """The first events on governance's stream that mention a name, decoded with nothing but the contracts."""
    client = await nats.connect(house.nats.url())
    subscription = await client.jetstream().subscribe(
        "rochdale.governance.v1.>", stream="governance", ordered_consumer=True
    )
    heard: list[Any] = []
    try:
        while len(heard) < count:
            message = await subscription.next_msg(timeout=10)
            assert message.headers is not None
            kind = getattr(events_pb2, message.headers["ce-type"].rsplit(".", 1)[1])
            event = kind.FromString(message.data)
            if about in str(event) and only in message.headers["ce-type"]:
                heard.append(event)
    finally:
        await client.close()
    return heard


async def test_one_steward_is_enough_where_the_charter_says_so(house: House, governance: Any) -> None:
    steward = await found(house, governance, "solo")
    rule = await propose(governance, steward)
    assert rule.state == pb.RULE_STATE_IN_FORCE and rule.revision == 1 and rule.emergency
    # A key nobody stands behind is the cooperative's, whichever key it is.
    assert list(rule.approvals) == ["organizations/solo"]
    assert rule.rule_hash == hash_of_rule(rule)
    anybody = await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name))
    assert anybody == rule


async def test_a_prohibition_waits_for_as_many_stewards_as_the_charter_asks(house: House, governance: Any) -> None:
    charter = quick_charter()
    charter.required_approvals = 3
    trio = await assembly.found(house, "trio", charter, voters=2)
    bea, cleo = [await trio.appoint(member) for member in trio.voters]
    rule = await propose(governance, trio.steward)
    assert rule.state == pb.RULE_STATE_PROPOSED and not rule.rule_hash and not rule.HasField("effective_time")

    approve = pb.ApproveSharingRuleRequest(name=rule.name)
    for _ in range(3):
        assert len((await governance.ApproveSharingRule(approve, metadata=trio.steward.metadata)).approvals) == 1
    second = await governance.ApproveSharingRule(approve, metadata=bea.metadata)
    assert second.state == pb.RULE_STATE_PROPOSED and len(second.approvals) == 2
    enacted = await governance.ApproveSharingRule(approve, metadata=cleo.metadata)
    assert enacted.state == pb.RULE_STATE_IN_FORCE and len(set(enacted.approvals)) == 3
    assert enacted.effective_time.ToNanoseconds() > enacted.create_time.ToNanoseconds()
    # Approving what is in force changes nothing.
    assert await governance.ApproveSharingRule(approve, metadata=bea.metadata) == enacted
    heard = [event for event in await events(house, 1, rule.name)]
    assert [type(event).__name__ for event in heard] == ["RuleEnacted"]


async def test_a_proposal_is_seen_by_its_stewards_and_the_operator_only(house: House, governance: Any) -> None:
    ada = await found(house, governance, "duo", required_approvals=2)
    stranger, operator = await house.steward("stranger"), await house.operator()
    gateway = await house.colleague(ada, identity_pb2.ROLE_GATEWAY)
    rule = await propose(governance, ada)
    get = pb.GetSharingRuleRequest(name=rule.name)
    listing = pb.ListSharingRulesRequest(parent="cooperatives/duo")
    for person in (ada, operator):
        assert await governance.GetSharingRule(get, metadata=person.metadata) == rule
        assert len((await governance.ListSharingRules(listing, metadata=person.metadata)).sharing_rules) == 1
    for metadata in ((), stranger.metadata, gateway.metadata):
        async with refused("NOT_FOUND", name=rule.name):
            await governance.GetSharingRule(get, metadata=metadata)
        assert not (await governance.ListSharingRules(listing, metadata=metadata)).sharing_rules
    for metadata in (stranger.metadata,):
        async with refused("NOT_FOUND", name=rule.name):
            await governance.ApproveSharingRule(pb.ApproveSharingRuleRequest(name=rule.name), metadata=metadata)


async def test_narrowing_starts_at_the_instant_the_old_revision_ends(house: House, governance: Any) -> None:
    made, rule = await ruled(house, "narrow")
    tighter = terms("narrow", categories=[scope.BUYER_CATEGORY_ACADEMIC])
    second = await made.narrow(rule, tighter)
    assert second.revision == 2 and second.scope == tighter and second.rationale == rule.rationale
    assert second.rule_hash not in ("", rule.rule_hash) and second.proposal == rule.proposal

    first = await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name, revision=1))
    assert first.state == pb.RULE_STATE_ENDED and first.end_time == second.effective_time
    assert first.rule_hash == rule.rule_hash and first.scope == rule.scope
    assert await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name)) == second
    listed = await governance.ListSharingRules(pb.ListSharingRulesRequest(parent="cooperatives/narrow"))
    assert list(listed.sharing_rules) == [second]
    async with refused("NOT_FOUND"):
        await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name, revision=3))

    async with refused("RULE_CHANGED", revision="2", seen_revision="1"):
        await made.narrow(rule, tighter)
    ended = await made.narrow(second, None)
    assert ended.state == pb.RULE_STATE_ENDED and ended.revision == 2 and ended.HasField("end_time")
    async with refused("RULE_NOT_IN_FORCE", state="RULE_STATE_ENDED"):
        await made.narrow(second, tighter)
    async with refused("RULE_ENDED", name=rule.name):
        await governance.ApproveSharingRule(
            pb.ApproveSharingRuleRequest(name=rule.name), metadata=made.steward.metadata
        )
    heard = [event.sharing_rule for event in await events(house, 3, f'"{rule.name}"', only="Rule")]
    assert heard == [rule, second, ended]
    # Without a rule left, the decision has given way.
    await made.until(rule.proposal, proposals.PROPOSAL_STATE_SUPERSEDED)


async def test_widening_cannot_be_said(house: House, governance: Any) -> None:
    made, rule = await ruled(house, "wide")
    wider = terms("wide", territories=["FR"], duties=[], max_duration_seconds=366 * 86_400)
    async with refused("RULE_WIDENED", escapes="max_duration_seconds, duties"):
        await made.narrow(rule, wider)
    other = terms("narrow")
    async with refused("RULE_WIDENED", escapes="datasets"):
        await made.narrow(rule, other)
    assert await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name)) == rule


async def test_narrowing_needs_the_cooperatives_key(house: House, governance: Any) -> None:
    made, rule = await ruled(house, "keyless")
    async with refused("SIGNATURE_INVALID"):
        await end(governance, made.steward, rule)
    made.authority.key = SigningKey.generate()
    async with refused("SIGNATURE_INVALID"):
        await made.narrow(rule, terms("keyless", territories=["FR"]))


async def test_a_prohibition_is_never_loosened(house: House, governance: Any) -> None:
    made = await assembly.found(house, "strict")
    emergency = await propose(governance, made.steward)
    voted = await made.forbid(terms("strict"))
    assert emergency.state == voted.state == pb.RULE_STATE_IN_FORCE and not voted.emergency
    for rule in (emergency, voted):
        for to in (None, terms("strict"), terms("strict", categories=[scope.BUYER_CATEGORY_SME])):
            async with refused("RULE_WIDENED", effect="RULE_EFFECT_DENY"):
                await made.narrow(rule, to)


async def test_a_proposed_prohibition_cannot_be_ended(house: House, governance: Any) -> None:
    steward = await found(house, governance, "early", required_approvals=2)
    rule = await propose(governance, steward)
    async with refused("RULE_NOT_IN_FORCE", state="RULE_STATE_PROPOSED"):
        await end(governance, steward, rule)


async def test_of_two_who_narrow_at_once_one_is_told_that_the_rule_changed(house: House, governance: Any) -> None:
    made, rule = await ruled(house, "crowd")
    tighter = terms("crowd", territories=["FR"])
    answers = await asyncio.gather(*(made.narrow(rule, tighter) for _ in range(5)), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, pb.SharingRule)]
    lost = [refusal_of(answer).reason for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(won) == 1 and lost == ["RULE_CHANGED"] * 4


async def test_what_may_be_shared_is_not_the_boards_to_say(house: House, governance: Any) -> None:
    steward = await found(house, governance, "eager")
    async with refused("MEMBERS_DECIDE"):
        await governance.ProposeSharingRule(
            pb.ProposeSharingRuleRequest(
                request_id=request_id(),
                parent="cooperatives/eager",
                effect=pb.RULE_EFFECT_ALLOW,
                scope=terms("eager"),
                rationale="It would pay.",
            ),
            metadata=steward.metadata,
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"floor_price": Money(amount_minor=1, currency="ZZZ")}, "CURRENCY_UNKNOWN"),
        ({"floor_price": Money(amount_minor=1, currency="zzz")}, "REQUEST_INVALID"),
        ({"floor_price": Money(amount_minor=-1, currency="EUR")}, "REQUEST_INVALID"),
        ({"purposes": ["WorldDomination"]}, "SCOPE_ILL_FORMED"),
        ({"territories": ["WORLD", "FR"]}, "SCOPE_ILL_FORMED"),
        ({"datasets": terms("nonsense").datasets[:] * 2}, "SCOPE_ILL_FORMED"),
        ({"datasets": terms("valley").datasets[:]}, "DATASET_NOT_OWN"),
        ({"datasets": [*terms("nonsense").datasets, *terms("valley").datasets]}, "DATASET_NOT_OWN"),
        ({"datasets": []}, "REQUEST_INVALID"),
        ({"actions": [77]}, "REQUEST_INVALID"),
    ],
)
async def test_nonsense_is_never_proposed(house: House, governance: Any, changes: Any, reason: str) -> None:
    steward = house.__dict__.get("nonsense") or await found(house, governance, "nonsense")
    house.__dict__["nonsense"] = steward
    async with refused(reason):
        await propose(governance, steward, **changes)
    listing = pb.ListSharingRulesRequest(parent="cooperatives/nonsense")
    assert not (await governance.ListSharingRules(listing, metadata=steward.metadata)).sharing_rules


async def test_a_retried_proposal_is_one_rule(house: House, governance: Any) -> None:
    steward = await found(house, governance, "again")
    request = pb.ProposeSharingRuleRequest(
        request_id=request_id(),
        parent="cooperatives/again",
        effect=pb.RULE_EFFECT_DENY,
        scope=terms("again"),
        rationale="Once.",
    )
    answers = await asyncio.gather(
        *(governance.ProposeSharingRule(request, metadata=steward.metadata) for _ in range(3))
    )
    assert answers[0] == answers[1] == answers[2]
    request.rationale = "Twice."
    async with refused("REQUEST_ID_REUSED"):
        await governance.ProposeSharingRule(request, metadata=steward.metadata)


async def test_rules_come_in_pages_newest_first(house: House, governance: Any) -> None:
    made = await assembly.found(house, "pages")
    rules = [await propose(governance, made.steward) for _ in range(4)] + await made.decide(terms("pages"))
    rules[4] = await made.narrow(rules[4], terms("pages", territories=["IN"]))
    seen: list[pb.SharingRule] = []
    token = ""
    while True:
        page = await governance.ListSharingRules(
            pb.ListSharingRulesRequest(parent="cooperatives/pages", page_size=2, page_token=token)
        )
        seen += page.sharing_rules
        token = page.next_page_token
        if not token:
            break
    # Ids made within one millisecond have no order between them, so the list is compared by id.
    assert seen == sorted(rules, key=lambda rule: rule.name, reverse=True)
    for hostile in ("bm90IG91cnM", "%%%", "x" * 1024):
        async with refused("PAGE_TOKEN_INVALID"):
            await governance.ListSharingRules(
                pb.ListSharingRulesRequest(parent="cooperatives/pages", page_token=hostile)
            )
    async with refused("NOT_FOUND"):
        await governance.ListSharingRules(pb.ListSharingRulesRequest(parent="cooperatives/nobody"))


async def test_the_database_itself_keeps_what_was_decided(house: House, governance: Any) -> None:
    steward = await found(house, governance, "stone")
    rule = await propose(governance, steward)
    id = rule.name.rsplit("/", 1)[1]
    engine = create_async_engine(await house.database_url("governance"))
    try:
        for statement in (
            "UPDATE sharing_rule SET rationale = 'other' WHERE id = :id",
            "UPDATE sharing_rule SET rule_hash = 'other' WHERE id = :id",
            "UPDATE sharing_rule SET state = 1, effective_time = NULL WHERE id = :id",
            "DELETE FROM sharing_rule WHERE id = :id",
        ):
            with pytest.raises(DBAPIError):
                async with engine.begin() as connection:
                    await connection.execute(sa.text(statement), {"id": id})
    finally:
        await engine.dispose()
    assert await governance.GetSharingRule(pb.GetSharingRuleRequest(name=rule.name)) == rule


async def test_buyers_and_unverified_stewards_decide_nothing(house: House, governance: Any) -> None:
    buyer, operator = await house.buyer("curious"), await house.operator()
    steward = await found(house, governance, "closed")
    rule = await propose(governance, steward)
    for person in (buyer, operator):
        async with refused("ROLE_MISSING"):
            await end(governance, person, rule)
    async with refused("SESSION_MISSING"):
        await governance.ApproveSharingRule(pb.ApproveSharingRuleRequest(name=rule.name))
