"""A dividend line told to its member: the arithmetic, sentence by sentence, as people read it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from billing.domain.dividends import NO_VERSION, WHOLE_BPS, Contribution, Line
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import format_money


@dataclass(frozen=True, slots=True)
class Totals:
    """What a line is told with, beside the run as it is shown."""

    run: pb.DividendRun
    equal_count: int
    cap_minor: int
    loss_minor: int
    covered_minor: int
    taken_back_minor: int


def version_text(version: str) -> str:
    """ "cooperatives/valley/datasets/randhie/versions/1" as "randhie version 1"."""
    parts = version.split("/")
    return f"{parts[3]} version {parts[5]}" if len(parts) == 6 else version


def month_text(month: str) -> str:
    """ "2026-10" as "October 2026"."""
    return dt.date.fromisoformat(f"{month}-01").strftime("%B %Y")


def units_text(one: Contribution) -> str:
    """Where units come from, such as "12 rows x 31 days x 1.000"."""
    if not one.rows:
        return f"{one.units:,} points of the imported file"
    days = f" x {_count(one.days, 'day')}" if one.days else ""
    return f"{_count(one.rows, 'row')}{days} x {one.per_mille // 1000}.{one.per_mille % 1000:03}"


def explain(line: Line, totals: Totals) -> str:
    """The lines of a statement's explanation, one sentence each."""
    run, currency = totals.run, totals.run.currency

    def money(amount_minor: int) -> str:
        return format_money(Money(amount_minor=amount_minor, currency=currency))

    said = [_base(run, totals, money(totals.taken_back_minor))]
    if totals.loss_minor:
        rest = totals.loss_minor - totals.covered_minor
        said.append(
            f"The month ended with a loss of {money(totals.loss_minor)}: the reserve met"
            f" {money(totals.covered_minor)}, and {money(rest)} lessens what there is to divide next."
        )
    given = [
        f"{format_money(amount)} went to {whom}"
        for amount, whom in (
            (run.reserve, "the reserve"),
            (run.commons, "common projects"),
            (run.solidarity, "members in need"),
        )
        if amount.amount_minor
    ]
    patronage = run.equal_pool.amount_minor + run.contribution_pool.amount_minor
    said.append(f"{', '.join(given) + '; ' if given else ''}{money(patronage)} is the members'.")
    if run.equal_pool.amount_minor:
        alone = [source.pool for source in run.sources if source.version == NO_VERSION and source.pool.amount_minor]
        why = f", of which {format_money(alone[0])} was earned without members' rows" if alone else ""
        said.append(
            f"{format_money(run.equal_pool)}{why} is divided equally among {_count(totals.equal_count, 'member')}:"
            f" {money(line.equal_minor)} is yours."
        )
    pools = {source.version: source for source in run.sources}
    for part in line.parts:
        one, source = part.contribution, pools[part.contribution.version]
        pool = format_money(source.pool)
        said.append(
            f"Your {_units(one, source.total_units)} in {version_text(one.version)}, which earned"
            f" {format_money(source.earned)}, of which {pool} is divided by contribution:"
            f" {pool} x {one.units:,} / {source.total_units:,} = {money(part.amount_minor)}."
        )
    if line.cap_change_minor:
        bps = run.policy.policy.member_cap_bps
        verb = "took away" if line.cap_change_minor < 0 else "of other members brought you"
        said.append(
            f"Nobody gets more than {money(totals.cap_minor)}, {bps / WHOLE_BPS:.2%} of what is the members', or the same"
            f" as everybody where that is more: the cap {verb} {money(abs(line.cap_change_minor))}."
        )
    said.append(f"Together {money(line.amount_minor)}.")
    return "\n".join(said)


def _base(run: pb.DividendRun, totals: Totals, taken_back: str) -> str:
    before = []
    if run.costs.amount_minor:
        before.append(f"{format_money(run.costs)} of costs")
    if totals.taken_back_minor:
        before.append(f"{taken_back} that went back to buyers")
    taken = f" {' and '.join(before)} had been taken off before." if before else ""
    return (
        f"At the end of {month_text(run.month)} there was {format_money(run.surplus)} to divide: the surplus, less what"
        f" the cooperative owed the market.{taken} Version {run.policy.name.rsplit('/', 1)[-1]} of the policy was in force."
    )


def _units(one: Contribution, total_units: int) -> str:
    if not one.rows:
        return f"{one.units:,} points of {total_units:,}"
    if one.days:
        return f"{_count(one.rows, 'row')} on {_count(one.days, 'day')}"
    return f"{_count(one.rows, 'row')} of {total_units // one.per_mille:,}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
