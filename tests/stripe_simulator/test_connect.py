"""Connected accounts, what they must give before they may be paid, and transfers to them and back."""

from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_connect import DAY, EXPRESS, NOON, act, advance, has, opened, ready
from stripe_world import SECRET, OpenWorld, World

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    return await open_world(clock=lambda: NOON)


async def test_a_new_account_may_do_nothing_yet(world: World) -> None:
    account = await opened(world, metadata={"cooperative": "c1"})
    assert (account.type, account.country, account.metadata["cooperative"]) == ("none", "US", "c1")
    assert account.controller.stripe_dashboard.type == "express"
    assert (account.payouts_enabled, account.charges_enabled, account.details_submitted) == (False, False, False)
    assert account.capabilities.to_dict() == {"card_payments": "inactive", "transfers": "inactive"}
    assert account.requirements.disabled_reason == "requirements.past_due"
    assert "external_account" in account.requirements.currently_due
    with raises(stripe.InvalidRequestError, match="at least one of the following capabilities") as refused:
        await world.stripe.v1.transfers.create_async({"amount": 1, "currency": "usd", "destination": account.id})
    assert refused.value.code == "insufficient_capabilities_for_transfer"


async def test_a_person_finishes_onboarding_in_a_browser(world: World) -> None:
    world.simulator.add_webhook(hook(world), SECRET, connect=True)
    account = await opened(world)
    urls = {"refresh_url": "https://market.example/again", "return_url": "https://market.example/back"}
    asked = {"account": account.id, "type": "account_onboarding", **urls}
    link = await world.stripe.v1.account_links.create_async(asked)
    page = (await world.browser.get(link.url)).text
    assert "till@coop.example" in page
    assert "<script" not in page
    half = {"business_type": "company", "representative.first_name": "Ann", "representative.last_name": "Weaver"}
    refused = await world.browser.post(link.url, data=half)
    assert (refused.status_code, "Still needed: external_account" in refused.text) == (400, True)
    wrong = {**half, "external_account": "DE00 1234", "tos_acceptance": "yes"}
    assert "neither an IBAN" in (await world.browser.post(link.url, data=wrong)).text
    # Coming back says nothing about being finished.
    back = await world.browser.post(link.url, data={**half, "finish": "later"})
    assert (back.status_code, back.headers["location"]) == (303, urls["return_url"])
    account = await world.stripe.v1.accounts.retrieve_async(account.id)
    assert account.requirements.currently_due == ["external_account", "tos_acceptance.date", "tos_acceptance.ip"]
    assert not account.payouts_enabled
    assert (await world.browser.get(link.url)).headers["location"] == urls["refresh_url"]
    link = await world.stripe.v1.account_links.create_async(asked)
    rest = {"external_account": "DE89 3704 0044 0532 0130 00", "tos_acceptance": "yes"}
    assert (await world.browser.post(link.url, data=rest)).status_code == 303
    account = await world.stripe.v1.accounts.retrieve_async(account.id)
    assert (account.payouts_enabled, account.details_submitted) == (True, True)
    assert account.capabilities.to_dict() == {"card_payments": "active", "transfers": "active"}
    assert (account.requirements.currently_due, account.requirements.disabled_reason) == ([], None)
    assert account.external_accounts.data[0].last4 == "3000"
    assert await world.told() == ["account.updated", "account.updated"]
    event: Any = world.receiver.events[-1]
    assert (event.account, event.data.previous_attributes.payouts_enabled) == (account.id, False)


async def test_a_link_grows_old(world: World) -> None:
    account = await opened(world)
    urls = {"refresh_url": "https://market.example/again", "return_url": "https://market.example/back"}
    asked = {"account": account.id, "type": "account_onboarding", **urls}
    link = await world.stripe.v1.account_links.create_async(asked)
    await advance(world, 300)
    assert (await world.browser.get(link.url)).headers["location"] == urls["refresh_url"]
    assert (await world.browser.get(f"{world.url}/connect/onboarding/link_x")).status_code == 404


async def test_only_connect_endpoints_hear_of_accounts_and_nothing_else(world: World) -> None:
    endpoints = world.stripe.v1.webhook_endpoints
    made = await endpoints.create_async({"url": "http://127.0.0.1:9/x", "enabled_events": ["*"], "connect": True})
    account = await ready(world)
    listed = (await world.stripe.v1.events.list_async({}, {"stripe_account": account})).data
    assert [(row.type, row.account, row.pending_webhooks) for row in listed] == [("account.updated", account, 1)]
    assert (await world.stripe.v1.events.list_async()).data == []
    await endpoints.delete_async(made.id)
    assert await world.told() == []


async def test_a_transfer_waits_with_its_charge(world: World) -> None:
    account = await ready(world)
    paid = await world.pay(10_000, transfer_group="order_1")
    transfer = await world.stripe.v1.transfers.create_async(
        {
            "amount": 9_000, "currency": "usd", "destination": account, "source_transaction": paid.latest_charge,
            "metadata": {"share": "s1"}, "expand": ["balance_transaction", "destination"],
        }
    )  # fmt: skip
    books = transfer.balance_transaction
    assert (transfer.transfer_group, transfer.metadata["share"], transfer.destination.id) == ("order_1", "s1", account)
    assert (books.net, books.type, books.reporting_category, books.source) == (
        -9_000, "transfer", "transfer", transfer.id,
    )  # fmt: skip
    assert (await has(world), await has(world, account)) == ((0, 680), (0, 9_000))
    await advance(world, 2 * DAY)
    assert (await has(world), await has(world, account)) == ((680, 0), (9_000, 0))
    options = {"stripe_account": account}
    received = (await world.stripe.v1.balance_transactions.list_async({}, options)).data[0]
    payment = await world.stripe.v1.charges.retrieve_async(received.source, options=options)
    assert (received.type, payment.id, payment.source_transfer) == (
        "payment",
        transfer.destination_payment,
        transfer.id,
    )
    assert "transfer.created" in await world.told()


async def test_transfers_from_one_charge_stay_within_it(world: World) -> None:
    account, transfers = await ready(world), world.stripe.v1.transfers
    paid = await world.pay(1_000)
    params = {"currency": "usd", "destination": account, "source_transaction": paid.latest_charge}
    first = await transfers.create_async({"amount": 600, **params})
    said = r"source amount of \$10.00. \(There is already a transfer using this source, amounting to \$6.00.\)"
    with raises(stripe.InvalidRequestError, match=said):
        await transfers.create_async({"amount": 401, **params})
    second = await transfers.create_async({"amount": 400, **params})
    assert first.transfer_group == second.transfer_group == f"group_{paid.id}"
    with raises(stripe.InvalidRequestError, match="must be the same as the transfer currency"):
        await transfers.create_async({"amount": 1, **params, "currency": "eur"})
    with raises(stripe.InvalidRequestError, match="No such destination"):
        await transfers.create_async({"amount": 1, **params, "destination": "acct_nobody"})


async def test_without_a_charge_only_what_is_available_can_be_sent(world: World) -> None:
    account, transfers = await ready(world), world.stripe.v1.transfers
    await world.pay(1_000)
    params = {"amount": 900, "currency": "usd", "destination": account}
    with raises(stripe.InvalidRequestError) as refused:
        await transfers.create_async(params, {"idempotency_key": "t1"})
    assert refused.value.code == "balance_insufficient"
    await advance(world, 2 * DAY)
    sent = await transfers.create_async(params, {"idempotency_key": "t1"})
    assert (await has(world), await has(world, account)) == ((41, 0), (900, 0))
    assert (sent.source_transaction, sent.transfer_group) == (None, None)


async def test_transfers_are_found_again(world: World) -> None:
    a, b, transfers = await ready(world), await ready(world), world.stripe.v1.transfers
    paid = await world.pay(1_000, token="pm_card_bypassPending")
    params = {"amount": 100, "currency": "usd"}
    one = await transfers.create_async({**params, "destination": a, "transfer_group": "g1"})
    await advance(world, 10)
    two = await transfers.create_async({**params, "destination": b, "transfer_group": "g1"})
    three = await transfers.create_async({**params, "destination": b, "source_transaction": paid.latest_charge})
    for asked, found in (
        ({"transfer_group": "g1"}, [two, one]),
        ({"destination": b}, [three, two]),
        ({"created": {"gte": two.created}}, [three, two]),
        ({"created": {"lt": two.created}, "destination": b}, []),
    ):
        assert [row.id for row in (await transfers.list_async(asked)).data] == [row.id for row in found]
    changed = await transfers.update_async(one.id, {"metadata": {"k": "v"}, "description": "share"})
    assert (changed.metadata["k"], changed.description) == ("v", "share")


async def test_a_transfer_is_taken_back_in_parts(world: World) -> None:
    account, transfers = await ready(world), world.stripe.v1.transfers
    paid = await world.pay(1_000)
    source = {"source_transaction": paid.latest_charge}
    transfer = await transfers.create_async({"amount": 900, "currency": "usd", "destination": account, **source})
    # Still pending at the cooperative, so it cannot have gone anywhere.
    part = await transfers.reversals.create_async(transfer.id, {"amount": 300, "metadata": {"refund": "r1"}})
    assert (await has(world), await has(world, account)) == ((0, 341), (0, 600))
    with raises(stripe.InvalidRequestError, match=r"\(\$6.01\) is greater than unreversed amount on transfer"):
        await transfers.reversals.create_async(transfer.id, {"amount": 601})
    await advance(world, 2 * DAY)
    rest = await transfers.reversals.create_async(transfer.id, {"expand": ["balance_transaction", "transfer"]})
    assert (rest.amount, rest.balance_transaction.type, rest.transfer.reversed) == (600, "transfer_refund", True)
    assert rest.balance_transaction.reporting_category == "transfer_reversal"
    assert (await has(world), await has(world, account)) == ((941, 0), (0, 0))
    with raises(stripe.InvalidRequestError, match="already fully reversed"):
        await transfers.reversals.create_async(transfer.id)
    listed = await transfers.reversals.list_async(transfer.id)
    assert [row.id for row in listed.data] == [rest.id, part.id]
    assert (await transfers.reversals.retrieve_async(transfer.id, part.id)).metadata["refund"] == "r1"
    again = await transfers.retrieve_async(transfer.id)
    assert (again.amount_reversed, again.reversed, again.reversals.total_count) == (900, True, 2)
    books = (await world.stripe.v1.balance_transactions.list_async({}, {"stripe_account": account})).data
    assert [(row.type, row.net) for row in books] == [
        ("payment_refund", -600), ("payment_refund", -300), ("payment", 900),
    ]  # fmt: skip
    assert (await world.told()).count("transfer.reversed") == 2


async def test_money_that_left_for_the_bank_cannot_be_taken_back(world: World) -> None:
    account, transfers = await ready(world), world.stripe.v1.transfers
    await world.pay(1_000, token="pm_card_bypassPending")
    transfer = await transfers.create_async({"amount": 900, "currency": "usd", "destination": account})
    await world.stripe.v1.payouts.create_async({"amount": 500, "currency": "usd"}, {"stripe_account": account})
    with raises(stripe.InvalidRequestError, match="Insufficient funds in the connected account") as refused:
        await transfers.reversals.create_async(transfer.id)
    assert refused.value.code == "balance_insufficient"
    await transfers.reversals.create_async(transfer.id, {"amount": 400})
    assert await has(world, account) == (0, 0)


async def test_a_stopped_account_gets_nothing_until_it_goes_on(world: World) -> None:
    account = await ready(world)
    await world.pay(1_000, token="pm_card_bypassPending")
    stopped = await act(world, account, "disable", reason="rejected.fraud")
    assert (stopped["payouts_enabled"], stopped["requirements"]["disabled_reason"]) == (False, "rejected.fraud")
    params = {"amount": 900, "currency": "usd", "destination": account}
    with raises(stripe.InvalidRequestError) as refused:
        await world.stripe.v1.transfers.create_async(params)
    assert refused.value.code == "insufficient_capabilities_for_transfer"
    await act(world, account, "enable")
    await world.stripe.v1.transfers.create_async(params)
    assert (await act(world, account, "disable", 400, reason="whim"))["error"].startswith("reason is one of")
    assert (await act(world, account, "promote", 404))["error"].startswith("There is no such account or act")
    assert (await world.raw.post(f"/_simulator/accounts/{account}/enable", content="{}")).status_code == 415


async def test_a_requirement_with_a_deadline_stops_the_account_when_it_passes(world: World) -> None:
    account = await ready(world)
    document = "individual.verification.document"
    asked = await act(world, account, "require", fields=[document], due_seconds=7 * DAY)
    assert asked["requirements"]["current_deadline"] == int(NOON) + 7 * DAY
    assert (asked["payouts_enabled"], asked["requirements"]["disabled_reason"]) == (True, None)
    await advance(world, 7 * DAY)
    late = await world.stripe.v1.accounts.retrieve_async(account)
    assert (late.requirements.past_due, late.requirements.disabled_reason) == ([document], "requirements.past_due")
    assert (late.payouts_enabled, late.capabilities.transfers) == (False, "inactive")
    given = await act(world, account, "complete")
    assert (given["payouts_enabled"], given["requirements"]["current_deadline"]) == (True, None)


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"controller": {**EXPRESS, "losses": {"payments": "stripe"}}}, "controller", "not_modeled"),
        ({"type": "custom"}, "type", "not_modeled"),
        ({"individual": {"first_name": "Ann"}}, "individual", "not_modeled"),
        ({"capabilities": {}}, "capabilities", None),
        ({"capabilities": {"transfer": {"requested": True}}}, "capabilities[transfer]", "parameter_unknown"),
        ({"capabilities": {"klarna_payments": {"requested": True}}}, "capabilities[klarna_payments]", "not_modeled"),
        ({"business_type": "club"}, "business_type", None),
        ({"settings": {"payouts": {"debit_negative_balances": True}}}, "settings[payouts][debit_negative_balances]",
         "not_modeled"),
    ],
)  # fmt: skip
async def test_accounts_that_are_not_modeled_are_refused(world: World, change: Any, param: str, code: Any) -> None:
    with raises(stripe.InvalidRequestError) as refused:
        await opened(world, **change)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert world.simulator.describe()["accounts"] == {}


async def test_one_accounts_things_are_not_anothers(world: World) -> None:
    a, b = await ready(world), await ready(world)
    await world.pay(1_000, token="pm_card_bypassPending")
    transfer = await world.stripe.v1.transfers.create_async({"amount": 900, "currency": "usd", "destination": a})
    for options in ({}, {"stripe_account": b}):
        with raises(stripe.InvalidRequestError, match="No such charge"):
            await world.stripe.v1.charges.retrieve_async(transfer.destination_payment, options=options)
    with raises(stripe.InvalidRequestError, match="does not model POST /v1/refunds with the Stripe-Account header"):
        await world.stripe.v1.refunds.create_async({"charge": "ch_1"}, {"stripe_account": a})
    for ask in (world.stripe.v1.accounts.retrieve_async, has_of(world)):
        with raises(stripe.PermissionError, match="does not have access to account 'acct_x'"):
            await ask("acct_x")
    described = world.simulator.describe()
    assert described["charges"] == {"succeeded": 1}
    assert (described["transfers"], described["transferred_minor"]) == (1, {"usd": 900})
    assert described["accounts"] == {"enabled": 2}


async def test_changing_an_account_changes_only_that(world: World) -> None:
    account = await ready(world)
    accounts = world.stripe.v1.accounts
    changed = await accounts.update_async(
        account, {"metadata": {"k": "v"}, "capabilities": {"card_payments": {"requested": False}}}
    )
    assert (changed.capabilities.to_dict(), changed.metadata["k"]) == ({"transfers": "active"}, "v")
    assert (changed.charges_enabled, changed.payouts_enabled) == (False, True)
    other = await opened(world)
    assert [row.id for row in (await accounts.list_async()).data] == [other.id, account]


async def test_connect_objects_have_the_fields_the_library_declares(world: World) -> None:
    account = await ready(world)
    paid = await world.pay(1_000, token="pm_card_bypassPending")
    source = {"source_transaction": paid.latest_charge}
    transfer = await world.stripe.v1.transfers.create_async(
        {"amount": 900, "currency": "usd", "destination": account, **source}
    )
    await world.stripe.v1.transfers.reversals.create_async(transfer.id, {"amount": 1})
    await world.stripe.v1.payouts.create_async({"amount": 5, "currency": "usd"}, {"stripe_account": account})
    here = {"Stripe-Account": account}
    seen: list[tuple[Any, str, dict[str, str]]] = [
        (stripe.Account, "/v1/accounts", {}),
        (stripe.Transfer, "/v1/transfers", {}),
        (stripe.TransferReversal, f"/v1/transfers/{transfer.id}/reversals", {}),
        (stripe.Payout, "/v1/payouts", here),
        (stripe.Charge, "/v1/charges", here),
        (stripe.Charge, "/v1/charges", {}),
        (stripe.BalanceTransaction, "/v1/balance_transactions", here),
        (stripe.Event, "/v1/events", here),
    ]
    for shape, path, headers in seen:
        rows = (await world.raw.get(path, headers=headers)).json()["data"]
        declared = shape.__annotations__
        required = {name for name, hint in declared.items() if "Optional" not in str(hint)} - {"OBJECT_NAME"}
        required -= {"transfer"} if shape is stripe.Charge else set()  # sent only for destination charges
        assert rows
        for row in rows:
            assert required <= set(row), (shape, required - set(row))
            assert set(row) <= set(declared), (shape, set(row) - set(declared))
    bank = (await world.raw.get(f"/v1/accounts/{account}")).json()["external_accounts"]["data"][0]
    assert set(bank) <= set(stripe.BankAccount.__annotations__)


def has_of(world: World) -> Any:
    async def ask(account: str) -> None:
        await has(world, account)

    return ask


def hook(world: World) -> str:
    """Where the world's receiver listens."""
    return str(next(iter(world.simulator._store.rows("webhook_endpoint")))["url"])
