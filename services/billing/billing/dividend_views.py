"""Runs and statements as they are answered. A member sees their own line and totals; stewards see all of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain.dividend_runs import IS_POSTED, POSTING, SMALL_GROUP, Run, RunLine
from billing.domain.dividend_words import Totals, explain, units_text
from billing.domain.dividends import NO_VERSION
from billing.domain.ledger import book_of
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: a steward, or a member by id, or a steward who is one."""

    cooperative: str
    member_id: str
    steward: bool


async def run_of(connection: AsyncConnection, run: Run, viewer: Viewer, *, whole: bool = True) -> pb.DividendRun:
    """The run; without `whole` its objections are left out, as a list's are."""

    def money(amount_minor: int) -> Money:
        return Money(amount_minor=amount_minor, currency=run.currency)

    seen = pb.DividendRun(
        name=run.name,
        month=run.month,
        currency=run.currency,
        state=run.state,
        policy=await store.dividend_policies.get(connection, run.cooperative, run.policy_version),
        surplus=money(run.base_minor),
        costs=money(run.costs_minor),
        reserve=money(run.reserve_minor),
        commons=money(run.commons_minor),
        solidarity=money(run.solidarity_minor),
        equal_pool=money(run.equal_pool_minor),
        contribution_pool=money(run.contribution_pool_minor),
        member_count=run.member_count,
        inputs_hash=run.inputs_hash,
        create_time=to_timestamp(run.create_time),
        objection_end_time=to_timestamp(run.objection_end_time),
        approved_by=await store.dividend_runs.approvers(connection, run.id),
        carried_count=run.carried_count,
    )
    for source in await store.dividend_runs.sources(connection, run.id):
        # How many share what nobody's rows earned is how many members there are, which is no secret.
        small = source.member_count < SMALL_GROUP and source.version != NO_VERSION
        seen.sources.add(
            version=source.version,
            earned=money(source.earned_minor),
            pool=money(source.pool_minor),
            member_count=0 if small and not viewer.steward else source.member_count,
            total_units=source.total_units,
        )
    if run.state == POSTING:
        seen.posted_count = await store.dividend_lines.posted_count(connection, run.id)
    elif run.state in IS_POSTED:
        seen.posted_count = run.member_count
    if run.pay_time is not None:
        seen.paid.CopyFrom(money(run.paid_minor))
        seen.carried.CopyFrom(money(run.carried_minor))
    # The largest line is somebody's: an approver has to see it, and nobody else does.
    if viewer.steward:
        seen.largest_line.CopyFrom(money(run.largest_minor))
        seen.median_line.CopyFrom(money(run.median_minor))
    if whole:
        seen.objections.extend(
            _objection(row, viewer) for row in await store.dividend_runs.objections(connection, run.id)
        )
    return seen


def _objection(row: Any, viewer: Viewer) -> pb.Objection:
    named = viewer.steward or viewer.member_id == row.member_id
    return pb.Objection(
        number=row.number,
        member=f"cooperatives/{viewer.cooperative}/members/{row.member_id}" if named else "",
        text=row.text,
        create_time=to_timestamp(row.create_time),
        answer=row.answer,
        answer_time=to_timestamp(row.answer_time),
    )


async def statement_of(
    connection: AsyncConnection, run: Run, line: RunLine, viewer: Viewer, *, whole: bool = True
) -> pb.Statement:
    """A member's statement; without `whole` the run is left out, as a list's is."""

    def money(amount_minor: int) -> Money:
        return Money(amount_minor=amount_minor, currency=run.currency)

    seen = await run_of(connection, run, viewer, whole=False)
    carried_in = line.carried_in_minor
    if not line.posted:
        carried_in = await store.ledger.balance(
            connection, book_of(run.cooperative), f"member:{line.member_id}:payable", run.currency
        )
    statement = pb.Statement(
        name=f"cooperatives/{run.cooperative}/members/{line.member_id}/statements/{run.id}",
        month=run.month,
        state=run.state,
        equal_part=money(line.line.equal_minor),
        cap_change=money(abs(line.line.cap_change_minor)),
        cap_reduces=line.line.cap_change_minor < 0,
        amount=money(line.amount_minor),
        carried_in=money(carried_in),
        withheld=money(line.withheld_minor),
        paid=money(line.paid_minor),
        carried_out=money(line.carried_out_minor if line.posted else carried_in + line.amount_minor),
        carry_reason=line.carry_reason,
        tax_classification=line.classification,
        payment_reference=line.payment_reference,
    )
    pools = {source.version: source for source in seen.sources}
    for part in line.line.parts:
        source = pools[part.contribution.version]
        statement.sources.add(
            version=source.version,
            pool=source.pool,
            units=part.contribution.units,
            units_text=units_text(part.contribution),
            total_units=source.total_units,
            amount=money(part.amount_minor),
        )
    totals = Totals(seen, run.equal_count, run.cap_minor, run.loss_minor, run.covered_minor, run.taken_back_minor)
    statement.explanation = explain(line.line, totals)
    if whole:
        statement.run.CopyFrom(seen)
    return statement


async def payable_of(connection: AsyncConnection, cooperative: str, member_id: str) -> list[Money]:
    """What a member has by now, by currency, and what could not be paid and is still theirs."""
    found: dict[str, int] = {}
    for one in await store.ledger.balances(connection, book_of(cooperative), prefix=f"member:{member_id}:payable"):
        found[one.currency] = found.get(one.currency, 0) + one.balance_minor
    for currency, amount in await store.payees.unclaimed(connection, member_id):
        found[currency] = found.get(currency, 0) + amount
    return [Money(amount_minor=amount, currency=currency) for currency, amount in sorted(found.items()) if amount]
