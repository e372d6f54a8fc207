"""The category by itself: the same facts give the same one, a group counts as one, and not knowing is never cheaper."""

import asyncio
import datetime as dt
import random
from typing import Any

import pytest
from house import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from licensing_world import ACADEMIC, COMPANY, World

from licensing.domain.categories import Approval, Assessment, Known, Platforms, approved, category_of
from licensing.platforms import read_platforms
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import to_timestamp

AT = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
UNKNOWN, SME = scope_pb2.BUYER_CATEGORY_UNSPECIFIED, scope_pb2.BUYER_CATEGORY_SME
HEALTH_NONPROFIT, PLATFORM = scope_pb2.BUYER_CATEGORY_HEALTH_NONPROFIT, scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM
PLATFORMS = Platforms(frozenset({"GIANT"}), frozenset({"huge ltd"}))
ROR, LEI, CHARITY = pb.REGISTER_ROR, pb.REGISTER_LEI, pb.REGISTER_CHARITY


def claim(register: Any, kind: str = "", *, parent: str = "", age_days: int = 0, **fields: Any) -> pb.RegisterClaim:
    return pb.RegisterClaim(
        **(
            {
                "register": register,
                "identifier": "ITSELF",
                "state": pb.CLAIM_STATE_VERIFIED,
                "found_name": "Somebody",
                "found_kind": kind,
                "found_domains": ["somebody.org"],
                "ultimate_parent": parent,
                "check_time": to_timestamp(AT - dt.timedelta(days=age_days)),
            }
            | fields
        )
    )


def approvals(count: int, age_days: int = 0) -> list[Approval]:
    return [Approval(f"apiKeys/{number}", AT - dt.timedelta(days=age_days)) for number in range(count)]


def assess(*claims: pb.RegisterClaim, by: int = 0, of: Any = UNKNOWN, evidence: str = "www.somebody.org") -> Assessment:
    return category_of(Known(evidence, claims, of, approvals(by)), PLATFORMS, AT)


@pytest.mark.parametrize(
    ("claims", "by", "of", "category"),
    [
        ([], 0, UNKNOWN, UNKNOWN),
        ([], 1, ACADEMIC, UNKNOWN),
        ([], 2, ACADEMIC, ACADEMIC),
        ([], 2, SME, SME),
        ([claim(ROR, "education")], 0, UNKNOWN, PLATFORM),
        ([claim(ROR, "education")], 1, ACADEMIC, ACADEMIC),
        ([claim(ROR, "education")], 1, COMPANY, PLATFORM),
        ([claim(ROR, "facility; archive")], 1, ACADEMIC, ACADEMIC),
        ([claim(ROR, "healthcare")], 1, ACADEMIC, PLATFORM),
        ([claim(ROR, "company")], 0, UNKNOWN, COMPANY),
        ([claim(ROR, "company")], 2, ACADEMIC, COMPANY),
        ([claim(ROR, "company")], 2, SME, SME),
        ([claim(ROR, "education", state=pb.CLAIM_STATE_REFUTED)], 1, ACADEMIC, PLATFORM),
        ([claim(ROR, "education", found_domains=[])], 1, ACADEMIC, PLATFORM),
        (
            [claim(CHARITY, "Animals; The Advancement Of Health Or Saving Of Lives")],
            1,
            HEALTH_NONPROFIT,
            HEALTH_NONPROFIT,
        ),
        ([claim(CHARITY, "Animals")], 1, HEALTH_NONPROFIT, PLATFORM),
        ([claim(LEI, "GENERAL", parent="ITSELF")], 0, UNKNOWN, COMPANY),
        ([claim(LEI, "GENERAL", parent="ITSELF")], 2, SME, SME),
        ([claim(LEI, "GENERAL", parent="OTHER")], 0, UNKNOWN, COMPANY),
        ([claim(LEI, "GENERAL", parent="GIANT")], 2, SME, PLATFORM),
        ([claim(LEI, "GENERAL; subsidiary of Huge, Ltd.", parent="ABROAD")], 0, UNKNOWN, PLATFORM),
        ([claim(LEI, "GENERAL")], 2, SME, PLATFORM),
        # The institute of a group is what the group is, unless two operators looked.
        ([claim(ROR, "facility"), claim(LEI, "GENERAL", parent="OTHER")], 1, ACADEMIC, COMPANY),
        ([claim(ROR, "facility"), claim(LEI, "GENERAL", parent="OTHER")], 2, ACADEMIC, ACADEMIC),
        ([claim(ROR, "facility"), claim(LEI, "GENERAL", parent="ITSELF")], 1, ACADEMIC, ACADEMIC),
        # A year later nothing counts but the group it is in.
        ([claim(ROR, "education", age_days=365)], 1, ACADEMIC, UNKNOWN),
        ([claim(LEI, "GENERAL", parent="GIANT", age_days=900)], 2, ACADEMIC, PLATFORM),
    ],
)
def test_the_table(claims: list[pb.RegisterClaim], by: int, of: Any, category: int) -> None:
    assert assess(*claims, by=by, of=of).category == category


def test_two_who_disagree_agree_on_nothing_and_one_who_repeats_is_one() -> None:
    known = Known("", [], UNKNOWN, [])
    for key, category, count in [("a", ACADEMIC, 1), ("a", ACADEMIC, 1), ("b", SME, 1), ("a", SME, 2), ("a", SME, 2)]:
        known = Known("", [], category, approved(known, category, key, AT))
        assert len(known.approvals) == count


def test_it_holds_for_a_year_from_the_older_of_the_two_words_and_not_longer() -> None:
    words = [*approvals(1, age_days=300), Approval("apiKeys/9", AT)]
    holds = category_of(Known("", [], ACADEMIC, words), PLATFORMS, AT)
    assert holds.expire_time == AT + dt.timedelta(days=65)
    late = category_of(Known("", [], ACADEMIC, words), PLATFORMS, AT + dt.timedelta(days=65))
    assert (late.category, late.expire_time) == (UNKNOWN, None)


claims_of_any_kind = st.builds(
    claim,
    st.sampled_from([ROR, LEI, CHARITY]),
    st.sampled_from(
        ["education", "company", "healthcare", "facility", "The Advancement Of Health Or Saving Of Lives", "GENERAL"]
    ),
    parent=st.sampled_from(["", "ITSELF", "OTHER", "GIANT"]),
    age_days=st.sampled_from([0, 100, 400]),
    state=st.sampled_from([pb.CLAIM_STATE_VERIFIED] * 3 + [pb.CLAIM_STATE_REFUTED]),
    identifier=st.sampled_from(["ITSELF", "SECOND"]),
)
facts = st.tuples(
    st.lists(claims_of_any_kind, max_size=4), st.integers(0, 3), st.sampled_from([1, 2, 4, 5, 6, 7]), st.booleans()
)


def test_properties_over_anything_that_may_be_known() -> None:
    met = {"cheap": 0, "dear": 0, "nothing": 0, "unknown parent": 0, "subsidiary": 0}

    @settings(max_examples=3000, deadline=None)
    @given(facts, st.randoms())
    def check(known: tuple[list[pb.RegisterClaim], int, Any, bool], shuffle: random.Random) -> None:
        claims, count, of, named = known
        evidence = "www.somebody.org" if named else "nowhere"
        result = assess(*claims, by=count, of=of, evidence=evidence)
        # The same facts in another order are the same facts.
        mixed = list(claims)
        shuffle.shuffle(mixed)
        assert assess(*mixed, by=count, of=of, evidence=evidence).category == result.category
        met["nothing" if not result.category else "cheap" if result.category < COMPANY else "dear"] += 1
        assert result.reason.endswith(".")
        # Nothing cheaper than a company without an operator's word, and never against the claims of a platform.
        if UNKNOWN < result.category < COMPANY:
            assert count >= 1 and result.category == of and result.expire_time is not None
        for index, one in enumerate(claims):
            if one.register != LEI or one.state != pb.CLAIM_STATE_VERIFIED:
                continue
            changed = pb.RegisterClaim()
            changed.CopyFrom(one)
            # Not to know the parent is never cheaper than to know it.
            changed.ultimate_parent = ""
            hidden = [*claims[:index], changed, *claims[index + 1 :]]
            assert assess(*hidden, by=count, of=of, evidence=evidence).category >= result.category
            met["unknown parent"] += 1
            # Nor is a subsidiary ever cheaper than its parent would be in its place.
            if one.ultimate_parent not in ("", one.identifier):
                changed.identifier = changed.ultimate_parent = one.ultimate_parent
                above = [*claims[:index], changed, *claims[index + 1 :]]
                assert result.category >= assess(*above, by=count, of=of, evidence=evidence).category
                met["subsidiary"] += 1

    check()
    assert min(met.values()) > 50, met


@pytest.mark.parametrize("parent", ["", "OTHER", "GIANT"])
def test_a_group_is_one_buyer(parent: str) -> None:
    subsidiary = claim(LEI, "GENERAL", parent=parent)
    itself = claim(LEI, "GENERAL", parent=parent, identifier=parent or "ABOVE")
    assert assess(subsidiary).category == assess(itself).category


def test_the_packaged_list_names_platforms_and_a_wrong_one_stops_the_start() -> None:
    packaged = read_platforms("")
    assert "5493006MHB84DD0ZWV18" in packaged.leis and "bytedance ltd" in packaged.names
    for lei in packaged.leis:
        assert len(lei) == 20 and int("".join(str(int(character, 36)) for character in lei)) % 97 == 1
    with pytest.raises(SystemExit, match="cannot be read"):
        read_platforms("/nowhere/platforms.json")


# ---- through the RPCs ----


async def test_one_operator_alone_attests_nothing_and_twice_is_still_one(world: World) -> None:
    buyer, (first, second) = await world.buyer(ACADEMIC, attested=False), await world.house.operators()
    for _ in range(2):
        waiting = await world.approve(first, buyer, ACADEMIC)
        assert (waiting.category, len(waiting.approvals), waiting.approved_category) == (UNKNOWN, 1, ACADEMIC)
    # Another category starts over.
    other = await world.approve(second, buyer, COMPANY)
    assert (other.category, len(other.approvals), other.approved_category) == (UNKNOWN, 1, COMPANY)
    agreed = await world.approve(first, buyer, COMPANY)
    assert agreed.category == COMPANY and len(agreed.approvals) == 2 and agreed.HasField("attest_expire_time")
    # And takes back what two had agreed on, until two agree again.
    assert (await world.approve(first, buyer, ACADEMIC)).category == UNKNOWN


async def test_an_attestation_that_is_over_binds_nobody_until_it_is_renewed(world: World) -> None:
    shelf, buyer = await world.shelf(), await world.buyer()
    await world.age("licensee", f"licensees/{buyer.organization}", "attest_expire_time")
    async with refused("LICENSEE_NOT_ATTESTED", licensee=f"licensees/{buyer.organization}"):
        await world.ask(buyer, shelf.offering)
    await world.attest(buyer, COMPANY)
    assert (await world.ask(buyer, shelf.offering)).license


async def test_two_operators_at_once_agree(world: World) -> None:
    operators = await world.house.operators()
    for _ in range(3):
        buyer = await world.buyer(attested=False)
        await asyncio.gather(*(world.approve(operator, buyer, COMPANY) for operator in operators))
        look = pb.GetLicenseeRequest(name=f"licensees/{buyer.organization}")
        assert (await world.licensing.GetLicensee(look, metadata=buyer.metadata)).category == COMPANY


async def test_a_buyer_cannot_attest_itself(world: World) -> None:
    buyer = await world.buyer(attested=False)
    colleague = await world.house.colleague(buyer, identity_pb2.ROLE_BUYER)
    async with refused("ROLE_MISSING"):
        await world.approve(colleague, buyer, ACADEMIC)
