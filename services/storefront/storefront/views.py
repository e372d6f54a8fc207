"""What the templates show of offerings, rules and cooperatives: contract messages as plain words. Votes are in votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2, proposals_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit import purposes, scope_words
from rochdale_kit.chain import flaw_of_signed_rule, hash_of_offering, hash_of_rule
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.price_plans import price_words
from rochdale_kit.refusals import Refusal
from rochdale_kit.scope import describe
from storefront import query, votes, words
from storefront.market import MOST_DATASETS, DatasetDetails
from storefront.query import Query

MOST_FACET_VALUES = 12

# Facet -> field of the query, and how it is called on the page.
_FACETS = {
    "modality": ("modality", "Kind of data"),
    "mode": ("mode", "Access"),
    "language": ("language", "Language"),
    "license_terms": ("term", "Terms"),
    "cooperative": ("cooperative", "Cooperative"),
    "price": ("free", "Price"),
}


@dataclass(frozen=True)
class Price:
    """What one group of buyers pays."""

    amount: str
    buyers: str
    mine: bool


@dataclass(frozen=True)
class Card:
    """An offering in a list."""

    title: str
    url: str
    cooperative: str
    cooperative_url: str
    dataset: str
    modality: str
    description: str
    prices: Sequence[Price]
    access: str
    duties: Sequence[str]
    published: str
    closed: str


@dataclass(frozen=True)
class Choice:
    """A value of a facet, as a link that adds or removes it."""

    label: str
    count: int
    url: str
    chosen: bool


@dataclass(frozen=True)
class Results:
    """A page of the search."""

    total: str
    cards: Sequence[Card]
    facets: Sequence[tuple[str, Sequence[Choice]]]
    next_url: str
    first_url: str


def category(number: int) -> str:
    return scope_words.word(number, scope_words.CATEGORIES)


def results(found: catalog_pb2.SearchOfferingsResponse, asked: Query) -> Results:
    mine = query.CATEGORIES.get(asked.category, 0)
    facets = [
        (title, choices) for facet in found.facets if (title := _title(facet)) and (choices := _choices(facet, asked))
    ]
    return Results(
        total=words.count(found.total_count, "offering"),
        cards=[_card(hit.offering, hit.cooperative, hit.dataset_title, hit.modality, mine) for hit in found.hits],
        facets=facets,
        next_url=asked.at_page(found.next_page_token) if found.next_page_token else "",
        first_url=asked.at_page("") if asked.page else "",
    )


def _title(facet: catalog_pb2.Facet) -> str:
    return _FACETS[facet.name][1] if facet.name in _FACETS else ""


def _choices(facet: catalog_pb2.Facet, asked: Query) -> list[Choice]:
    field, _ = _FACETS[facet.name]
    if facet.name == "price":
        # Other buckets are bounds in minor units of any currency, which say nothing to people.
        chosen = bool(asked.free)
        url = asked.without("free") if chosen else asked.with_value("free", "1")
        return [Choice("Free", one.count, url, chosen) for one in facet.counts if one.value == "free"]
    choices = []
    for one in facet.counts:
        value = _address_word(facet.name, one.value)
        chosen = value in getattr(asked, field)
        url = asked.without(field, value) if chosen else asked.with_value(field, value)
        choices.append(Choice(_label(facet.name, one.value), one.count, url, chosen))
    # The chosen ones stay in sight, so that each can be taken back.
    choices.sort(key=lambda choice: not choice.chosen)
    return choices[: MOST_FACET_VALUES + sum(choice.chosen for choice in choices)]


def _address_word(facet: str, value: str) -> str:
    """A facet's value as it stands in an address; the reverse of what Query.request reads."""
    if facet == "cooperative":
        return value.removeprefix("cooperatives/")
    for prefix in {"modality": ("MODALITY_",), "mode": ("ACCESS_MODE_",)}.get(facet, ()):
        return value.removeprefix(prefix).lower().replace("_", "-")
    return value


def _label(facet: str, value: str) -> str:
    """A facet's value in words; one of a newer contract as it is."""
    if facet == "modality":
        return words.MODALITIES.get(query.MODALITIES.get(_address_word(facet, value), 0), value)  # type: ignore[call-overload, no-any-return]
    if facet == "mode":
        return scope_words.MODES.get(query.MODES.get(_address_word(facet, value), 0), value)
    if facet == "license_terms":
        kind, _, term = value.partition(":")
        if kind == "duty":
            return scope_words.DUTIES.get(query.DUTIES.get(term, 0), value)
        if kind == "action":
            return scope_words.ACTIONS.get(query.ACTIONS.get(term, 0), value)
        return f"for {purposes.label(term)}" if kind == "purpose" else value
    return _address_word(facet, value)


def _prices(offering: catalog_pb2.Offering, mine: int = 0) -> list[Price]:
    return [
        Price(
            amount=_amount(tier),
            buyers=scope_words.worded(tier.categories, scope_words.CATEGORIES),
            mine=mine in tier.categories,
        )
        for tier in offering.tiers
    ]


def _amount(tier: catalog_pb2.OfferingTier) -> str:
    """What a tier costs, and how it is due."""
    if not tier.price.amount_minor and not tier.HasField("price_plan"):
        return "Free"
    return price_words(tier.price, tier.price_plan)


def _card(offering: catalog_pb2.Offering, cooperative: str, dataset: str, modality: int, mine: int = 0) -> Card:
    id = offering.name.split("/")[1]
    description = offering.description
    closed = offering.state == catalog_pb2.OFFERING_STATE_CLOSED
    return Card(
        title=offering.title,
        url=f"/{offering.name}",
        cooperative=cooperative or id,
        cooperative_url=f"/cooperatives/{id}",
        dataset=dataset,
        modality=words.MODALITIES.get(modality, ""),  # type: ignore[call-overload]
        description=description if len(description) <= 300 else description[:300].rsplit(" ", 1)[0] + " …",
        prices=_prices(offering, mine),
        access=scope_words.word(offering.scope.max_mode, scope_words.MODES),
        duties=[scope_words.word(duty, scope_words.DUTIES) for duty in sorted(set(offering.scope.duties))],
        published=words.day(offering.publish_time),
        closed=words.day(offering.close_time) if closed else "",
    )


@dataclass(frozen=True)
class Rule:
    """The revision of a rule a tier stands on, and whether its hash is what the offering says."""

    name: str
    revision: int
    effect: str
    rationale: str
    hash: str
    state: str
    approvals: int
    scope: Sequence[tuple[str, str]]
    verified: bool
    proposal_url: str
    emergency: bool
    expires: str
    signed: bool


@dataclass(frozen=True)
class Tier:
    price: Price
    rule: Rule | None
    rule_name: str
    rule_hash: str


@dataclass(frozen=True)
class Dataset:
    """A dataset in an offering."""

    name: str
    title: str
    description: str
    modality: str
    languages: str
    citation: str
    versions: Sequence[tuple[int, str, str, str, str, str]]
    more_versions: bool
    offered: int
    columns: Sequence[tuple[str, str, str, str]]
    columns_not_offered: int
    sample: words.Sample | None


@dataclass(frozen=True)
class Offering:
    """Everything about one offering."""

    card: Card
    name: str
    short_name: str
    description: str
    tiers: Sequence[Tier]
    scope: Sequence[tuple[str, str]]
    datasets: Sequence[Dataset]
    datasets_not_shown: int
    hash: str
    hash_verified: bool
    close_reason: str
    paid: bool


def offering(
    offering: catalog_pb2.Offering,
    details: Sequence[DatasetDetails],
    rules: Mapping[tuple[str, int], governance_pb2.SharingRule],
    owner: governance_pb2.Cooperative | None,
) -> Offering:
    first = details[0].dataset if details else catalog_pb2.Dataset()
    revisions, hashes = list(offering.rule_revisions), list(offering.rule_hashes)
    tiers = []
    for position, (tier, price) in enumerate(zip(offering.tiers, _prices(offering), strict=True)):
        revision = revisions[position] if position < len(revisions) else 0
        expected = hashes[position] if position < len(hashes) else ""
        found = rules.get((tier.sharing_rule, revision))
        shown = rule(found, expected, keys_of(owner)) if found else None
        tiers.append(Tier(price, shown, tier.sharing_rule, expected))
    parts = {part.dataset: part for part in offering.scope.datasets}
    _, id, _, offering_id = offering.name.split("/")
    return Offering(
        card=_card(offering, owner.display_name if owner else "", first.title, first.modality),
        name=offering.name,
        short_name=f"{id}/{offering_id}",
        description=offering.description,
        tiers=tiers,
        scope=_lines(offering.scope),
        datasets=[_dataset(one, parts[one.dataset.name].columns) for one in details if one.dataset.name in parts],
        datasets_not_shown=max(0, len(offering.scope.datasets) - MOST_DATASETS),
        hash=offering.offering_hash,
        hash_verified=offering.offering_hash == hash_of_offering(offering),
        close_reason=offering.close_reason.replace("_", " ").lower(),
        paid=any(tier.price.amount_minor or tier.HasField("price_plan") for tier in offering.tiers),
    )


def keys_of(owner: governance_pb2.Cooperative | None) -> CooperativeKeys | None:
    """A cooperative's keys; none while it cannot be asked, or where they do not introduce one another."""
    if owner is None:
        return None
    try:
        return CooperativeKeys.follow(owner.name, owner.signing_keys)
    except Refusal:
        return None


def rule(found: governance_pb2.SharingRule, expected_hash: str = "", keys: CooperativeKeys | None = None) -> Rule:
    """expected_hash: what an offering says the hash is; without one the rule is held against its own."""
    since = f"since {words.day(found.effective_time)}" if found.HasField("effective_time") else ""
    states = {
        governance_pb2.RULE_STATE_IN_FORCE: f"in force {since}",
        governance_pb2.RULE_STATE_ENDED: f"{since}, ended {words.day(found.end_time)}",
    }
    verified = found.rule_hash == (expected_hash or found.rule_hash) == hash_of_rule(found)
    return Rule(
        name=found.name,
        revision=found.revision,
        effect="forbids" if found.effect == governance_pb2.RULE_EFFECT_DENY else "allows",
        rationale=found.rationale,
        hash=found.rule_hash,
        state=states.get(found.state, "not in force"),
        approvals=len(found.approvals),
        scope=_lines(found.scope),
        verified=verified,
        proposal_url=f"/{found.proposal}" if found.proposal else "",
        emergency=found.emergency,
        expires=words.day(found.expire_time) if found.HasField("expire_time") else "",
        signed=keys is not None and flaw_of_signed_rule(found, keys) is None,
    )


def _lines(scope: scope_pb2.SharingScope) -> votes.Lines:
    """A scope in plain English, as subject and sentence."""
    return votes.scope_lines(describe(scope))


def _dataset(details: DatasetDetails, offered_columns: Sequence[str]) -> Dataset:
    dataset, version = details.dataset, details.offered
    offered = set(offered_columns)
    columns = [column for column in version.columns if column.name in offered] if version else []
    return Dataset(
        name=dataset.name,
        title=dataset.title,
        description=dataset.description,
        modality=words.MODALITIES.get(dataset.modality, ""),
        languages=scope_words.listed(dataset.languages) if dataset.languages else "",
        citation=dataset.citation,
        versions=[
            (
                one.number,
                words.day(one.publish_time),
                words.count(one.row_count, "row"),
                words.size(one.size_bytes),
                f"at least {one.member_count:,}" if one.member_count else "not counted",
                one.content_hash,
            )
            for one in details.versions
        ],
        more_versions=details.more_versions,
        offered=version.number if version else 0,
        columns=[
            (column.name, column.type, words.missing(column.missing_permille), words.statistics(column))
            for column in columns
        ],
        columns_not_offered=len(version.columns) - len(columns) if version else 0,
        sample=words.sample(version.sample_json, [column.name for column in columns]) if version else None,
    )


@dataclass(frozen=True)
class Cooperative:
    """A cooperative's own page."""

    id: str
    display_name: str
    description: str
    charter: votes.Charter
    members: str
    joined: str
    rules: Sequence[Rule]
    next_rules: str
    offerings: Sequence[Card]
    next_offerings: str
    proposals: Sequence[votes.ProposalCard]
    keys: Sequence[tuple[str, str]]


def cooperative(
    found: governance_pb2.Cooperative,
    rules: governance_pb2.ListSharingRulesResponse,
    offerings: catalog_pb2.ListOfferingsResponse,
    proposals: proposals_pb2.ListProposalsResponse,
) -> Cooperative:
    keys = keys_of(found)
    return Cooperative(
        id=found.name.split("/")[1],
        display_name=found.display_name,
        description=found.description,
        charter=votes.charter(found.charter),
        members=words.count(found.member_count, "member"),
        joined=words.day(found.create_time),
        rules=[rule(one, keys=keys) for one in rules.sharing_rules],
        next_rules=rules.next_page_token,
        offerings=[_card(one, found.display_name, "", 0) for one in offerings.offerings],
        next_offerings=offerings.next_page_token,
        proposals=[votes.card(one) for one in proposals.proposals],
        keys=[(one.key_id, words.day(one.begin_time)) for one in found.signing_keys],
    )
