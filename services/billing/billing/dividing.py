"""What a dividend run does to the books: worked out, posted part by part, made out, settled. Who may ask is elsewhere.

Each act is one part of the caller's transaction, in which the run's row is locked; a second arrival waits for it and
finds the work done.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import dividend_runs, postings
from billing.domain.dividend_runs import APPROVED, CHUNK, CLOSED, PAYING, POSTED, POSTING, Month, Run
from billing.domain.dividends import Contribution, Earning, Inputs, compute
from billing.domain.ledger import Journal, book_of
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import events_pb2
from rochdale.type.v1 import dividend_policy_pb2
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

T = TypeVar("T")

EVENT_MEMBERS = 1000
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


async def work_out(connection: AsyncConnection, run: Run, policy: DividendPolicy) -> Run:
    """The run from what is known now, with its lines. Refuses with NOBODY_EARNS, WEIGHTS_MISSING."""
    inputs = await _gather(connection, run, policy)
    # Thousands of members: the other calls go on meanwhile.
    division, inputs_hash = await asyncio.to_thread(lambda: (compute(inputs), inputs.hash))
    run = dividend_runs.computed(run, inputs.books, division, inputs_hash)
    await store.dividend_runs.forget_approvals(connection, run.id)
    await store.dividend_runs.replace_sources(connection, run.id, division.sources, inputs.earnings)
    await store.dividend_lines.replace_lines(connection, run.id, division.lines)
    await store.dividend_runs.save(connection, run)
    return run


async def _gather(connection: AsyncConnection, run: Run, policy: DividendPolicy) -> Inputs:
    month = Month(run.month)
    earlier = [one for one, _ in await store.dividend_runs.of_currency(connection, run.cooperative, run.currency)]
    before = [one for one in earlier if one < run.month]
    since = Month(before[-1]).end_time if before else _BEGINNING
    earnings = await store.dividend_inputs.earnings(connection, run.cooperative, run.currency, month.end_time)
    held = await store.ledger.balances(connection, book_of(run.cooperative), run.currency, prefix="member:")
    return Inputs(
        run_id=run.id,
        month=run.month,
        end_time=month.end_time,
        currency=run.currency,
        policy=policy,
        books=await store.dividend_inputs.books(connection, run.cooperative, run.currency, since, month.end_time),
        members=await store.members.members(connection, run.cooperative, month.end_time),
        earnings=earnings,
        contributions=await _contributions(connection, run, policy, earnings),
        indebted=frozenset(
            one.code.split(":")[1] for one in held if one.code.endswith(":payable") and one.balance_minor
        ),
    )


async def _contributions(
    connection: AsyncConnection, run: Run, policy: DividendPolicy, earnings: Sequence[Earning]
) -> list[Contribution]:
    """Of the versions that were delivered; nothing else earns."""
    versions = sorted({version for earning in earnings for version in earning.versions})
    if policy.basis == dividend_policy_pb2.CONTRIBUTION_BASIS_IMPORTED:
        weights = await store.weights.of_month(connection, run.cooperative, run.month)
        if weights is None:
            raise Refusal(
                "WEIGHTS_MISSING",
                f"The policy divides by imported weights, and those of {run.month} are not there.",
                Kind.STATE,
                month=run.month,
            )
        return [Contribution(member, version, units) for member, version, units in weights if version in versions]
    rows = await store.members.contributed(connection, versions)
    factors = {one.dataset: one.per_mille for one in policy.dataset_factors}
    if policy.basis == dividend_policy_pb2.CONTRIBUTION_BASIS_RECORDS:
        return [
            Contribution(member, version, count * factor, count, factor)
            for version, member, count in rows
            for factor in [factors.get(_dataset(version), 1000)]
        ]
    month = Month(run.month)
    datasets = sorted({_dataset(version) for version in versions})
    days = await store.members.consented_days(connection, datasets, month.begin_time, month.end_time)
    return [
        Contribution(member, version, count * factor * consented, count, factor, consented)
        for version, member, count in rows
        for factor in [factors.get(_dataset(version), 1000)]
        if (consented := days.get((_dataset(version), member), 0))
    ]


def _dataset(version: str) -> str:
    return version.partition("/versions/")[0]


async def post_part(connection: AsyncConnection, run: Run, policy: DividendPolicy, at: dt.datetime) -> Run:
    """The next part of an approved run; the first one also divides the surplus. Refuses with SURPLUS_SHORT.

    A process that ends anywhere here leaves the part whole or not at all, and the next call goes on from there.
    """
    journals: list[Journal] = []
    if run.state == APPROVED:
        run = await _divide_surplus(connection, run, at, journals)
    chunk = await store.dividend_lines.next_chunk(connection, run.id)
    if chunk is not None:
        amounts = await store.dividend_lines.amounts(connection, run.id, chunk)
        codes = {member: f"member:{member}:payable" for member, _ in amounts}
        # With the pool, which the posting would lock after them: in one go they are locked in the order of everybody.
        held = await store.ledger.hold(
            connection, book_of(run.cooperative), [*codes.values(), "dividend_pool"], run.currency
        )
        shares = [(member, amount) for member, amount in amounts if amount]
        if shares:
            journals += postings.dividends_posted(run.id, chunk, run.cooperative, run.currency, shares, at)
        await store.ledger.post(connection, journals)
        before = {member: held[code] for member, code in codes.items()}
        await store.dividend_lines.set_posted(connection, run.id, before)
        least = dividend_runs.least_payout(policy, run.currency)
        for part in _parts(shares, EVENT_MEMBERS):
            told = [
                _dividend(run, member, amount, carried_forward=before[member] + amount < least)
                for member, amount in part
            ]
            await announce(
                connection, events_pb2.DividendPosted(dividend_run=run.name, month=run.month, dividends=told)
            )
        chunk = await store.dividend_lines.next_chunk(connection, run.id)
    else:
        await store.ledger.post(connection, journals)
    run = replace(run, state=POSTING) if chunk is not None else replace(run, state=POSTED, post_time=at)
    await store.dividend_runs.save(connection, run)
    return run


async def _divide_surplus(connection: AsyncConnection, run: Run, at: dt.datetime, journals: list[Journal]) -> Run:
    end = Month(run.month).end_time
    books = await store.dividend_inputs.books(connection, run.cooperative, run.currency, end, end)
    await store.dividend_runs.assign_shares(connection, run.id)
    if run.base_minor:
        dividend_runs.require_surplus(run.name, run.base_minor, books.surplus_now_minor - books.owed_minor)
        journals += postings.surplus_divided(
            run.id,
            run.cooperative,
            run.currency,
            reserve_minor=run.reserve_minor,
            commons_minor=run.commons_minor,
            solidarity_minor=run.solidarity_minor,
            pool_minor=run.patronage_minor,
            at=at,
        )
    # Never more than is lost now: what came in meanwhile met a part of it.
    covered = min(run.covered_minor, books.covered_minor)
    if covered:
        journals += postings.loss_covered(run.id, run.cooperative, run.currency, covered, at)
    return replace(run, covered_minor=covered)


async def make_out(
    connection: AsyncConnection,
    run: Run,
    policy: DividendPolicy,
    withholding: dividend_runs.Withholding,
    at: dt.datetime,
) -> Run:
    """Payments of a posted run, earlier amounts included. Refuses with BANK_SHORT."""
    book = book_of(run.cooperative)
    members = [member for member, _ in await store.dividend_lines.amounts(connection, run.id)]
    codes = {member: f"member:{member}:payable" for member in members}
    held = await store.ledger.hold(connection, book, list(codes.values()), run.currency)
    accounts = await store.payees.named(connection, members)
    profiles = await store.payees.profiles(connection, members)
    lines: list[tuple[str, int, int, int, str, str, str]] = []
    payments: list[tuple[str, int, int]] = []
    carried: list[int] = []
    for position, member in enumerate(members):
        amount, profile = held[codes[member]], profiles.get(member, pb.TaxProfile())
        classification = profile.classification or dividend_runs.UNCLASSIFIED
        account = accounts.get(member)
        usable = (account.usable_time, account.returned) if account is not None else None
        why = dividend_runs.carry_reason(amount, policy, run.currency, usable, at) if amount else ""
        if why or not amount:
            carried += [amount] if amount else []
            lines.append((member, amount, 0, 0, why, classification, ""))
            continue
        withheld = withholding(profile, amount)
        reference = f"{run.id.removeprefix('run_')}-{position}" if amount > withheld else ""
        payments.append((member, amount - withheld, withheld))
        lines.append((member, amount, amount - withheld, withheld, "", classification, reference))
    paid = sum(amount for _, amount, _ in payments)
    dividend_runs.require_bank(run.name, paid, await _in_bank(connection, book, run.currency))
    journals = [
        journal
        for number, part in enumerate(_parts(payments, CHUNK))
        for journal in postings.dividends_made_out(run.id, number, run.cooperative, run.currency, part, at)
    ]
    await store.ledger.post(connection, journals)
    await store.dividend_lines.set_made_out(connection, run.id, lines)
    # The very accounts that were looked at: one that is named while we look has not cooled off.
    await store.dividend_lines.keep_payment_accounts(
        connection,
        run.id,
        {member: (accounts[member].iban, accounts[member].holder) for member, paid, _ in payments if paid},
    )
    run = replace(
        run,
        state=PAYING if paid else CLOSED,
        pay_time=at,
        paid_minor=paid,
        carried_count=len(carried),
        carried_minor=sum(carried),
    )
    await store.dividend_runs.save(connection, run)
    return run


async def _in_bank(connection: AsyncConnection, book: str, currency: str) -> int:
    """What the bank has, less what is on its way out of it."""
    going = await store.ledger.balances(connection, book, currency, prefix="member:")
    return await store.ledger.balance(connection, book, "bank", currency) - sum(
        one.balance_minor for one in going if one.code.endswith(":in_transit")
    )


async def settle(
    connection: AsyncConnection, run: Run, bank_reference: str, returned: Collection[str], at: dt.datetime
) -> Run:
    """What became of the payments; `returned` are the ids of members whose payment came back. Refuses with
    PAYMENT_UNKNOWN. Said once more, only those that came back later are news."""
    payments = await store.dividend_lines.payments(connection, run.id)
    known = {row.member_id: row for row in payments}
    for member in returned:
        if member not in known:
            raise payment_unknown(run, f"cooperatives/{run.cooperative}/members/{member}")
    back = [known[member] for member in sorted(returned) if not known[member].returned]
    journals = [
        journal
        for row in back
        for journal in postings.dividend_returned(
            row.payment_reference,
            row.member_id,
            run.cooperative,
            run.currency,
            row.paid_minor,
            arrived=run.state == CLOSED,
            at=at,
        )
    ]
    arrived = [(row.member_id, int(row.paid_minor)) for row in payments if row.member_id not in returned]
    if run.state == PAYING:
        for number, part in enumerate(_parts(arrived, CHUNK)):
            journals += postings.dividends_settled(run.id, number, run.cooperative, run.currency, part, at)
    await store.ledger.post(connection, journals)
    if back:
        members = [row.member_id for row in back]
        await store.dividend_lines.set_returned(connection, run.id, members, dividend_runs.RETURNED)
        await store.payees.found_wrong(connection, members)
    if run.state == PAYING:
        for told in _parts(arrived, EVENT_MEMBERS):
            dividends = [_dividend(run, member, amount) for member, amount in told]
            await announce(
                connection, events_pb2.DividendPaid(dividend_run=run.name, month=run.month, dividends=dividends)
            )
        # Where they went is known to the bank now; here it is of no use any more.
        await store.dividend_lines.forget_payment_accounts(connection, run.id)
        run = replace(run, state=CLOSED, bank_reference=bank_reference)
    run = replace(
        run,
        carried_count=run.carried_count + len(back),
        carried_minor=run.carried_minor + sum(row.paid_minor for row in back),
    )
    await store.dividend_runs.save(connection, run)
    return run


def payment_unknown(run: Run, member: str) -> Refusal:
    return Refusal(
        "PAYMENT_UNKNOWN", f"{run.name} has no payment to {member}.", Kind.STATE, run=run.name, member=member
    )


def _dividend(run: Run, member: str, amount_minor: int, carried_forward: bool = False) -> events_pb2.MemberDividend:
    return events_pb2.MemberDividend(
        member=f"cooperatives/{run.cooperative}/members/{member}",
        amount=Money(amount_minor=amount_minor, currency=run.currency),
        carried_forward=carried_forward,
    )


def _parts(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(things), size):
        yield things[first : first + size]
