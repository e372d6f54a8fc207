"""From a paid order to the cooperative's account: release, reserve, transfers, files for banks, and money asked back."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from billing_desk import TRANSFER, Desk, until
from house import refused, request_id
from purse import COOPERATIVE, IBAN, OTHER_IBAN, Purse
from treasury_desk import balances, decide, deliver, dispute, paid_order, released

from billing.domain.payouts import Payable, parts_of, smallest_unit
from rochdale.billing.v1 import billing_pb2 as orders
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money


@pytest.fixture
async def closed_purse(closed_desk: Desk) -> AsyncIterator[Purse]:
    async with AsyncExitStack() as stack:
        yield Purse(closed_desk, stack)


@pytest.fixture
async def purse(closed_purse: Purse) -> Purse:
    await closed_purse.start()
    closed_purse.hear_webhooks()
    return closed_purse


async def refund(purse: Purse, order: orders.Order, amount_minor: int) -> None:
    await purse.desk.stub.RefundOrder(
        orders.RefundOrderRequest(
            request_id=request_id(),
            order=order.name,
            amount=Money(amount_minor=amount_minor, currency="EUR"),
            reason="one file was empty",
        ),
        metadata=purse.parties.steward.metadata,
    )


# Release


async def test_a_share_is_held_until_it_was_delivered_and_the_hold_is_over(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(hold_seconds=2)
    purse.hear_webhooks()
    order = await paid_order(purse.desk, 100_000)
    (share,) = await purse.shares()
    assert (share.net.amount_minor, share.fee.amount_minor, share.amount.amount_minor) == (100_000, 5_000, 95_000)
    assert (share.state, share.hold_reason) == (pb.SHARE_STATE_HELD, "NOT_DELIVERED")
    treasury = await purse.treasury()
    assert treasury.balances[0].held_minor == 95_000 and treasury.next_release_time == share.hold_time
    await deliver(purse.desk, order, files=0)
    (share,) = await until(purse.shares, lambda found: found[0].hold_reason != "NOT_DELIVERED")
    assert share.hold_reason in ("HOLD", "")
    (share,) = await until(purse.shares, lambda found: found[0].state == pb.SHARE_STATE_RELEASED)
    assert share.release_time.ToDatetime() >= share.hold_time.ToDatetime() and not share.hold_reason
    balance = await purse.balance()
    assert (balance.held_minor, balance.available_minor, balance.surplus_minor) == (0, 95_000, 95_000)
    rows = await purse.desk.rows("SELECT 1 FROM outbox WHERE message_type LIKE '%RevenueReleased'")
    assert len(rows) == 1


async def test_a_disputed_share_is_not_released(purse: Purse) -> None:
    order = await paid_order(purse.desk, 100_000)
    given = await dispute(purse.desk, order)
    await until(purse.shares, lambda found: found[0].hold_reason == "DISPUTED")
    await deliver(purse.desk, order)
    assert (await purse.balance()).frozen_minor == 95_000
    await decide(purse.desk, given, "won")
    await until(purse.shares, lambda found: found[0].state == pb.SHARE_STATE_RELEASED)


async def test_cards_leave_a_reserve_that_is_free_later(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(reserve_bps_cards=1000, reserve_seconds=2)
    purse.hear_webhooks()
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    balance = await purse.balance()
    assert (balance.available_minor, balance.market_reserve_minor) in ((85_500, 9_500), (95_000, 0))
    await purse.becomes(lambda one: (one.available_minor, one.market_reserve_minor) == (95_000, 0))
    (share,) = await purse.shares()
    assert share.reserve.amount_minor == 0 and not share.HasField("reserve_time")


# Paid through Stripe


async def test_what_is_free_is_transferred_from_its_charge_once(purse: Purse) -> None:
    account = await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    order = await released(purse.desk, await paid_order(purse.desk, 100_000))
    payout = await purse.one_payout(pb.PAYOUT_STATE_PAID)
    assert (payout.amount.amount_minor, payout.rail) == (95_000, pb.PAYOUT_RAIL_STRIPE)
    (transfer,) = (await purse.desk.stripe.stripe.v1.transfers.list_async()).data
    assert (transfer.id, transfer.amount, transfer.destination) == (payout.reference, 95_000, account)
    (row,) = await purse.desk.rows("SELECT charge_id FROM share")
    assert (transfer.source_transaction, transfer.transfer_group) == (row.charge_id, order.name.split("/")[1])
    assert [share.state for share in await purse.shares()] == [pb.SHARE_STATE_TRANSFERRED]
    book = await balances(purse.desk, "coop:valley-health")
    assert (book["stripe_connect"], book["due_from_platform"]) == (95_000, 0)
    balance = await purse.balance()
    assert (balance.available_minor, balance.in_transit_minor) == (0, 0)


async def test_an_answer_that_is_lost_is_asked_for_under_the_same_key(purse: Purse) -> None:
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    purse.desk.simulator.faults.add("lose_response_after_commit", count=3, match="/v1/transfers")
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    assert len((await purse.desk.stripe.stripe.v1.transfers.list_async()).data) == 1


async def test_two_instances_beside_each_other_pay_once(purse: Purse) -> None:
    await purse.start()
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    for _ in range(3):
        await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.becomes(lambda one: (one.available_minor, one.in_transit_minor) == (0, 0))
    made = (await purse.desk.stripe.stripe.v1.transfers.list_async()).data
    assert [transfer.amount for transfer in made] == [95_000] * 3
    assert sum(payout.amount.amount_minor for payout in await purse.payouts()) == 285_000
    assert (await purse.reconcile()).open_break_count == 0


async def test_failure_18_a_refund_after_the_transfer_is_asked_back_from_the_account(purse: Purse) -> None:
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    order = await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    await refund(purse, order, 40_000)
    # The transfer is still pending at the account, so Stripe can take it back.
    await until(lambda: purse.desk.rows("SELECT 1 FROM reversal WHERE state = 2"), bool)
    balance = await purse.balance()
    assert (balance.owed_minor, balance.available_minor, balance.surplus_minor) == (0, 0, 57_000)
    (transfer,) = (await purse.desk.stripe.stripe.v1.transfers.list_async()).data
    assert transfer.amount_reversed == 38_000
    assert (await balances(purse.desk, "coop:valley-health"))["stripe_connect"] == 57_000
    assert (await purse.reconcile()).open_break_count == 0


async def test_failure_18_what_the_account_has_no_more_is_owed_and_netted_from_the_next_release(purse: Purse) -> None:
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    order = await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    purse.desk.simulator.advance(10 * 86400)  # it went on to the cooperative's bank
    await until(
        lambda: balances(purse.desk, "coop:valley-health"),
        lambda book: (book["bank"], book["stripe_connect"]) == (95_000, 0),
    )
    await refund(purse, order, 40_000)
    rows = await until(lambda: purse.desk.rows("SELECT failure_code FROM reversal WHERE state = 3"), bool)
    assert rows[0].failure_code == "balance_insufficient"
    assert (await purse.balance()).owed_minor == 38_000
    assert (await balances(purse.desk, "coop:valley-health"))["due_to_platform"] == 38_000
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await until(lambda: purse.payouts(pb.PAYOUT_STATE_PAID), lambda found: len(found) == 2)
    assert (await purse.payouts())[0].amount.amount_minor == 57_000
    assert (await purse.balance()).owed_minor == 0


async def test_failure_23_nothing_is_sent_to_a_disabled_account_and_it_resumes_by_itself(purse: Purse) -> None:
    account = await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    await purse.act(account, "disable", reason="under_review")
    stopped = await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_DISABLED)
    assert "under_review" in stopped.reason
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.becomes(lambda one: one.available_minor == 95_000)
    treasury = await purse.treasury()
    assert not treasury.next_payout and not treasury.HasField("next_payout_time")
    assert not await purse.payouts()
    await purse.act(account, "enable")
    await purse.one_payout(pb.PAYOUT_STATE_PAID)


async def test_failure_23_an_account_that_is_gone_gets_nothing(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(account_check_seconds=0.2)
    purse.hear_webhooks()
    await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    async with purse.desk.database.begin() as connection:
        await connection.exec_driver_sql("UPDATE payout_account SET stripe_account = 'acct_gone'")
    gone = await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_DISABLED)
    assert "account_invalid" in gone.reason
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.becomes(lambda one: one.available_minor == 95_000)
    assert not await purse.payouts()
    await purse.bank()
    assert (await purse.one_payout(pb.PAYOUT_STATE_PENDING)).rail == pb.PAYOUT_RAIL_BANK


async def test_failure_23_a_transfer_that_stripe_refuses_leaves_the_money_available(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start()
    purse.desk.hear_webhooks()
    account = await purse.onboard()
    await purse.look_again()
    await until(lambda: purse.desk.rows("SELECT 1 FROM payout_account WHERE check_time IS NOT NULL"), bool)
    await purse.act(account, "disable", reason="under_review")  # which nobody tells us
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    failed = await purse.one_payout(pb.PAYOUT_STATE_FAILED)
    assert failed.failure_code == "insufficient_capabilities_for_transfer"
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_DISABLED)
    balance = await purse.becomes(lambda one: one.in_transit_minor == 0)
    assert balance.available_minor == 95_000


async def test_failure_24_a_payout_that_comes_back_to_the_account_days_later(purse: Purse) -> None:
    account = await purse.onboard()
    await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_ACTIVE)
    later = 20 * 86400
    await purse.act(account, "fail_payout", failure_code="account_closed", returned_after_seconds=later)
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.one_payout(pb.PAYOUT_STATE_PAID)
    purse.desk.simulator.advance(9 * 86400)
    await until(lambda: balances(purse.desk, "coop:valley-health"), lambda book: book["bank"] == 95_000)
    purse.desk.simulator.advance(2 * later)
    rows = await until(lambda: purse.desk.rows("SELECT 1 FROM journal WHERE kind = 'connected_payout_returned'"), bool)
    assert len(rows) == 1
    book = await balances(purse.desk, "coop:valley-health")
    assert (book["bank"], book["stripe_connect"]) == (0, 95_000)
    waits = await purse.account_becomes(pb.PAYOUT_ACCOUNT_STATE_PENDING)
    assert "external_account" in waits.requirements
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    await purse.becomes(lambda one: one.available_minor == 95_000)
    await purse.act(account, "complete", external_account=OTHER_IBAN)
    await until(lambda: purse.payouts(pb.PAYOUT_STATE_PAID), lambda found: len(found) == 2)


# Paid to a bank


async def test_a_bank_is_paid_by_a_file_that_is_the_same_each_time(purse: Purse) -> None:
    await purse.bank()
    order = await purse.desk.agree(100_000)
    await purse.desk.pay(order, TRANSFER)
    await purse.desk.confirm_transfer(order)
    await released(purse.desk, order)
    payout = await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    file = await purse.export()
    assert (file.payment_count, file.total.amount_minor) == (1, 95_000)
    assert IBAN.encode() in file.content and b"950.00" in file.content
    assert payout.name.rsplit("_", 1)[1].encode() in file.content
    assert await purse.export(pb.PAYMENT_FILE_FORMAT_PAIN_001, payout.name) == file
    async with refused("PAYOUT_NOT_PENDING", payout=payout.name):
        await purse.export(pb.PAYMENT_FILE_FORMAT_CSV, payout.name)
    async with refused("NOTHING_TO_PAY"):
        await purse.export()
    confirm = pb.ConfirmPayoutRequest(request_id=request_id(), name=payout.name, bank_reference=" B-1 ")
    paid = await purse.ask("ConfirmPayout", confirm, purse.parties.operator)
    assert (paid.state, paid.reference) == (pb.PAYOUT_STATE_PAID, "B-1")
    assert await purse.ask("ConfirmPayout", confirm, purse.parties.operator) == paid
    assert (await balances(purse.desk, "coop:valley-health"))["bank"] == 95_000
    assert [share.state for share in await purse.shares()] == [pb.SHARE_STATE_TRANSFERRED]


async def test_failure_24_a_payout_that_the_bank_returns_is_available_and_waits_for_another_look(purse: Purse) -> None:
    await purse.bank()
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    payout = await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    back = pb.ReturnPayoutRequest(request_id=request_id(), name=payout.name, reason="AC04 account closed")
    async with refused("PAYOUT_NOT_IN_TRANSIT", state="PENDING"):
        await purse.ask("ReturnPayout", back, purse.parties.operator)
    await purse.export(pb.PAYMENT_FILE_FORMAT_CSV)
    confirm = pb.ConfirmPayoutRequest(request_id=request_id(), name=payout.name, bank_reference="B-2")
    await purse.ask("ConfirmPayout", confirm, purse.parties.operator)
    returned = await purse.ask("ReturnPayout", back, purse.parties.operator)
    assert (returned.state, returned.failure_code) == (pb.PAYOUT_STATE_RETURNED, "AC04 account closed")
    balance = await purse.balance()
    assert (balance.available_minor, balance.bank_minor) == (95_000, 0)
    assert (await purse.account()).state == pb.PAYOUT_ACCOUNT_STATE_PENDING
    await purse.bank(OTHER_IBAN)
    again = await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    assert again.name != payout.name
    assert OTHER_IBAN.encode() in (await purse.export()).content


async def test_a_payout_that_never_arrived_is_available_again(purse: Purse) -> None:
    await purse.bank()
    await released(purse.desk, await paid_order(purse.desk, 100_000))
    payout = await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    await purse.export()
    back = pb.ReturnPayoutRequest(request_id=request_id(), name=payout.name, reason="unknown account")
    failed = await purse.ask("ReturnPayout", back, purse.parties.operator)
    assert failed.state == pb.PAYOUT_STATE_FAILED
    assert (await purse.balance()).available_minor == 95_000


async def test_files_name_what_they_cannot_carry(purse: Purse) -> None:
    async with refused("NOTHING_TO_PAY", currency="EUR"):
        await purse.export()
    await purse.bank()
    await released(purse.desk, await paid_order(purse.desk, 100_000, currency="USD"))
    await purse.one_payout(pb.PAYOUT_STATE_PENDING)
    request = pb.ExportPayoutsRequest(currency="USD", format=pb.PAYMENT_FILE_FORMAT_PAIN_001)
    async with refused("CURRENCY_NOT_EXPORTABLE", currency="USD"):
        await purse.ask("ExportPayouts", request, purse.parties.operator)
    request.format = pb.PAYMENT_FILE_FORMAT_CSV
    file = await purse.ask("ExportPayouts", request, purse.parties.operator)
    assert b",950.00,USD," in file.content
    request.payouts.append(f"{COOPERATIVE}/payouts/out_{'0' * 26}")
    async with refused("NOT_FOUND"):
        await purse.ask("ExportPayouts", request, purse.parties.operator)


def test_an_available_balance_is_divided_among_shares_and_never_exceeded() -> None:
    payables = [Payable("a", "o1", "ch1", 50), Payable("b", "o2", "ch2", 70)]
    assert [(part.share_id, part.amount_minor) for part in parts_of(100, payables, 1)] == [("a", 50), ("b", 50)]
    assert [(part.share_id, part.amount_minor) for part in parts_of(150, payables, 1)] == [
        ("a", 50),
        ("b", 70),
        ("", 30),
    ]
    assert [(part.share_id, part.amount_minor) for part in parts_of(127, payables, 10)] == [("a", 50), ("b", 70)]
    assert parts_of(9, payables, 10) == []
    assert [smallest_unit(code) for code in ("EUR", "JPY", "KWD", "ISK", "UGX", "MGA")] == [1, 1, 10, 1, 1, 100]


async def test_hints_about_accounts_need_their_own_secret(closed_purse: Purse) -> None:
    purse = closed_purse
    await purse.start(stripe_connect_webhook_secret="")
    url = f"http://{purse.desk.service.http_address}/webhooks/stripe-connect"
    answer = await purse.desk.stripe.browser.post(url, content=b"{}")
    assert answer.status_code == 404
    await purse.start()
    url = f"http://{purse.desk.service.http_address}/webhooks/stripe-connect"
    answer = await purse.desk.stripe.browser.post(url, content=b"{}", headers={"stripe-signature": "t=1,v1=00"})
    assert answer.json()["errorCode"] == "WEBHOOK_SIGNATURE_INVALID"
