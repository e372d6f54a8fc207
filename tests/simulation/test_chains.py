"""A scope's way from the rule to the request, through the functions each service decides with: what widens is refused
and named, what narrows passes, and of many random chains none ends in a request outside its rule.

Whether a request is inside a rule is decided here once more, in plain sets, with no line of the product's.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from chain_world import (
    COOPERATIVE,
    GATEWAY_URL,
    ISSUED,
    NARROW,
    RULED,
    UNVOTED,
    WIDEN,
    Chain,
    Signers,
    a_scope,
    changed,
    claims_of,
    full_scope,
    held,
    key_set,
    narrowed,
)

from access_broker.domain import tokens as broker_tokens
from catalog import domain as catalog_rules
from data_gateway.domain import chain as gateway_chain
from data_gateway.domain import tokens as gateway_tokens
from licensing.domain.deals import Deal
from licensing.domain.rules import RuleBook
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2 as pb
from rochdale_kit.chain import Flaw
from rochdale_kit.refusals import Refusal
from rochdale_kit.scope import DIMENSIONS, Escape, permits
from rochdale_kit.signing import TokenError, verify_token

SIGNERS = Signers()
KEYS = SIGNERS.authority.keys()
LICENSING_KEYS = key_set(SIGNERS.licensing_key)
BROKER_KEYS = key_set(SIGNERS.broker_key)
STEPS = ("offering", "license", "grant", "token", "request")


# ---- the services' decisions: each gives the dimensions it names, or nothing ----


def named(refusal: Refusal) -> set[str]:
    return set(refusal.facts["escapes"].split(", "))


def refused(decide: Callable[[], object], *reasons: str) -> set[str]:
    try:
        decide()
    except Refusal as refusal:
        assert refusal.reason in reasons, refusal
        return named(refusal)
    return set()


def at_the_catalog(chain: Chain) -> set[str]:
    rules = catalog_rules.Rules.at([chain.rule], KEYS, ISSUED)
    catalog_rules.check_signature(chain.offering, KEYS)
    offered = catalog_rules.offering_scope(chain.offering.scope, chain.offering.tiers)
    return refused(
        lambda: catalog_rules.check_tiers(COOPERATIVE, offered, chain.offering.tiers, rules), "OFFERING_OUTSIDE_RULE"
    )


def at_licensing(chain: Chain) -> set[str]:
    """What may leave the offering in price and duration is bounded by the rule."""
    deal = Deal(chain.offering, chain.offering.tiers[0], chain.terms.scope)
    book = RuleBook(chain.rule.name, chain.rule, [])
    return refused(deal.require_negotiable, "REQUEST_OUTSIDE_OFFERING") | refused(
        lambda: book.require_allowed(chain.terms.scope, KEYS), "REQUEST_OUTSIDE_RULE"
    )


def at_the_gateway(chain: Chain) -> Flaw | None:
    document = chain.document()
    witness = gateway_chain.Witness(
        cooperative=COOPERATIVE,
        keys=KEYS,
        licensing=LICENSING_KEYS,
        signed=gateway_chain.is_signed(document, BROKER_KEYS),
        ended=lambda *_: False,
        denials=[],
    )
    return gateway_chain.flaw(document, witness)


def in_sentence(flaw: Flaw | None) -> set[str]:
    return set() if flaw is None else set(re.findall(r"(\w+) \(asked: ", flaw.sentence))


def token_at_the_gateway(chain: Chain, claims: dict[str, Any]) -> pb.SharingScope | str:
    """The scope a token opens, through its signature and its claims; or why it opens nothing."""
    token = SIGNERS.broker_key.sign_token(gateway_tokens.TOKEN_TYPE, claims)
    try:
        read = verify_token(token, BROKER_KEYS, gateway_tokens.token_rules(COOPERATIVE), ISSUED.timestamp() + 1)
        detail = gateway_tokens.read_detail(read, GATEWAY_URL)
        assert detail.grant_hash == chain.grant.grant_hash
        return gateway_tokens.token_scope(chain.grant.scope, detail)
    except TokenError as error:
        return str(error)


@dataclass
class Request:
    dataset: str
    version: int
    columns: list[str]
    mode: int
    purpose: str | None
    at: dt.datetime

    def asked_of(self, scope: pb.SharingScope) -> list[Escape]:
        return permits(
            scope,
            dataset=self.dataset,
            version=self.version,
            columns=self.columns,
            mode=self.mode,
            purpose=self.purpose,
            at=self.at,
        )


# ---- one dimension at a time ----


SEEDS = range(8)


def at_each(dimension: str, table: dict[str, Any]) -> list[tuple[pb.SharingScope, pb.SharingScope]]:
    """A scope and the same, changed in one dimension in every way there is."""
    found = []
    for seed in SEEDS:
        after = changed(random.Random(seed), full_scope(), table[dimension])
        assert after != full_scope()
        found.append((full_scope(), after))
    return found


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_at_the_offering(dimension: str) -> None:
    for scope, wider in at_each(dimension, WIDEN):
        chain = SIGNERS.chain(scope)
        chain.offering = SIGNERS.offering(chain.rule, wider)
        assert at_the_catalog(chain) == {dimension}
    for scope, narrower in at_each(dimension, NARROW):
        chain = SIGNERS.chain(scope)
        chain.offering = SIGNERS.offering(chain.rule, narrower)
        assert at_the_catalog(chain) == set()


def with_terms(chain: Chain, scope: pb.SharingScope) -> Chain:
    license = SIGNERS.license(chain.rule, chain.offering, scope)
    return SIGNERS.granted(chain.rule, chain.offering, license, scope)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_at_the_license(dimension: str) -> None:
    for scope, wider in at_each(dimension, WIDEN):
        chain = with_terms(SIGNERS.chain(scope), wider)
        assert at_licensing(chain) == {dimension}
        flaw = at_the_gateway(chain)
        assert flaw is not None and flaw.reason == "LICENSE_OUTSIDE_RULE" and in_sentence(flaw) == {dimension}
    for scope, narrower in at_each(dimension, NARROW):
        chain = with_terms(SIGNERS.chain(scope), narrower)
        assert at_licensing(chain) == set()
        assert at_the_gateway(chain) is None
        # An offering narrower than its rule binds too, but for what the two sides may negotiate.
        chain = SIGNERS.chain(scope)
        chain.offering = SIGNERS.offering(chain.rule, narrower)
        chain = with_terms(chain, scope)
        negotiable = dimension in ("floor_price", "max_duration_seconds")
        assert at_licensing(chain) == (set() if negotiable else {dimension})
        flaw = at_the_gateway(chain)
        if negotiable:
            assert flaw is None
        elif chain.terms.category not in narrower.categories:
            assert flaw is not None and flaw.reason == "OFFERING_ON_OTHER_RULE"
        else:
            assert flaw is not None and flaw.reason == "LICENSE_OUTSIDE_OFFERING" and in_sentence(flaw) == {dimension}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_at_the_grant(dimension: str) -> None:
    for scope, wider in at_each(dimension, WIDEN):
        chain = SIGNERS.chain(scope)
        chain.grant.scope.CopyFrom(wider)
        flaw = at_the_gateway(SIGNERS.sign_grant(chain))
        assert flaw is not None and flaw.reason == "GRANT_OUTSIDE_LICENSE" and in_sentence(flaw) == {dimension}
    for scope, narrower in at_each(dimension, NARROW):
        chain = SIGNERS.chain(scope)
        chain.grant.scope.CopyFrom(narrower)
        assert at_the_gateway(SIGNERS.sign_grant(chain)) is None


TIMES: dict[str, Callable[[Chain], Any]] = {
    "agree_time": lambda chain: chain.terms.agree_time,
    "effective_time": lambda chain: chain.rule.effective_time,
    "expire_time": lambda chain: chain.rule.expire_time,
    "end_time": lambda chain: chain.rule.end_time,
    "not_after": lambda chain: chain.terms.scope.not_after,
    "open_time": lambda chain: chain.grant.open_time,
    "end of the grant": lambda chain: chain.grant.end_time,
}


@pytest.mark.parametrize("seconds", [2**62, -(2**63), 253_402_300_800])
@pytest.mark.parametrize("which", TIMES)
def test_a_time_that_is_none_is_refused_and_nothing_falls(which: str, seconds: int) -> None:
    chain = SIGNERS.chain(full_scope())
    TIMES[which](chain).seconds = seconds
    assert at_the_gateway(chain) is not None


# What a token says of its own; the rest it has from its grant, and a claim for it is one nobody knows.
SAID_BY_TOKENS = ("datasets", "versions", "columns", "purposes", "actions", "max_mode", "not_before", "not_after")


def one_dataset(scope: pb.SharingScope) -> pb.SharingScope:
    """As a token has it: the last one listed, which is the one a widening added."""
    result = pb.SharingScope()
    result.CopyFrom(scope)
    del result.datasets[:-1]
    return result


def written(chain: Chain, scope: pb.SharingScope) -> dict[str, Any]:
    """The claims of a token with this scope, as the broker writes them; times left out are the grant's."""
    claims = claims_of(chain.grant, scope)
    # A list of columns is left out where it is all of the grant's.
    claims["authorization_details"][0].setdefault("columns", list(scope.datasets[0].columns))
    return claims


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_at_the_token(dimension: str) -> None:
    scope = one_dataset(full_scope())
    chain = SIGNERS.chain(scope)
    for seed in SEEDS:
        chance = random.Random(seed)
        wider = one_dataset(changed(chance, scope, WIDEN[dimension]))
        claims = written(chain, wider)
        opened = token_at_the_gateway(chain, claims)
        if dimension not in SAID_BY_TOKENS:
            claims["authorization_details"][0][dimension] = "all"
            assert token_at_the_gateway(chain, claims) == "the authorization detail has another shape"
            assert opened == scope
        elif dimension.startswith("not_") and not wider.HasField(dimension):  # type: ignore[arg-type]
            assert opened == scope, "a bound left out is the grant's"
        else:
            assert isinstance(opened, str) and opened.startswith("outside its grant: ")
            assert dimension in opened.removeprefix("outside its grant: ").split(", ")
    for seed in SEEDS:
        chance = random.Random(seed)
        narrower = one_dataset(changed(chance, full_scope(), NARROW[dimension]))
        opened = token_at_the_gateway(chain := SIGNERS.chain(full_scope()), written(chain, narrower))
        assert isinstance(opened, pb.SharingScope), opened


ASKED_OF_THE_BROKER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "datasets": ({"dataset": UNVOTED}, {}),
    "versions": ({"version": 9}, {"version": 3}),
    "columns": ({"columns": ["age", "zper"]}, {"columns": ["age"]}),
    "max_mode": ({"mode": pb.ACCESS_MODE_DOWNLOAD}, {"mode": pb.ACCESS_MODE_AGGREGATE}),
}


@pytest.mark.parametrize("dimension", ASKED_OF_THE_BROKER)
def test_at_the_broker_who_writes_tokens(dimension: str) -> None:
    """All that can be asked for."""
    wider, narrower = ASKED_OF_THE_BROKER[dimension]
    grant = held(SIGNERS.chain(one_dataset(full_scope())).grant)
    request = broker.IssueTokenRequest(license=grant.license, **wider)
    assert dimension in refused(lambda: broker_tokens.narrow(grant, request), "TOKEN_OUTSIDE_GRANT")
    assert broker_tokens.narrow(grant, broker.IssueTokenRequest(license=grant.license, **narrower))
    asked = {field.name for field in broker.IssueTokenRequest.DESCRIPTOR.fields}
    assert asked == {"request_id", "license", "dataset", "version", "columns", "mode", "ttl_seconds"}


def a_request(scope: pb.SharingScope, **changes: Any) -> Request:
    part = scope.datasets[0]
    whole: dict[str, Any] = {
        "dataset": part.dataset,
        "version": part.first_version,
        "columns": list(part.columns),
        "mode": scope.max_mode,
        "purpose": scope.purposes[0],
        "at": ISSUED,
    }
    return Request(**(whole | changes))


ASKED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "datasets": ([{"dataset": UNVOTED}, {"dataset": ""}], []),
    "versions": ([{"version": 1}, {"version": 6}, {"version": 0}], [{"version": 5}]),
    "columns": ([{"columns": ["age", "zper"]}, {"columns": []}], [{"columns": ["age"]}]),
    "purposes": ([{"purpose": "Marketing"}, {"purpose": "Purpose"}], [{"purpose": "AcademicResearch"}]),
    "max_mode": ([{"mode": pb.ACCESS_MODE_DOWNLOAD}, {"mode": 0}], [{"mode": pb.ACCESS_MODE_AGGREGATE}]),
    "not_before": ([{"at": dt.datetime(2025, 12, 31, 23, 59, 59, tzinfo=dt.UTC)}], [{"at": ISSUED}]),
    "not_after": ([{"at": dt.datetime(2028, 1, 1, tzinfo=dt.UTC)}], [{"at": ISSUED}]),
}


@pytest.mark.parametrize("dimension", ASKED)
def test_at_the_request(dimension: str) -> None:
    """All that a request says; the rest was settled by what it cites."""
    wider, narrower = ASKED[dimension]
    scope = one_dataset(full_scope())
    scope.datasets[0].CopyFrom(full_scope().datasets[0])
    for change in wider:
        assert [one.dimension for one in a_request(scope, **change).asked_of(scope)] == [dimension]
    for change in [{}, *narrower]:
        assert a_request(scope, **change).asked_of(scope) == []


# ---- the independent check ----


# By hand, from the vocabulary.
ABOVE = {
    "AcademicResearch": {"ResearchAndDevelopment"},
    "ScientificResearch": {"ResearchAndDevelopment"},
    "NonCommercialResearch": {"ResearchAndDevelopment", "NonCommercialPurpose"},
    "CommercialResearch": {"ResearchAndDevelopment", "CommercialPurpose"},
    "ImproveHealthcare": {"PublicBenefit"},
    "DataAltruism": {"PublicBenefit"},
    "ServicePersonalisation": {"Personalisation", "ServiceManagement"},
    "ModelFineTuning": {"ModelTraining"},
    "PoliticalCampaign": {"Advertising", "Personalisation"},
    "SellDataToThirdParties": {"SellProducts"},
    "ServiceOptimisation": {"ServiceManagement"},
}


def outside(rule: pb.SharingScope, opened: pb.SharingScope, terms: Any, request: Request) -> set[str]:
    """In which dimensions what was served is not what the rule allows: what the request reads, and under which promises."""
    found = set()
    parts = [part for part in rule.datasets if part.dataset == request.dataset]
    if len(parts) != 1:
        found.add("datasets")
    for part in parts:
        if request.version not in range(part.first_version, (part.last_version or 10**6) + 1):
            found.add("versions")
        if not request.columns or set(request.columns) - set(part.columns):
            found.add("columns")
    allowed = set(rule.purposes)
    for purpose in {*opened.purposes, *terms.scope.purposes, request.purpose}:
        if purpose not in allowed and "Purpose" not in allowed and not ABOVE.get(purpose, set()) & allowed:
            found.add("purposes")
    for scope in (opened, terms.scope):
        if not set(scope.categories) <= set(rule.categories) or terms.category not in rule.categories:
            found.add("categories")
        if not set(scope.actions) <= set(rule.actions):
            found.add("actions")
        if list(rule.territories) != ["WORLD"] and not set(scope.territories) <= set(rule.territories):
            found.add("territories")
        if scope.max_duration_seconds > rule.max_duration_seconds:
            found.add("max_duration_seconds")
        if rule.max_licenses and not 0 < scope.max_licenses <= rule.max_licenses:
            found.add("max_licenses")
        if max(scope.max_exclusivity, 1) > max(rule.max_exclusivity, 1):
            found.add("max_exclusivity")
        if not set(rule.duties) <= set(scope.duties):
            found.add("duties")
        if scope.max_epsilon_nano > rule.max_epsilon_nano:
            found.add("max_epsilon_nano")
    if request.mode > rule.max_mode:
        found.add("max_mode")
    if terms.price.currency != rule.floor_price.currency or terms.price.amount_minor < rule.floor_price.amount_minor:
        found.add("floor_price")
    if rule.HasField("not_before") and request.at.timestamp() < rule.not_before.seconds:
        found.add("not_before")
    if rule.HasField("not_after") and request.at.timestamp() >= rule.not_after.seconds:
        found.add("not_after")
    return found


# ---- many chains ----


def escalated_request(chance: random.Random, scope: pb.SharingScope, request: Request) -> str:
    """Asks for a bit more in one dimension; says in which."""
    ways = ["datasets", "versions", "columns", "purposes", "max_mode"]
    ways += [name for name in ("not_before", "not_after") if scope.HasField(name)]
    match dimension := chance.choice(ways):
        case "datasets":
            request.dataset = UNVOTED
        case "versions":
            last = scope.datasets[0].last_version
            request.version = chance.choice([0, scope.datasets[0].first_version - 1, *([last + 1] if last else [])])
        case "columns":
            request.columns.append("zper")
        case "purposes":
            request.purpose = "PoliticalCampaign"
        case "max_mode":
            request.mode = scope.max_mode + 1
        case "not_before":
            request.at = scope.not_before.ToDatetime(dt.UTC) - dt.timedelta(seconds=1)
        case "not_after":
            request.at = scope.not_after.ToDatetime(dt.UTC)
    return dimension


@dataclass
class Walk:
    """One chain: who refused, if anybody, and what was escalated where."""

    refused_by: str
    escalated: str
    dimension: str
    outside: set[str]


def walk(chance: random.Random, rule: governance.SharingRule) -> Walk:
    """From the rule to the request. In half of the chains one step is wider than the one before, in one dimension; and
    whoever should have noticed it there looked away, or was bought, in half of those. Everybody else looks."""
    step = chance.choice(STEPS) if chance.random() < 0.5 else ""
    looks_away = chance.random() < 0.5
    dimension = ""

    def next_scope(before: pb.SharingScope, name: str) -> pb.SharingScope:
        nonlocal dimension
        after = narrowed(chance, before)
        if name == step:
            for dimension in chance.sample(DIMENSIONS, len(DIMENSIONS)):
                # The rule's own bounds are crossed, not only the parent's, in every second attempt.
                wider = changed(chance, before if chance.random() < 0.5 else rule.scope, WIDEN[dimension])
                if wider not in (before, rule.scope):
                    return wider
        return after

    def end(refused_by: str) -> Walk:
        return Walk(refused_by, step, dimension, set())

    scope = next_scope(rule.scope, "offering")
    chain = Chain(rule, SIGNERS.offering(rule, scope), None, None, None)  # type: ignore[arg-type]
    if not (step == "offering" and looks_away) and at_the_catalog(chain):
        return end("catalog")

    scope = next_scope(scope, "license")
    chain.license = SIGNERS.license(rule, chain.offering, scope)
    if not (step == "license" and looks_away) and at_licensing(chain):
        return end("licensing")

    scope = next_scope(scope, "grant")
    chain = SIGNERS.granted(rule, chain.offering, chain.license, scope)
    if (flaw := at_the_gateway(chain)) is not None:
        return end(f"gateway: {flaw.reason}")

    claims = written(chain, chance_one(chance, next_scope(scope, "token")))
    opened = token_at_the_gateway(chain, claims)
    if isinstance(opened, str):
        return end("gateway: token")

    part = opened.datasets[0]
    request = Request(
        dataset=part.dataset,
        version=chance.randint(part.first_version, part.last_version or part.first_version + 2),
        columns=chance.sample(list(part.columns), chance.randint(1, len(part.columns))),
        mode=chance.randint(1, opened.max_mode),
        purpose=chance.choice(list(opened.purposes)),
        at=ISSUED,
    )
    if step == "request":
        dimension = escalated_request(chance, opened, request)
    if request.asked_of(opened):
        return end("gateway: request")
    return Walk("", step, dimension, outside(rule.scope, opened, chain.terms, request))


def chance_one(chance: random.Random, scope: pb.SharingScope) -> pb.SharingScope:
    """One dataset of the scope; the one that a widening added, if one did."""
    result = pb.SharingScope()
    result.CopyFrom(scope)
    parts = list(scope.datasets)
    chosen = next((part for part in parts if part.dataset == UNVOTED), chance.choice(parts))
    del result.datasets[:]
    result.datasets.add().CopyFrom(chosen)
    return result


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_check_itself_names_what_is_outside(dimension: str) -> None:
    for seed in SEEDS:
        scope = one_dataset(full_scope())
        license = SIGNERS.chain(scope).license
        assert outside(scope, scope, license.terms, a_request(scope)) == set()
        wider = one_dataset(changed(random.Random(seed), scope, WIDEN[dimension]))
        license.terms.scope.CopyFrom(wider)
        license.terms.price.CopyFrom(wider.floor_price)
        request = a_request(wider, columns=list(wider.datasets[0].columns))
        if dimension == "versions":
            request.version = wider.datasets[0].last_version or 99
            request.version = 1 if wider.datasets[0].first_version == 1 else request.version
        elif dimension.startswith("not_"):
            bound = getattr(scope, dimension).ToDatetime(dt.UTC)
            request.at = bound - dt.timedelta(seconds=dimension == "not_before")
        assert outside(scope, wider, license.terms, request) == {dimension}


CHAINS = 5_200
CHAINS_OF_A_RULE = 8


# Four seeds, so that workers share them: 20,800 chains in all.
@pytest.mark.parametrize("seed", range(4))
def test_no_accepted_request_lies_outside_its_rule(seed: int) -> None:
    chance = random.Random(seed)
    walks: list[Walk] = []
    while len(walks) < CHAINS:
        rule = SIGNERS.authority.rule(a_scope(chance), RULED)
        walks += [walk(chance, rule) for _ in range(CHAINS_OF_A_RULE)]
    for number, one in enumerate(walks):
        assert not one.outside, f"chain {number} of seed {seed} was served outside its rule: {one}"

    honest = [one for one in walks if not one.escalated]
    wider = [one for one in walks if one.escalated]
    assert not [one for one in honest if one.refused_by], "what only narrows passes everywhere"
    # Nothing was checked if nothing was met: both kinds, every desk that refuses, every dimension at every step.
    assert len(honest) > CHAINS * 0.4 and len(wider) > CHAINS * 0.4
    refusals = Counter(one.refused_by for one in wider if one.refused_by)
    assert set(refusals) == {
        "catalog",
        "licensing",
        "gateway: LICENSE_OUTSIDE_RULE",
        "gateway: LICENSE_OUTSIDE_OFFERING",
        "gateway: GRANT_OUTSIDE_LICENSE",
        "gateway: token",
        "gateway: request",
    }, refusals
    assert refusals.total() > len(wider) * 0.8, refusals
    met = Counter((one.escalated, one.dimension) for one in wider if one.refused_by)
    said = {"token": SAID_BY_TOKENS, "request": tuple(ASKED)}
    missing = [(step, name) for step in STEPS for name in said.get(step, DIMENSIONS) if met[step, name] < 5]
    assert not missing, met
