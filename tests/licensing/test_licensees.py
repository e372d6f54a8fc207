"""Who a buyer says it is, and who an operator says it is."""

import pytest
from house import refused, request_id
from licensing_world import ACADEMIC, COMPANY, World

from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb


def registration(**changed: object) -> pb.RegisterLicenseeRequest:
    fields = {"request_id": request_id(), "claimed_category": ACADEMIC, "evidence": "ROR 05a0ya142", "territory": "DE"}
    return pb.RegisterLicenseeRequest(**(fields | changed))  # type: ignore[arg-type] # a mixed bag by design


async def test_a_claim_counts_for_nothing_until_it_is_attested(world: World) -> None:
    buyer = await world.buyer(ACADEMIC, attested=False)
    shelf = await world.shelf()
    async with refused("LICENSEE_NOT_ATTESTED"):
        await world.quote(buyer, shelf.offering)
    licensee = await world.attest(buyer, ACADEMIC)
    assert licensee.category == ACADEMIC and licensee.HasField("attest_time")
    assert (await world.ask(buyer, shelf.offering)).state == pb.NEGOTIATION_STATE_AGREED


async def test_a_stranger_is_not_attested_either(world: World) -> None:
    stranger, shelf = await world.house.buyer(f"stranger-{world.house.tag}"), await world.shelf()
    async with refused("LICENSEE_NOT_ATTESTED"):
        await world.ask(stranger, shelf.offering)


async def test_another_claim_withdraws_the_attestation_and_the_same_one_does_not(world: World) -> None:
    buyer = await world.buyer(COMPANY)
    assert (await world.claim(buyer, COMPANY)).category == COMPANY
    changed = await world.claim(buyer, ACADEMIC)
    assert changed.category == 0 and changed.claimed_category == ACADEMIC and not changed.HasField("attest_time")


async def test_a_retry_gets_the_first_answer_and_a_reused_id_none(world: World) -> None:
    buyer, request = await world.buyer(attested=False), registration()
    first = await world.licensing.RegisterLicensee(request, metadata=buyer.metadata)
    await world.attest(buyer, ACADEMIC)
    assert await world.licensing.RegisterLicensee(request, metadata=buyer.metadata) == first
    request.territory = "FR"
    async with refused("REQUEST_ID_REUSED"):
        await world.licensing.RegisterLicensee(request, metadata=buyer.metadata)


@pytest.mark.parametrize("territory", ["XX", "UK", "EU"])
async def test_a_seat_must_be_a_country(world: World, territory: str) -> None:
    buyer = await world.buyer(attested=False)
    async with refused("TERRITORY_UNKNOWN", territory=territory):
        await world.licensing.RegisterLicensee(registration(territory=territory), metadata=buyer.metadata)


async def test_a_licensee_is_seen_by_itself_by_whom_it_negotiates_with_and_by_operators(world: World) -> None:
    buyer, other, shelf, elsewhere = await world.buyer(), await world.buyer(), await world.shelf(), await world.shelf()
    look = pb.GetLicenseeRequest(name=f"licensees/{buyer.organization}")
    for stranger in (other, shelf.steward, elsewhere.steward):
        async with refused("NOT_FOUND"):
            await world.licensing.GetLicensee(look, metadata=stranger.metadata)
    await world.ask(buyer, shelf.offering)
    for known in (buyer, shelf.steward, await world.house.operator()):
        assert (await world.licensing.GetLicensee(look, metadata=known.metadata)).category == COMPANY
    async with refused("NOT_FOUND"):
        await world.licensing.GetLicensee(look, metadata=elsewhere.steward.metadata)


async def test_only_operators_attest_and_list(world: World) -> None:
    buyer = await world.buyer(attested=False)
    attest = pb.AttestCategoryRequest(
        request_id=request_id(), name=f"licensees/{buyer.organization}", category=ACADEMIC
    )
    async with refused("ROLE_MISSING"):
        await world.licensing.AttestCategory(attest, metadata=buyer.metadata)
    async with refused("ROLE_MISSING"):
        await world.licensing.ListLicensees(pb.ListLicenseesRequest(), metadata=buyer.metadata)
    async with refused("NOT_FOUND"):
        attest.name = "licensees/nobody-at-all"
        operator = await world.house.operator()
        await world.licensing.AttestCategory(attest, metadata=operator.metadata)


async def test_waiting_claims_come_in_pages_without_holes(world: World) -> None:
    waiting = {f"licensees/{(await world.buyer(attested=False)).organization}" for _ in range(5)}
    attested = f"licensees/{(await world.buyer()).organization}"
    operator, seen, token = await world.house.operator(), [], ""
    while True:
        page = await world.licensing.ListLicensees(
            pb.ListLicenseesRequest(page_size=2, page_token=token, unattested_only=True), metadata=operator.metadata
        )
        seen += [licensee.name for licensee in page.licensees]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen)) and waiting <= set(seen) and attested not in seen
    everything = await world.licensing.ListLicensees(pb.ListLicenseesRequest(page_size=1), metadata=operator.metadata)
    async with refused("PAGE_TOKEN_INVALID"):
        await world.licensing.ListLicensees(
            pb.ListLicenseesRequest(page_token=everything.next_page_token, unattested_only=True),
            metadata=operator.metadata,
        )


async def test_a_member_has_no_business_here(world: World) -> None:
    shelf = await world.shelf()
    member = await world.house.colleague(shelf.steward, identity_pb2.ROLE_MEMBER)
    async with refused("ROLE_MISSING"):
        await world.licensing.ListLicenses(pb.ListLicensesRequest(), metadata=member.metadata)
