"""What a buyer sees and does about money, and how somebody signs in: over a real storefront, billing and simulated Stripe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio
from billing_desk import Desk, Parties, until
from license_register import Register
from money_browser import Browser, Shopfront, open_parties, open_shopfront
from subscription_desk import Club, per_gigabyte, start_of

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1 import pricing_pb2
from rochdale_kit.signing import canonical_hash
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def parties(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parties]:
    async with open_parties(postgres, tmp_path_factory.mktemp("orders")) as parties:
        yield parties


class Counter:
    """A desk of billing with a storefront before it."""

    def __init__(self, desk: Desk, front: Shopfront, stack: AsyncExitStack) -> None:
        self.desk, self.front, self.stack = desk, front, stack

    async def buyer(self) -> Browser:
        return await self.front.browser(self.desk.buyer)


@pytest_asyncio.fixture(scope="module")
async def counter(parties: Parties, shelf: Any, hall: Any) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        desk = Desk(parties, stack)
        await desk.open_stripe()
        await desk.start(hold_seconds=0)
        desk.hear_webhooks()
        front = await stack.enter_async_context(open_shopfront(parties.house, desk.service, shelf, hall))
        yield Counter(desk, front, stack)


def link_out(links: list[str]) -> str:
    [url] = [one for one in links if one.startswith("http")]
    return url


# Signing in


async def test_nobody_sees_money_before_signing_in_and_each_comes_back_to_what_they_wanted(counter: Counter) -> None:
    browser = await counter.front.stranger()
    assert "/account" in (await browser.page("/")).links
    sheet = await browser.page("/orders")
    assert "Sign in" in sheet.text and sheet.forms["/sign-in"]["next"] == "/orders"
    refused = await browser.send(sheet, "/sign-in", 401, key="rochdale_wrong_00000000")
    assert "This key is not known here" in refused.text and "rochdale_wrong" not in refused.html
    assert refused.forms["/sign-in"]["next"] == "/orders"
    orders = await browser.send(refused, "/sign-in", key=counter.desk.buyer.secret)
    assert "Newest first" in orders.text
    cookies = {one.name: one for one in browser.client.cookies.jar}
    assert cookies["session"].has_nonstandard_attr("HttpOnly")
    assert cookies["session"].get_nonstandard_attr("SameSite") == "lax" and counter.desk.buyer.secret not in str(
        cookies
    )
    await browser.send(await browser.page("/account"), "/sign-out")
    assert "Sign in" in (await browser.page("/account")).text


@pytest.mark.parametrize("there", ["//evil.example", "/\\evil.example", "https://evil.example", "%0d%0aSet-Cookie:x"])
async def test_signing_in_leads_to_no_other_place(counter: Counter, there: str) -> None:
    browser = await counter.front.stranger()
    sheet = await browser.sign_in(counter.desk.buyer, there)
    assert "Your account" in sheet.text


async def test_a_form_of_another_site_does_nothing(counter: Counter) -> None:
    order = await counter.desk.agree(10_000)
    browser = await counter.buyer()
    sheet = await browser.page(f"/{order.name}")
    fields = sheet.forms[f"/{order.name}/pay"] | {"method": "bank-transfer"}
    for headers, changed in (
        ({"origin": "https://evil.example"}, {}),
        ({"origin": "null"}, {}),
        ({"sec-fetch-site": "cross-site"}, {}),
        ({}, {"proof": ""}),
        ({}, {"proof": "0" * 64}),
    ):
        answer = await browser.client.post(f"/{order.name}/pay", data=fields | changed, headers=headers)
        assert answer.status_code == 403 and "did not come from the page you are signed in to" in answer.text
    # The same for signing in, by which somebody could be made to pay into another's account.
    sheet = await browser.page("/sign-in")
    fields = sheet.forms["/sign-in"] | {"key": counter.desk.buyer.secret, "proof": "x"}
    assert (await browser.client.post("/sign-in", data=fields)).status_code == 403
    assert len(await counter.desk.rows("SELECT 1 FROM payment WHERE order_id = :id", id=order.name[7:])) == 0


async def test_with_https_outside_cookies_need_it(counter: Counter, shelf: Any, hall: Any) -> None:
    desk = counter.desk
    address = "https://market.example"
    async with open_shopfront(desk.parties.house, desk.service, shelf, hall, public_url=address) as front:
        browser = await front.stranger()
        sheet = await browser.page("/sign-in")
        fields = sheet.forms["/sign-in"] | {"key": desk.buyer.secret}
        # The browser keeps a cookie for HTTPS from an address without it, so it is carried by hand.
        cookie = {"cookie": f"__Host-sign-in={fields['proof']}", "origin": address}
        answer = await browser.client.post("/sign-in", data=fields, headers=cookie, follow_redirects=False)
        assert answer.status_code == 303
        [session] = [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-session=")]
        assert "; Secure" in session and "HttpOnly" in session and "SameSite=lax" in session


async def test_a_form_that_is_too_large_is_refused(counter: Counter) -> None:
    browser = await counter.buyer()
    sheet = await browser.page("/account")
    fields = sheet.forms["/sign-out"] | {"more": "x" * 1_100_000}
    answer = await browser.client.post("/sign-out", data=fields)
    assert answer.status_code == 413 and "more than 1 MiB" in answer.text


# Orders


async def test_an_order_is_shown_paid_by_card_and_invoiced(counter: Counter) -> None:
    desk, browser = counter.desk, await counter.buyer()
    order = await desk.agree(125_000)
    assert f"/{order.name}" in (await browser.page("/orders?state=open")).links
    sheet = await browser.page(f"/{order.name}")
    assert "EUR 1,250.00 · waiting for payment" in sheet.text and order.payment_reference in sheet.text
    assert "There is no tax on it." in sheet.text and f"/{order.license}" in sheet.links
    paying = await browser.send(sheet, "/pay", method="checkout")
    assert "waiting for you" in paying.text and "client_secret" not in paying.html
    answer = await desk.stripe.browser.post(link_out(paying.links), data={"card_number": "4242424242424242"})
    assert answer.status_code in (200, 302, 303)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    sheet = await browser.page(f"/{order.name}")
    assert "EUR 1,250.00 · paid" in sheet.text and f"/{order.name}/pay" not in sheet.forms
    [document] = [one for one in sheet.links if "/invoices/" in one]
    pdf = await browser.file(document)
    assert pdf.content.startswith(b"%PDF") and pdf.headers["content-type"] == "application/pdf"
    assert "valley-health" in pdf.headers["content-disposition"]


async def test_a_form_sent_twice_starts_one_payment(counter: Counter) -> None:
    desk, browser = counter.desk, await counter.buyer()
    order = await desk.agree(20_000)
    sheet = await browser.page(f"/{order.name}")
    first, second = [await browser.post(sheet, "/pay", method="bank-transfer") for _ in range(2)]
    assert first.url == second.url and "/payments/pay_" in str(first.url)
    assert order.payment_reference in first.text and "EUR 200.00" in first.text


async def test_a_transfer_on_the_bank_statement_pays_its_order(counter: Counter) -> None:
    desk, browser = counter.desk, await counter.buyer()
    order = await desk.agree(30_000)
    sheet = await browser.page(f"/{order.name}")
    await browser.send(sheet, "/pay", method="bank-transfer")
    sheet = await browser.send(await browser.page(f"/{order.name}"), "/invoice")
    assert "The invoice is issued." in sheet.text and any("/invoices/" in one for one in sheet.links)
    operator = await counter.front.browser(desk.operator)

    async def book(content: bytes, status: int = 200) -> str:
        page = await operator.page("/treasury")
        answer = await operator.client.post(
            "/treasury/bank-statement",
            data=page.forms["/treasury/bank-statement"],
            files={"statement": ("statement.csv", content, "text/csv")},
            headers={"origin": operator.origin},
        )
        assert answer.status_code == status, answer.text[:500]
        return answer.text

    lines = f'reference,amount,text\r\nB-{order.name[-6:]},300.00 EUR,"Thanks, {order.payment_reference}"\r\n'
    lines += f"C-{order.name[-6:]},EUR 12.50,no idea\r\n"
    told = await book(lines.encode())
    assert "<td>paid</td>" in told and "waits in suspense: it names no payment reference" in told
    assert "booked before" in await book(lines.encode())
    # More than one request carries, and still one file.
    long = "".join(f"{order.name[-6:]}-{number},1.00 EUR,{'x' * 400}\n" for number in range(1100))
    assert (await book(long.encode())).count("waits in suspense: ") == 1100
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert "Line 2 is not a credit. “12 apples” is not an amount" in await book(b"a,1 EUR,x\nb,12 apples,x\n", 400)
    assert "not CSV in UTF-8" in await book(b"\xff\xfe\x00", 400)
    assert "Choose the file" in await book(b"", 400)


async def test_a_steward_gives_money_back_and_the_buyer_reads_why(counter: Counter) -> None:
    desk = counter.desk
    order = await desk.agree(50_000)
    await desk.confirm_transfer(order)
    steward, buyer = await counter.front.browser(desk.parties.steward), await counter.buyer()
    sheet = await steward.page(f"/{order.name}")
    # Refused, what was typed is still there.
    refused = await steward.send(sheet, "/refunds", 400, amount="a lot", reason="One file was empty.")
    assert "“a lot” is not an amount" in refused.text
    assert refused.forms[f"/{order.name}/refunds"]["reason"] == "One file was empty."
    answer = await steward.post(refused, "/refunds", amount="EUR 600.00")
    assert answer.status_code == 409 and 'role="alert"' in answer.text
    sheet = await steward.send(refused, "/refunds", amount="120.00 EUR")
    assert "EUR 120.00, on its way" in sheet.text and "The market" in sheet.text
    operator = await counter.front.browser(desk.operator)
    done = await operator.send(await operator.page(f"/{order.name}"), "/confirm", bank_reference=f"R-{order.name}")
    assert "EUR 120.00, given back" in done.text
    sheet = await buyer.page(f"/{order.name}")
    assert "One file was empty." in sheet.text and f"/{order.name}/refunds" not in sheet.forms
    assert "credit note" in sheet.text and "The cooperative's" not in sheet.text


async def test_an_order_of_somebody_else_does_not_exist(counter: Counter) -> None:
    order = await counter.desk.agree(10_000)
    rival = await counter.front.browser(counter.desk.parties.rival)
    paths = [f"/{order.name}", f"/{order.license}", "/orders/ord_nonsense", "/orders/ord_01ARZ3NDEKTSV4RRFFQ69G5FAV"]
    for path in paths:
        assert "This page does not exist" in (await rival.page(path, 404)).text
    assert "There is no order yet." in (await rival.page("/orders")).text
    assert "No payment is disputed." in (await rival.page("/disputes")).text
    for path in ("/treasury", "/cooperatives/valley-health/treasury", "/cooperatives/valley-health/dividends"):
        assert "your key has no role for it" in (await rival.page(path, 403)).text


# Subscriptions, and what is saved


async def test_use_is_shown_against_its_cap_which_the_buyer_lowers(counter: Counter) -> None:
    club, browser = Club(counter.desk, counter.stack), await counter.buyer()
    subscription = await club.subscribe(10_000, per_gigabyte("2.5", "1", "100"))
    path = f"/{subscription.license}"
    sheet = await browser.page(path)
    assert "paid up" in sheet.text and "0 used, 1 included, cap 100" in sheet.text and sheet.meters == ["0"]
    assert "Next period EUR 100.00" in sheet.text and "Its terms cannot be shown right now" in sheet.text
    assert any("/orders/" in link for link in sheet.links)
    refused = await browser.post(sheet, "/budget", cap="1000")
    assert refused.status_code in (400, 409) and 'role="alert"' in refused.text
    assert "cap 20" in (await browser.send(sheet, "/budget", cap="20")).text
    await club.use(subscription.license, 17, start_of(subscription))
    await until(lambda: club.of(subscription), lambda now: now.usage[0].used == "17")
    sheet = await browser.page(path)
    assert sheet.meters == ["85"] and "More than 80 % of the cap is used." in sheet.text
    await club.use(subscription.license, 4, start_of(subscription))
    await until(lambda: club.of(subscription), lambda now: now.usage[0].HasField("reach_time"))
    sheet = await browser.page(path)
    assert sheet.meters == ["100"] and "The cap is reached: access stops" in sheet.text
    assert "cap 100" in (await browser.send(sheet, "/budget", cap="")).text
    ending = await browser.send(sheet, "/cancel")
    assert "It ends with this period." in ending.text and f"{path}/cancel" not in ending.forms


async def test_a_license_shows_its_terms_and_leads_to_its_orders(counter: Counter, shelf: Any, hall: Any) -> None:
    desk, register = counter.desk, Register()  # type: ignore[abstract] # the storefront calls none of the rest
    license = desk.license(40_000)
    license.terms.offering = "cooperatives/valley-health/offerings/off_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    license.terms.scope.territories.append("WORLD")
    license.terms.price_plan.interval = pricing_pb2.BILLING_INTERVAL_MONTH
    license.terms.duration_seconds = 365 * 86_400
    license.terms_hash = canonical_hash(license.terms)
    register.licenses[license.name] = license
    await register.start()
    try:
        house, service = desk.parties.house, desk.service
        async with open_shopfront(house, service, shelf, hall, licensing_address=register.address) as front:
            browser = await front.browser(desk.buyer)
            path = f"/{license.name}"
            assert path in (await browser.page("/licenses")).links
            assert "There is no order for it yet." in (await browser.page(path)).text
            await desk.tell(licensing_events.LicenseAgreed(license=license))
            order = await desk.order_of(license.name)
            sheet = await browser.page(path)
            assert "agreed, not yet paid" in sheet.text and "EUR 400.00, each month, in advance" in sheet.text
            assert f"/{order.name}" in sheet.links and f"/{license.terms.offering}" in sheet.links
            register.licenses.clear()
            assert "There is no license yet." in (await browser.page("/licenses")).text
            await browser.page("/licenses/lic_01ARZ3NDEKTSV4RRFFQ69G5FAV", 404)
    finally:
        await register.stop()


async def test_a_rail_that_is_away_is_said_where_the_buyer_pays(counter: Counter) -> None:
    desk, browser = counter.desk, await counter.buyer()
    order = await desk.agree(10_000)
    desk.simulator.faults.add("500", count=50, match="/v1/checkout")
    try:
        answer = await browser.post(await browser.page(f"/{order.name}"), "/pay", method="checkout")
        assert answer.status_code in (200, 503)
        assert "rail did not answer" in answer.text or 'role="alert"' in answer.text
    finally:
        desk.simulator.faults.clear()


async def test_a_card_is_saved_on_a_page_of_stripe_and_forgotten(counter: Counter) -> None:
    browser, club = await counter.buyer(), Club(counter.desk, counter.stack)
    sheet = await browser.page("/payment-method")
    assert "Nothing is saved." in sheet.text
    page = await browser.send(sheet, "/save")
    await counter.desk.stripe.browser.post(link_out(page.links), data={"card_number": "4242424242424242"})
    saved = await until(club.method, lambda saved: bool(saved.label))
    sheet = await browser.page("/payment-method")
    assert saved.label in sheet.text and "4242424242424242" not in sheet.html
    order = await counter.desk.agree(15_000)
    assert f"With what you saved: {saved.label}" in (await browser.page(f"/{order.name}")).text
    assert "Nothing is saved." in (await browser.send(sheet, "/forget")).text


async def test_billing_that_is_away_is_said(counter: Counter, shelf: Any, hall: Any) -> None:
    desk = counter.desk
    async with open_shopfront(desk.parties.house, desk.service, shelf, hall, billing_address="127.0.0.1:9") as front:
        browser = await front.browser(desk.buyer)
        sheet = await browser.page("/orders", 503)
        assert "Billing cannot be reached" in sheet.text
        assert (await browser.client.get("/health")).status_code == 200, "what is on offer is seen all the same"


async def test_many_hostile_words_are_only_text(counter: Counter) -> None:
    desk = counter.desk
    order = await desk.agree(10_000)
    await desk.confirm_transfer(order)
    steward = await counter.front.browser(desk.parties.steward)
    hostile = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    sheet = await steward.send(await steward.page(f"/{order.name}"), "/refunds", reason=hostile)
    assert hostile in sheet.text
    answer: httpx.Response = await steward.client.get(f"/orders?state={hostile}&done={hostile}")
    assert answer.status_code == 200 and "<script>" not in answer.text
