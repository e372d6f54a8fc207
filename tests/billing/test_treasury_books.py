"""The books against Stripe and against themselves, months that are closed, and books that leave as text."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from billing_desk import Desk, until
from house import refused, request_id
from ledger_world import audit
from purse import COOPERATIVE, Purse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from treasury_desk import paid_order, released

from billing import store
from billing.domain import months, postings
from billing.domain.reconciliation import flaw
from billing.service import treasury_books
from rochdale.billing.v1 import billing_pb2 as orders
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now
from rochdale_kit.refusals import Refusal


@pytest.fixture
async def closed_purse(closed_desk: Desk) -> AsyncIterator[Purse]:
    async with AsyncExitStack() as stack:
        yield Purse(closed_desk, stack)


@pytest.fixture
async def purse(closed_purse: Purse) -> Purse:
    await closed_purse.start()
    closed_purse.hear_webhooks()
    return closed_purse


def last_month() -> dt.datetime:
    return now().replace(day=1) - dt.timedelta(days=3)


async def spend(purse: Purse, id: str, at: dt.datetime, amount_minor: int = 500) -> None:
    async with purse.desk.database.begin() as connection:
        await store.ledger.post(connection, postings.cost(id, "valley-health", "EUR", amount_minor, at))


async def close(purse: Purse, month: str, **more: Any) -> pb.ClosedMonth:
    given = {"request_id": request_id(), "parent": COOPERATIVE, "month": month} | more
    reply: pb.ClosedMonth = await purse.ask("CloseMonth", pb.CloseMonthRequest(**given))
    return reply


async def as_owner(purse: Purse, *statements: str) -> None:
    """What somebody can do who has the owner's password."""
    engine = create_async_engine(purse.parties.house.owner_url("billing"))
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))
    await engine.dispose()


# Against Stripe


async def test_books_that_agree_with_stripe_have_no_breaks(purse: Purse) -> None:
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    run = await purse.reconcile()
    assert (run.open_break_count, run.transaction_count, run.replayed_event_count) == (0, 2, 0)
    again = await purse.reconcile()
    assert (again.open_break_count, again.replayed_event_count) == (0, 0)


async def test_failure_29_webhooks_that_never_came_are_made_up_for(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(sweep_age_seconds=10_000)
    order = await purse.desk.agree(100_000)
    await purse.desk.confirm_card(await purse.desk.pay(order))
    assert (await purse.desk.order(order)).state == orders.ORDER_STATE_OPEN
    run = await purse.reconcile()
    assert run.replayed_event_count > 0
    await purse.desk.becomes(order, orders.ORDER_STATE_PAID)
    # What was on its way into the books is there now, so the break it was is gone.
    again = await until(purse.reconcile, lambda one: one.open_break_count == 0)
    assert again.replayed_event_count == 0
    assert await purse.desk.told(order) == ["OrderPaid"]


async def test_failure_29_money_that_moved_without_us_is_a_break_until_somebody_looked(purse: Purse) -> None:
    order = await paid_order(purse.desk, 100_000)
    (row,) = await purse.desk.rows("SELECT intent_id FROM payment")
    # Somebody gives money back on Stripe's own pages.
    given = await purse.desk.stripe.stripe.v1.refunds.create_async({"payment_intent": row.intent_id, "amount": 1_000})
    assert (await purse.reconcile()).open_break_count == 1
    (found,) = await purse.breaks()
    assert (found.check, found.book) == ("BALANCE_TRANSACTION_WITHOUT_JOURNAL", "platform")
    assert given.id in found.detail and "EUR -10.00" in found.detail and not found.HasField("close_time")
    assert (await purse.reconcile()).open_break_count == 1
    assert [one.name for one in await purse.breaks()] == [found.name], "found again, it is the same one"
    resolve = pb.ResolveBreakRequest(request_id=request_id(), name=found.name, note="agreed with the buyer by mail")
    settled = await purse.ask("ResolveBreak", resolve, purse.parties.operator)
    assert settled.resolution == "agreed with the buyer by mail" and settled.HasField("close_time")
    assert await purse.ask("ResolveBreak", resolve, purse.parties.operator) == settled
    resolve.request_id = request_id()
    async with refused("BREAK_CLOSED"):
        await purse.ask("ResolveBreak", resolve, purse.parties.operator)
    assert (await purse.reconcile()).open_break_count == 0, "what a person settled is settled"
    everything = await purse.ask("ListBreaks", pb.ListBreaksRequest(all=True), purse.parties.operator)
    assert [one.name for one in everything.breaks] == [found.name]
    assert order


async def test_a_journal_of_money_that_never_moved_is_a_break(purse: Purse) -> None:
    async with purse.desk.database.begin() as connection:
        await store.ledger.post(connection, postings.stripe_fee("txn_never", -250, "EUR", now()))
    await purse.reconcile()
    checks = {one.check: one.detail for one in await purse.breaks()}
    assert set(checks) == {"JOURNAL_WITHOUT_BALANCE_TRANSACTION", "BALANCE_DIFFERS"}
    assert "txn_never" in checks["JOURNAL_WITHOUT_BALANCE_TRANSACTION"]
    assert checks["BALANCE_DIFFERS"] == "Stripe has EUR 0.00, and the books EUR -2.50."


async def test_a_transfer_that_no_payout_of_ours_made_is_a_break(purse: Purse) -> None:
    account = await purse.onboard()
    await paid_order(purse.desk, 100_000)
    (share,) = await purse.desk.rows("SELECT charge_id FROM share")
    sent = {"amount": 700, "currency": "eur", "destination": account, "source_transaction": share.charge_id}
    await purse.desk.stripe.stripe.v1.transfers.create_async(sent)
    await purse.reconcile()
    checks = [one.check for one in await purse.breaks()]
    assert sorted(checks) == ["BALANCE_TRANSACTION_WITHOUT_JOURNAL", "TRANSFER_DIFFERS"]


async def test_what_stripe_pays_to_the_markets_bank_is_booked_and_no_break(purse: Purse) -> None:
    await paid_order(purse.desk, 100_000)
    purse.desk.simulator.advance(10 * 86400)
    await purse.desk.stripe.stripe.v1.payouts.create_async({"amount": 50_000, "currency": "eur"})
    assert (await purse.reconcile()).open_break_count == 0
    rows = await purse.desk.rows("SELECT kind FROM journal WHERE kind = 'swept'")
    assert len(rows) == 1
    reply = await purse.ask("ListBalances", pb.ListBalancesRequest(prefix="bank"), purse.parties.operator)
    assert [one.balance_minor for one in reply.balances] == [50_000]


async def test_stripe_is_down_while_books_are_compared(purse: Purse) -> None:
    await purse.desk.simulator.stop()
    async with refused("RAIL_UNAVAILABLE"):
        await purse.reconcile()


async def test_each_night_the_books_are_compared_unasked(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(reconcile_seconds=0.3)
    purse.hear_webhooks()
    await until(lambda: purse.desk.rows("SELECT 1 FROM reconciliation"), lambda rows: len(rows) >= 2)
    assert not await purse.breaks()


# Closing


async def test_failure_27_a_closed_month_takes_no_journal_and_its_seal_can_be_computed_again(purse: Purse) -> None:
    at = last_month()
    month = months.month_of(at)
    await spend(purse, "cst_1", at)
    async with refused("NOT_RECONCILED"):
        await close(purse, month)
    await purse.reconcile()
    async with refused("MONTH_NOT_OVER"):
        await close(purse, months.month_of(now()))
    async with refused("MONTH_OUT_OF_ORDER", next_month=month):
        await close(purse, months.month_of(at - dt.timedelta(days=40)))
    closed = await close(purse, month)
    assert (closed.month, closed.book, len(closed.seal)) == (month, "coop:valley-health", 64)
    assert (await purse.treasury()).closed_month == month
    async with refused("MONTH_CLOSED"):
        await close(purse, month)
    with pytest.raises(DBAPIError, match="a month that is closed"):
        await spend(purse, "cst_2", at)
    await spend(purse, "cst_3", now())
    async with purse.desk.database.read() as connection:
        seal = await store.journals.seal_of(connection, "coop:valley-health", months.end_of(month))
    assert seal.hex() == closed.seal


async def test_failure_27_whoever_alters_the_ledger_is_found_and_no_month_is_closed(purse: Purse) -> None:
    at = last_month()
    await spend(purse, "cst_1", at)
    await purse.reconcile()
    await as_owner(
        purse,
        "ALTER TABLE entry DISABLE TRIGGER ALL",
        "UPDATE entry SET amount_minor = amount_minor - 400 WHERE amount_minor > 0",
        "UPDATE entry SET amount_minor = amount_minor + 400 WHERE amount_minor < 0",
        "ALTER TABLE entry ENABLE TRIGGER ALL",
    )
    await purse.reconcile()
    (found,) = await purse.breaks()
    assert (found.check, found.book) == ("LEDGER_FLAW", "coop:valley-health")
    assert "is not what was posted" in found.detail
    assert (await purse.treasury()).open_break_count == 1
    async with refused("BREAKS_OPEN", open_break_count="1"):
        await close(purse, months.month_of(at))


def test_the_months_after_one_another_end_where_the_next_begins() -> None:
    assert months.end_of("2026-12") == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert months.month_of(months.end_of("2026-01")) == "2026-02"
    for wrong in ("0000-01", "9999-12"):
        with pytest.raises(Refusal, match="calendar"):
            months.end_of(wrong)


def test_a_flaw_is_in_the_book_it_names() -> None:
    assert flaw("journal cost:1 of coop:valley-health sums to 1").book == "coop:valley-health"
    assert flaw("due_to_platform of valley-health is 1 EUR in its own book and 2 in the platform's").book == (
        "coop:valley-health"
    )
    assert flaw("the chain of bank of platform (EUR) breaks").book == "platform"


# Books


async def test_what_a_cooperative_spent_is_in_its_book(purse: Purse) -> None:
    request = pb.RecordCostRequest(
        request_id=request_id(),
        parent=COOPERATIVE,
        amount=Money(amount_minor=1_250, currency="EUR"),
        description="storage",
    )
    journal = await purse.ask("RecordCost", request)
    assert await purse.ask("RecordCost", request) == journal
    assert {entry.account: entry.amount_minor for entry in journal.entries} == {"surplus": 1_250, "bank": -1_250}
    assert (await purse.balance()).surplus_minor == -1_250, "a loss is carried"
    for amount, reason in (
        (Money(currency="EUR"), "REQUEST_INVALID"),
        (Money(amount_minor=1, currency="ZZZ"), "CURRENCY_UNKNOWN"),
    ):
        async with refused(reason):
            await purse.ask(
                "RecordCost",
                pb.RecordCostRequest(request_id=request_id(), parent=COOPERATIVE, amount=amount, description="x"),
            )


async def test_balances_and_journals_are_read_a_page_at_a_time(purse: Purse) -> None:
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    for number in range(3):
        await spend(purse, f"cst_{number}", now())
    pages, token = [], ""
    while True:
        request = pb.ListBalancesRequest(parent=COOPERATIVE, page_size=1, page_token=token)
        reply = await purse.ask("ListBalances", request)
        pages += [(one.account, one.balance_minor) for one in reply.balances]
        if not (token := reply.next_page_token):
            break
    assert pages == [("bank", -1_500), ("due_from_platform", 95_000), ("surplus", 93_500)]
    first = await purse.ask("ListJournals", pb.ListJournalsRequest(parent=COOPERATIVE, page_size=3))
    assert [one.kind for one in first.journals] == ["cost"] * 3
    rest = await purse.ask(
        "ListJournals", pb.ListJournalsRequest(parent=COOPERATIVE, page_size=3, page_token=first.next_page_token)
    )
    assert [one.kind for one in rest.journals] == ["revenue"] and not rest.next_page_token
    by_account = await purse.ask("ListJournals", pb.ListJournalsRequest(parent=COOPERATIVE, account="bank"))
    assert len(by_account.journals) == 3
    async with refused("NOT_FOUND"):
        await purse.ask("ListJournals", pb.ListJournalsRequest(parent=COOPERATIVE, account="piggy bank"))
    async with refused("PAGE_TOKEN_INVALID"):
        await purse.ask(
            "ListJournals", pb.ListJournalsRequest(page_token=first.next_page_token), purse.parties.operator
        )


async def test_the_parts_of_an_export_are_one_book_that_an_auditor_passes(
    purse: Purse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(treasury_books, "EXPORT_JOURNALS", 2)
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    for parent, by in ((COOPERATIVE, purse.parties.steward), ("", purse.parties.operator)):
        text, token = "", ""
        while True:
            reply = await purse.ask("ExportBook", pb.ExportBookRequest(parent=parent, page_token=token), by)
            text += reply.beancount
            # What is posted meanwhile is no part of it.
            if not token:
                await spend(purse, f"cst_{parent}", now())
            if not (token := reply.next_page_token):
                break
        assert audit(tmp_path, text) == ""
        assert "cost:cst_" not in text or not parent
    assert not (
        await purse.ask("ExportBook", pb.ExportBookRequest(parent="cooperatives/nobody-yet"), purse.parties.operator)
    ).next_page_token


async def test_the_market_sees_all_cooperatives_together(purse: Purse) -> None:
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    market = await purse.ask("GetTreasury", pb.GetTreasuryRequest(), purse.parties.operator)
    assert market.name == "treasury" and not market.HasField("payout_account")
    (euro,) = market.balances
    assert euro.available_minor == 95_000 and euro.surplus_minor == 5_000 - 2_930
