"""Payouts of connected accounts and of the platform: by hand, by the calendar, arriving, and coming back."""

import random
from collections import Counter
from typing import Any

import pytest
import stripe
from pytest import raises
from stripe_connect import DAY, NOON, act, advance, has, opened, ready
from stripe_world import SECRET, OpenWorld, World

from stripe_simulator import balance

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    world = await open_world(clock=lambda: NOON)
    hook = str(next(iter(world.simulator._store.rows("webhook_endpoint")))["url"])
    world.simulator.add_webhook(hook, SECRET, ("payout.*", "payout.paid", "payout.failed"), connect=True)
    return world


async def funded(world: World, amount: int = 900, **more: Any) -> str:
    """An account that has `amount` dollar cents available."""
    account = await ready(world, **more)
    await world.pay(amount * 2 + 100, token="pm_card_bypassPending")
    await world.stripe.v1.transfers.create_async({"amount": amount, "currency": "usd", "destination": account})
    return account


async def books(world: World, account: str, **asked: Any) -> list[tuple[str, int, str]]:
    listed = await world.stripe.v1.balance_transactions.list_async(asked, {"stripe_account": account})
    return [(row.type, row.net, row.reporting_category) for row in reversed(listed.data)]


def scheduled(interval: str, **more: Any) -> Any:
    return {"payouts": {"schedule": {"interval": interval, **more}}}


async def test_a_payout_leaves_and_arrives(world: World) -> None:
    account = await funded(world)
    here, payouts = {"stripe_account": account}, world.stripe.v1.payouts
    made = await payouts.create_async({"amount": 700, "currency": "usd", "metadata": {"run": "r1"}}, here)
    assert (made.status, made.automatic, made.arrival_date) == ("pending", False, int(NOON) + 2 * DAY)
    assert await has(world, account) == (200, 0)
    await advance(world, 6 * 3600)
    assert (await payouts.retrieve_async(made.id, options=here)).status == "in_transit"
    await advance(world, 2 * DAY)
    paid = await payouts.retrieve_async(made.id, {"expand": ["balance_transaction"]}, here)
    assert (paid.status, paid.balance_transaction.net, paid.metadata["run"]) == ("paid", -700, "r1")
    assert [row.id for row in (await payouts.list_async({"status": "paid"}, here)).data] == [made.id]
    assert (await payouts.list_async()).data == []
    with raises(stripe.InvalidRequestError, match="No such payout"):
        await payouts.retrieve_async(made.id)
    events = (await world.stripe.v1.events.list_async({"type": "payout.*"}, here)).data
    assert [row.type for row in events] == ["payout.paid", "payout.updated", "payout.created"]
    assert (events[0].created, events[0].account) == (made.arrival_date, account)
    assert "payout.paid" in await world.told()


async def test_nobody_pays_out_more_than_there_is(world: World) -> None:
    account = await funded(world)
    with raises(stripe.InvalidRequestError, match="insufficient funds in your Stripe account") as refused:
        await world.stripe.v1.payouts.create_async({"amount": 901, "currency": "usd"}, {"stripe_account": account})
    assert refused.value.code == "balance_insufficient"
    await act(world, account, "require", fields=["individual.verification.document"])
    with raises(stripe.InvalidRequestError) as refused:
        await world.stripe.v1.payouts.create_async({"amount": 1, "currency": "usd"}, {"stripe_account": account})
    assert refused.value.code == "payouts_not_allowed"
    await world.stripe.v1.payouts.create_async({"amount": 100, "currency": "usd"})
    assert world.simulator.describe()["payouts"] == {"pending": 1}


async def test_a_payout_said_to_be_paid_comes_back_days_later(world: World) -> None:
    account = await funded(world)
    here = {"stripe_account": account}
    await act(world, account, "fail_payout", failure_code="account_closed", returned_after_seconds=3 * DAY)
    made = await world.stripe.v1.payouts.create_async({"amount": 900, "currency": "usd"}, here)
    await advance(world, 2 * DAY)
    assert (await world.stripe.v1.payouts.retrieve_async(made.id, options=here)).status == "paid"
    assert await has(world, account) == (0, 0)
    await advance(world, 3 * DAY)
    failed = await world.stripe.v1.payouts.retrieve_async(made.id, {"expand": ["failure_balance_transaction"]}, here)
    assert (failed.status, failed.failure_code) == ("failed", "account_closed")
    assert failed.failure_balance_transaction.net == 900
    assert await has(world, account) == (900, 0)
    assert await books(world, account, source=made.id) == [
        ("payout", -900, "payout"), ("payout_failure", 900, "payout_reversal"),
    ]  # fmt: skip
    # In order at each endpoint, but the platform's and the accounts' endpoints do not wait for one another.
    told = await world.told()
    assert [type_ for type_ in told if type_.startswith("payout")] == ["payout.paid", "payout.failed"]
    assert sorted(set(told)) == [
        "charge.succeeded", "payment_intent.created", "payment_intent.succeeded", "payout.failed", "payout.paid",
        "transfer.created",
    ]  # fmt: skip
    stopped = await world.stripe.v1.accounts.retrieve_async(account)
    assert (stopped.payouts_enabled, stopped.requirements.currently_due) == (False, ["external_account"])
    assert (stopped.external_accounts.data[0].status, stopped.capabilities.transfers) == ("errored", "active")
    await act(world, account, "complete", external_account="DE89370400440532013000")
    again = await world.stripe.v1.payouts.create_async({"amount": 900, "currency": "usd"}, here)
    await advance(world, 9 * DAY)
    assert (await world.stripe.v1.payouts.retrieve_async(again.id, options=here)).status == "paid"


async def test_a_payout_to_a_bank_account_that_never_was_fails_on_arrival(world: World) -> None:
    account = await funded(world)
    await act(world, account, "complete", external_account="000111111116")
    here = {"stripe_account": account}
    made = await world.stripe.v1.payouts.create_async({"amount": 900, "currency": "usd"}, here)
    await advance(world, 2 * DAY)
    failed = await world.stripe.v1.payouts.retrieve_async(made.id, options=here)
    assert (failed.status, failed.failure_code) == ("failed", "no_account")
    assert "payout.paid" not in await world.told()


async def test_a_payout_is_canceled_before_it_leaves(world: World) -> None:
    account = await funded(world)
    here, payouts = {"stripe_account": account}, world.stripe.v1.payouts
    made = await payouts.create_async({"amount": 700, "currency": "usd"}, here)
    assert (await payouts.cancel_async(made.id, options=here)).status == "canceled"
    assert await has(world, account) == (900, 0)
    late = await payouts.create_async({"amount": 700, "currency": "usd"}, here)
    await advance(world, DAY)
    with raises(stripe.InvalidRequestError, match="only be canceled while they are pending"):
        await payouts.cancel_async(late.id, options=here)
    await advance(world, DAY)
    statuses = [(await payouts.retrieve_async(ident, options=here)).status for ident in (made.id, late.id)]
    assert statuses == ["canceled", "paid"]


async def test_every_midnight_what_is_available_leaves(world: World) -> None:
    account = await funded(world, settings=scheduled("daily"))
    here = {"stripe_account": account}
    await world.pay(5_000)
    await advance(world, 4 * DAY)
    (made,) = (await world.stripe.v1.payouts.list_async({}, here)).data
    assert (made.amount, made.automatic, made.created) == (900, True, int(NOON) + DAY // 2)
    assert await books(world, account, payout=made.id) == [
        ("payment", 900, "charge"), ("payout", -900, "payout"),
    ]  # fmt: skip
    assert await has(world, account) == (0, 0)
    by_hand = await world.stripe.v1.payouts.create_async({"amount": 50, "currency": "usd"})
    with raises(stripe.InvalidRequestError, match="only be filtered on automatic transfers, not manual"):
        await world.stripe.v1.balance_transactions.list_async({"payout": by_hand.id})


async def test_a_calendar_may_say_weekly_or_monthly_or_never(world: World) -> None:
    for interval, more, days in (
        ("weekly", {"weekly_anchor": "friday"}, 7),
        ("monthly", {"monthly_anchor": 1}, 31),
        ("manual", {}, None),
    ):
        account = await funded(world, settings=scheduled(interval, **more))
        await advance(world, (days or 60) * DAY)
        made = (await world.stripe.v1.payouts.list_async({}, {"stripe_account": account})).data
        assert len(made) == (0 if days is None else 1), interval


async def test_a_calendar_can_be_changed(world: World) -> None:
    account = await funded(world)
    await advance(world, 3 * DAY)
    assert await has(world, account) == (900, 0)
    changed = await world.stripe.v1.accounts.update_async(account, {"settings": scheduled("daily")})
    assert changed.settings.payouts.schedule.interval == "daily"
    await advance(world, DAY)
    assert await has(world, account) == (0, 0)


async def test_an_account_that_may_not_be_paid_keeps_its_money(world: World) -> None:
    account = await funded(world, settings=scheduled("daily"))
    await act(world, account, "disable", reason="under_review")
    await advance(world, 3 * DAY)
    assert await has(world, account) == (900, 0)
    await act(world, account, "enable")
    await advance(world, DAY)
    assert await has(world, account) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
async def test_no_cent_is_made_or_lost_whatever_happens(world: World, seed: int) -> None:
    chance = random.Random(seed)
    everyone = [await ready(world, settings=scheduled(interval)) for interval in ("manual", "daily", "weekly")]
    v1, done = world.stripe.v1, Counter[str]()
    paid: list[Any] = []
    sent: list[Any] = []
    for _ in range(50):
        act_ = chance.choice(
            ("pay", "pay", "refund", "transfer", "transfer", "from", "reverse", "payout", "fail", "days")
        )
        amount, account = chance.randint(50, 1_500), chance.choice(everyone)
        try:
            if act_ == "pay":
                paid.append(await world.pay(amount * 2, token=chance.choice(("pm_card_visa", "pm_card_bypassPending"))))
            elif act_ == "refund":
                await v1.refunds.create_async({"payment_intent": chance.choice(paid).id, "amount": amount})
            elif act_ == "from":
                source = {"source_transaction": chance.choice(paid).latest_charge, "destination": account}
                sent.append(await v1.transfers.create_async({"amount": amount, "currency": "usd", **source}))
            elif act_ == "transfer":
                wish = {"amount": amount, "currency": "usd", "destination": account}
                sent.append(await v1.transfers.create_async(wish))
            elif act_ == "reverse":
                await v1.transfers.reversals.create_async(chance.choice(sent).id, {"amount": amount})
            elif act_ == "payout":
                await v1.payouts.create_async({"amount": amount, "currency": "usd"}, {"stripe_account": account})
            elif act_ == "fail":
                await act(world, account, "fail_payout", returned_after_seconds=chance.choice((0, 3 * DAY)))
            else:
                await advance(world, chance.randint(1, 4) * DAY)
                await act(world, account, "complete")
            done[act_] += 1
        except (stripe.InvalidRequestError, IndexError):
            done["refused"] += 1
        state = world.simulator.describe()
        income = state["paid_minor"]["usd"] - state["refunded_minor"]["usd"] - state["fees_minor"]["usd"]
        # Asked inside the simulator, because a thousand requests would take half a minute.
        units = [world.simulator._new_unit().acting_for(account) for account in (None, *everyone)]
        sides = [balance.totals(unit) for unit in units]
        rows = [row for unit in units for row in unit.rows("payout") if row["status"] != "failed"]
        left = sum(available["usd"] + pending["usd"] for available, pending in sides)
        assert left + sum(row["amount"] for row in rows) == income, (seed, act_)
        assert all(available["usd"] >= 0 for available, _ in sides[1:])
    assert done["from"] and done["days"] and done["refused"]


async def test_levers_refuse_nonsense(world: World) -> None:
    account = (await opened(world)).id
    for act_, asked in (
        ("fail_payout", {"failure_code": "bored"}),
        ("fail_payout", {"returned_after_seconds": -1}),
        ("complete", {"external_account": "DE00370400440532013000"}),
        ("require", {"fields": []}),
        ("require", {}),
        ("enable", {"why": "not"}),
    ):
        await act(world, account, act_, 400, **asked)
