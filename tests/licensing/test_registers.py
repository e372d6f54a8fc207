"""Registers asked over real HTTP: what they say becomes a claim, and what is no answer says nothing about the buyer."""

import asyncio
import hashlib

import pytest
import sqlalchemy as sa
from house import refused, request_id
from licensing_world import ACADEMIC, COMPANY, World
from register_office import (
    ALONE,
    ARTS,
    FOLDER,
    HEALTH,
    LAPSED,
    PARENT,
    PLATFORM,
    PLATFORM_SUBSIDIARY,
    REMOVED,
    SECRET,
    SILENT,
    SUBSIDIARY,
    UNIVERSITY,
    WITHDRAWN,
    Office,
)

from licensing.registers import Ask, Registers
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.refusals import Refusal

ROR, LEI, CHARITY = pb.REGISTER_ROR, pb.REGISTER_LEI, pb.REGISTER_CHARITY
HEALTH_NONPROFIT, SME = scope_pb2.BUYER_CATEGORY_HEALTH_NONPROFIT, scope_pb2.BUYER_CATEGORY_SME
PLATFORM_TIER = scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM
VERIFIED, REFUTED = pb.CLAIM_STATE_VERIFIED, pb.CLAIM_STATE_REFUTED


async def test_a_university_is_found_and_its_answer_kept_as_evidence(world: World) -> None:
    buyer = await world.buyer(ACADEMIC, attested=False)
    (claim,) = (await world.look_up(buyer, ROR, UNIVERSITY)).claims
    assert (claim.state, claim.found_name, claim.found_kind) == (VERIFIED, "Valley University", "education; funder")
    assert list(claim.found_domains) == ["valley-university.edu"]
    recorded = (FOLDER / "ror_university.json").read_bytes()
    assert claim.evidence_hash == hashlib.sha256(recorded).hexdigest()
    async with world.engine.connect() as connection:
        kept = await connection.execute(
            sa.text("SELECT answer FROM register_claim WHERE licensee = :id"), {"id": buyer.organization}
        )
    assert kept.scalar_one() == recorded


@pytest.mark.parametrize(
    ("register", "identifier", "state", "parent"),
    [
        (ROR, WITHDRAWN, REFUTED, ""),
        (ROR, "00000zz00", REFUTED, ""),
        (LEI, ALONE, VERIFIED, ALONE),
        (LEI, PARENT, VERIFIED, PARENT),
        (LEI, SUBSIDIARY, VERIFIED, PARENT),
        (LEI, SECRET, VERIFIED, ""),
        (LEI, SILENT, VERIFIED, ""),
        (LEI, LAPSED, REFUTED, ""),
        (LEI, PLATFORM_SUBSIDIARY, VERIFIED, PLATFORM),
        (CHARITY, HEALTH, VERIFIED, ""),
        (CHARITY, ARTS, VERIFIED, ""),
        (CHARITY, REMOVED, REFUTED, ""),
        (CHARITY, "999999", REFUTED, ""),
    ],
)
async def test_what_a_register_says_is_what_the_claim_says(
    world: World, register: pb.Register.ValueType, identifier: str, state: int, parent: str
) -> None:
    registers = Registers(Ask(), *world.office.settings().values())
    found = await registers.look_up(register, identifier, now())
    assert (found.claim.state, found.claim.ultimate_parent) == (state, parent)
    assert found.claim.evidence_hash == hashlib.sha256(found.raw).hexdigest()


@pytest.mark.parametrize(
    ("register", "identifier"),
    [
        (ROR, "https-ror-org"),
        (ROR, "02FEAHW73"),
        (LEI, ALONE[:-1] + str((int(ALONE[-1]) + 1) % 10)),
        (LEI, ALONE.lower()),
        (CHARITY, "SC012345"),
        (CHARITY, "12-"),
    ],
)
async def test_what_cannot_be_an_identifier_is_asked_of_nobody(
    world: World, register: pb.Register.ValueType, identifier: str
) -> None:
    buyer, asked = await world.buyer(attested=False), len(world.office.asked)
    async with refused("IDENTIFIER_INVALID", identifier=identifier):
        await world.look_up(buyer, register, identifier)
    assert len(world.office.asked) == asked


async def test_who_is_no_licensee_claims_nothing_and_a_retry_is_answered_once(world: World) -> None:
    stranger = await world.house.buyer(f"claimant-{world.house.tag}")
    async with refused("LICENSEE_NOT_REGISTERED"):
        await world.look_up(stranger, LEI, ALONE)
    buyer, id = await world.buyer(attested=False), request_id()
    first = await world.look_up(buyer, LEI, ALONE, request_id=id)
    asked = len(world.office.asked)
    assert await world.look_up(buyer, LEI, ALONE, request_id=id) == first
    assert len(world.office.asked) == asked
    async with refused("REQUEST_ID_REUSED"):
        await world.look_up(buyer, LEI, PARENT, request_id=id)


async def test_claims_of_one_buyer_at_once_all_count(world: World) -> None:
    for _ in range(4):
        buyer = await world.buyer(attested=False)
        wanted = [(ROR, UNIVERSITY), (LEI, ALONE), (LEI, PARENT), (CHARITY, HEALTH)]
        await asyncio.gather(*(world.look_up(buyer, register, identifier) for register, identifier in wanted))
        look = pb.GetLicenseeRequest(name=f"licensees/{buyer.organization}")
        found = await world.licensing.GetLicensee(look, metadata=buyer.metadata)
        assert {(claim.register, claim.identifier) for claim in found.claims} == set(wanted)
        assert found.category == COMPANY
    # Operators see them in the list, where they decide what to look at.
    operator = await world.house.operator()
    page = await world.licensing.ListLicensees(pb.ListLicenseesRequest(page_size=1000), metadata=operator.metadata)
    assert next(one for one in page.licensees if one.name == found.name) == found


async def test_a_register_without_an_address_is_not_asked() -> None:
    with pytest.raises(Refusal) as caught:
        await Registers(Ask(), "", "", "", "").look_up(ROR, UNIVERSITY, now())
    assert caught.value.reason == "REGISTER_NOT_CONFIGURED"


@pytest.mark.parametrize(
    "odd",
    [
        (500, {}, b"{}"),
        (429, {}, b"{}"),
        (401, {}, b"{}"),
        (200, {}, b"<html>maintenance</html>"),
        (200, {}, b"[]"),
        (200, {}, b"{}"),
        (200, {}, b'{"id": "https://ror.org/0other000", "names": [], "types": [], "status": "active"}'),
        (200, {}, b'{"x": "' + b"y" * (1 << 20) + b'"}'),
        (302, {"location": "http://127.0.0.2:1/"}, b""),
        (302, {"location": "file:///etc/passwd"}, b""),
        (302, {"location": f"/ror/organizations/{UNIVERSITY}"}, b""),
    ],
)
async def test_what_is_no_answer_is_tried_again_and_changes_nothing(
    world: World, odd: tuple[int, dict[str, str], bytes]
) -> None:
    buyer, path = await world.buyer(attested=False), f"/ror/organizations/{UNIVERSITY}"
    world.office.odd[path] = odd
    try:
        async with refused("REGISTER_UNAVAILABLE", register="ROR"):
            await world.look_up(buyer, ROR, UNIVERSITY)
    finally:
        del world.office.odd[path]
    look = pb.GetLicenseeRequest(name=f"licensees/{buyer.organization}")
    found = await world.licensing.GetLicensee(look, metadata=buyer.metadata)
    assert not found.claims and found.category == 0


async def test_a_redirect_within_the_house_is_followed(world: World) -> None:
    moved = "/ror/organizations/00moved00"
    world.office.odd[moved] = (301, {"location": f"/ror/organizations/{UNIVERSITY}"}, b"")
    found = await Registers(Ask(), *world.office.settings().values()).look_up(ROR, UNIVERSITY, now())
    assert found.claim.state == VERIFIED
    del world.office.odd[moved]


async def test_a_register_that_never_answers_is_given_up() -> None:
    office = Office()
    await office.start()
    office.delay_seconds = 30.0
    ask = Ask()
    ask._client.timeout = 0.2  # the same clock, faster
    try:
        with pytest.raises(Refusal) as caught:
            await Registers(ask, *office.settings().values()).look_up(LEI, ALONE, now())
        assert caught.value.reason == "REGISTER_UNAVAILABLE"
    finally:
        await ask.close()
        await office.stop()


async def test_a_wrong_key_says_nothing_about_a_charity(world: World) -> None:
    settings = world.office.settings() | {"charity_api_key": "wrong"}
    with pytest.raises(Refusal) as caught:
        await Registers(Ask(), *settings.values()).look_up(CHARITY, HEALTH, now())
    assert caught.value.reason == "REGISTER_UNAVAILABLE"


# ---- what comes of it ----


async def test_a_register_entry_alone_makes_nobody_cheaper_and_one_operator_beside_it_does(world: World) -> None:
    buyer, (operator, _) = await world.buyer(ACADEMIC, attested=False), await world.house.operators()
    await world.claim(buyer, ACADEMIC, evidence="Chair of statistics, https://stat.valley-university.edu/team")
    alone = await world.look_up(buyer, ROR, UNIVERSITY)
    assert alone.category == PLATFORM_TIER and "does not show that the buyer speaks for it" in alone.category_reason
    vouched = await world.approve(operator, buyer, ACADEMIC)
    assert vouched.category == ACADEMIC and "an operator vouches" in vouched.category_reason
    assert 364 <= (from_timestamp(vouched.attest_expire_time) - now()).days <= 365
    shelf = await world.shelf()
    assert (await world.ask(buyer, shelf.offering)).license


async def test_an_entry_of_somebody_else_is_not_vouched_for_unseen(world: World) -> None:
    buyer, (operator, second) = await world.buyer(ACADEMIC, attested=False), await world.house.operators()
    await world.claim(buyer, ACADEMIC, evidence="https://valley-university.edu.example.com")
    await world.look_up(buyer, ROR, UNIVERSITY)
    assert (await world.approve(operator, buyer, ACADEMIC)).category == PLATFORM_TIER
    # Two who looked need no register.
    assert (await world.approve(second, buyer, ACADEMIC)).category == ACADEMIC


@pytest.mark.parametrize(("number", "category"), [(HEALTH, HEALTH_NONPROFIT), (ARTS, PLATFORM_TIER)])
async def test_a_charity_is_a_health_charity_only_by_its_purpose(world: World, number: str, category: int) -> None:
    buyer, (operator, _) = await world.buyer(HEALTH_NONPROFIT, attested=False), await world.house.operators()
    await world.claim(buyer, HEALTH_NONPROFIT, evidence="desk@river-health.org.uk, desk@river-arts.org.uk")
    await world.look_up(buyer, CHARITY, number)
    assert (await world.approve(operator, buyer, HEALTH_NONPROFIT)).category == category


@pytest.mark.parametrize(
    ("identifier", "category"),
    [
        (ALONE, COMPANY),
        (PARENT, COMPANY),
        (SUBSIDIARY, COMPANY),
        (PLATFORM_SUBSIDIARY, PLATFORM_TIER),
        (SECRET, PLATFORM_TIER),
        (LAPSED, PLATFORM_TIER),
    ],
)
async def test_a_company_is_what_its_group_is(world: World, identifier: str, category: int) -> None:
    buyer = await world.buyer(COMPANY, attested=False)
    assert (await world.look_up(buyer, LEI, identifier)).category == category


async def test_no_two_operators_make_a_platform_anything_else(world: World) -> None:
    buyer = await world.buyer(SME)
    owned = await world.look_up(buyer, LEI, PLATFORM_SUBSIDIARY)
    assert owned.category == PLATFORM_TIER and "large platform" in owned.category_reason
    assert (await world.attest(buyer, SME)).category == PLATFORM_TIER


async def test_the_members_of_a_group_are_named_as_those_who_benefit(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer(COMPANY)
    await world.look_up(buyer, LEI, SUBSIDIARY)
    await world.look_up(buyer, ROR, UNIVERSITY)
    await world.look_up(buyer, ROR, WITHDRAWN)
    asked = await world.ask_members(buyer, shelf.offering, wish=pb.Wish(duration_seconds=10**9))
    assert set(asked.beneficiaries) == {SUBSIDIARY, PARENT, "valley-university.edu"}
