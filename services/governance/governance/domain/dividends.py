"""How surplus is divided: when a policy makes sense, what is signed of one, and what members are told of their money."""

from __future__ import annotations

import calendar
import datetime as dt

from rochdale.billing.v1 import events_pb2 as billing
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.type.v1 import dividend_policy_pb2, signature_pb2
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.clock import to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.dividend_words import WHOLE_BPS, percent, policy_lines
from rochdale_kit.money import format_money, require_currency
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX


def check_policy(policy: dividend_policy_pb2.DividendPolicy, cooperative: str) -> None:
    """cooperative: resource name. Refuses with DELTA_ILL_FORMED, CURRENCY_UNKNOWN, DATASET_NOT_OWN."""
    require_currency(policy.min_payout.currency)
    divided = policy.reserve_bps + policy.commons_bps + policy.solidarity_bps
    if divided > WHOLE_BPS:
        raise Refusal(
            "DELTA_ILL_FORMED",
            f"The proposal divides {percent(divided)} of the surplus: reserve, commons and solidarity together.",
            divided_bps=divided,
        )
    seen: set[str] = set()
    for factor in policy.dataset_factors:
        if not factor.dataset.startswith(f"{cooperative}/datasets/"):
            raise Refusal(
                "DATASET_NOT_OWN", f"{factor.dataset} is not a dataset of {cooperative}.", dataset=factor.dataset
            )
        if factor.dataset in seen:
            raise Refusal(
                "DELTA_ILL_FORMED",
                f"The proposal says twice how much rows of {factor.dataset} count.",
                dataset=factor.dataset,
            )
        seen.add(factor.dataset)


def enacted(
    proposal: pb.Proposal,
    version: int,
    effective: dt.datetime,
    signature: signature_pb2.Signature,
    keys: CooperativeKeys,
) -> events_pb2.DividendPolicyEnacted:
    """The policy of a passed proposal, as it is kept and told. Refuses with SIGNATURE_INVALID any but the latest key's."""
    policy = events_pb2.DividendPolicyEnacted(
        cooperative=keys.cooperative,
        version=version,
        policy=proposal.delta.dividend_policy,
        proposal=proposal.name,
        tally_hash=proposal.tally.tally_hash,
        effective_time=to_timestamp(effective),
        signature=signature,
    )
    policy.policy_hash = hashed = hash_of_dividend_policy(policy)
    if signature.key_id != keys.latest_id or not keys.verify(signature, DIVIDEND_POLICY_PREFIX, hashed, effective):
        raise Refusal(
            "SIGNATURE_INVALID",
            f"The signature of the dividend policy of {proposal.name} is not one of the cooperative's latest key.",
            Kind.INVALID,
            name=proposal.name,
            policy_hash=hashed,
        )
    return policy


def require_no_signature(proposal: pb.Proposal, signature: signature_pb2.Signature) -> None:
    """Refuses the signature of a policy where none was voted on with SIGNATURE_INVALID."""
    if signature.key_id or signature.value:
        raise Refusal(
            "SIGNATURE_INVALID", f"{proposal.name} has no dividend policy to sign.", Kind.INVALID, name=proposal.name
        )


def policy_words(policy: dividend_policy_pb2.DividendPolicy) -> str:
    """The policy as a paragraph of the effect of a proposal."""
    lines = [f"{subject}: {rest}." for subject, rest in policy_lines(policy)]
    return "\n".join(["Divides the surplus of each month that ends from then on:", *lines])


def posted_words(dividend: billing.MemberDividend, month: str) -> tuple[str, str]:
    """Subject and text for the member to whom money was posted."""
    subject = f"{format_money(dividend.amount)} for {month_words(month)}"
    if dividend.carried_forward:
        text = (
            f"Your part of the surplus of {month_words(month)} is {format_money(dividend.amount)}. With what you had "
            "before, it is less than is paid out; it is carried forward, and stays yours."
        )
    else:
        text = (
            f"Your part of the surplus of {month_words(month)} is {format_money(dividend.amount)}. It will be paid to "
            "your account."
        )
    return subject, f"{text} Your statement shows how it was worked out."


def paid_words(dividend: billing.MemberDividend, month: str) -> tuple[str, str]:
    """Subject and text for the member to whom money was sent."""
    return (
        f"Paid: {format_money(dividend.amount)}",
        f"The cooperative's bank has sent you {format_money(dividend.amount)}, with the dividends of {month_words(month)}"
        " and whatever was carried forward before.",
    )


def month_words(month: str) -> str:
    """ "October 2026" of "2026-10"; anything else as it is."""
    year, _, number = month.partition("-")
    if number.isdigit() and 1 <= int(number) <= 12:
        return f"{calendar.month_name[int(number)]} {year}"
    return month
