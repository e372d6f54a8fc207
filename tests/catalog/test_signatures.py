"""The catalog believes signatures, not senders: of offerings, rules, their ends and keys. Over a real catalog."""

import asyncio
import datetime as dt

import pytest
import sqlalchemy as sa
from authority import Authority
from catalog_world import Shop, eventually, offered, offering_request, tier
from house import Person, refused
from sqlalchemy.ext.asyncio import create_async_engine

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.type.v1 import scope_pb2 as scope
from rochdale_kit.chain import hash_of_rule
from rochdale_kit.clock import new_id, now

ACADEMIC, COMPANY = scope.BUYER_CATEGORY_ACADEMIC, scope.BUYER_CATEGORY_COMPANY
DENY = governance.RULE_EFFECT_DENY


async def founded(shop: Shop, id: str) -> tuple[Person, governance.SharingRule]:
    """A cooperative with one published version and one rule."""
    steward = await shop.steward(id)
    await shop.dataset(steward)
    return steward, await shop.rule(steward)


async def change(shop: Shop, statement: str, **values: object) -> None:
    """What an operator could do by hand in the catalog's database."""
    engine = create_async_engine(await shop.house.database_url("catalog"))
    async with engine.begin() as connection:
        await connection.execute(sa.text(statement), values)
    await engine.dispose()


async def parked(shop: Shop, about: str) -> list[str]:
    async def look() -> list[str]:
        rows = await shop.query("SELECT reason FROM parked_event WHERE message LIKE :about", about=f"%{about}%")
        return [row.reason for row in rows]

    return await eventually(look)


async def all_heard(shop: Shop, steward: Person) -> None:
    """Until everything told before has been handled: events of one stream come in order."""
    await shop.rule(steward, categories=[scope.BUYER_CATEGORY_PUBLIC_BODY])


async def test_an_offering_carries_the_signature_it_was_sent_with(shop: Shop) -> None:
    steward, rule = await founded(shop, "signing")
    request = shop.signed(offering_request("signing", rule.name))
    offering = await shop.catalog.PublishOffering(request, metadata=steward.metadata)
    assert offering.name.endswith(request.offering_id) and offering.signature == request.signature
    told = await shop.told(offering.name, 1)
    assert told[0].offering.signature == request.signature


async def test_a_signature_of_something_else_is_refused_with_the_hash_it_should_be_of(shop: Shop) -> None:
    steward, rule = await founded(shop, "mistaken")
    request = shop.signed(offering_request("mistaken", rule.name))
    shown = offering_request("mistaken", rule.name, max_duration_seconds=86_400)
    shown.signature.CopyFrom(request.signature)
    async with refused("SIGNATURE_INVALID", key_id=shop.authorities["mistaken"].key.key_id) as caught:
        await shop.catalog.PublishOffering(shown, metadata=steward.metadata)
    # Signing what was named is enough: nothing else differed.
    hashed = caught[0].facts["offering_hash"]
    assert hashed in caught[0].message
    published = await shop.catalog.PublishOffering(shop.signed(shown), metadata=steward.metadata)
    assert published.offering_hash == hashed


async def test_nobody_elses_key_signs_and_without_one_nothing_is_offered(shop: Shop) -> None:
    steward, rule = await founded(shop, "keyed")
    own, shop.authorities["keyed"] = shop.authorities["keyed"], Authority("keyed")
    async with refused("SIGNATURE_INVALID", key_id=own.key.key_id):
        await shop.publish(steward, rule)
    unsigned = offering_request("keyed", rule.name)
    async with refused("REQUEST_INVALID"):
        await shop.catalog.PublishOffering(unsigned, metadata=steward.metadata)

    keyless = await shop.house.steward("keyless")
    await shop.dataset(keyless)
    shop.authorities["keyless"] = Authority("keyless")
    async with refused("COOPERATIVE_KEY_MISSING", cooperative="cooperatives/keyless"):
        await shop.publish(keyless, governance.SharingRule(name=f"cooperatives/keyless/sharingRules/{new_id('rule')}"))


async def test_an_id_is_taken_once_by_whomever(shop: Shop) -> None:
    steward, rule = await founded(shop, "first")
    other, others = await founded(shop, "second")
    offering = await shop.publish(steward, rule)
    id = offering.name.rsplit("/", 1)[1]
    for person, cited in ((steward, rule), (other, others)):
        async with refused("OFFERING_EXISTS"):
            await shop.publish(person, cited, offering_id=id)
    assert await shop.offering(offering.name) == offering

    once = new_id("off")
    answers = await asyncio.gather(
        *(shop.publish(steward, rule, offering_id=once) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(answer, pb.Offering) for answer in answers) == 1


async def test_what_answers_one_buyers_request_is_not_found_by_others(shop: Shop) -> None:
    steward, rule = await founded(shop, "discreet")
    request = f"mandateRequests/{new_id('mreq')}"
    answer = await shop.publish(steward, rule, mandate_request=request, title="Quetzal answered")
    assert answer.mandate_request == request
    public = await shop.publish(steward, rule, title="Quetzal for all")
    found = await shop.found(1, query="quetzal", facets=["cooperative"])
    assert [hit.offering.name for hit in found.hits] == [public.name]
    assert [(count.value, count.count) for count in found.facets[0].counts] == [("cooperatives/discreet", 1)]
    listed = await shop.catalog.ListOfferings(pb.ListOfferingsRequest(parent="cooperatives/discreet"))
    assert {offering.name for offering in listed.offerings} == {answer.name, public.name}
    assert await shop.offering(answer.name) == answer
    assert (await shop.told(answer.name, 1))[0].offering.mandate_request == request


async def test_a_rule_its_cooperative_did_not_sign_is_kept_out(shop: Shop) -> None:
    steward, rule = await founded(shop, "guarded")
    authority, began = shop.authorities["guarded"], now()
    open_offering = await shop.publish(steward, rule)
    forged = Authority("guarded").rule(offered("guarded"), began)
    altered = authority.rule(offered("guarded"), began)
    altered.scope.categories.append(COMPANY)
    rehashed = authority.rule(offered("guarded"), began)
    rehashed.scope.categories.append(COMPANY)
    rehashed.rule_hash = hash_of_rule(rehashed)
    unvoted = authority.rule(offered("guarded"), began)
    unvoted.proposal = ""
    authority.signed_rule(unvoted)
    forbidding = Authority("guarded").rule(offered("guarded"), began, effect=DENY)
    unsigned = authority.rule(offered("guarded"), began, effect=DENY)
    unsigned.ClearField("signature")
    widened = governance.SharingRule()
    widened.CopyFrom(rule)
    widened.revision = 2
    widened.scope.categories.append(COMPANY)
    for wrong in (forged, altered, rehashed, unvoted, forbidding, unsigned, widened):
        await shop.tell(governance_events.RuleEnacted(sharing_rule=wrong))
    await all_heard(shop, steward)

    for wrong in (forged, altered, rehashed, unvoted):
        async with refused("RULE_NOT_YET_KNOWN"):
            await shop.publish(steward, wrong)
    # What a stranger forbids in the members' name closes nothing, and what nobody widened is no wider.
    assert (await shop.offering(open_offering.name)).state == pb.OFFERING_STATE_OPEN
    async with refused("OFFERING_OUTSIDE_RULE"):
        await shop.publish(steward, rule, tiers=[tier(rule.name, 0, COMPANY)])


async def test_an_emergency_needs_no_signature_and_ends_by_one_or_by_itself(shop: Shop) -> None:
    steward, rule = await founded(shop, "alarmed")
    authority, began = shop.authorities["alarmed"], now()
    offering = await shop.publish(steward, rule)
    alarm = authority.rule(offered("alarmed"), began, effect=DENY, emergency=True)
    alarm.ClearField("signature")
    await shop.enact(alarm)
    assert (await shop.closed(offering.name)).close_reason == "RULE_FORBIDS"

    ended = authority.ended(alarm, now())
    unsigned, forged = governance.SharingRule(), Authority("alarmed").ended(alarm, now())
    unsigned.CopyFrom(ended)
    unsigned.ClearField("end_signature")
    narrowed = governance.SharingRule()
    narrowed.CopyFrom(alarm)
    narrowed.revision = 2
    narrowed.scope.categories[:] = [COMPANY]
    narrowed.rule_hash = hash_of_rule(narrowed)
    for wrong in (unsigned, forged, narrowed):
        await shop.tell(governance_events.RuleNarrowed(sharing_rule=wrong))
    await all_heard(shop, steward)
    async with refused("OFFERING_FORBIDDEN", sharing_rule=alarm.name):
        await shop.publish(steward, rule)
    await shop.tell(governance_events.RuleNarrowed(sharing_rule=ended))
    await shop.heard(ended)
    assert await shop.publish(steward, rule)

    brief = authority.rule(
        offered("alarmed"), now(), effect=DENY, emergency=True, expire=now() + dt.timedelta(seconds=1.5)
    )
    await shop.enact(brief)
    await shop.heard(brief)
    async with refused("OFFERING_FORBIDDEN", sharing_rule=brief.name):
        await shop.publish(steward, rule)
    await asyncio.sleep(1.5)
    assert await shop.publish(steward, rule)


async def test_an_offering_closes_by_itself_when_its_rule_expires(shop: Shop) -> None:
    steward, rule = await founded(shop, "fading")
    brief = await shop.rule(steward, life_seconds=3)
    stays, fades = await shop.publish(steward, rule), await shop.publish(steward, brief)
    closed = await shop.closed(fades.name)
    assert closed.close_reason == "RULE_EXPIRED"
    assert (await shop.told(fades.name, 2))[1].offering == closed
    assert (await shop.offering(stays.name)).state == pb.OFFERING_STATE_OPEN
    async with refused("RULE_NOT_IN_FORCE", sharing_rule=brief.name):
        await shop.publish(steward, brief)


async def test_only_the_latest_key_signs_and_rules_of_earlier_keys_hold(shop: Shop) -> None:
    steward, rule = await founded(shop, "rotating")
    before, old = await shop.publish(steward, rule), shop.authorities["rotating"]
    await shop.rotate("rotating")
    assert (await shop.offering(before.name)).state == pb.OFFERING_STATE_OPEN
    assert await shop.publish(steward, rule)
    new, shop.authorities["rotating"] = shop.authorities["rotating"], old
    async with refused("SIGNATURE_INVALID", key_id=new.key.key_id):
        await shop.publish(steward, rule)
    # A rule enacted now but signed by the key that was is nobody's; nor does a late event bring old keys back.
    await shop.tell(governance_events.RuleEnacted(sharing_rule=old.rule(offered("rotating"), now())))
    await shop.tell(governance_events.CooperativeCreated(cooperative=old.document()))
    shop.authorities["rotating"] = new
    await all_heard(shop, steward)
    assert len(await shop.query("SELECT name FROM sharing_rule WHERE cooperative = 'rotating'")) == 2
    await shop.keyed("rotating", 2)


async def test_nothing_a_compromised_key_signed_stands(shop: Shop) -> None:
    steward, rule = await founded(shop, "stolen")
    offering = await shop.publish(steward, rule)
    await shop.rotate("stolen", compromised=True)
    assert (await shop.closed(offering.name)).close_reason == "SIGNATURE_INVALID"
    async with refused("RULE_SIGNATURE_INVALID", sharing_rule=rule.name, flaw="RULE_SIGNATURE_INVALID"):
        await shop.publish(steward, rule)
    # Signed again, the same rule carries offerings again.
    again = governance.SharingRule()
    again.CopyFrom(rule)
    again.revision = 2
    again.effective_time.GetCurrentTime()
    await shop.enact(shop.authorities["stolen"].signed_rule(again))
    await shop.heard(again)
    assert await shop.publish(steward, again)


async def test_a_line_of_keys_that_begins_anew_is_not_believed(shop: Shop) -> None:
    steward, rule = await founded(shop, "seized")
    await shop.tell(governance_events.CooperativeKeyAdded(cooperative=Authority("seized").document()))
    assert await parked(shop, "cooperatives/seized") == ["COOPERATIVE_KEY_INVALID"]
    assert await shop.publish(steward, rule)


@pytest.mark.parametrize("how", ["rule", "offering"])
async def test_a_row_changed_by_hand_carries_nothing(shop: Shop, how: str) -> None:
    steward, rule = await founded(shop, f"edited-{how}")
    if how == "rule":
        rule.scope.categories.append(COMPANY)
        rule.rule_hash = hash_of_rule(rule)
        await change(
            shop,
            "UPDATE sharing_rule SET body = :body WHERE name = :name",
            body=rule.SerializeToString(),
            name=rule.name,
        )
        async with refused("RULE_SIGNATURE_INVALID", sharing_rule=rule.name):
            await shop.publish(steward, rule, tiers=[tier(rule.name, 0, COMPANY)])
        return
    offering = await shop.publish(steward, rule)
    offering.scope.max_duration_seconds += 1
    await change(
        shop,
        "UPDATE offering SET body = :body WHERE id = :id",
        body=offering.SerializeToString(),
        id=offering.name.rsplit("/", 1)[1],
    )
    await all_heard(shop, steward)
    assert (await shop.closed(offering.name)).close_reason == "SIGNATURE_INVALID"


async def test_a_superseded_version_loses_its_sample_and_starts_no_offering(shop: Shop) -> None:
    steward = await shop.steward("withdrawing")
    dataset = await shop.dataset(steward, versions=0)
    for number in (1, 2):
        version = pb.Version(number=number, columns=[pb.Column(name=name) for name in ("age", "mdvis")])
        version.sample_json = f'[{{"age": {number}}}]'
        if number == 2:
            # Told before the version it speaks of: it waits for it.
            await shop.tell(
                gateway_events.VersionSuperseded(
                    version=f"{dataset}/versions/1", superseded_by=f"{dataset}/versions/2", removed_row_count=7
                )
            )
        await shop.tell(gateway_events.VersionPrepared(dataset=dataset, version=version))
    rule = await shop.rule(steward)

    async def first() -> pb.Version | None:
        version: pb.Version = await shop.catalog.GetVersion(pb.GetVersionRequest(name=f"{dataset}/versions/1"))
        return version if version.superseded_by else None

    await shop.published(dataset, 2)
    superseded = await eventually(first)
    assert superseded.superseded_by == 2 and not superseded.sample_json
    listed = await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=dataset))
    assert [(one.superseded_by, bool(one.sample_json)) for one in listed.versions] == [(0, True), (2, False)]
    assert [event.version.number for event in await shop.told(f"{dataset}/versions/", 2)] == [1, 2]

    def until(last: int) -> scope.DatasetScope:
        return scope.DatasetScope(dataset=dataset, first_version=1, last_version=last, columns=["age"])

    async with refused("VERSION_SUPERSEDED", dataset=dataset, version="1", superseded_by="2"):
        await shop.publish(steward, rule, datasets=[until(1)])
    assert await shop.publish(steward, rule, datasets=[until(2)])
    assert await shop.publish(steward, rule)
