"""Money that comes in: every movement is in the books, once, and a paid order makes its cooperative's share."""

import asyncio
import datetime as dt
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from billing_desk import CHECKOUT, SECRET, TRANSFER, Desk, until
from house import refused
from stripe import WebhookSignature

from billing import store
from billing.domain import orders, payments, postings, shares
from billing.domain.orders import Order
from billing.domain.payments import Seen, Standing, Taken
from billing.domain.references import payment_reference
from billing.settlement import make
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now
from rochdale_kit.refusals import Refusal
from rochdale_kit.signing import canonical_hash

COOP = "coop:valley-health"
QUOTED = ("license", "buyer", "seller", "kind", "lines", "tax_lines", "net", "amount", "terms_hash")


def euros(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="EUR")


async def paid_by_card(desk: Desk, order: pb.Order, token: str = "pm_card_visa") -> pb.Order:
    await desk.confirm_card(await desk.pay(order), token)
    return await desk.becomes(order, pb.ORDER_STATE_PAID)


async def test_a_card_pays_and_every_cent_is_in_the_books(desk: Desk) -> None:
    order = await paid_by_card(desk, await desk.agree(125_000))
    fee = desk.simulator.describe()["fees_minor"]["eur"]
    assert await desk.balance("stripe:pending") == 125_000 - fee
    assert await desk.balance("processing_fees") == fee
    assert await desk.balance("fee_revenue") == 6_250
    assert await desk.balance(f"{COOP}:pending") == 118_750
    for code in ("tax:payable", "suspense", "rounding", "bank"):
        assert await desk.balance(code) == 0
    (share,) = await desk.rows("SELECT * FROM share")
    assert (share.cooperative, share.net_minor, share.fee_minor, share.tax_minor) == (
        "valley-health",
        125_000,
        6_250,
        0,
    )
    assert (share.rail, share.state, share.currency) == (postings.STRIPE, shares.ShareState.HELD, "EUR")
    assert share.hold_time - share.create_time == dt.timedelta(days=7)
    (journal,) = await desk.rows("SELECT * FROM journal")
    charge = (await desk.stripe.stripe.v1.charges.retrieve_async(share.charge_id)).to_dict()
    assert (journal.key, journal.external_ref) == (f"charge:{charge['id']}", charge["balance_transaction"])
    assert order.invoice_number == f"valley-health-{now().year}-000001"
    assert await desk.flaws() == []


async def test_a_page_and_a_debit_are_booked_as_a_card_is(desk: Desk) -> None:
    order = await desk.agree(80_000)
    await desk.post(await desk.pay(order, CHECKOUT), pay_with="bank")
    assert await desk.balance("stripe:pending") == 0, "a debit under way is not money yet"
    desk.simulator.settle(debits_at_once=True)
    await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert await desk.balance("stripe:pending") + await desk.balance("processing_fees") == 80_000
    assert await desk.flaws() == []


async def test_a_bank_transfer_is_at_the_bank(desk: Desk) -> None:
    order = await desk.agree(10_001)
    await desk.confirm_transfer(order, bank_reference="BANK-7")
    assert await desk.balance("bank") == 10_001
    # Five percent, rounded down: the cent that cannot be divided is the cooperative's.
    assert (await desk.balance("fee_revenue"), await desk.balance(f"{COOP}:pending")) == (500, 9_501)
    (journal,) = await desk.rows("SELECT * FROM journal")
    assert (journal.kind, journal.external_ref) == ("bank_payment", "BANK-7")
    (share,) = await desk.rows("SELECT * FROM share")
    assert (share.rail, share.charge_id) == (postings.BANK, "")


async def test_what_costs_nothing_moves_nothing(desk: Desk) -> None:
    order = await desk.agree(0)
    assert order.state == pb.ORDER_STATE_PAID and not order.invoice_number
    for table in ("journal", "share", "invoice"):
        assert not await desk.rows(f"SELECT 1 FROM {table}")


async def test_two_events_about_one_charge_post_once(desk: Desk) -> None:
    order = await paid_by_card(desk, await desk.agree())
    (payment,) = await desk.rows("SELECT intent_id, charge_id FROM payment")
    for type, id in (("charge.succeeded", payment.charge_id), ("payment_intent.succeeded", payment.intent_id)):
        body = json.dumps({"id": f"evt_again_{id}", "type": type, "livemode": False, "data": {"object": {"id": id}}})
        signature = WebhookSignature.generate_signature_header(body, SECRET, int(time.time()))
        door = f"http://{desk.service.http_address}/webhooks/stripe"
        answer = await desk.stripe.browser.post(door, content=body, headers={"stripe-signature": signature})
        assert answer.status_code == 200
    await until(
        lambda: desk.rows("SELECT 1 FROM webhook WHERE event_id LIKE 'evt_again%' AND outcome = 'applied'"),
        lambda rows: len(rows) == 2,
    )
    assert len(await desk.rows("SELECT 1 FROM journal")) == len(await desk.rows("SELECT 1 FROM share")) == 1
    assert await desk.told(order) == ["OrderPaid"]


@pytest.mark.parametrize("change", [{"amount": 124_999}, {"metadata": {"quote_hash": "other"}}, {"currency": "usd"}])
async def test_money_that_pays_nothing_waits_in_suspense_and_leaves_it(desk: Desk, change: dict[str, Any]) -> None:
    order = await desk.agree(125_000)
    payment = await desk.pay(order)
    await desk.stripe.intents.update_async(payment.payment_intent, change)
    await desk.confirm_card(payment)
    await until(lambda: desk.payment(payment), lambda now: now.failure_code == "refunded")
    assert (await desk.order(order)).state == pb.ORDER_STATE_OPEN
    currency = str(change.get("currency", "eur"))
    fee = desk.simulator.describe()["fees_minor"][currency]
    kinds = [row.kind for row in await desk.rows("SELECT kind FROM journal ORDER BY id")]
    assert kinds == ["unexpected_charge", "unexpected_charge_returned"]
    money = [await desk.balance(code, currency=currency.upper()) for code in ("stripe:pending", "stripe:available")]
    # The card's money went back; what Stripe keeps of it is ours to bear.
    assert sum(money) == -fee
    assert await desk.balance("suspense", currency=currency.upper()) == 0
    assert await desk.balance("processing_fees", currency=currency.upper()) == fee
    assert not await desk.rows("SELECT 1 FROM share")
    assert await desk.flaws() == []


async def test_an_answer_about_money_given_back_may_be_lost(desk: Desk) -> None:
    order = await desk.agree(125_000)
    payment = await desk.pay(order)
    await desk.stripe.intents.update_async(payment.payment_intent, {"amount": 1_000})
    desk.simulator.faults.add("lose_response_after_commit", count=2, match="/v1/refunds")
    await desk.confirm_card(payment)
    await until(lambda: desk.payment(payment), lambda now: now.failure_code == "refunded")
    assert desk.simulator.describe()["refunded_minor"] == {"eur": 1_000}
    assert await desk.balance("suspense") == 0
    assert len(await desk.rows("SELECT 1 FROM journal WHERE kind = 'unexpected_charge_returned'")) == 1


async def test_money_becomes_available_when_stripe_says_so_once(desk: Desk) -> None:
    await paid_by_card(desk, await desk.agree(50_000), "pm_card_bypassPending")
    fee = desk.simulator.describe()["fees_minor"]["eur"]
    await until(lambda: desk.balance("stripe:available"), lambda balance: balance == 50_000 - fee)
    assert await desk.balance("stripe:pending") == 0

    await paid_by_card(desk, await desk.agree(20_000))
    await asyncio.sleep(0.3)
    assert await desk.balance("stripe:available") == 50_000 - fee, "two days are not over"
    async with desk.database.begin() as connection:
        await connection.execute(sa.text("UPDATE payment SET available_time = now() WHERE clear_time IS NULL"))
    await until(lambda: desk.balance("stripe:pending"), lambda balance: balance == 0)
    keys = [row.key for row in await desk.rows("SELECT key FROM journal WHERE kind = 'available'")]
    transactions = [row.transaction_id for row in await desk.rows("SELECT transaction_id FROM payment")]
    assert sorted(keys) == sorted(f"available:{id}" for id in transactions)
    assert await desk.flaws() == []


async def test_money_kept_in_another_currency_is_booked_through_exchange(desk: Desk) -> None:
    taken = Taken("ch_1", "txn_1", Money(amount_minor=11_000, currency="USD"), 400, now())
    sale = postings.Sale("ord_1", "valley-health", "EUR", 10_000, 0, 500)
    journals = postings.exchanged_charge(sale, taken.charge_id, taken.transaction_id, 11_000, 400, "USD", now())
    async with desk.database.begin() as connection:
        assert await store.ledger.post(connection, journals) == [True, True]
    assert await desk.balance("stripe:pending", currency="USD") == 10_600
    assert (await desk.balance("fx"), await desk.balance("fx", currency="USD")) == (10_000, -11_000)
    assert await desk.balance(f"{COOP}:pending") == 9_500
    assert await desk.flaws() == []


TABLE = {
    "seats": {"valley-health": "NL", "acme": "DE"},
    "rules": [
        {"seller": "NL", "buyer": "DE", "category": "ACADEMIC", "taxes": []},
        {"seller": "NL", "buyer": "DE", "taxes": [{"label": "VAT", "rate": "0", "note": "reverse charge"}]},
        {"seller": "NL", "taxes": [{"label": "VAT", "rate": "21"}, {"label": "Levy", "rate": "0.05"}]},
    ],
}


async def test_taxes_are_what_the_table_says_exactly_and_owed_by_the_market(closed_desk: Desk, tmp_path: Path) -> None:
    desk, file = closed_desk, tmp_path / "taxes.json"
    file.write_text(json.dumps(TABLE | {"seats": {"valley-health": "NL"}}))
    await desk.start(tax_table=str(file))
    desk.hear_webhooks()
    order = await desk.agree(9_990)
    # 2097.9 and 4.995, each rounded once, half up.
    assert [(line.label, line.rate, line.amount.amount_minor) for line in order.tax_lines] == [
        ("VAT", "21", 2_098),
        ("Levy", "0.05", 5),
    ]
    assert (order.net, order.amount) == (euros(9_990), euros(12_093))
    assert [line.amount for line in order.lines] == [order.net]
    await paid_by_card(desk, order)
    assert await desk.balance("tax:payable") == 2_103
    assert (await desk.balance("fee_revenue"), await desk.balance(f"{COOP}:pending")) == (499, 9_491)
    assert await desk.flaws() == []


async def test_a_tax_that_the_buyer_owes_itself_is_said_and_not_charged(closed_desk: Desk, tmp_path: Path) -> None:
    desk, file = closed_desk, tmp_path / "taxes.json"
    file.write_text(json.dumps(TABLE))
    await desk.start(tax_table=str(file))
    order = await desk.agree(9_990)
    (line,) = order.tax_lines
    assert (line.label, line.rate, line.note, line.amount) == ("VAT", "0", "reverse charge", euros(0))
    assert order.amount == order.net == euros(9_990)
    license = desk.license(100)
    license.terms.category = scope_pb2.BUYER_CATEGORY_ACADEMIC
    license.terms_hash = canonical_hash(license.terms)
    await desk.tell(licensing_events.LicenseAgreed(license=license))
    assert not (await desk.order_of(license.name)).tax_lines


async def test_a_quote_is_what_anybody_can_hash_and_nothing_later_changes_it(desk: Desk) -> None:
    order = await desk.agree()
    assert order.kind == pb.ORDER_KIND_LICENSE
    assert order.quote_hash == canonical_hash(order, *QUOTED)
    intent = await desk.stripe.intents.retrieve_async((payment := await desk.pay(order)).payment_intent)
    assert intent.metadata["quote_hash"] == order.quote_hash
    await desk.confirm_card(payment)
    paid = await desk.becomes(order, pb.ORDER_STATE_PAID)
    assert paid.quote_hash == canonical_hash(paid, *QUOTED) == order.quote_hash
    for change in ("kind = 2", "net_minor = 1", "billed = ''", "quote_hash = ''", "invoice_number = 'x-1'"):
        with pytest.raises(sa.exc.DBAPIError, match=r"never changes|keeps its number"):
            async with desk.database.begin() as connection:
                await connection.execute(sa.text(f'UPDATE "order" SET {change}'))


def period_order(license: str, kind: pb.OrderKind.ValueType, start: dt.datetime, *amounts: int) -> Order:
    return orders.new_order(
        id=new_id("ord"),
        kind=kind,
        license=license,
        buyer="acme",
        seller="valley-health",
        lines=[pb.OrderLine(description="March", amount=euros(amount)) for amount in amounts],
        tax_lines=[],
        terms_hash="terms",
        reference=payment_reference(hash(new_id("x")) % 10**9),
        now=now(),
        ttl_seconds=3600,
        traceparent=None,
        period=(start, start + dt.timedelta(days=31)),
    )


async def test_a_license_has_one_order_of_each_kind_for_a_period(desk: Desk) -> None:
    first = await desk.agree()
    march, april = dt.datetime(2026, 3, 1, tzinfo=dt.UTC), dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    made = []
    for kind, start in (
        (pb.ORDER_KIND_PERIOD, march),
        (pb.ORDER_KIND_PERIOD, march),
        (pb.ORDER_KIND_USAGE, march),
        (pb.ORDER_KIND_PERIOD, april),
    ):
        async with desk.database.begin() as connection:
            made.append(await make(connection, period_order(first.license, kind, start, 700, 50)))
    assert made == [True, False, True, True]
    async with desk.database.read() as connection:
        found = (await store.orders.page(connection, None, None, 10, 0, first.license))[::-1]
    assert [order.kind for order in found] == [1, 2, 3, 2]
    resource = found[1].resource()
    assert resource.quote_hash == canonical_hash(resource, *QUOTED, "period_start_time", "period_end_time")
    assert resource.net == euros(750) and len(resource.lines) == 2
    await paid_by_card(desk, resource)
    await desk.confirm_transfer(found[2].resource())
    assert await desk.balance(f"{COOP}:pending") == 2 * (750 - 37)
    with pytest.raises(sa.exc.DBAPIError, match="period an order bills never changes"):
        async with desk.database.begin() as connection:
            await connection.execute(sa.text('UPDATE "order" SET period_end_time = now() WHERE kind = 2'))


async def test_nothing_used_is_paid_at_once_and_said(desk: Desk) -> None:
    license = (await desk.agree()).license
    order = period_order(license, pb.ORDER_KIND_USAGE, now(), 0)
    async with desk.database.begin() as connection:
        assert await make(connection, order)
    assert await desk.told(order.resource()) == ["OrderPaid"]
    assert not await desk.rows("SELECT 1 FROM share")


async def test_an_overdue_order_ends_the_authentication_that_nobody_finished(closed_desk: Desk) -> None:
    desk = closed_desk
    await desk.start(order_ttl_seconds=2)
    desk.hear_webhooks()
    order = await desk.agree()
    payment = await desk.pay(order)
    await desk.confirm_card(payment, "pm_card_authenticationRequired")
    await desk.becomes(order, pb.ORDER_STATE_CANCELED)
    assert (await desk.stripe.intents.retrieve_async(payment.payment_intent)).status == "canceled"
    assert (await desk.payment(payment)).failure_code == "canceled"
    assert not await desk.rows("SELECT 1 FROM journal")
    async with refused("ORDER_NOT_OPEN"):
        await desk.pay(order, TRANSFER)


def order_of_yesterday() -> Order:
    order = period_order("licenses/lic_1", pb.ORDER_KIND_LICENSE, now(), 100)
    return replace(order, quote_hash="")


def test_an_order_older_than_quotes_is_paid_by_its_terms() -> None:
    order = order_of_yesterday()
    payment = payments.Payment(
        id="pay_1",
        order_id=order.id,
        method=pb.PAYMENT_METHOD_PAYMENT_INTENT,
        state=pb.PAYMENT_STATE_PENDING,
        amount=order.amount,
        payment_reference="",
        create_time=now(),
    )
    taken = Taken("ch_1", "txn_1", euros(100), 3, now())
    seen = Seen(Standing.SUCCEEDED, 100, "eur", terms_hash="terms", taken=taken)
    assert payments.judge(payment, order, seen, now()).pays
    other = payments.judge(payment, order, replace(seen, terms_hash="others"), now())
    assert other.payment.refund_due and other.incident
    newer = replace(order, quote_hash="quote")
    assert payments.judge(payment, newer, seen, now()).payment.refund_due


def test_a_line_in_another_currency_is_no_order() -> None:
    with pytest.raises(Refusal, match="cannot be added"):
        orders.new_order(
            id="ord_1",
            kind=pb.ORDER_KIND_USAGE,
            license="licenses/lic_1",
            buyer="acme",
            seller="valley-health",
            lines=[
                pb.OrderLine(description="a", amount=euros(1)),
                pb.OrderLine(description="b", amount=Money(amount_minor=1, currency="USD")),
            ],
            tax_lines=[],
            terms_hash="",
            reference="",
            now=now(),
            ttl_seconds=1,
            traceparent=None,
        )
