"""docs/journeys/outside-the-mandate.md: what no rule allows is asked of the members, and the negotiation goes on."""

from __future__ import annotations

from typing import Any

from house import refused, request_id
from walk import ACADEMIC, COMPANY, MarketPeople, NotYet, Purchase, Shelf, eventually

from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money

TUNE, PRETRAIN = scope.USE_ACTION_FINETUNE, scope.USE_ACTION_PRETRAIN


async def ask(
    market: MarketPeople, shelf: Shelf, person: Any, action: scope.UseAction.ValueType
) -> licensing.MandateRequest:
    wish = licensing.Wish(actions=[scope.USE_ACTION_ANALYZE, action], price=Money(amount_minor=500_000, currency="EUR"))
    asked = await market.stub("licensing").RequestMandate(
        licensing.RequestMandateRequest(
            request_id=request_id(), offering=shelf.offering.name, wish=wish, message="We would tune a model."
        ),
        metadata=person.metadata,
    )
    assert isinstance(asked, licensing.MandateRequest)
    return asked


async def until(market: MarketPeople, person: Any, name: str, *states: int) -> licensing.MandateRequest:
    async def there() -> licensing.MandateRequest:
        found = await market.stub("licensing").GetMandateRequest(
            licensing.GetMandateRequestRequest(name=name), metadata=person.metadata
        )
        if found.state not in states:
            raise NotYet(found)
        assert isinstance(found, licensing.MandateRequest)
        return found

    return await eventually(there)


async def test_members_agree_and_the_negotiation_goes_on_by_itself(market: MarketPeople, shelf: Shelf) -> None:
    buyer = await market.licensee("tuner", COMPANY)
    async with refused("REQUEST_OUTSIDE_OFFERING", escapes="actions"):
        await market.stub("licensing").RequestLicense(
            licensing.RequestLicenseRequest(
                request_id=request_id(), offering=shelf.offering.name, wish=licensing.Wish(actions=[TUNE])
            ),
            metadata=buyer.metadata,
        )
    asked = await ask(market, shelf, buyer, TUNE)
    assert any("finetune" in one.lower() or "fine-tune" in one for one in asked.outside), asked.outside
    assert asked.HasField("respond_by_time")

    drafted = await until(market, buyer, asked.name, licensing.MANDATE_REQUEST_STATE_DRAFTED)
    cooperative = market.assemblies["valley-health"]
    proposal = await cooperative.show(drafted.proposal)
    assert proposal.state == proposals.PROPOSAL_STATE_SPONSORING
    assert proposal.delta.rules[0].scope == asked.scope
    sponsored = await cooperative.votes_desk.SponsorProposal(
        proposals.SponsorProposalRequest(name=proposal.name, revision=proposal.revision),
        metadata=shelf.steward.metadata,
    )
    assert sponsored.state == proposals.PROPOSAL_STATE_DELIBERATION
    frozen = await cooperative.freeze(sponsored)
    assert frozen.impact.member_count == 5912 and frozen.impact.expected_per_member.amount_minor == 500_000 // 5912
    await until(market, buyer, asked.name, licensing.MANDATE_REQUEST_STATE_UNDER_VOTE)
    await cooperative.vote(frozen)
    rules = await cooperative.enact(frozen.name)
    assert rules[0].scope == asked.scope

    request = cooperative.signed(
        catalog.PublishOfferingRequest(
            request_id=request_id(),
            parent=cooperative.name,
            title="For tuning",
            scope=asked.scope,
            tiers=[
                catalog.OfferingTier(
                    categories=[COMPANY],
                    price=asked.scope.floor_price,
                    sharing_rule=rules[0].name,
                )
            ],
            mandate_request=asked.name,
        ),
        rules,
    )

    async def publish() -> Any:
        return await market.stub("catalog").PublishOffering(request, metadata=shelf.steward.metadata)

    offering = await eventually(publish)
    continued = await until(market, buyer, asked.name, licensing.MANDATE_REQUEST_STATE_CONTINUED)
    negotiation = await market.stub("licensing").GetNegotiation(
        licensing.GetNegotiationRequest(name=continued.negotiation), metadata=buyer.metadata
    )
    assert negotiation.state == licensing.NEGOTIATION_STATE_AGREED and negotiation.license
    purchase = Purchase(buyer, offering.name, license=negotiation.license)
    await market.order(purchase)
    await market.start_payment(purchase)
    await market.pay(purchase)
    await market.active(purchase)
    token = await market.token(purchase)
    assert scope.USE_ACTION_FINETUNE in token.scope.actions
    files = await market.files(purchase, token)
    assert sum(int(file["row_count"]) for file in files["files"]) == 20190


async def test_members_decline_and_the_buyer_reads_why(market: MarketPeople, shelf: Shelf) -> None:
    buyer = await market.licensee("hopeful", COMPANY)
    asked = await ask(market, shelf, buyer, PRETRAIN)
    drafted = await until(market, buyer, asked.name, licensing.MANDATE_REQUEST_STATE_DRAFTED)
    cooperative = market.assemblies["valley-health"]
    proposal = await cooperative.show(drafted.proposal)
    sponsored = await cooperative.votes_desk.SponsorProposal(
        proposals.SponsorProposalRequest(name=proposal.name, revision=proposal.revision),
        metadata=shelf.steward.metadata,
    )
    frozen = await cooperative.freeze(sponsored)
    await cooperative.vote(frozen, proposals.BALLOT_CHOICE_NO)
    declined = await until(market, buyer, asked.name, licensing.MANDATE_REQUEST_STATE_DECLINED)
    assert declined.decline_reason


async def test_what_a_rule_allows_already_needs_no_vote(market: MarketPeople, shelf: Shelf) -> None:
    buyer = await market.licensee("modest", ACADEMIC)
    async with refused("MANDATE_NOT_NEEDED"):
        await market.stub("licensing").RequestMandate(
            licensing.RequestMandateRequest(
                request_id=request_id(), offering=shelf.offering.name, wish=licensing.Wish(), message="Please."
            ),
            metadata=buyer.metadata,
        )
