"""Where a cooperative is paid: onboarding at Stripe, and bank accounts that one person alone cannot change."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from billing_desk import Desk, until
from house import refused, request_id
from purse import COOPERATIVE, IBAN, OTHER_IBAN, Purse
from treasury_desk import paid_order, released

from billing.domain import payout_accounts
from billing.domain.payout_accounts import Approver, PayoutAccount
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.refusals import Refusal

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)


@pytest.fixture
async def closed_purse(closed_desk: Desk) -> AsyncIterator[Purse]:
    async with AsyncExitStack() as stack:
        yield Purse(closed_desk, stack)


@pytest.fixture
async def purse(closed_purse: Purse) -> Purse:
    await closed_purse.start()
    closed_purse.hear_webhooks()
    return closed_purse


async def test_an_account_is_opened_once_and_active_when_its_questions_are_answered(purse: Purse) -> None:
    async with refused("NOT_FOUND"):
        await purse.account()
    request = pb.StartOnboardingRequest(request_id=request_id(), parent=COOPERATIVE, country="DE")
    first = await purse.ask("StartOnboarding", request)
    assert first.state == pb.PAYOUT_ACCOUNT_STATE_PENDING and "external_account" in first.requirements
    again = await purse.ask("StartOnboarding", request)
    assert again.onboarding_url != first.onboarding_url, "a fresh page"
    account = await purse.onboard(complete=False)
    assert len((await purse.desk.stripe.stripe.v1.accounts.list_async()).data) == 1
    await purse.act(account, "complete", external_account=IBAN)
    active = await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    assert not active.requirements and not active.onboarding_url and not active.reason
    async with refused("RETURN_URL_INVALID"):
        await purse.ask(
            "StartOnboarding",
            pb.StartOnboardingRequest(request_id=request_id(), parent=COOPERATIVE, return_url="javascript:x"),
        )


async def test_a_country_that_could_never_be_paid_is_said_before_an_account_is_opened(purse: Purse) -> None:
    for country in ("MX", "IN", ""):
        async with refused("COUNTRY_NOT_SUPPORTED", country=country):
            await purse.onboard(country)
    assert not (await purse.desk.stripe.stripe.v1.accounts.list_async()).data
    assert not await purse.desk.rows("SELECT 1 FROM payout_account")


@pytest.mark.parametrize(
    ("platform", "cooperative", "works"),
    [
        ("NL", "DE", True),
        ("US", "GB", True),
        ("MX", "MX", True),
        ("NL", "MX", False),
        ("MX", "NL", False),
        ("IN", "IN", False),
    ],
)
def test_which_countries_stripe_pays_is_a_table(platform: str, cooperative: str, works: bool) -> None:
    if works:
        payout_accounts.check_country(platform, cooperative)
        return
    with pytest.raises(Refusal, match="bank account"):
        payout_accounts.check_country(platform, cooperative)


async def test_without_stripe_a_cooperative_is_paid_to_a_bank(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(stripe_api_key="", stripe_webhook_secret="", stripe_api_base="")
    async with refused("RAIL_UNAVAILABLE"):
        await purse.onboard()
    await purse.bank()
    assert (await purse.account()).state == pb.PAYOUT_ACCOUNT_STATE_ACTIVE
    assert (await purse.reconcile()).open_break_count == 0


async def test_stripe_is_down_while_an_account_is_opened(purse: Purse) -> None:
    purse.desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/accounts")
    request = pb.StartOnboardingRequest(request_id=request_id(), parent=COOPERATIVE, country="NL")
    async with refused("RAIL_UNAVAILABLE"):
        await purse.ask("StartOnboarding", request)
    assert (await purse.ask("StartOnboarding", request)).onboarding_url
    assert len((await purse.desk.stripe.stripe.v1.accounts.list_async()).data) == 1


async def test_failure_25_one_person_cannot_turn_payouts_to_another_account(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(cooling_off_seconds=3)
    purse.hear_webhooks()
    colleague = await purse.parties.house.colleague(purse.parties.steward)
    named = await purse.set_bank("nl91 abna 0417 1643 00")
    assert (named.state, named.iban_end, named.holder) == (pb.PAYOUT_ACCOUNT_STATE_PENDING, "4300", "Valley Health")
    for thief in (purse.parties.steward, colleague):
        async with refused("APPROVER_NOT_INDEPENDENT"):
            await purse.approve(thief)
    async with refused("IBAN_MISMATCH"):
        await purse.approve(purse.parties.operator, OTHER_IBAN)
    approved = await purse.approve(purse.parties.operator)
    assert approved.approved_by == (await purse.account()).approved_by != approved.set_by
    assert approved.state == pb.PAYOUT_ACCOUNT_STATE_PENDING and "can be used from" in approved.reason
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.becomes(lambda one: one.available_minor == 95_000)
    assert not await purse.payouts(), "it cools off"
    waiting = await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    # Another account is named: the one before gets nothing, not even what was written down for it.
    await purse.set_bank(OTHER_IBAN)
    failed = await purse.one_payout(pb.PAYOUT_STATE_FAILED)
    assert (failed.name, failed.failure_code) == (waiting.name, "account_changed")
    assert (await purse.balance()).available_minor == 95_000
    async with refused("NOTHING_TO_PAY"):
        await purse.export()
    async with refused("ACCOUNT_NOT_PENDING"):
        await purse.approve(purse.parties.operator, OTHER_IBAN)
        await purse.approve(purse.parties.operator, OTHER_IBAN)


async def test_failure_25_a_stolen_key_is_no_faster_by_the_other_rail(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(cooling_off_seconds=3)
    purse.hear_webhooks()
    await purse.bank()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    account = await purse.onboard()
    cooling = await until(purse.account, lambda one: "can be used from" in one.reason)
    assert (cooling.rail, cooling.state) == (pb.PAYOUT_RAIL_STRIPE, pb.PAYOUT_ACCOUNT_STATE_PENDING)
    assert account and not cooling.iban_end
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)


async def test_an_iban_is_checked_and_kept_apart(purse: Purse) -> None:
    for iban in ("NL91ABNA0417164301", "not an iban", "DE89370400440532013001"):
        async with refused("IBAN_INVALID"):
            await purse.set_bank(iban)
    async with refused("REQUEST_INVALID", field="holder"):
        await purse.set_bank(holder=" ")
    await purse.set_bank()
    (row,) = await purse.desk.rows("SELECT * FROM payout_account")
    assert IBAN not in str(row) and row.iban_end == "4300"
    (bank,) = await purse.desk.rows("SELECT id, iban FROM bank_account")
    assert (bank.id, bank.iban) == (row.bank_account_id, IBAN)


async def test_a_treasury_is_shown_to_its_stewards_and_to_operators(purse: Purse) -> None:
    other = await purse.parties.house.steward(f"other-{purse.parties.house.tag}")
    await purse.bank()
    for method, request in (
        ("GetTreasury", pb.GetTreasuryRequest(parent=COOPERATIVE)),
        ("GetPayoutAccount", pb.GetPayoutAccountRequest(parent=COOPERATIVE)),
        ("ListShares", pb.ListSharesRequest(parent=COOPERATIVE)),
        ("ListPayouts", pb.ListPayoutsRequest(parent=COOPERATIVE)),
        ("ListPayouts", pb.ListPayoutsRequest(parent="cooperatives/-")),
        ("ListBalances", pb.ListBalancesRequest(parent=COOPERATIVE)),
        ("ListJournals", pb.ListJournalsRequest(parent=COOPERATIVE)),
        ("ExportBook", pb.ExportBookRequest(parent=COOPERATIVE)),
        ("ListBreaks", pb.ListBreaksRequest()),
        ("GetTreasury", pb.GetTreasuryRequest()),
    ):
        async with refused("NOT_FOUND"):
            await purse.ask(method, request, other)
        await purse.ask(method, request, purse.parties.operator)
    async with refused("NOT_FOUND"):
        await purse.set_bank(by=other)
    async with refused("ROLE_MISSING"):
        await purse.set_bank(by=purse.parties.operator)


def test_people_are_told_apart_by_their_membership_and_not_by_their_keys() -> None:
    waits = payout_accounts.named(None, "coop", "ban_1", IBAN, "Coop", Approver("keys/a", "members/1", False), NOW)
    cooling = dt.timedelta(hours=72)

    def approve(account: PayoutAccount, key: str, member: str, operator: bool = False) -> PayoutAccount:
        return payout_accounts.approved(account, "x", Approver(key, member, operator), "4300", cooling, NOW)

    for key, member in (("keys/a", "members/1"), ("keys/b", "members/1"), ("keys/a", "members/2")):
        with pytest.raises(Refusal, match="one person"):
            approve(waits, key, member)
    assert approve(waits, "keys/b", "members/2").usable_time == NOW + cooling
    nobodys = replace(waits, set_member="")
    with pytest.raises(Refusal, match="one person"):
        approve(nobodys, "keys/c", "")
    assert approve(nobodys, "keys/c", "members/2").approved_by == "keys/c"
    assert approve(nobodys, "keys/o", "", operator=True).approved_by == "keys/o"
