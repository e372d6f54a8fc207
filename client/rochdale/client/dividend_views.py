"""Dividend runs, policies and statements as people read them, and how runs are named."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.billing.v1 import dividends_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_cooperative, short
from rochdale.client.terms import RUN_STATES, days, price, when
from rochdale.type.v1 import dividend_policy_pb2

RunName = Annotated[str, typer.Argument(metavar="RUN", help="run_…, as `rochdale dividends list` shows it.")]

_BASES = {
    dividend_policy_pb2.CONTRIBUTION_BASIS_RECORDS: "rows contributed",
    dividend_policy_pb2.CONTRIBUTION_BASIS_RECORD_DAYS: "rows contributed, times days of consent",
    dividend_policy_pb2.CONTRIBUTION_BASIS_IMPORTED: "weights from a signed file",
}


def run_name(market: Market, text: str) -> str:
    """Resource name of a run."""
    return in_cooperative("dividendRuns", text, lambda: market.organization)


def percent(bps: int) -> str:
    """ "20 %" of 2000."""
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d} %" if rest else f"{whole} %"


def policy_lines(version: dividends_pb2.DividendPolicyVersion) -> dict[str, str]:
    return {
        "in force since": when(version, "effective_time"),
        **policy_fields(version.policy),
        "decided by": short(version.proposal),
        "hash": version.policy_hash,
    }


def policy_fields(policy: dividend_policy_pb2.DividendPolicy) -> dict[str, str]:
    """What a policy says, in force or proposed."""
    return {
        "reserve": percent(policy.reserve_bps),
        "commons": percent(policy.commons_bps),
        "solidarity": percent(policy.solidarity_bps),
        "of the rest in equal parts": percent(policy.equal_bps),
        "and by": _BASES.get(policy.basis, "-"),
        "nobody more than": percent(policy.member_cap_bps) if policy.member_cap_bps else "",
        "paid from": price(policy.min_payout),
        "members for at least": days(policy.min_membership_seconds) if policy.min_membership_seconds else "",
        "objections": f"within {days(policy.objection_seconds)}" if policy.objection_seconds else "no time for them",
        **{f"a row of {short(one.dataset)} counts": f"{one.per_mille / 1000:g}" for one in policy.dataset_factors},
    }


def run_fields(run: dividends_pb2.DividendRun) -> dict[str, str]:
    return {
        "run": short(run.name),
        "month": run.month,
        "state": RUN_STATES.format(run.state),
        "to divide": price(run.surplus) if run.HasField("surplus") else "",
        "after costs of": price(run.costs) if run.HasField("costs") and run.costs.amount_minor else "",
        "reserve": price(run.reserve) if run.HasField("reserve") else "",
        "commons": price(run.commons) if run.commons.amount_minor else "",
        "solidarity": price(run.solidarity) if run.solidarity.amount_minor else "",
        "members, equally": price(run.equal_pool) if run.HasField("equal_pool") else "",
        "members, by contribution": price(run.contribution_pool) if run.HasField("contribution_pool") else "",
        "members": f"{run.member_count:,}" if run.member_count else "",
        "largest line": price(run.largest_line) if run.HasField("largest_line") else "",
        "median line": price(run.median_line) if run.HasField("median_line") else "",
        "posted": f"{run.posted_count:,}" if run.posted_count else "",
        "objections until": when(run, "objection_end_time"),
        "objections": str(len(run.objections)) if run.objections else "",
        "approved by": ", ".join(run.approved_by),
        "paid": price(run.paid) if run.HasField("paid") else "",
        "carried forward": f"{price(run.carried)}, {run.carried_count:,} members" if run.HasField("carried") else "",
        "inputs hash": run.inputs_hash,
    }


def statement_fields(statement: dividends_pb2.Statement) -> dict[str, str]:
    sign = "-" if statement.cap_reduces else "+"
    return {
        "month": statement.month,
        "run": f"{short(statement.run.name)}, {RUN_STATES.format(statement.state)}",
        "allotted": price(statement.amount),
        "cap": f"{sign}{price(statement.cap_change)}" if statement.cap_change.amount_minor else "",
        "carried in": price(statement.carried_in) if statement.carried_in.amount_minor else "",
        "withheld": price(statement.withheld) if statement.withheld.amount_minor else "",
        "paid": price(statement.paid) if statement.paid.amount_minor else "",
        "carried forward": price(statement.carried_out) if statement.carried_out.amount_minor else "",
        "because": statement.carry_reason.lower().replace("_", " "),
        "taxes": statement.tax_classification,
        "payment": statement.payment_reference,
    }
