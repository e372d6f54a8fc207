"""Challenging a vote, and bringing the cooperative's signature to what members decided. Hung into proposal.py."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.authority import SigningKey, enacted_rule, sign_dividend_policy, sign_rule, sign_rule_end
from rochdale.client.commands.proposal_vote import recount_differs
from rochdale.client.market import Market
from rochdale.client.names import same_request, short
from rochdale.client.offers import publish_signed
from rochdale.client.options import RequestId, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, note, say
from rochdale.client.proposal_options import OneProposal, get_proposal, governance_keys, proposal_name, whole_board
from rochdale.client.proposal_views import recount_document, show_proposal, show_recount, show_text
from rochdale.client.recount import Recount
from rochdale.client.recount import recount as count_again
from rochdale.client.refusals import MarketError
from rochdale.client.signing_options import SigningKeyFile, current_signing_key, get_cooperative
from rochdale.client.terms import CHALLENGE_GROUNDS, PROPOSAL_STATES, moment, moment_of, when
from rochdale.governance.v1 import governance_pb2, proposals_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import pricing_pb2


def challenge(
    context: typer.Context,
    proposal: OneProposal,
    ground: Annotated[
        Any,
        typer.Option(
            "--ground", parser=parser(CHALLENGE_GROUNDS.parse), metavar="GROUND", help=f"{CHALLENGE_GROUNDS.all}."
        ),
    ],
    statement: Annotated[str, typer.Option("--statement", help="What went wrong, in your words.")],
    request_id: RequestId = None,
) -> None:
    """Challenge a vote, as a member on its roll, until it is enacted. Nothing is enacted while a challenge is open.

    [dim]$[/] rochdale proposal challenge prop_01J… --ground interest --statement "The author works for the buyer."
    """
    market = open_market(context)
    request = proposals_pb2.ChallengeProposalRequest(
        request_id=request_id_or_new(request_id),
        name=proposal_name(market, proposal),
        ground=ground,
        statement=statement,
    )
    show_proposal(market.call(market.proposals.ChallengeProposal, request))


def resolve(
    context: typer.Context,
    proposal: OneProposal,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Which challenge.")],
    answer: Annotated[str, typer.Option("--answer", help="Why.")],
    uphold: Annotated[
        bool | None, typer.Option("--uphold/--turn-down", help="Upheld, the proposal is annulled.")
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Answer a challenge, as a steward without an interest who neither wrote the proposal nor made the challenge.

    [dim]$[/] rochdale proposal resolve prop_01J… 1 --turn-down --answer "The author left that company in 2024."
    """
    if uphold is None:
        raise typer.BadParameter("Say --uphold or --turn-down.")
    market = open_market(context)
    request = proposals_pb2.ResolveChallengeRequest(
        request_id=request_id_or_new(request_id),
        name=proposal_name(market, proposal),
        number=number,
        upheld=uphold,
        answer=answer,
    )
    show_proposal(market.call(market.proposals.ResolveChallenge, request))


def enact(
    context: typer.Context,
    proposal: OneProposal,
    signing_key: SigningKeyFile = None,
    accept_withheld: Annotated[
        bool,
        typer.Option("--accept-withheld", help="Sign although the numbers of a small secret ballot are withheld."),
    ] = False,
    effective_time: Annotated[
        Timestamp | None,
        typer.Option(
            "--effective-time",
            parser=parser(moment),
            metavar="TIME",
            help="From when; say it when you retry with --request-id. Default: now.",
        ),
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Sign what members decided, and put it in force, as a steward. The vote is counted again first, here.

    What does not add up is not signed. If the proposal answers a buyer's request, the offering it asks for is signed
    and published too, and the buyer's negotiation goes on by itself.

    [dim]$[/] rochdale proposal enact prop_01J…

    [dim]$[/] rochdale proposal enact prop_01J… --signing-key /media/safe/valley-health.signing.key
    """
    market = open_market(context)
    found = get_proposal(market, proposal)
    cooperative = get_cooperative(market, found.name.split("/")[1])
    counted = _require_passed(market, found, accept_withheld)
    key = current_signing_key(market, signing_key, cooperative)
    show_text(found)
    id = request_id_or_new(request_id)
    at = effective_time or moment_of(id)
    rules = [enacted_rule(draft, found, at) for draft in found.delta.rules]
    request = proposals_pb2.EnactProposalRequest(
        request_id=id,
        name=found.name,
        effective_time=at,
        rule_signatures=[sign_rule(rule, key) for rule in rules],
        end_signatures=[sign_rule_end(_rule(market, name), at, key) for name in found.delta.end_rules],
        dividend_policy_signature=sign_dividend_policy(found, at, key)
        if found.delta.HasField("dividend_policy")
        else None,
    )
    answer = market.call(market.proposals.EnactProposal, request)
    _require_same(rules, answer.sharing_rules)
    offering = _offer(market, answer, key, id) if found.mandate_request and answer.sharing_rules else None
    document(
        as_dict(answer) | {"recount": recount_document(counted), "offering": as_dict(offering) if offering else None}
    )
    say(
        f"{short(found.name)} is {PROPOSAL_STATES.format(answer.proposal.state)} since {when(answer.proposal, 'enact_time')}."
    )
    if found.delta.HasField("dividend_policy"):
        say("Months that end from now on are divided by it.")
    for rule in answer.sharing_rules:
        say(f"{short(rule.name)} is in force until {when(rule, 'expire_time')}.")
        if offering is None and rule.effect == governance_pb2.RULE_EFFECT_ALLOW:
            note(f'Offer it with: rochdale offering publish --title "…" --tier "CATEGORY=PRICE@{short(rule.name)}"')
    if offering:
        say(f"{short(offering.name)} is published for {short(found.mandate_request)}; the buyer's negotiation goes on.")


def _require_passed(market: Market, proposal: proposals_pb2.Proposal, accept_withheld: bool) -> Recount:
    """The recount of a proposal that passed. Refuses to go on with anything else."""
    if not proposal.tally.passed:
        raise MarketError(
            "PROPOSAL_NOT_PASSED",
            f"{short(proposal.name)} is {PROPOSAL_STATES.format(proposal.state)}; it has not passed.",
            {"name": proposal.name},
        )
    counted = count_again(proposal, whole_board(market, proposal.name), governance_keys(market))
    show_recount(counted)
    if not counted.adds_up:
        raise recount_differs(proposal.name, [*(each.found for each in counted.wrong), "Nothing was signed."])
    if not counted.complete and not accept_withheld:
        unknown = " ".join(each.found for each in counted.unknown)
        raise MarketError(
            "RECOUNT_INCOMPLETE",
            f"{short(proposal.name)} cannot be counted again as a whole: {unknown} To sign it on governance's word, say "
            "--accept-withheld.",
            {"name": proposal.name},
        )
    return counted


def _rule(market: Market, name: str) -> governance_pb2.SharingRule:
    return market.call(market.governance.GetSharingRule, governance_pb2.GetSharingRuleRequest(name=name))


def _require_same(signed: list[governance_pb2.SharingRule], enacted: Any) -> None:
    """What is in force is what was signed; catalog, licensing and gateway would refuse anything else anyway."""
    for mine, theirs in zip(signed, enacted, strict=True):
        if mine.rule_hash != theirs.rule_hash:
            raise MarketError(
                "RULE_HASH_MISMATCH", f"{theirs.name} is not the rule that was signed.", {"name": theirs.name}
            )


def _offer(
    market: Market, enacted: proposals_pb2.EnactProposalResponse, key: SigningKey, request_id: str
) -> catalog_pb2.Offering:
    """The offering a buyer asked members for: exactly the rule, at exactly its price."""
    proposal, rule = enacted.proposal, enacted.sharing_rules[0]
    request = catalog_pb2.PublishOfferingRequest(
        request_id=same_request(request_id, "offering"),
        parent=proposal.name.partition("/proposals/")[0],
        title=proposal.title,
        description=f"What members decided in {short(proposal.name)}.",
        scope=rule.scope,
        tiers=[
            catalog_pb2.OfferingTier(
                categories=rule.scope.categories,
                price=rule.scope.floor_price,
                sharing_rule=rule.name,
                price_plan=_asked_plan(market, proposal.mandate_request, rule.scope.categories[0]),
            )
        ],
        mandate_request=proposal.mandate_request,
    )
    try:
        return publish_signed(market, request, key)
    except MarketError as error:
        error.message += (
            f" The rule is in force, the offering is not published. Try again with the same --request-id {request_id}, "
            f"or: rochdale offering publish --mandate-request {short(proposal.mandate_request)}"
        )
        raise


def _asked_plan(market: Market, mandate_request: str, category: int) -> pricing_pb2.PricePlan | None:
    """How the price the buyer asked for is due: as in the offering the request started from. None for once."""
    request = licensing_pb2.GetMandateRequestRequest(name=mandate_request)
    asked = market.call(market.licensing.GetMandateRequest, request)
    offering = market.call(market.catalog.GetOffering, catalog_pb2.GetOfferingRequest(name=asked.offering))
    tier = next((one for one in offering.tiers if category in one.categories), None)
    return tier.price_plan if tier is not None and tier.HasField("price_plan") else None
