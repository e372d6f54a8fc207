"""Dividends from a posted run to a member's bank: who is paid, what comes back, and what a statement says of it."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dividend_world import IBANS, Cooperative, Market, bare, open_market
from house import refused, request_id

from billing.unclaimed import Unclaimed
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import treasury_pb2
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_local.postgres import Postgres

MARCH, APRIL, MAY = "2026-03", "2026-04", "2026-05"
IN_APRIL = dt.datetime(2026, 4, 5, tzinfo=dt.UTC)


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    async with open_market(postgres, tmp_path_factory.mktemp) as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def stub(market: Market) -> object:
    return await market.start()


@pytest.fixture
async def coop(market: Market, stub: object) -> Cooperative:
    return await market.cooperative(stub)


async def test_payments_reach_the_bank_once_and_what_returns_is_payable_again(coop: Cooperative) -> None:
    ada, ben, cleo, dora = await coop.join(4)
    await coop.enact(coop.policy(equal_bps=10_000))
    persons = [await coop.person(member) for member in (ada, ben)]
    for person, member, iban, holder in zip(persons, (ada, ben), IBANS, ("Ada Özgür", "=cmd|' /C calc'"), strict=False):
        await coop.name_account(person, member, iban, holder)
    tax = pb.TaxProfile(
        name=f"{ada}/taxProfile", classification="license_income", withholding_bps=1_000, jurisdiction="DE"
    )
    kept = await coop.ask("SetTaxProfile", pb.SetTaxProfileRequest(request_id=request_id(), tax_profile=tax))
    assert kept.decided_by == f"organizations/{coop.id}"
    await coop.earn(10_000, MARCH)
    run = await coop.divide(MARCH)
    async with refused("RUN_STATE_WRONG", state="POSTED"):
        await coop.settle(run)
    run = await coop.pay(run)
    assert run.state == pb.RUN_STATE_PAYING and run.paid.amount_minor == 1_800 + 2_000
    assert run.carried_count == 3 and run.carried.amount_minor == 6_000
    assert await coop.pay(run) == run
    assert await coop.balance("withholding:payable") == 200
    mine = await coop.statement(run, ada, persons[0])
    assert (mine.withheld.amount_minor, mine.paid.amount_minor, mine.carried_out.amount_minor) == (200, 1_800, 0)
    assert mine.tax_classification == "license_income"
    assert (await coop.statement(run, cleo)).carry_reason == "NO_BANK_ACCOUNT"
    wish = pb.ExportDividendPaymentsRequest(name=run.name, format=treasury_pb2.PAYMENT_FILE_FORMAT_CSV)
    file = await coop.ask("ExportDividendPayments", wish)
    assert await coop.ask("ExportDividendPayments", wish) == file
    rows = list(csv.DictReader(io.StringIO(file.content.decode())))
    assert {row["iban"]: row["amount"] for row in rows} == {IBANS[0]: "18.00", IBANS[1]: "20.00"}
    assert {row["holder"] for row in rows} == {"Ada Özgür", "'=cmd|' /C calc'"}
    # Another account named meanwhile changes no file that is on its way.
    await coop.name_account(persons[0], ada, IBANS[3])
    assert (await coop.ask("ExportDividendPayments", wish)).content_hash == file.content_hash
    pain = pb.ExportDividendPaymentsRequest(name=run.name, format=treasury_pb2.PAYMENT_FILE_FORMAT_PAIN_001)
    async with refused("PAYOUT_ACCOUNT_MISSING"):
        await coop.ask("ExportDividendPayments", pain)
    await coop.has_bank_account()
    file = await coop.ask("ExportDividendPayments", pain)
    assert await coop.ask("ExportDividendPayments", pain) == file
    assert (file.payment_count, file.total.amount_minor) == (2, 3_800)
    for told in (IBANS[0], IBANS[1], "38.00", mine.payment_reference):
        assert told.encode() in file.content
    async with refused("PAYMENT_UNKNOWN"):
        await coop.settle(run, dora)
    run = await coop.settle(run, ben)
    assert run.state == pb.RUN_STATE_CLOSED
    assert await coop.balance("bank") == 10_000 - 1_800
    assert await coop.payable(ben) == 2_000
    [paid] = await coop.told("DividendPaid")
    assert [(one.member, one.amount.amount_minor) for one in paid.dividends] == [(ada, 1_800)]
    assert not await coop.market.rows("SELECT 1 FROM dividend_payment WHERE run_id = :id", id=bare(run.name))
    # It came back days after it had been taken for arrived.
    await coop.settle(run, ada)
    await coop.settle(run, ada)
    assert await coop.balance("bank") == 10_000 and await coop.payable(ada) == 1_800
    assert (await coop.statement(run, ben)).carry_reason == "RETURNED"
    async with refused("RUN_STATE_WRONG"):
        await coop.ask("ExportDividendPayments", wish)
    # The account that was wrong gets nothing more; another one does.
    april = await coop.pay(await coop.divide(APRIL))
    assert april.state == pb.RUN_STATE_CLOSED and not april.paid.amount_minor
    assert (await coop.statement(april, ben)).carry_reason == "RETURNED"
    assert await coop.flaws() == []


async def test_a_small_amount_waits_until_it_is_worth_sending(coop: Cooperative) -> None:
    """And from run to run nothing gets lost: what was carried in and allotted is paid, withheld or carried out."""
    [ada] = await coop.join(1)
    person = await coop.person(ada)
    await coop.name_account(person, ada)
    await coop.enact(coop.policy(equal_bps=10_000))
    carried: list[int] = []
    for month in (MARCH, APRIL, MAY):
        await coop.earn(1_000, month)
        run = await coop.pay(await coop.divide(month))
        if run.state == pb.RUN_STATE_PAYING:
            await coop.settle(run)
        statement = await coop.statement(run, ada, person)
        assert statement.carried_in.amount_minor == (carried[-1] if carried else 0)
        carried.append(statement.carried_out.amount_minor)
    assert carried == [500, 0, 500]
    listed = await coop.ask("ListStatements", pb.ListStatementsRequest(parent=ada, page_size=2), person)
    assert [one.month for one in listed.statements] == [MAY, APRIL]
    assert [money.amount_minor for money in listed.payable] == [500]
    rest = pb.ListStatementsRequest(parent=ada, page_size=2, page_token=listed.next_page_token)
    rest_listed = await coop.ask("ListStatements", rest, person)
    assert [one.month for one in rest_listed.statements] == [MARCH]
    assert rest_listed.statements[0].carry_reason == "BELOW_MINIMUM"


async def test_a_new_account_waits_and_a_bank_without_money_sends_none(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    person = await coop.person(ada)
    async with refused("IBAN_INVALID"):
        await coop.name_account(person, ada, "DE89370400440532013001")
    first = await coop.name_account(person, ada, "DE89 3704 0044 0532 0130 00")
    assert first.iban_end == "3000" and first.usable_time.ToDatetime(dt.UTC) <= dt.datetime.now(dt.UTC)
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.earn(4_000, MARCH, in_bank=False)
    run = await coop.divide(MARCH)
    async with refused("BANK_SHORT", needed_minor="2000", there_minor="0"):
        await coop.pay(run)
    # Somebody with the member's key clears the account and names their own: still not the first one.
    await coop.name_account(person, ada, "")
    second = await coop.name_account(person, ada, IBANS[1])
    waits = second.usable_time.ToDatetime(dt.UTC) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=71) < waits <= dt.timedelta(hours=72)
    run = await coop.pay(run)
    assert run.state == pb.RUN_STATE_CLOSED
    assert (await coop.statement(run, ada)).carry_reason == "BANK_ACCOUNT_TOO_NEW"
    got = await coop.ask("GetPayee", pb.GetPayeeRequest(parent=ada), person)
    assert got == second
    async with refused("NOT_FOUND"):
        await coop.ask("GetPayee", pb.GetPayeeRequest(parent=ada), coop.second)


async def test_of_two_first_accounts_at_once_one_waits(coop: Cooperative) -> None:
    for member in await coop.join(5):
        person = await coop.person(member)
        named = await asyncio.gather(*(coop.name_account(person, member, iban) for iban in IBANS[:2]))
        waits = sorted(one.usable_time.ToDatetime(dt.UTC) - dt.datetime.now(dt.UTC) for one in named)
        assert waits[0] <= dt.timedelta() and waits[1] > dt.timedelta(hours=71)
        kept = await coop.ask("GetPayee", pb.GetPayeeRequest(parent=member), person)
        assert kept.usable_time.ToDatetime(dt.UTC) - dt.datetime.now(dt.UTC) > dt.timedelta(hours=71)


async def test_a_statement_is_a_file_from_which_it_is_worked_out_again(coop: Cooperative) -> None:
    people = await coop.join(7)
    await coop.enact(coop.policy(equal_bps=3_000))
    await coop.contribute(coop.version(), {member: 3 + index for index, member in enumerate(people)})
    await coop.earn(100_003, MARCH, coop.version())
    run = await coop.divide(MARCH)
    for member in people[:3]:
        name = f"{member}/statements/{bare(run.name)}"
        files = {}
        for format in (pb.STATEMENT_FORMAT_PDF, pb.STATEMENT_FORMAT_CSV, pb.STATEMENT_FORMAT_JSON):
            wish = pb.ExportStatementRequest(name=name, format=format)
            reply = await coop.ask("ExportStatement", wish)
            assert reply == await coop.ask("ExportStatement", wish)
            files[reply.file_name] = reply.content
        assert set(files) == {f"statement-{MARCH}.{ending}" for ending in ("pdf", "csv", "json")}
        assert files[f"statement-{MARCH}.pdf"].startswith(b"%PDF")
        rows = list(csv.DictReader(io.StringIO(files[f"statement-{MARCH}.csv"].decode())))
        allotted = next(row["amount"] for row in rows if row["what"] == "allotted")
        facts = json.loads(files[f"statement-{MARCH}.json"])
        mine, equal = facts["tie_break"], facts["equal"]
        total = equal["pool_minor"] // equal["members"] + (bool(equal["last_hash"]) and mine <= equal["last_hash"])
        for one in facts["contributions"]:
            floor, remainder = divmod(one["pool_minor"] * one["units"], one["total_units"])
            last = (one["last_remainder"], one["last_hash"])
            more = last[1] and (remainder > last[0] or (remainder == last[0] and mine <= last[1]))
            total += floor + bool(more)
        assert f"{total / 100:.2f}" == allotted
        assert await coop.payable(member) == total


async def test_31_who_leaves_or_is_erased_is_still_owed_and_nothing_points_at_the_person(coop: Cooperative) -> None:
    ada, ben = await coop.join(2)
    person = await coop.person(ada)
    await coop.name_account(person, ada, IBANS[2], holder="Ada Lovelace")
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.earn(6_000, MARCH)
    run = await coop.divide(MARCH)
    gone = to_timestamp(dt.datetime(2026, 4, 2, tzinfo=dt.UTC))
    await coop.market.tell(
        governance.MemberLeft(member=ada, leave_time=gone),
        governance.MemberLeft(member=ben, leave_time=gone),
        governance.MemberErased(member=ben, erase_time=gone),
    )
    await coop.heard("SELECT 1 FROM member WHERE id = :id AND erase_time IS NOT NULL", id=bare(ben))
    # Who left and named an account is paid; who was erased is owed, under an id that points at nobody.
    run = await coop.settle(await coop.pay(run))
    assert await coop.payable(ada) == 0 and await coop.payable(ben) == 2_000
    await coop.market.tell(governance.MemberErased(member=ada, erase_time=gone))
    await coop.heard("SELECT 1 FROM payee WHERE member_id = :id AND iban = '' AND holder = ''", id=bare(ada))
    for table in await coop.market.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = await coop.market.rows(f'SELECT t::text AS all FROM "{table.tablename}" t')
        for secret in ("Lovelace", IBANS[2]):
            assert not any(secret in row.all or secret.encode().hex() in row.all for row in rows), table.tablename
    april = await coop.divide(APRIL)
    assert (await coop.statement(april, ben)).carried_out.amount_minor == 2_000
    assert await coop.flaws() == []


async def test_31_what_nobody_can_be_paid_is_set_apart_and_comes_back(coop: Cooperative) -> None:
    """Of a member who left without an account; what they are owed stays a debt, and is theirs once they are back."""
    ada, ben = await coop.join(2)
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.earn(6_000, MARCH)
    await coop.pay(await coop.divide(MARCH))
    left = to_timestamp(dt.datetime(2026, 4, 2, tzinfo=dt.UTC))
    await coop.market.tell(governance.MemberLeft(member=ada, leave_time=left))
    await coop.heard("SELECT 1 FROM member WHERE id = :id AND leave_time IS NOT NULL", id=bare(ada))
    for after_seconds, there in ((3_600.0, 0), (0.0, 2_000), (0.0, 2_000)):
        await Unclaimed(coop.market.database, after_seconds, 1).set_apart()
        assert await coop.balance("unclaimed") == there and await coop.payable(ada) == 2_000 - there
    assert await coop.payable(ben) == 2_000
    listed = await coop.ask("ListStatements", pb.ListStatementsRequest(parent=ada))
    assert [money.amount_minor for money in listed.payable] == [2_000]
    await coop.market.tell(governance.MemberJoined(members=[ada], join_time=to_timestamp(IN_APRIL)))
    await coop.heard("SELECT 1 FROM member WHERE id = :id AND leave_time IS NULL", id=bare(ada))
    await coop.name_account(await coop.person(ada), ada)
    assert await coop.balance("unclaimed") == 0 and await coop.payable(ada) == 2_000
    assert await coop.flaws() == []


async def test_another_currencys_least_payout_says_nothing(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    await coop.name_account(await coop.person(ada), ada)
    await coop.enact(coop.policy(equal_bps=10_000, min_payout=Money(amount_minor=10**9, currency="USD")))
    await coop.earn(2, MARCH)
    assert (await coop.pay(await coop.divide(MARCH))).paid.amount_minor == 1
