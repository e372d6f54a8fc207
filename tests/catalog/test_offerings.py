"""Offerings stay inside what the members decided: published, refused, closed when a rule narrows, over real services."""

import asyncio
from typing import Any

import pytest
from catalog_world import Shop, offered, offering_request, prepared, tier
from house import Person, refused

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now
from rochdale_kit.refusals import Refusal, refusal_of
from rochdale_kit.signing import canonical_hash

ACADEMIC, SME, COMPANY = scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_SME, scope.BUYER_CATEGORY_COMPANY


async def founded(shop: Shop, id: str) -> tuple[Person, governance.SharingRule]:
    """A cooperative with one published version and one rule."""
    steward = await shop.steward(id)
    await shop.dataset(steward)
    return steward, await shop.rule(steward)


async def test_an_offering_stands_on_a_rule_and_a_retry_changes_nothing(shop: Shop) -> None:
    steward, rule = await founded(shop, "standing")
    # What the caller says about categories and price is computed anew from the tiers.
    request = shop.signed(offering_request("standing", rule.name, floor_price=Money(amount_minor=7, currency="USD")))
    offering = await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    assert offering.state == pb.OFFERING_STATE_OPEN
    assert list(offering.scope.categories) == [ACADEMIC, SME]
    assert offering.scope.floor_price == Money(amount_minor=0, currency="EUR")
    assert list(offering.rule_hashes) == [rule.rule_hash] * 2 and list(offering.rule_revisions) == [1, 1]
    assert offering.offering_hash == canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")

    assert await shop.catalog.PublishOffering(request, metadata=steward.metadata) == offering
    assert await shop.offering(offering.name) == offering
    request.title = "Another"
    async with refused("REQUEST_ID_REUSED"):
        await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    told = await shop.told(offering.name, 1)
    assert type(told[0]).__name__ == "OfferingPublished" and told[0].offering == offering


async def test_the_same_request_twice_at_once_is_one_offering(shop: Shop) -> None:
    steward, rule = await founded(shop, "hasty")
    request = shop.signed(offering_request("hasty", rule.name))
    answers = await asyncio.gather(
        *(shop.catalog.PublishOffering(request, metadata=steward.metadata) for _ in range(8))
    )
    assert all(answer == answers[0] for answer in answers)
    listed = await shop.catalog.ListOfferings(pb.ListOfferingsRequest(parent="cooperatives/hasty"))
    assert list(listed.offerings) == [answers[0]]


MONTH = pricing.BILLING_INTERVAL_MONTH


def plan(interval: int, *prices: str) -> pricing.PricePlan:
    """A price plan, with a price for each gigabyte as often as one is given."""
    metered = [pricing.MeteredPrice(meter=pricing.METER_GIGABYTE, unit_price=price) for price in prices]
    return pricing.PricePlan(interval=interval, metered=metered)  # type: ignore[arg-type]  # the enum's ints


async def test_a_price_plan_is_part_of_what_is_signed(shop: Shop) -> None:
    steward, rule = await founded(shop, "monthly")
    request = offering_request("monthly", rule.name)
    request.tiers[1].price_plan.CopyFrom(plan(MONTH, "2.5"))
    signed = shop.signed(request)
    offering = await shop.catalog.PublishOffering(signed, metadata=steward.metadata)
    assert offering.tiers[1].price_plan == plan(MONTH, "2.5") and not offering.tiers[0].HasField("price_plan")
    changed = shop.signed(offering_request("monthly", rule.name))
    changed.tiers[1].price_plan.CopyFrom(plan(MONTH))
    async with refused("SIGNATURE_INVALID"):
        await shop.catalog.PublishOffering(changed, metadata=steward.metadata)


async def test_what_only_its_use_is_billed_is_found_and_not_as_free(shop: Shop) -> None:
    steward, rule = await founded(shop, "by-use")
    request = offering_request("by-use", rule.name, tiers=[tier(rule.name, 0, ACADEMIC)])
    request.tiers[0].price_plan.CopyFrom(plan(MONTH, "2.5"))
    await shop.catalog.PublishOffering(shop.signed(request), metadata=steward.metadata)
    where = {"cooperatives": ["cooperatives/by-use"]}
    assert (await shop.found(1, **where)).total_count == 1
    assert (await shop.search(free_only=True, **where)).total_count == 0
    # Beside it, one that costs nothing at all.
    await shop.publish(steward, rule)
    await shop.found(2, **where)
    assert (await shop.search(free_only=True, **where)).total_count == 1


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "no columns named twice": ("REQUEST_INVALID", {"columns": ["age", "age"]}, {}),
    "a dataset twice": ("SCOPE_ILL_FORMED", {"twice": True}, {}),
    "an unknown purpose": ("SCOPE_ILL_FORMED", {"purposes": ["Nonsense"]}, {}),
    "versions that end before they begin": ("SCOPE_ILL_FORMED", {"first_version": 2, "last_version": 1}, {}),
    "another's dataset": ("DATASET_NOT_OWN", {"owner": "elsewhere"}, {}),
    "a dataset that is not there": ("VERSION_NOT_PUBLISHED", {"dataset": "missing"}, {"latest_version": "0"}),
    "a later version": ("VERSION_NOT_PUBLISHED", {"first_version": 2}, {"latest_version": "1"}),
    "up to a later version": ("VERSION_NOT_PUBLISHED", {"last_version": 2_000_000_000}, {"latest_version": "1"}),
    "an unknown column": ("COLUMN_UNKNOWN", {"columns": ["age", "name"]}, {"column": "name", "version": "1"}),
    "no currency": ("CURRENCY_UNKNOWN", {"tiers": [(0, [ACADEMIC], "ZZZ")]}, {"currency": "ZZZ"}),
    "a currency in small letters": ("REQUEST_INVALID", {"tiers": [(0, [ACADEMIC], "zzz")]}, {}),
    "two currencies": ("CURRENCY_MISMATCH", {"tiers": [(0, [ACADEMIC], "EUR"), (1, [SME], "USD")]}, {}),
    "a negative price": ("REQUEST_INVALID", {"tiers": [(-1, [ACADEMIC], "EUR")]}, {}),
    "a category twice": ("CATEGORY_REPEATED", {"tiers": [(0, [ACADEMIC], "EUR"), (1, [ACADEMIC], "EUR")]}, {}),
    "a category nobody knows": ("REQUEST_INVALID", {"tiers": [(0, [99], "EUR")]}, {}),
    "use without an interval": ("PRICE_PLAN_INVALID", {"plan": plan(0, "1")}, {"tier": "1"}),
    "an empty plan": ("PRICE_PLAN_INVALID", {"plan": plan(0)}, {"tier": "1"}),
    "a meter twice": ("PRICE_PLAN_INVALID", {"plan": plan(MONTH, "1", "2")}, {"tier": "1"}),
    "a price with a comma": ("REQUEST_INVALID", {"plan": plan(MONTH, "0,25")}, {}),
    "a price below nothing": ("REQUEST_INVALID", {"plan": plan(MONTH, "-1")}, {}),
    "years of a license of days": (
        "PRICE_PLAN_INVALID",
        {"plan": plan(pricing.BILLING_INTERVAL_YEAR), "days": 364},
        {"tier": "1"},
    ),
    "no tiers": ("REQUEST_INVALID", {"tiers": []}, {}),
    "another currency than the rule's": ("OFFERING_OUTSIDE_RULE", {"tiers": [(9, [SME], "USD")]}, {}),
    "a time no calendar has": ("REQUEST_INVALID", {"not_before": 10**15}, {}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_offering_is_refused_for(shop: Shop, name: str) -> None:
    reason, wrong, facts = REFUSED[name]
    id = f"refused-{list(REFUSED).index(name)}"
    steward, rule = await founded(shop, id)
    request = shop.signed(offering_request(id, rule.name))
    if "plan" in wrong:
        request.tiers[0].price_plan.CopyFrom(wrong["plan"])
    if "days" in wrong:
        request.scope.max_duration_seconds = wrong["days"] * 86_400
    if "tiers" in wrong:
        del request.tiers[:]
        request.tiers.extend(
            tier(rule.name, amount, *categories, currency=currency) for amount, categories, currency in wrong["tiers"]
        )
    dataset = request.scope.datasets[0]
    if "columns" in wrong:
        dataset.columns[:] = wrong["columns"]
    if wrong.get("twice"):
        request.scope.datasets.add().CopyFrom(dataset)
    if "not_before" in wrong:
        request.scope.not_before.seconds = wrong["not_before"]
    request.scope.purposes[:] = wrong.get("purposes", request.scope.purposes)
    dataset.first_version = wrong.get("first_version", dataset.first_version)
    dataset.last_version = wrong.get("last_version", dataset.last_version)
    dataset.dataset = f"cooperatives/{wrong.get('owner', id)}/datasets/{wrong.get('dataset', 'randhie')}"
    async with refused(reason, **facts):
        await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    listed = await shop.catalog.ListOfferings(pb.ListOfferingsRequest(parent=f"cooperatives/{id}"))
    assert not listed.offerings


async def test_what_leaves_the_rule_is_refused_with_every_dimension_that_escapes(shop: Shop) -> None:
    steward, rule = await founded(shop, "escaping")
    request = offering_request(
        "escaping",
        rule.name,
        actions=[scope.USE_ACTION_PRETRAIN],
        duties=[],
        max_duration_seconds=366 * 86_400,
        tiers=[tier(rule.name, 0, COMPANY)],
    )
    request.scope.datasets[0].columns.append("site")
    async with refused("OFFERING_OUTSIDE_RULE") as caught:
        await shop.catalog.PublishOffering(shop.signed(request), metadata=steward.metadata)
    said = f"{caught[0].message} {caught[0].facts}"
    for dimension in ("columns", "categories", "actions", "max_duration_seconds", "duties"):
        assert dimension in said
    assert "territories" not in said


async def test_each_tier_stands_on_its_own_rule(shop: Shop) -> None:
    steward = await shop.steward("tiered")
    await shop.dataset(steward)
    free = await shop.rule(steward, categories=[ACADEMIC])
    paid = await shop.rule(steward, categories=[SME], floor_price=Money(amount_minor=5_000, currency="EUR"))
    offering = await shop.publish(steward, free, tiers=[tier(free.name, 0, ACADEMIC), tier(paid.name, 5_000, SME)])
    assert list(offering.rule_hashes) == [free.rule_hash, paid.rule_hash]
    async with refused("OFFERING_OUTSIDE_RULE") as caught:
        await shop.publish(steward, free, tiers=[tier(free.name, 0, ACADEMIC), tier(paid.name, 4_999, SME)])
    assert "floor_price" in str(caught[0].facts) + caught[0].message
    # The paid rule ends; the offering needed both.
    await shop.narrow(steward, paid)
    assert (await shop.closed(offering.name)).close_reason == "RULE_NARROWED"


async def test_a_rule_of_nobody_or_of_another_or_that_ended_carries_nothing(shop: Shop) -> None:
    steward, rule = await founded(shop, "ruled")
    _, others = await founded(shop, "others")
    forbidding = await shop.rule(steward, governance.RULE_EFFECT_DENY, categories=[COMPANY])
    nobodys = f"cooperatives/ruled/sharingRules/{new_id('rule')}"
    ended = await shop.rule(steward)
    await shop.heard(await shop.narrow(steward, ended))
    for name in (others.name, forbidding.name, ended.name):
        async with refused("RULE_NOT_IN_FORCE", sharing_rule=name):
            request = shop.signed(offering_request("ruled", name))
            await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    async with refused("RULE_NOT_YET_KNOWN", sharing_rule=nobodys):
        request = shop.signed(offering_request("ruled", nobodys))
        await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    assert await shop.publish(steward, rule)


async def test_what_one_rule_forbids_no_other_allows(shop: Shop) -> None:
    steward, rule = await founded(shop, "forbidding")
    mixed = await shop.publish(steward, rule)
    academic = await shop.publish(steward, rule, tiers=[tier(rule.name, 0, ACADEMIC)])
    deny = await shop.rule(steward, governance.RULE_EFFECT_DENY, categories=[SME])
    assert (await shop.closed(mixed.name)).close_reason == "RULE_FORBIDS"
    assert (await shop.offering(academic.name)).state == pb.OFFERING_STATE_OPEN
    async with refused("OFFERING_FORBIDDEN", sharing_rule=deny.name):
        await shop.publish(steward, rule)
    assert await shop.publish(steward, rule, tiers=[tier(rule.name, 0, ACADEMIC)])


async def test_narrowing_a_rule_closes_what_no_longer_fits_and_tells(shop: Shop) -> None:
    steward, rule = await founded(shop, "narrowing")
    wide = await shop.publish(steward, rule)
    short = await shop.publish(steward, rule, max_duration_seconds=86_400)
    narrowed = await shop.narrow(steward, rule, offered("narrowing", max_duration_seconds=30 * 86_400))

    closed = await shop.closed(wide.name)
    assert closed.close_reason == "RULE_NARROWED" and closed.HasField("close_time")
    assert (await shop.offering(short.name)).state == pb.OFFERING_STATE_OPEN
    told = await shop.told(wide.name, 2)
    assert [type(event).__name__ for event in told] == ["OfferingPublished", "OfferingClosed"]
    assert told[1].offering == closed
    # New ones cite the revision they stand on.
    again = await shop.publish(steward, rule, max_duration_seconds=86_400)
    assert list(again.rule_hashes) == [narrowed.rule_hash] * 2 and list(again.rule_revisions) == [2, 2]


async def test_a_rule_heard_out_of_order_never_comes_back(shop: Shop) -> None:
    steward = await shop.steward("late")
    await shop.dataset(steward)
    authority, began = shop.authorities["late"], now()
    rule, other, last = (authority.rule(offered("late"), began) for _ in range(3))
    narrowed = governance.SharingRule()
    narrowed.CopyFrom(rule)
    narrowed.revision, narrowed.scope.max_duration_seconds = 2, 86_400
    authority.signed_rule(narrowed)
    ended = authority.ended(other, now())

    await shop.tell(governance_events.RuleNarrowed(sharing_rule=narrowed))
    await shop.tell(governance_events.RuleEnacted(sharing_rule=rule))
    await shop.tell(governance_events.RuleNarrowed(sharing_rule=ended))
    await shop.tell(governance_events.RuleEnacted(sharing_rule=other))
    await shop.tell(governance_events.RuleEnacted(sharing_rule=last))
    await shop.heard(last)
    await shop.heard(narrowed)
    await shop.heard(ended)
    async with refused("OFFERING_OUTSIDE_RULE"):
        await shop.publish(steward, rule)
    async with refused("RULE_NOT_IN_FORCE"):
        await shop.publish(steward, ended)


@pytest.mark.parametrize("how", ["end", "forbid"])
async def test_no_offering_slips_past_a_rule_that_changes_at_that_moment(shop: Shop, how: str) -> None:
    steward, rule = await founded(shop, f"racing-{how}")

    async def publish(after: float) -> pb.Offering | Refusal:
        await asyncio.sleep(after)
        try:
            return await shop.publish(steward, rule)
        except Exception as error:
            return refusal_of(error)  # type: ignore[arg-type] # anything but an RPC's error fails there

    publishing = [asyncio.create_task(publish(number * 0.003)) for number in range(60)]
    await asyncio.sleep(0.05)
    if how == "end":
        await shop.heard(await shop.narrow(steward, rule))
    else:
        await shop.rule(steward, governance.RULE_EFFECT_DENY)
    answers = await asyncio.gather(*publishing)
    published = [answer for answer in answers if isinstance(answer, pb.Offering)]
    reasons = {answer.reason for answer in answers if isinstance(answer, Refusal)}
    assert published and reasons == {"RULE_NOT_IN_FORCE" if how == "end" else "OFFERING_FORBIDDEN"}
    for offering in published:
        assert (await shop.offering(offering.name)).state == pb.OFFERING_STATE_CLOSED


async def test_a_steward_closes_an_offering_once(shop: Shop) -> None:
    steward, rule = await founded(shop, "closing")
    offering = await shop.publish(steward, rule)
    close = pb.CloseOfferingRequest(name=offering.name)
    closed = await shop.catalog.CloseOffering(close, metadata=steward.metadata)
    assert closed.state == pb.OFFERING_STATE_CLOSED and closed.close_reason == "CLOSED_BY_STEWARD"
    assert await shop.catalog.CloseOffering(close, metadata=steward.metadata) == closed
    # A rule that ends later has nothing left to close.
    await shop.heard(await shop.narrow(steward, rule))
    assert await shop.offering(offering.name) == closed
    assert closed.offering_hash == offering.offering_hash


async def test_another_cooperatives_offering_answers_like_one_that_is_not_there(shop: Shop) -> None:
    steward, rule = await founded(shop, "private")
    stranger, _ = await founded(shop, "nosy")
    offering = await shop.publish(steward, rule)
    missing = f"cooperatives/private/offerings/{new_id('off')}"
    own = f"cooperatives/nosy/offerings/{offering.name.rsplit('/', 1)[1]}"
    for name in (offering.name, missing, own):
        async with refused("NOT_FOUND", name=name) as caught:
            await shop.catalog.CloseOffering(pb.CloseOfferingRequest(name=name), metadata=stranger.metadata)
        assert caught[0].message == f"{name} does not exist."
    async with refused("NOT_FOUND", name=missing):
        await shop.catalog.GetOffering(pb.GetOfferingRequest(name=missing))
    async with refused("NOT_FOUND", name="cooperatives/private"):
        request = shop.signed(offering_request("private", rule.name))
        await shop.catalog.PublishOffering(request, metadata=stranger.metadata)


async def test_offerings_come_in_pages_newest_first(shop: Shop) -> None:
    steward, rule = await founded(shop, "listing")
    names = [(await shop.publish(steward, rule)).name for _ in range(5)]
    await shop.catalog.CloseOffering(pb.CloseOfferingRequest(name=names[2]), metadata=steward.metadata)
    seen, token = [], ""
    while True:
        page = await shop.catalog.ListOfferings(
            pb.ListOfferingsRequest(parent="cooperatives/listing", page_size=2, page_token=token)
        )
        seen += [offering.name for offering in page.offerings]
        if not (token := page.next_page_token):
            break
    assert seen == sorted(names, reverse=True)


async def test_the_largest_offerings_are_told_listed_and_found(shop: Shop) -> None:
    steward = await shop.steward("large")
    dataset = await shop.dataset(steward, versions=0)
    # Almost as much as a request may hold.
    columns = [f"{number:04}{'x' * 240}" for number in range(1_040)]
    await shop.tell(prepared(dataset, 1, columns))
    await shop.published(dataset, 1)
    wide = offered("large")
    wide.datasets[0].columns[:] = columns
    rule = await shop.rule(steward, datasets=wide.datasets)
    many = {(await shop.publish(steward, rule, datasets=wide.datasets, description="gigantic")).name for _ in range(18)}
    assert len(await shop.told("cooperatives/large/offerings", 18)) == 18
    await shop.found(18, query="gigantic", page_size=1)

    # Together more than a client takes in one reply: pages are shorter, and none is missing.
    listed, found, token = set[str](), set[str](), ""
    while True:
        page = await shop.catalog.ListOfferings(pb.ListOfferingsRequest(parent="cooperatives/large", page_token=token))
        listed |= {offering.name for offering in page.offerings}
        if not (token := page.next_page_token):
            break
    for order in (pb.SEARCH_ORDER_RELEVANCE, pb.SEARCH_ORDER_PRICE):
        while True:
            hits = await shop.search(query="gigantic", page_size=100, order=order, page_token=token)
            found |= {hit.offering.name for hit in hits.hits}
            if not (token := hits.next_page_token):
                break
        assert found == many
        found.clear()
    assert listed == many
