"""Every RPC, by every role, about another tenant's things and about things that are not: the answers are the same."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from askings import ANSWER_ANYBODY, LISTS, NOT_THE_OPERATORS, OPEN, PACKAGES, PRIVATE, ask, table, tables
from google.protobuf.message import Message
from hostile_world import ABSENT, Stage, Things
from house import refused
from walk import MarketPeople

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale_kit.boundary import Boundary, check_access_table
from rochdale_kit.identity import PUBLIC, Sessions, roles
from rochdale_kit.refusals import Refusal
from rochdale_kit.telemetry import Telemetry

ROLES = ["nobody", "steward", "member", "gateway", "buyer", "unverified cooperative", "unverified buyer"]


def shape(answer: Message | Refusal, things: Things) -> object:
    """An answer without the names that were asked for, so that two can be compared."""
    text = (
        repr((answer.reason, answer.kind, answer.message, answer.facts)) if isinstance(answer, Refusal) else str(answer)
    )
    for name in [*things.names(), *(part for whole in things.names() for part in whole.split("/") if "_" in part)]:
        text = text.replace(name, "…")
    return text


def test_every_rpc_is_walked() -> None:
    known = {f"{package}.{name}" for package in PACKAGES for name in table(package)}
    assert known == set(PRIVATE) | set(LISTS) | OPEN
    assert len(known) == len(PRIVATE) + len(LISTS) + len(OPEN)
    for rpc in (*PRIVATE, *LISTS):
        package, _, method = rpc.partition(".")
        assert table(package)[method].public == (rpc in ANSWER_ANYBODY), f"{rpc} answers anybody"


@pytest.mark.parametrize("package", PACKAGES)
def test_an_rpc_without_a_rule_stops_the_start(package: str) -> None:
    sessions: Any = Sessions(None)  # type: ignore[arg-type]
    for descriptor, access in tables(package).items():
        check_access_table(descriptor, access)
        for method in access:
            short = {name: rule for name, rule in access.items() if name != method}
            with pytest.raises(SystemExit, match=method):
                Boundary({**tables(package), descriptor: short}, sessions, Telemetry("x"))
        with pytest.raises(SystemExit, match="Invented"):
            check_access_table(descriptor, {**access, "Invented": PUBLIC})


@pytest.mark.parametrize("role", ROLES)
async def test_anothers_thing_answers_like_nothing(market: MarketPeople, stage: Stage, role: str) -> None:
    person = stage.strangers[role]
    different = []
    for rpc, asking in PRIVATE.items():
        there = await ask(market, rpc, asking(stage.victim), person)
        nowhere = await ask(market, rpc, asking(ABSENT), person)
        assert isinstance(there, Refusal), f"{rpc} lets {role} in: {there}"
        assert there.reason not in ("INTERNAL", "REQUEST_INVALID"), (rpc, there)
        if shape(there, stage.victim) != shape(nowhere, ABSENT):
            different.append((rpc, there, nowhere))
    assert not different


async def test_a_customer_sees_nothing_of_another_customer(market: MarketPeople, stage: Stage) -> None:
    others = dataclasses.replace(
        stage.victim, grant=ABSENT.grant, token=ABSENT.token, deletion_notice=ABSENT.deletion_notice
    )
    for rpc, asking in PRIVATE.items():
        there = await ask(market, rpc, asking(others), stage.buyer)
        nowhere = await ask(market, rpc, asking(ABSENT), stage.buyer)
        assert isinstance(there, Refusal) and shape(there, others) == shape(nowhere, ABSENT), (rpc, there, nowhere)
    for rpc, asking in LISTS.items():
        answer = await ask(market, rpc, asking(others), stage.buyer)
        for name in (others.license, others.order, others.negotiation, f"licensees/{others.buyer}"):
            assert isinstance(answer, Refusal) or name not in str(answer), rpc


@pytest.mark.parametrize("role", ROLES)
async def test_no_list_holds_anothers_things(market: MarketPeople, stage: Stage, role: str) -> None:
    person = stage.strangers[role]
    for rpc, asking in LISTS.items():
        for things in (stage.victim, ABSENT):
            answer = await ask(market, rpc, asking(things), person)
            if isinstance(answer, Refusal):
                assert answer.reason != "INTERNAL", rpc
            else:
                assert not [name for name in stage.victim.names() if name in str(answer)], rpc


def stolen(token: str) -> Iterator[str]:
    """A page token as it is, and altered."""
    yield token
    yield token[:-1]
    yield "A" + token[1:]
    yield token.swapcase()
    yield "e30"
    yield "W10"
    yield "\N{SNOWMAN}"
    yield "[" * 1000


async def test_a_stolen_page_token_opens_nothing(market: MarketPeople, stage: Stage) -> None:
    page = await market.identity.ListApiKeys(
        identity.ListApiKeysRequest(parent="organizations/victims", page_size=1), metadata=stage.steward.metadata
    )
    assert page.next_page_token
    rival = stage.strangers["steward"]
    for token in stolen(page.next_page_token):
        async with refused("PAGE_TOKEN_INVALID"):
            await market.identity.ListApiKeys(
                identity.ListApiKeysRequest(parent="organizations/rivals", page_token=token), metadata=rival.metadata
            )
        for package, method, request in (
            ("licensing", "ListLicenses", licensing.ListLicensesRequest(page_token=token)),
            ("billing", "ListOrders", billing.ListOrdersRequest(page_token=token)),
            ("access_broker", "ListGrants", broker.ListGrantsRequest(page_token=token)),
            ("catalog", "SearchOfferings", catalog.SearchOfferingsRequest(page_token=token)),
        ):
            async with refused("PAGE_TOKEN_INVALID"):
                await getattr(market.stub(package), method)(request, metadata=rival.metadata)


async def test_the_request_id_of_another_gets_no_answer_of_theirs(market: MarketPeople, stage: Stage) -> None:
    request = broker.IssueTokenRequest(request_id=stage.purchase.token_request, license=stage.purchase.license)
    async with refused("NOT_FOUND"):
        await market.stub("access_broker").IssueToken(request, metadata=stage.strangers["buyer"].metadata)
    wish = licensing.RequestLicenseRequest(request_id=stage.purchase.license_request, offering=stage.purchase.offering)
    mine = await market.stub("licensing").RequestLicense(wish, metadata=stage.strangers["buyer"].metadata)
    assert mine.licensee == "licensees/envious" and mine.license != stage.purchase.license


# What concerns one member; stewards may look at who is a member, and at nothing else here.
A_MEMBERS_OWN = [
    "governance.GetMember",
    "governance.UpdateMember",
    "governance.LeaveCooperative",
    "governance.EraseMember",
    "governance.GiveConsent",
    "governance.WithdrawConsent",
    "governance.ListConsents",
    "governance.GetConsentReceipt",
    "governance.ListContributions",
    "governance.ListUses",
    "governance.ListNotices",
    "governance.ReadNotices",
    "governance.SetDelegation",
    "governance.ListDelegations",
]
OPEN_TO_STEWARDS = {"governance.GetMember", "governance.EraseMember"}


@pytest.mark.parametrize("rpc", A_MEMBERS_OWN)
async def test_a_member_is_a_stranger_to_the_member_beside_them(market: MarketPeople, stage: Stage, rpc: str) -> None:
    """And to the stewards, in all but being a member."""
    nobody = f"cooperatives/victims/members/mem_{'0' * 25}Z"
    absent = dataclasses.replace(stage.victim, member=nobody, consent=f"{nobody}/consents/con_{'0' * 25}Z")
    watchers = [stage.neighbor] if rpc in OPEN_TO_STEWARDS else [stage.neighbor, stage.steward]
    for person in watchers:
        there = await ask(market, rpc, PRIVATE[rpc](stage.victim), person)
        nowhere = await ask(market, rpc, PRIVATE[rpc](absent), person)
        assert isinstance(there, Refusal) and there.reason in ("NOT_FOUND", "ROLE_MISSING"), there
        assert shape(there, stage.victim) == shape(nowhere, absent), (there, nowhere)


@pytest.mark.parametrize("rpc", NOT_THE_OPERATORS)
async def test_the_operator_acts_for_nobody(market: MarketPeople, stage: Stage, rpc: str) -> None:
    answer = await ask(market, rpc, (PRIVATE.get(rpc) or LISTS[rpc])(stage.victim), stage.operator)
    assert isinstance(answer, Refusal)
    assert answer.reason in ("ROLE_MISSING", "ROLE_NOT_ALLOWED", "NOT_FOUND"), answer


def test_no_role_but_these_is_let_in() -> None:
    """A table that grows shows here who is let in: nobody is by accident."""
    operators = {
        f"{package}.{name}"
        for package in PACKAGES
        if package != "data_gateway"
        for name, rule in table(package).items()
        if not rule.public and identity.ROLE_OPERATOR in rule.roles
    }
    assert not operators & (set(NOT_THE_OPERATORS) - {"identity.CreateApiKey"})
    assert roles(identity.ROLE_BUYER) == table("access_broker")["IssueToken"]
