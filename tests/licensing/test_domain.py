"""The rules by themselves: scopes that only narrow, a graph that is the protocol's, and a hash that never changes."""

import datetime as dt

import pytest
from authority import Authority
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from licensing_world import ACADEMIC, COMPANY, DAY, euro, scope

from licensing import domain
from licensing.domain.deals import Deal
from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit import scope as scopes
from rochdale_kit.chain import tier_scope
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Refusal
from rochdale_kit.signing import SigningKey, canonical_hash

AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
OFFERING = catalog_pb2.Offering(
    name="cooperatives/valley-health/offerings/off_01HX0000000000000000000000",
    scope=scope("valley-health", max_duration_seconds=30 * DAY),
    tiers=[
        catalog_pb2.OfferingTier(categories=[ACADEMIC], price=euro(0)),
        catalog_pb2.OfferingTier(categories=[COMPANY, scope_pb2.BUYER_CATEGORY_SME], price=euro(120_000)),
    ],
    state=catalog_pb2.OFFERING_STATE_OPEN,
)
AUTHORITY = Authority("valley-health", SigningKey.from_seed(bytes(32)))
KEYS = AUTHORITY.keys()
RULE = AUTHORITY.rule(
    scope("valley-health"), AT, name="cooperatives/valley-health/sharingRules/rule_01HX0000000000000000000000"
)

# Mostly sensible, so that the nonsense is met one dimension at a time.
wishes = st.builds(
    pb.Wish,
    purposes=st.lists(st.sampled_from(["AcademicResearch"] * 9 + ["Marketing", "?"]), max_size=3),
    actions=st.lists(st.sampled_from([2, 4] * 5 + [0, 9, 77]), max_size=3),
    columns=st.lists(st.sampled_from(["age", "visits", "site"] * 5 + ["name", ""]), max_size=4),
    mode=st.sampled_from([0, 1, 5, 6] * 3 + [77]),
    duration_seconds=st.sampled_from([0, 1, 30 * DAY] * 3 + [30 * DAY + 1, 365 * DAY, 365 * DAY + 1, 2**62]),
)
prices = st.none() | st.integers(0, 10**15).map(euro) | st.sampled_from([euro(0), euro(120_000)])
licensees = st.builds(
    pb.Licensee,
    name=st.just("licensees/acme"),
    category=st.sampled_from([1, 5, 6] * 4 + [0, 7]),
    territory=st.sampled_from(["DE", "FR"] * 4 + ["US"]),
)


def test_whatever_is_wished_what_comes_out_is_inside_the_offering_and_the_rule() -> None:
    met = {"listed": 0, "negotiated": 0, "refused": 0}

    @settings(max_examples=600, deadline=None)
    @given(wishes, prices, licensees)
    def check(wish: pb.Wish, price: object, licensee: pb.Licensee) -> None:
        try:
            deal = domain.deals.proposed(OFFERING, licensee, wish, price, AT)  # type: ignore[arg-type] # Money or None
            if deal.listed:
                deal.require_inside_offering()
            else:
                deal.require_negotiable()
            domain.rules.RuleBook(RULE.name, RULE, ()).require_allowed(deal.scope, KEYS)
        except Refusal as refusal:
            met["refused"] += 1
            assert refusal.reason in {
                "LICENSEE_NOT_ATTESTED",
                "CATEGORY_NOT_OFFERED",
                "REQUEST_OUTSIDE_OFFERING",
                "REQUEST_OUTSIDE_RULE",
            }
            return
        met["listed" if deal.listed else "negotiated"] += 1
        assert not scopes.ill_formed(deal.scope) and not scopes.escapes(RULE.scope, deal.scope)
        assert list(deal.scope.categories) == [licensee.category]
        assert list(deal.scope.territories) == [licensee.territory]
        left = {one.dimension for one in scopes.escapes(tier_scope(OFFERING.scope, deal.tier), deal.scope)}
        assert left <= (set() if deal.listed else {"floor_price", "max_duration_seconds"})

    check()
    assert min(met.values()) > 20, met


def test_every_state_but_the_two_last_can_be_left_and_every_one_reached() -> None:
    follows = domain.negotiations.FOLLOWS
    assert set(follows) == set(pb.NegotiationState.values())
    reached, todo = set(), [0]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += follows[state]  # type: ignore[index] # the enum's ints
    assert reached == set(pb.NegotiationState.values())
    last = {state for state, after in follows.items() if not after}
    assert last == {pb.NEGOTIATION_STATE_FINALIZED, pb.NEGOTIATION_STATE_TERMINATED}


def test_a_move_leaves_what_was_as_it_was() -> None:
    before = domain.negotiations.requested(
        "negotiations/neg_1",
        OFFERING.name,
        "licensees/acme",
        "cooperatives/valley-health",
        RULE.scope,
        None,
        "",
        AT,
        AT,
    )
    copy = before.SerializeToString(deterministic=True)
    domain.negotiations.terminated(before, pb.PARTY_BUYER, "", AT)
    assert before.SerializeToString(deterministic=True) == copy
    with pytest.raises(AssertionError):
        domain.negotiations.paid(before, AT)


def test_the_hash_of_these_terms_is_this_one_for_ever() -> None:
    # Licenses signed years ago are checked against their hash: if this line has to change, they no longer can be.
    licensee = pb.Licensee(name="licensees/acme", category=COMPANY, territory="DE")
    deal = domain.deals.proposed(OFFERING, licensee, pb.Wish(columns=["age"]), None, AT)
    license = domain.licenses.agreed(
        "licenses/lic_01HX0000000000000000000000",
        "negotiations/neg_01HX0000000000000000000000",
        licensee.name,
        deal,
        governance_pb2.SharingRule(name=RULE.name, scope=RULE.scope),
        AT,
    )
    assert license.terms_hash == canonical_hash(license.terms) == GOLDEN
    # The same terms read from JSON, as a buyer or a lawyer would have them, hash alike.
    assert canonical_hash(ParseDict(TERMS, pb.LicenseTerms())) == GOLDEN


GOLDEN = "0f5ad23ff5e1be2d0630ca9334f89e54e78840330fddd3f161364041014c1bef"
TERMS = {
    "license": "licenses/lic_01HX0000000000000000000000",
    "licensor": "cooperatives/valley-health",
    "licensee": "licensees/acme",
    "category": "BUYER_CATEGORY_COMPANY",
    "offering": "cooperatives/valley-health/offerings/off_01HX0000000000000000000000",
    "sharing_rule": "cooperatives/valley-health/sharingRules/rule_01HX0000000000000000000000",
    "scope": {
        "datasets": [{"dataset": "cooperatives/valley-health/datasets/visits", "first_version": 1, "columns": ["age"]}],
        "categories": ["BUYER_CATEGORY_COMPANY"],
        "purposes": ["ResearchAndDevelopment"],
        "actions": ["USE_ACTION_ANALYZE", "USE_ACTION_PRETRAIN"],
        "max_mode": "ACCESS_MODE_DOWNLOAD",
        "floor_price": {"amount_minor": 120000, "currency": "EUR"},
        "territories": ["DE"],
        "max_duration_seconds": 2592000,
        "duties": ["DUTY_NO_REIDENTIFICATION"],
    },
    "duration_seconds": 2592000,
    "price": {"amount_minor": 120000, "currency": "EUR"},
    "agree_time": "2026-03-01T00:00:00Z",
    "emergency_suspension": True,
}


@pytest.mark.parametrize(
    ("limits", "live", "vacant"),
    [((0, 0), (9, 9), True), ((2, 0), (1, 9), True), ((2, 0), (2, 2), False), ((0, 2), (0, 2), False)],
)
def test_a_limit_counts_and_zero_is_none(limits: tuple[int, int], live: tuple[int, int], vacant: bool) -> None:
    offering, rule = catalog_pb2.Offering(), governance_pb2.SharingRule()
    offering.scope.max_licenses, rule.scope.max_licenses = limits
    deal = Deal(offering, catalog_pb2.OfferingTier(), scope_pb2.SharingScope())
    if vacant:
        domain.licenses.require_vacancy(deal, rule, *live)
    else:
        with pytest.raises(Refusal, match="taken"):
            domain.licenses.require_vacancy(deal, rule, *live)


def test_a_license_lasts_from_activation_to_the_second() -> None:
    agreed = pb.License(state=pb.LICENSE_STATE_AGREED, terms=pb.LicenseTerms(duration_seconds=3600))
    active = domain.licenses.activated(agreed, AT)
    assert active.end_time == to_timestamp(AT + dt.timedelta(hours=1))
    domain.licenses.require_live(active, AT + dt.timedelta(minutes=59))
    with pytest.raises(Refusal):
        domain.licenses.require_live(active, AT + dt.timedelta(hours=1))
