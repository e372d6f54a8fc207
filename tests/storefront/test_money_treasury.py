"""What treasurers and operators see and do, over a real storefront, billing and simulated Stripe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from billing_desk import Desk, Parties, until
from money_browser import Browser, Shopfront, kept, open_parties, open_shopfront
from purse import IBAN, OTHER_IBAN, Purse
from treasury_desk import deliver, dispute, paid_order, released

from rochdale.billing.v1 import billing_pb2
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_local.postgres import Postgres

TREASURY = "/cooperatives/valley-health/treasury"


@pytest_asyncio.fixture(scope="module")
async def parties(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parties]:
    async with open_parties(postgres, tmp_path_factory.mktemp("treasury")) as parties:
        yield parties


class Office:
    """A treasury with a storefront before it."""

    def __init__(self, purse: Purse, front: Shopfront) -> None:
        self.purse, self.front, self.desk = purse, front, purse.desk

    async def steward(self) -> Browser:
        return await self.front.browser(self.purse.parties.steward)

    async def operator(self) -> Browser:
        return await self.front.browser(self.purse.parties.operator)


@pytest.fixture
async def office(parties: Parties, shelf: Any, hall: Any) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        desk = Desk(parties, stack)
        await desk.open_stripe()
        purse = Purse(desk, stack)
        await purse.start()
        purse.hear_webhooks()
        front = await stack.enter_async_context(open_shopfront(parties.house, desk.service, shelf, hall))
        yield Office(purse, front)


async def test_an_empty_treasury_says_so_and_what_comes_first(office: Office) -> None:
    browser = await office.steward()
    text = (await browser.page(TREASURY)).text
    for words in ("No money yet.", "Nothing is held.", "Nobody has said where it is paid", "Everything fits."):
        assert words in text
    assert "Nothing was paid out yet." in (await browser.page(f"{TREASURY}/payouts")).text
    assert "No order was paid yet." in (await browser.page(f"{TREASURY}/shares")).text
    assert "Everything fits, and always did." in (await browser.page(f"{TREASURY}/breaks")).text


async def test_what_is_held_is_shown_with_its_reason_until_it_is_paid_to_the_bank(office: Office) -> None:
    purse, browser = office.purse, await office.steward()
    order = await paid_order(office.desk, 100_000)
    sheet = await browser.page(TREASURY)
    assert "Held EUR 950.00" in sheet.text and "nothing was delivered yet" in sheet.text
    assert f"/{order.name}" in sheet.links and IBAN not in sheet.text
    # One steward names the account, another person approves it.
    wrong = await browser.send(sheet, "/bank-account", 400, iban="NL00 WRONG", holder="Valley Health")
    assert wrong.forms[f"{TREASURY}/bank-account"]["holder"] == "Valley Health"
    sheet = await browser.send(wrong, "/bank-account", iban="NL91 ABNA 0417 1643 00")
    assert "…4300, Valley Health" in sheet.text and "cannot be paid yet" in sheet.text and "041716" not in sheet.html
    refused = await browser.post(sheet, "/approve", iban_end="4300")
    assert refused.status_code == 409 and 'role="alert"' in refused.text
    assert "Another steward than the one who named the account has to approve it" in refused.text
    operator = await office.operator()
    page = await operator.page(TREASURY)
    assert f"{TREASURY}/costs" not in page.forms, "who operates the market does not keep a cooperative's books"
    await operator.send(page, "/approve", iban_end="4300")
    sheet = await browser.page(TREASURY)
    assert "can be paid" in sheet.text and f"{TREASURY}/bank-account/approve" not in sheet.forms
    await deliver(office.desk, order)
    await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    page = await operator.page("/treasury/payouts")
    assert "EUR 950.00 to valley-health" in page.text
    file = kept(await operator.post(page, "/file", format="pain-001"))
    assert IBAN.encode() in file.content and file.headers["content-type"].startswith("application/xml")
    page = await operator.page("/treasury/payouts")
    page = await operator.send(page, "/confirm", bank_reference="2026/42")
    assert "arrived" in page.text
    text = (await browser.page(TREASURY)).text
    assert "Bank EUR 950.00" in text and "2026/42" in text and "Surplus EUR 950.00" in text


async def test_stripe_asks_its_questions_on_a_page_of_its_own(office: Office) -> None:
    browser = await office.steward()
    page = await browser.send(await browser.page(TREASURY), "/onboarding", country="nl")
    assert "Answer Stripe's questions" in page.text
    [url] = [one for one in page.links if one.startswith("http")]
    assert (await office.desk.stripe.browser.get(url)).status_code in (200, 302, 303)
    assert "a Stripe account of its own" in (await browser.page(TREASURY)).text


async def test_costs_are_booked_months_closed_and_the_book_taken_home(office: Office) -> None:
    browser = await office.steward()
    await office.purse.bank(OTHER_IBAN)
    await released(office.desk, await paid_order(office.desk, 100_000))
    sheet = await browser.send(await browser.page(TREASURY), "/costs", cost="12.50 EUR", description="Printing")
    assert "The cost is booked" in sheet.text
    refused = await browser.post(sheet, "/months", month="2199-01")
    assert refused.status_code in (400, 409) and 'role="alert"' in refused.text and "2199-01" in refused.text
    book = await browser.file(f"{TREASURY}/book")
    assert (
        b"Equity:Surplus  -937.50" in book.content
        and 'filename="valley-health.beancount"' in book.headers["content-disposition"]
    )


async def test_a_break_is_seen_noted_and_settled_by_an_operator(office: Office) -> None:
    operator = await office.operator()
    sheet = await operator.page("/treasury")
    assert "Everything fits." in sheet.text
    # Somebody charges in Stripe's dashboard, past the market.
    await office.desk.stripe.intents.create_async(
        {
            "amount": 4200,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "return_url": "https://x.y",
        }
    )
    sheet = await operator.send(sheet, "/reconcile")
    assert "compared with Stripe just now" in sheet.text
    [form] = [one for one in sheet.forms if "/breaks/brk_" in one][:1]
    sheet = await operator.send(sheet, form, note="Charged by hand for a workshop, given back.")
    assert "It is settled, with your note." in sheet.text
    every = await operator.page("/treasury?settled=1")
    assert "Charged by hand for a workshop, given back." in every.text


async def test_a_dispute_is_answered_with_what_the_market_has(office: Office) -> None:
    browser, desk = await office.steward(), office.desk
    order = await paid_order(desk, 100_000)
    await dispute(desk, order)
    await until(lambda: desk.order(order), lambda now: now.disputed)
    await deliver(desk, order)
    [path] = [one for one in (await browser.page("/disputes")).links if "/disputes/dis_" in one]
    sheet = await browser.page(path)
    assert "EUR 1,000.00" in sheet.text and "needs an answer" in sheet.text and order.license in sheet.text
    assert "the buyer's bank disputes the payment" in (await browser.page(f"{TREASURY}/shares")).text
    sheet = await browser.send(sheet, "/answer", statement="They took every file.")
    assert "The bank has it now, and decides." in sheet.text and f"{path}/answer" not in sheet.forms
    assert "No payment is disputed." not in (await browser.page("/disputes")).text
    buyer = await office.front.browser(desk.buyer)
    seen = await buyer.page(path)
    assert "What speaks for the cooperative" not in seen.text and f"{path}/answer" not in seen.forms
    assert "disputed" in (await buyer.page(f"/{order.name}")).text


async def test_a_steward_of_another_cooperative_finds_nothing(office: Office) -> None:
    house = office.purse.parties.house
    stranger = await office.front.browser(await house.steward(f"else-{house.tag}"))
    order = await paid_order(office.desk, 50_000)
    for path in (TREASURY, f"{TREASURY}/shares", f"{TREASURY}/book", f"/{order.name}", "/treasury"):
        assert "This page does not exist" in (await stranger.page(path, 404)).text, path
    assert "There is no order yet." in (await stranger.page("/orders")).text
    assert order.state == billing_pb2.ORDER_STATE_PAID
