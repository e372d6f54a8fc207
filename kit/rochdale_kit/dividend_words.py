"""A dividend policy in plain words, for whoever votes on it: made from its numbers and from nothing anybody wrote."""

from __future__ import annotations

from collections.abc import Sequence

from rochdale.type.v1 import dividend_policy_pb2 as pb
from rochdale_kit.money import format_money
from rochdale_kit.scope_words import duration

WHOLE_BPS = 10_000
_BASES = {
    pb.CONTRIBUTION_BASIS_RECORDS: "their rows in the versions that were licensed",
    pb.CONTRIBUTION_BASIS_RECORD_DAYS: "their rows in the versions that were licensed, times the days of the month on "
    "which they consented",
    pb.CONTRIBUTION_BASIS_IMPORTED: "weights computed elsewhere, from a file signed with the cooperative's key",
}


def policy_lines(policy: pb.DividendPolicy) -> Sequence[tuple[str, str]]:
    """A subject and the rest of its sentence, line by line. Shares of nothing are passed over."""
    lines = []
    for subject, bps, what in (
        ("Reserve", policy.reserve_bps, "of each month's surplus, which meets losses first"),
        ("Common projects", policy.commons_bps, "of each month's surplus"),
        ("Members in need", policy.solidarity_bps, "of each month's surplus"),
    ):
        if bps:
            lines.append((subject, f"{percent(bps)} {what}"))
    patronage = WHOLE_BPS - policy.reserve_bps - policy.commons_bps - policy.solidarity_bps
    lines.append(("Members", f"{percent(patronage)} of each month's surplus"))
    if policy.equal_bps:
        lines.append(("Equal parts", f"{percent(policy.equal_bps)} of what is the members', the same for everybody"))
    if policy.equal_bps < WHOLE_BPS:
        rest = "the rest" if policy.equal_bps else "all"
        basis = _BASES.get(policy.basis, "a basis this page has no words for")
        lines.append(("By contribution", f"{rest} of what is the members', by {basis}"))
    for factor in policy.dataset_factors:
        counts = f"{factor.per_mille / 1000:g} times" if factor.per_mille else "nothing"
        lines.append((f"A row of {factor.dataset}", f"counts {counts}"))
    if policy.member_cap_bps:
        most = f"{percent(policy.member_cap_bps)} of what is the members'; what is above goes to the others"
        lines.append(("At most for one member", most))
    if policy.min_payout.amount_minor:
        least = f"from {format_money(policy.min_payout)} on; what is less is carried forward and stays the member's"
        lines.append(("Paid out", least))
    else:
        lines.append(("Paid out", f"in {policy.min_payout.currency}, however little it is"))
    if policy.min_membership_seconds:
        lines.append(
            ("Eligible", f"who has been a member for {duration(policy.min_membership_seconds)} at a month's end")
        )
    else:
        lines.append(("Eligible", "who is a member at a month's end"))
    if policy.objection_seconds:
        lines.append(("Objections", f"within {duration(policy.objection_seconds)} after a month is worked out"))
    else:
        lines.append(("Objections", "none: a month is approved as soon as it is worked out"))
    return lines


def percent(bps: int) -> str:
    """ "12.5 %" of 1250 basis points."""
    return f"{bps / 100:g} %"
