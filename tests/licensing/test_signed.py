"""Whose word counts: only what a cooperative's own key signed reaches the book, and a prohibition ends only by it."""

import asyncio
import datetime as dt

import sqlalchemy as sa
from authority import LONG_AGO, Authority
from house import refused
from licensing_world import ACADEMIC, COMPANY, Shelf, World

from rochdale.catalog.v1 import events_pb2 as catalog_events
from rochdale.governance.v1 import events_pb2, governance_pb2
from rochdale.type.v1 import signature_pb2
from rochdale_kit.chain import hash_of_rule
from rochdale_kit.clock import new_id, now
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.signing import SigningKey


async def known(world: World, table: str, name: str) -> bool:
    async with world.engine.connect() as connection:
        return (
            await connection.execute(sa.text(f"SELECT 1 FROM {table} WHERE name = :name"), {"name": name})
        ).first() is not None


def copied(rule: governance_pb2.SharingRule) -> governance_pb2.SharingRule:
    copy = governance_pb2.SharingRule()
    copy.CopyFrom(rule)
    return copy


def document(shelf: Shelf, *keys: governance_pb2.CooperativeKey) -> governance_pb2.Cooperative:
    told = shelf.authority.document()
    told.signing_keys.extend(keys)
    return told


def next_key(shelf: Shelf, *, compromised: bool = False) -> tuple[SigningKey, governance_pb2.CooperativeKey]:
    key = SigningKey.generate()
    return key, introduce(shelf.authority.name, key, now(), shelf.authority.key, compromised)


async def test_a_rule_nobody_signed_is_kept_out(world: World) -> None:
    shelf = await world.shelf()
    widened = shelf.new_rule(territories=["WORLD"])
    widened.signature.Clear()
    assert await world.tell(events_pb2.RuleEnacted(sharing_rule=widened)) == "RULE_SIGNATURE_INVALID"
    assert not await known(world, "sharing_rule", widened.name)


async def test_a_rule_changed_after_it_was_signed_is_kept_out(world: World) -> None:
    shelf = await world.shelf()
    widened = shelf.new_rule()
    widened.scope.territories.append("US")
    assert await world.tell(events_pb2.RuleEnacted(sharing_rule=widened)) == "RULE_HASH_MISMATCH"
    widened.rule_hash = hash_of_rule(widened)
    assert await world.tell(events_pb2.RuleEnacted(sharing_rule=widened)) == "RULE_SIGNATURE_INVALID"
    unvoted = shelf.new_rule()
    unvoted.proposal = ""
    shelf.authority.signed_rule(unvoted)
    assert await world.tell(events_pb2.RuleEnacted(sharing_rule=unvoted)) == "RULE_NOT_VOTED"
    assert not await known(world, "sharing_rule", widened.name) and not await known(world, "sharing_rule", unvoted.name)


async def test_a_key_nobody_introduced_signs_nothing(world: World) -> None:
    shelf = await world.shelf()
    forged = Authority(shelf.cooperative).signed_rule(shelf.new_rule(territories=["WORLD"]))
    await world.say(events_pb2.RuleEnacted(sharing_rule=forged), new_id("evt"))
    await asyncio.sleep(0.5)
    assert not await known(world, "sharing_rule", forged.name)


async def test_another_cooperatives_key_signs_nothing_here(world: World) -> None:
    shelf, other = await world.shelf(), await world.shelf()
    forged = other.authority.signed_rule(shelf.new_rule(territories=["WORLD"]))
    await world.say(events_pb2.RuleEnacted(sharing_rule=forged), new_id("evt"))
    await asyncio.sleep(0.5)
    assert not await known(world, "sharing_rule", forged.name)


async def test_a_rule_heard_before_the_first_key_waits_for_it(world: World) -> None:
    house = await world.shelf()
    shelf = Shelf(world, f"late-{house.cooperative}", house.steward)
    rule, event = shelf.new_rule(), new_id("evt")
    await world.say(events_pb2.RuleEnacted(sharing_rule=rule), event)
    await asyncio.sleep(0.3)
    assert not await known(world, "sharing_rule", rule.name)
    # Founded without a key, which changes nothing yet.
    unsigned = governance_pb2.Cooperative(name=shelf.authority.name)
    await world.tell(events_pb2.CooperativeCreated(cooperative=unsigned))
    await world.tell(events_pb2.CooperativeKeyAdded(cooperative=document(shelf)))
    for _ in range(200):
        if await known(world, "sharing_rule", rule.name):
            break
        await asyncio.sleep(0.05)
    assert await known(world, "sharing_rule", rule.name)


async def test_an_offering_nobody_signed_is_kept_out(world: World) -> None:
    shelf = await world.shelf()
    cheap = shelf.new_offering()
    cheap.tiers[1].price.amount_minor = 1
    assert await world.tell(catalog_events.OfferingPublished(offering=cheap)) == "OFFERING_HASH_MISMATCH"
    unsigned = shelf.new_offering()
    unsigned.signature.Clear()
    assert await world.tell(catalog_events.OfferingPublished(offering=unsigned)) == "OFFERING_SIGNATURE_INVALID"
    buyer = await world.buyer()
    for offering in (cheap, unsigned):
        async with refused("NOT_FOUND"):
            await world.ask(buyer, offering)


async def test_a_prohibition_ends_only_by_a_signed_end(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    for emergency in (False, True):
        denial = await shelf.deny(emergency=emergency)
        over = shelf.authority.ended(denial, now())
        forged = copied(over)
        forged.end_signature.Clear()
        elsewhere = copied(over)
        elsewhere.end_signature.CopyFrom(signature_pb2.Signature(key_id=over.end_signature.key_id, value=bytes(64)))
        for end in (forged, elsewhere):
            await world.tell(events_pb2.RuleNarrowed(sharing_rule=end))
            async with refused("REQUEST_OUTSIDE_RULE", deny=denial.name):
                await world.ask(buyer, shelf.offering)
        await world.tell(events_pb2.RuleNarrowed(sharing_rule=over))
        assert (await world.ask(buyer, shelf.offering)).license


async def test_a_later_revision_does_not_soften_a_prohibition(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    denial = await shelf.deny(emergency=True)
    softer = copied(denial)
    softer.revision = 2
    softer.scope.categories[:] = [ACADEMIC]
    softer.rule_hash = hash_of_rule(softer)
    await world.tell(events_pb2.RuleNarrowed(sharing_rule=softer))
    async with refused("REQUEST_OUTSIDE_RULE", deny=denial.name):
        await world.ask(buyer, shelf.offering)


async def test_an_emergency_needs_no_signature_and_lasts_no_longer_than_it_may(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    at = now()
    board = shelf.authority.rule(
        shelf.rule.scope,
        at - dt.timedelta(days=31),
        effect=governance_pb2.RULE_EFFECT_DENY,
        emergency=True,
        expire=at + dt.timedelta(days=900),
    )
    board.signature.Clear()
    await world.tell(events_pb2.RuleEnacted(sharing_rule=board))
    assert (await world.ask(buyer, shelf.offering)).license
    recent = shelf.new_denial(emergency=True)
    recent.signature.Clear()
    await world.tell(events_pb2.RuleEnacted(sharing_rule=recent))
    async with refused("REQUEST_OUTSIDE_RULE", deny=recent.name):
        await world.ask(buyer, shelf.offering)


async def test_what_has_expired_allows_nothing_even_before_anybody_says_so(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    shelf.rule = shelf.authority.rule(shelf.rule.scope, now(), expire=now() + dt.timedelta(seconds=0.8))
    await world.tell(events_pb2.RuleEnacted(sharing_rule=shelf.rule))
    await shelf.publish()
    assert (await world.ask(buyer, shelf.offering)).license
    await asyncio.sleep(0.9)
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)


async def test_a_new_key_signs_and_the_old_rules_stay(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    key, introduced = next_key(shelf)
    await world.tell(events_pb2.CooperativeKeyAdded(cooperative=document(shelf, introduced)))
    assert (await world.ask(buyer, shelf.offering)).license
    # Told late and out of order, the older list takes nothing back.
    await world.tell(events_pb2.CooperativeCreated(cooperative=document(shelf)))
    shelf.authority.key = key
    await shelf.enact()
    await shelf.publish()
    assert (await world.ask(buyer, shelf.offering)).license


async def test_what_a_lost_key_signed_no_longer_holds(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    key, introduced = next_key(shelf, compromised=True)
    await world.tell(events_pb2.CooperativeKeyAdded(cooperative=document(shelf, introduced)))
    async with refused("OFFERING_CLOSED"):
        await world.ask(buyer, shelf.offering)
    shelf.authority.key = key
    await shelf.publish()
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)
    await shelf.enact()
    await shelf.publish()
    assert (await world.ask(buyer, shelf.offering)).license


async def test_another_line_of_keys_is_not_believed(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    usurper = Authority(shelf.cooperative)
    for told in (usurper.document(), document(shelf, introduce(usurper.name, usurper.key, LONG_AGO))):
        assert await world.tell(events_pb2.CooperativeKeyAdded(cooperative=told)) == "COOPERATIVE_KEY_INVALID"
    forged = usurper.signed_rule(shelf.new_rule(categories=[COMPANY]))
    await world.say(events_pb2.RuleEnacted(sharing_rule=forged), new_id("evt"))
    await asyncio.sleep(0.3)
    assert not await known(world, "sharing_rule", forged.name)
    assert (await world.ask(buyer, shelf.offering)).license


async def test_a_rule_swapped_in_our_own_database_signs_nothing(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    wider = copied(shelf.rule)
    wider.scope.territories[:] = ["DE", "FR", "US"]
    wider.rule_hash = hash_of_rule(wider)
    async with world.engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE sharing_rule SET body = :body WHERE name = :name"),
            {"body": wider.SerializeToString(), "name": wider.name},
        )
    async with refused("RULE_NOT_IN_FORCE"):
        await world.ask(buyer, shelf.offering)
