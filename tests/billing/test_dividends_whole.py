"""A run of 5,912 members: killed anywhere, posted by two at once, a whole year to the cent, and in seconds."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa
from dividend_world import EUR, IBANS, Cooperative, bare, open_market, post_and_die

from billing import store
from billing.domain.ledger import book_of
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_local.postgres import Postgres

MEMBERS = 5_912


@pytest_asyncio.fixture(scope="module")
async def coop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cooperative]:
    async with open_market(postgres, tmp_path_factory.mktemp) as market:
        coop = await market.cooperative(await market.start())
        # With the steward who is a member of their own, 5,912.
        people = await coop.join(MEMBERS - 1)
        await coop.enact(coop.policy(reserve_bps=2_000, commons_bps=300, solidarity_bps=200, equal_bps=1_500))
        for number in (1, 2):
            await coop.contribute(
                coop.version(number), {member: 1 + (index * number) % 37 for index, member in enumerate(people)}
            )
        yield coop


async def members_sum(coop: Cooperative) -> int:
    async with coop.market.database.read() as connection:
        found = await store.ledger.balances(connection, book_of(coop.id), EUR, prefix="member:")
    return sum(one.balance_minor for one in found)


async def test_28_a_run_killed_anywhere_and_posted_by_two_at_once_is_posted_once(coop: Cooperative) -> None:
    await coop.earn(1_234_567, "2025-07", coop.version(1))
    run = await coop.approve(await coop.compute("2025-07"))
    spawn = multiprocessing.get_context("spawn")
    for parts in (0, 2):
        process = spawn.Process(target=post_and_die, args=(coop.market.url, coop.id, bare(run.name), parts))
        process.start()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL
    run = await coop.ask("GetDividendRun", pb.GetDividendRunRequest(name=run.name))
    # Killed in its first part, nothing was posted; killed in the third, two whole parts were.
    assert run.state == pb.RUN_STATE_POSTING and run.posted_count == 1_000
    other = await coop.market.start()

    async def post(stub: object) -> None:
        request = pb.PostDividendRunRequest(name=run.name)
        while True:
            answer = await stub.PostDividendRun(request, metadata=coop.steward.metadata)  # type: ignore[attr-defined]
            if answer.state == pb.RUN_STATE_POSTED:
                return

    await asyncio.gather(*(post(stub) for stub in (coop.stub, other, coop.stub, other)))
    await coop.post(run)
    assert await coop.balance("dividend_pool") == 0 == await coop.balance("surplus")
    given = sum([await coop.balance(code) for code in ("reserve", "commons", "solidarity")])
    assert given + await members_sum(coop) == 1_234_567
    told = [one for event in await coop.told("DividendPosted") for one in event.dividends]
    assert len({one.member for one in told}) == len(told) <= MEMBERS
    assert sum(one.amount.amount_minor for one in told) == await members_sum(coop)
    # A part posted by hand once more is known by its key, and changes nothing.
    journals = await coop.market.rows(
        "SELECT key FROM journal WHERE book = :book AND kind = 'dividends_posted'", book=book_of(coop.id)
    )
    assert len(journals) == len({row.key for row in journals}) == -(-MEMBERS // 500)
    assert await coop.flaws() == []


async def test_a_year_of_5912_members_closes_to_the_cent_and_a_month_takes_seconds(coop: Cooperative) -> None:
    earned = 1_234_567
    months = [*(f"2025-{month:02}" for month in range(8, 13)), *(f"2026-{month:02}" for month in range(1, 7))]
    slowest, paid = 0.0, 0
    # Every ninth member named an account; the first of them a wrong one.
    async with coop.market.database.begin() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO payee (member_id, iban, holder, usable_time, returned)"
                " SELECT id, :iban, 'A member', now(), false FROM (SELECT id, row_number() OVER (ORDER BY id) AS number"
                " FROM member WHERE cooperative = :id) AS one WHERE number % 9 = 0"
            ),
            {"iban": IBANS[0], "id": coop.id},
        )
    for index, month in enumerate(months):
        amount = 900_001 + 77_777 * index
        earned += amount
        await coop.earn(amount, month, coop.version(1 + index % 2))
        began = time.perf_counter()
        run = await coop.compute(month)
        computed = time.perf_counter()
        run = await coop.post(await coop.approve(run))
        posted = time.perf_counter()
        run = await coop.pay(run)
        if run.state == pb.RUN_STATE_PAYING:
            first = await coop.market.rows(
                "SELECT member_id FROM dividend_payment WHERE run_id = :id ORDER BY member_id LIMIT 1",
                id=bare(run.name),
            )
            returned = [] if paid else [f"{coop.name}/members/{first[0].member_id}"]
            await coop.settle(run, *returned)
            paid += run.paid.amount_minor
        slowest = max(slowest, time.perf_counter() - began)
        assert run.member_count == MEMBERS and run.surplus.amount_minor == amount
        if index == 0:
            print(
                f"\n{MEMBERS} members: computed in {computed - began:.2f} s, posted in {posted - computed:.2f} s,"
                f" payments decided in {time.perf_counter() - posted:.2f} s"
            )
    assert slowest < 60, f"{slowest:.1f} s"
    given = sum([await coop.balance(code) for code in ("reserve", "commons", "solidarity")])
    sent = earned - await coop.balance("bank")
    assert sent > 0 and given + sent + await members_sum(coop) == earned
    assert await coop.balance("surplus") == 0 == await coop.balance("dividend_pool")
    # From month to month nothing gets lost on the way, but what came back, which is carried in later.
    lost = await coop.market.rows(
        "SELECT count(*) AS count FROM (SELECT carried_in_minor, lag(carried_out_minor) OVER (PARTITION BY member_id"
        " ORDER BY month) AS before FROM dividend_line JOIN dividend_run ON dividend_run.id = run_id"
        " WHERE cooperative = :id AND posted) AS line WHERE before <> carried_in_minor",
        id=coop.id,
    )
    assert lost[0].count == 0
    assert await coop.flaws() == []
