"""No grant is opened on a license, rule, offering or key that its owner did not sign, or against a prohibition."""

import datetime as dt
from collections.abc import Callable

import pytest
from authority import Authority, signed_license
from broker_market import Deal, Market, Site
from house import Person

from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.signing import SigningKey, canonical_hash

DENY = governance_pb2.RULE_EFFECT_DENY


def unsigned_license(market: Market, site: Site, deal: Deal) -> None:
    deal.license.ClearField("signature")


def license_of_another_signer(market: Market, site: Site, deal: Deal) -> None:
    signed_license(deal.license, SigningKey.generate())


def widened_license(market: Market, site: Site, deal: Deal) -> None:
    deal.terms.scope.actions.append(scope_pb2.USE_ACTION_COMMERCIALIZE_MODEL)
    deal.license.terms_hash = canonical_hash(deal.terms)


def rule_nobody_signed(market: Market, site: Site, deal: Deal) -> None:
    deal.rule.ClearField("signature")


def rule_of_another_key(market: Market, site: Site, deal: Deal) -> None:
    deal.authority = Authority(site.id)
    deal.seal()


def rule_without_a_vote(market: Market, site: Site, deal: Deal) -> None:
    deal.rule.proposal = ""
    deal.seal()


def rule_expired(market: Market, site: Site, deal: Deal) -> None:
    deal.rule.expire_time.CopyFrom(deal.terms.agree_time)
    deal.seal()


def recall_left_out(market: Market, site: Site, deal: Deal) -> None:
    deal.rule.member_recall = True
    deal.seal()


def offering_nobody_signed(market: Market, site: Site, deal: Deal) -> None:
    deal.offering.ClearField("signature")


def no_key_at_all(market: Market, site: Site, deal: Deal) -> None:
    market.shelf.cooperatives.pop(site.authority.name)


def keys_that_are_no_line(market: Market, site: Site, deal: Deal) -> None:
    market.shelf.cooperatives[site.authority.name].signing_keys.append(Authority(site.id).introduced())


def members_forbid(market: Market, site: Site, deal: Deal) -> None:
    market.deny(site, deal)


def board_forbids_unsigned(market: Market, site: Site, deal: Deal) -> None:
    market.deny(site, deal, emergency=True).ClearField("signature")


def prohibition_ended_unsigned(market: Market, site: Site, deal: Deal) -> None:
    deny = market.deny(site, deal)
    deny.state = governance_pb2.RULE_STATE_ENDED
    deny.end_time.CopyFrom(deny.effective_time)


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (unsigned_license, "LICENSE_SIGNATURE_INVALID"),
        (license_of_another_signer, "LICENSE_SIGNATURE_INVALID"),
        (widened_license, "LICENSE_SIGNATURE_INVALID"),
        (rule_nobody_signed, "RULE_SIGNATURE_INVALID"),
        (rule_of_another_key, "RULE_SIGNATURE_INVALID"),
        (rule_without_a_vote, "RULE_NOT_VOTED"),
        (rule_expired, "RULE_EXPIRED"),
        (recall_left_out, "TERMS_INCONSISTENT"),
        (offering_nobody_signed, "OFFERING_SIGNATURE_INVALID"),
        (no_key_at_all, "RULE_SIGNATURE_INVALID"),
        (keys_that_are_no_line, "COOPERATIVE_KEY_INVALID"),
        (members_forbid, "RULE_DENIES"),
        (board_forbids_unsigned, "RULE_DENIES"),
        (prohibition_ended_unsigned, "RULE_DENIES"),
    ],
)
async def test_no_grant_is_opened_on(
    market: Market, own: Site, buyer: Person, bend: Callable[[Market, Site, Deal], None], reason: str
) -> None:
    deal = market.deal(own, buyer)
    bend(market, own, deal)
    grant = await market.activate(deal)
    assert (grant.state, grant.state_reason, grant.grant_hash) == (pb.GRANT_STATE_VOID, reason, "")


async def test_a_prohibition_counts_as_long_as_it_was_in_force(market: Market, own: Site, buyer: Person) -> None:
    deal = market.deal(own, buyer)
    # Ended by signature before, begun after, expired before, signed by nobody: none of them was the members' then.
    agreed = deal.terms.agree_time.ToDatetime(tzinfo=dt.UTC)
    ended = market.deny(own, deal)
    market.shelf.rules[ended.name, 1] = own.authority.ended(ended, agreed - dt.timedelta(hours=1))
    market.deny(own, deal, expire=agreed - dt.timedelta(minutes=1))
    later = own.authority.rule(deal.terms.scope, agreed + dt.timedelta(minutes=1), effect=DENY)
    forged = Authority(own.id).rule(deal.terms.scope, agreed - dt.timedelta(days=1), effect=DENY)
    for deny in (later, forged):
        market.shelf.rules[deny.name, 1] = deny
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN
