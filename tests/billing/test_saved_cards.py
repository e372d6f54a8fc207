"""What a buyer saves to be charged with: kept at the rail, charged, replaced and forgotten."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from billing_desk import INTENT, Desk, until
from house import refused, request_id
from subscription_desk import PERIOD, Club, end_of

from billing.methods import Methods
from billing.saving import Saving
from rochdale.billing.v1 import billing_pb2 as pb

ACTIVE = pb.SUBSCRIPTION_STATE_ACTIVE
SAVED = pb.PAYMENT_METHOD_SAVED


@pytest.fixture
async def club(desk: Desk) -> AsyncIterator[Club]:
    async with AsyncExitStack() as stack:
        yield Club(desk, stack)


async def test_a_buyer_charges_what_they_saved_and_forgets_it(club: Club) -> None:
    subscription = await club.subscribe()
    await club.step(end_of(subscription))
    [order] = await club.orders(subscription.license, PERIOD)
    async with refused("PAYMENT_METHOD_MISSING"):
        await club.desk.pay(order, SAVED)
    await club.save_card("5555555555554444")
    payment = await club.desk.pay(order, SAVED)
    await club.desk.ends(payment, pb.PAYMENT_STATE_SUCCEEDED)
    assert (await club.remove_card()).type == ""
    assert (await club.remove_card()).type == ""
    assert (await club.method()).type == ""
    [row] = await club.desk.rows("SELECT method_id, detach_time FROM saved_method")
    assert row.detach_time is not None
    kept = await club.desk.stripe.stripe.v1.payment_methods.retrieve_async(row.method_id)
    assert kept.customer is None


async def test_a_page_is_opened_once_and_the_newer_card_counts(club: Club) -> None:
    id = request_id()
    page = await club.set_up(id)
    assert (await club.set_up(id)).setup_url == page.setup_url
    async with refused("REQUEST_ID_REUSED"):
        await club.set_up(id, return_url="https://shop.example/elsewhere")
    async with refused("RETURN_URL_INVALID"):
        await club.set_up(return_url="javascript:alert(1)")
    await club.save_card()
    assert (await club.save_card("5555555555554444")).label == "mastercard ending in 4444"

    async def attached() -> list[str]:
        rows = await club.desk.rows("SELECT method_id FROM saved_method WHERE detach_time IS NULL")
        return [row.method_id for row in rows]

    assert len(await until(attached, lambda left: len(left) == 1)) == 1
    club.desk.simulator.faults.add("500", count=2, match="/v1/checkout")
    async with refused("RAIL_UNAVAILABLE"):
        await club.set_up()


async def test_a_lost_webhook_about_a_saved_card_is_not_missed(club: Club) -> None:
    page = await club.set_up()
    club.desk.simulator.faults.add("webhook_drop", count=20)
    await club.desk.stripe.browser.post(page.setup_url, data={"card_number": "4242424242424242"})
    saving = Saving(club.desk.database, Methods(club.renewing._attempts.rail), 1, 0)
    await saving.look()
    assert (await club.method()).label == "visa ending in 4242"


async def test_where_cards_are_not_accepted_nothing_is_saved_and_invoices_go_out(
    closed_desk: Desk,
) -> None:
    await closed_desk.start(stripe_api_key="", stripe_webhook_secret="")
    async with AsyncExitStack() as stack:
        club = Club(closed_desk, stack)
        async with refused("RAIL_UNAVAILABLE"):
            await club.set_up()
        subscription = await club.subscribe()
        await club.step(end_of(subscription))
        [order] = await club.orders(subscription.license, PERIOD)
        await club.reminders(subscription.license, 1)
        await closed_desk.confirm_transfer(order)
        assert (await club.of(subscription)).state == ACTIVE
        with_card = await closed_desk.rows("SELECT 1 FROM payment WHERE method = :method", method=INTENT)
        assert with_card == []
