"""Posting to the ledger on a real PostgreSQL: once each, never below a floor, and eight processes at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import COOP, EUR, NOW, Books, charge, journal, spend

from billing.domain.ledger import PLATFORM, AccountKind, Journal, lines
from billing.store import journals, ledger


async def test_a_charge_is_posted_to_every_account_it_names(books: Books) -> None:
    assert await books.post(charge()) == [True]
    assert await books.balance("stripe:pending") == 9_970
    assert await books.balance("coop:valley:pending") == 9_500
    assert await books.balance("fee_revenue") == 500
    assert await books.balance("coop:other:pending") == 0
    with pytest.raises(KeyError):
        await books.balance("coop:valley:pendign")
    async with books.database.read() as connection:
        found = await ledger.balances(connection, PLATFORM, EUR, prefix="coop:")
    assert [(each.code, each.kind, each.balance_minor) for each in found] == [
        ("coop:valley:pending", AccountKind.LIABILITY, 9_500)
    ]
    assert await books.flaws() == []


async def test_a_thousand_members_are_paid_in_one_call(books: Books) -> None:
    wanted = [
        journal(
            f"chunk:{number}",
            ("surplus", 500 * 7),
            *((f"member:{member}:payable", -7) for member in range(number * 500, number * 500 + 500)),
            book=COOP,
        )
        for number in range(2)
    ]
    assert await books.post(*wanted) == [True, True]
    assert await books.post(*wanted) == [False, False]
    assert await books.balance("surplus", COOP) == -7_000
    async with books.database.read() as connection:
        assert {each.balance_minor for each in await ledger.balances(connection, COOP, prefix="member:")} == {7}
        [newest, oldest] = await journals.page_of_journals(connection, COOP, None, 10)
        assert newest.journal == wanted[1] and oldest.journal == wanted[0]
        assert await journals.page_of_journals(connection, COOP, newest.id, 10) == [oldest]
        assert await journals.page_of_journals(connection, COOP, None, 10, code="member:3:payable") == [oldest]
        assert await journals.page_of_journals(connection, COOP, None, 1, code="surplus") == [newest]
        assert await journals.page_of_journals(connection, COOP, newest.id, 1, code="surplus", kind="chunk") == [oldest]
        assert await journals.page_of_journals(connection, COOP, None, 9, code="surplus", kind="other") == []
        assert await journals.page_of_journals(connection, COOP, None, 9, currency="USD") == []
    assert await books.flaws() == []


# The same effect posts once.


async def test_the_same_key_posts_once_and_another_content_is_a_conflict(books: Books) -> None:
    assert await books.post(charge(), charge()) == [True, False]
    assert await books.post(charge(), charge("charge:ch_2")) == [False, True]
    for other in (charge(amount=9_999), charge(ref="txn_1"), charge(coop="other")):
        with pytest.raises(ledger.LedgerConflict, match="was posted with another content"):
            await books.post(other)
    with pytest.raises(ledger.LedgerConflict, match="with two contents"):
        await books.post(charge("charge:ch_3"), charge("charge:ch_3", 20_000))
    # The same key in another book is another journal.
    assert await books.post(journal("charge:ch_1", ("bank", 5), ("surplus", -5), book=COOP)) == [True]
    assert await books.balance("coop:valley:pending") == 19_000


async def test_the_same_money_under_another_key_is_a_conflict(books: Books) -> None:
    await books.post(charge(ref="txn_1"))
    with pytest.raises(ledger.LedgerConflict, match="under another key"):
        await books.post(charge("charge:ch_2", ref="txn_1"))
    assert await books.post(charge("charge:ch_3", ref="txn_3"), charge("charge:ch_4"), charge("charge:ch_5"))


async def test_two_who_post_the_same_at_once_post_it_once(books: Books) -> None:
    told = await asyncio.gather(*(books.post(charge()) for _ in range(8)))
    assert sorted(told) == [[False]] * 7 + [[True]]
    assert await books.balance("coop:valley:pending") == 9_500


async def test_what_was_rolled_back_can_be_posted_again(books: Books) -> None:
    with pytest.raises(ZeroDivisionError):
        async with books.database.begin() as connection:
            await ledger.post(connection, [charge()])
            raise ZeroDivisionError
    assert await books.balance("coop:valley:pending") == 0
    assert await books.post(charge()) == [True]


# Floors.


async def test_no_balance_goes_below_its_floor_not_even_between_two_lines(books: Books) -> None:
    await books.post(charge())
    take = journal("release:1", ("coop:valley:pending", 9_501), ("coop:valley:frozen", -9_501))
    with pytest.raises(ledger.Overdraw) as caught:
        await books.post(take)
    overdraw = caught.value
    assert (overdraw.book, overdraw.code, overdraw.balance_minor) == (PLATFORM, "coop:valley:pending", -1)
    # The charge that would cover it comes second.
    with pytest.raises(ledger.Overdraw):
        await books.post(take, charge("charge:ch_2"))
    assert await books.post(charge("charge:ch_2"), take) == [True, True]
    # A loss carried is no fault; a receivable below nothing is.
    await books.post(journal("loss:1", ("surplus", 10), ("bank", -10), book=COOP))
    with pytest.raises(ledger.Overdraw):
        await books.post(journal("x:1", ("coop:valley:receivable", -1), ("suspense", 1)))
    assert await books.flaws() == []


async def test_a_held_balance_stays_as_it_is_until_the_one_who_holds_it_is_done(books: Books) -> None:
    await books.post(charge())
    async with books.database.begin() as connection:
        held = await ledger.hold(connection, PLATFORM, ["coop:valley:pending", "coop:valley:receivable"], EUR)
        assert held == {"coop:valley:pending": 9_500, "coop:valley:receivable": 0}
        other = asyncio.create_task(
            books.post(journal("release:1", ("coop:valley:pending", 1), ("coop:valley:available", -1)))
        )
        # What has no floor waits for nobody.
        await books.post(journal("fee:1", ("stripe:pending", 1), ("fee_revenue", -1)))
        await asyncio.sleep(0.1)
        assert not other.done()
    assert await other == [True]
    async with books.database.begin() as connection:
        with pytest.raises(ValueError, match="has no floor"):
            await ledger.hold(connection, PLATFORM, ["fee_revenue"], EUR)


async def test_an_account_opened_as_another_kind_is_refused(books: Books) -> None:
    await books.execute(
        "INSERT INTO account (book, code, currency, kind) VALUES ('platform', 'fee_revenue', 'EUR', 1) RETURNING id"
    )
    with pytest.raises(ledger.LedgerConflict, match="was opened as ASSET"):
        await books.post(charge())
    await books.execute(
        "INSERT INTO account (book, code, currency, kind, floor, balance_minor, version)"
        f" VALUES ('{COOP}', 'reserve', 'EUR', 3, -100, 0, 0) RETURNING id"
    )
    async with books.database.begin() as connection:
        with pytest.raises(ledger.LedgerConflict, match="with the floor -100"):
            await ledger.hold(connection, COOP, ["reserve"], EUR)


# Seals.


async def test_the_seal_of_a_period_changes_with_anything_in_it_and_nothing_after(books: Books) -> None:
    async def seal(until: dt.datetime) -> bytes:
        async with books.database.read() as connection:
            return await journals.seal_of(connection, PLATFORM, until)

    until = NOW + dt.timedelta(microseconds=1)
    empty = await seal(until)
    await books.post(charge())
    first = await seal(until)
    await books.post(journal("coop:1", ("bank", 5), ("surplus", -5), book=COOP))
    assert first == await seal(until) != empty == await seal(NOW)
    await books.post(charge("charge:ch_2"))
    assert await seal(until) != first


# Everybody at once.


async def test_writers_who_open_the_same_new_accounts_in_opposite_order_do_not_deadlock(books: Books) -> None:
    for number in range(20):
        codes = [f"coop:c{number}_{each}:pending" for each in range(6)]

        def shares(key: str, order: list[str]) -> Journal:
            return journal(key, ("stripe:pending", 6), *((code, -1) for code in order))

        one = [shares(f"a:{number}:{each}", codes) for each in range(3)]
        two = [shares(f"b:{number}:{each}", codes[::-1]) for each in range(3)]
        await asyncio.gather(books.post(*one), books.post(*two[::-1]), books.post(*one[::-1]), books.post(*two))
    assert await books.balance("stripe:pending") == 20 * 36
    assert await books.flaws() == []


async def test_eight_processes_on_one_account_neither_overdraw_nor_lose_nor_deadlock(books: Books) -> None:
    await books.post(
        journal("start:1", ("stripe:pending", 20_000), ("coop:valley:pending", -20_000)),
        journal("start:2", ("bank", 2_000), ("coop:a:frozen", -1_000), ("coop:b:frozen", -1_000)),
    )
    with ProcessPoolExecutor(8, multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        told = await asyncio.gather(*(loop.run_in_executor(pool, spend, books.url, each, 40) for each in range(8)))
    # 320 attempts to take 100 of 20,000: each was met, and the account ends empty.
    assert (sum(taken for taken, _ in told), sum(refused for _, refused in told)) == (200, 120)
    assert await books.balance("coop:valley:pending") == 0
    assert await books.balance("coop:a:frozen") + await books.balance("coop:b:frozen") == 2_000
    [[version]] = await books.execute("SELECT version FROM account WHERE code = 'coop:valley:pending'")
    assert version == 201
    assert await books.flaws() == []


@pytest.mark.parametrize("seed", range(5))
async def test_random_histories_leave_books_without_a_flaw(books: Books, seed: int) -> None:
    chance = random.Random(seed)
    codes = ["stripe:pending", "bank", "suspense", "fee_revenue", "coop:a:pending", "coop:b:pending", "coop:a:frozen"]
    known: list[Journal] = []
    sums: dict[str, int] = {}
    met = {"posted": 0, "again": 0, "overdraw": 0, "conflict": 0}
    for number in range(60):
        if known and chance.random() < 0.2:
            again = chance.choice(known)
            if chance.random() < 0.5:
                assert await books.post(again) == [False]
                met["again"] += 1
            else:
                with pytest.raises(ledger.LedgerConflict):
                    await books.post(journal(again.key, ("bank", 10**9), ("suspense", -(10**9))))
                met["conflict"] += 1
            continue
        chosen = chance.sample(codes, chance.randint(2, 5))
        amounts = [chance.randint(-500, 500) or 1 for _ in chosen[1:]]
        if not (rest := -sum(amounts)):
            continue
        wanted = journal(f"j:{number}", *zip(chosen, [rest, *amounts], strict=True))
        after = sums | {line.code: sums.get(line.code, 0) + line.amount_minor for line in wanted.lines}
        if any(after[code] > 0 for code in after if code.startswith("coop:")):
            with pytest.raises(ledger.Overdraw):
                await books.post(wanted)
            met["overdraw"] += 1
        else:
            assert await books.post(wanted) == [True]
            known.append(wanted)
            sums = after
            met["posted"] += 1
    assert all(met.values()), met
    for code, total in sums.items():
        by_debit = not code.startswith(("coop:", "suspense", "fee"))
        assert await books.balance(code) == (total if by_debit else -total)
    assert sum(sums.values()) == 0
    assert await books.flaws() == []


PARTS = st.lists(st.tuples(st.sampled_from(["bank", "suspense", "fx", "rounding"]), st.integers(-9, 9)), max_size=8)


@given(PARTS)
@settings(max_examples=300)
def test_lines_are_added_up_and_what_comes_to_nothing_is_left_out(parts: list[tuple[str, int]]) -> None:
    made = lines(*parts)
    assert {line.code: line.amount_minor for line in made} == {
        code: total for code in dict(parts) if (total := sum(amount for each, amount in parts if each == code))
    }
