"""How a dividend run moves: its states, who may take the next step, and when the answer is no. No arithmetic, no I/O."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from billing.domain.dividends import Books, Division, Line
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale_kit.refusals import Kind, Refusal

DRAFT = pb.RUN_STATE_DRAFT
COMPUTED = pb.RUN_STATE_COMPUTED
OBJECTION = pb.RUN_STATE_OBJECTION
APPROVED = pb.RUN_STATE_APPROVED
POSTING = pb.RUN_STATE_POSTING
POSTED = pb.RUN_STATE_POSTED
PAYING = pb.RUN_STATE_PAYING
CLOSED = pb.RUN_STATE_CLOSED
DISCARDED = pb.RUN_STATE_DISCARDED

# Members see a run from here on; what was given up is the stewards'.
SHOWN = (OBJECTION, APPROVED, POSTING, POSTED, PAYING, CLOSED)
IS_POSTED = (POSTED, PAYING, CLOSED)
APPROVERS = 2
CHUNK = 500
# Each is read, answered and shown with the run; one member alone must not keep it from being approved.
MOST_OBJECTIONS = 10
# Fewer members behind a version are not told apart.
SMALL_GROUP = 10

BELOW_MINIMUM = "BELOW_MINIMUM"
NO_BANK_ACCOUNT = "NO_BANK_ACCOUNT"
BANK_ACCOUNT_TOO_NEW = "BANK_ACCOUNT_TOO_NEW"
RETURNED = "RETURNED"
UNCLASSIFIED = "unclassified"


class Withholding(Protocol):
    """Says what is withheld for taxes. The market decides nothing: it is told what a person decided."""

    def __call__(self, profile: pb.TaxProfile, amount_minor: int) -> int: ...


def by_profile(profile: pb.TaxProfile, amount_minor: int) -> int:
    """What the member's profile says, rounded down."""
    return amount_minor * profile.withholding_bps // 10_000


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands; amounts in minor units of its currency. The fields are the columns of its table."""

    id: str
    cooperative: str
    month: str
    currency: str
    policy_version: int
    create_time: dt.datetime
    state: pb.RunState.ValueType = DRAFT
    inputs_hash: str = ""
    base_minor: int = 0
    costs_minor: int = 0
    taken_back_minor: int = 0
    loss_minor: int = 0
    covered_minor: int = 0
    reserve_minor: int = 0
    commons_minor: int = 0
    solidarity_minor: int = 0
    equal_pool_minor: int = 0
    contribution_pool_minor: int = 0
    equal_count: int = 0
    equal_last_hash: str = ""
    cap_minor: int = 0
    member_count: int = 0
    largest_minor: int = 0
    median_minor: int = 0
    paid_minor: int = 0
    carried_count: int = 0
    carried_minor: int = 0
    objection_end_time: dt.datetime | None = None
    post_time: dt.datetime | None = None
    pay_time: dt.datetime | None = None
    bank_reference: str = ""

    @property
    def name(self) -> str:
        return f"cooperatives/{self.cooperative}/dividendRuns/{self.id}"

    @property
    def patronage_minor(self) -> int:
        return self.equal_pool_minor + self.contribution_pool_minor


@dataclass(frozen=True, slots=True)
class RunLine:
    """A member's line of a run as it stands. parts: what it gets of each version's pool."""

    member_id: str
    line: Line
    posted: bool
    carried_in_minor: int
    withheld_minor: int
    paid_minor: int
    carried_out_minor: int
    carry_reason: str
    classification: str
    payment_reference: str
    returned: bool

    @property
    def amount_minor(self) -> int:
        return self.line.amount_minor


def computed(run: Run, books: Books, division: Division, inputs_hash: str) -> Run:
    """The run with its figures; what was worked out before is gone."""
    amounts = sorted(line.amount_minor for line in division.lines if line.amount_minor)
    return replace(
        run,
        state=COMPUTED,
        inputs_hash=inputs_hash,
        base_minor=division.base_minor,
        costs_minor=books.costs_minor,
        taken_back_minor=books.taken_back_minor,
        loss_minor=books.loss_minor,
        covered_minor=books.covered_minor,
        reserve_minor=division.reserve_minor,
        commons_minor=division.commons_minor,
        solidarity_minor=division.solidarity_minor,
        equal_pool_minor=division.equal_pool_minor,
        contribution_pool_minor=division.contribution_pool_minor,
        equal_count=division.equal_count,
        equal_last_hash=division.equal_last_hash,
        cap_minor=division.cap_minor,
        member_count=len(division.lines),
        largest_minor=amounts[-1] if amounts else 0,
        median_minor=amounts[(len(amounts) - 1) // 2] if amounts else 0,
    )


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC, such as "2026-10"."""

    text: str

    @property
    def begin_time(self) -> dt.datetime:
        year, month = self.text.split("-")
        return dt.datetime(int(year), int(month), 1, tzinfo=dt.UTC)

    @property
    def end_time(self) -> dt.datetime:
        return self.begin_time + dt.timedelta(days=self.days)

    @property
    def days(self) -> int:
        year, month = self.text.split("-")
        return calendar.monthrange(int(year), int(month))[1]


def require_over(month: Month, at: dt.datetime) -> None:
    # The calendar ends at 9999 and begins at 1.
    if not "0001" <= month.text[:4] <= "9998" or month.end_time > at:
        raise Refusal("MONTH_NOT_OVER", f"{month.text} is not over yet.", Kind.STATE, month=month.text)


def require_state(run: str, state: pb.RunState.ValueType, *wanted: pb.RunState.ValueType) -> None:
    if state not in wanted:
        words = " or ".join(_word(one) for one in wanted)
        raise Refusal(
            "RUN_STATE_WRONG",
            f"{run} is {_word(state)}; this needs it to be {words}.",
            Kind.STATE,
            run=run,
            state=_word(state),
            needed=words,
        )


def _word(state: pb.RunState.ValueType) -> str:
    return pb.RunState.Name(state).removeprefix("RUN_STATE_")


def require_window(run: str, end_time: dt.datetime, at: dt.datetime) -> None:
    """For an objection."""
    if at >= end_time:
        raise Refusal(
            "OBJECTIONS_CLOSED",
            f"Objections to {run} were taken until {end_time:%Y-%m-%d %H:%M} UTC.",
            Kind.STATE,
            run=run,
            objection_end_time=end_time.isoformat(),
        )


def require_few(run: str, said: int) -> None:
    """For another objection of one member."""
    if said >= MOST_OBJECTIONS:
        raise Refusal(
            "OBJECTIONS_TOO_MANY",
            f"You have objected to {run} {said} times; your stewards answer each of them.",
            Kind.STATE,
            run=run,
            limit=MOST_OBJECTIONS,
        )


def require_heard(run: str, end_time: dt.datetime, unanswered: int, at: dt.datetime) -> None:
    """For an approval."""
    if at < end_time:
        raise Refusal(
            "OBJECTIONS_OPEN",
            f"Members may object to {run} until {end_time:%Y-%m-%d %H:%M} UTC.",
            Kind.STATE,
            run=run,
            objection_end_time=end_time.isoformat(),
        )
    if unanswered:
        raise Refusal(
            "OBJECTIONS_OPEN",
            f"{unanswered} objections to {run} have no answer.",
            Kind.STATE,
            run=run,
            unanswered=unanswered,
        )


def require_seen(run: str, inputs_hash: str, seen: str) -> None:
    if inputs_hash != seen:
        raise Refusal(
            "INPUTS_CHANGED",
            f"{run} was worked out anew since; look at it again.",
            Kind.STATE,
            run=run,
            inputs=inputs_hash,
        )


def require_independent(run: str, person: str, approved_by: Collection[str]) -> None:
    """Two people, not two keys."""
    if person in approved_by:
        raise Refusal(
            "APPROVER_NOT_INDEPENDENT",
            f"{person} has approved {run}; the second approval is another person's.",
            Kind.STATE,
            run=run,
            person=person,
        )


def require_surplus(run: str, needed_minor: int, there_minor: int) -> None:
    if there_minor < needed_minor:
        raise Refusal(
            "SURPLUS_SHORT",
            f"{run} divides {needed_minor} minor units, and {max(0, there_minor)} are there by now; discard it.",
            Kind.STATE,
            run=run,
            needed_minor=needed_minor,
            there_minor=max(0, there_minor),
        )


def require_bank(run: str, needed_minor: int, there_minor: int) -> None:
    if there_minor < needed_minor:
        raise Refusal(
            "BANK_SHORT",
            f"Payments of {run} come to {needed_minor} minor units; the cooperative's bank has {max(0, there_minor)}.",
            Kind.STATE,
            run=run,
            needed_minor=needed_minor,
            there_minor=max(0, there_minor),
        )


def carry_reason(
    held_minor: int, policy: DividendPolicy, currency: str, account: tuple[dt.datetime, bool] | None, at: dt.datetime
) -> str:
    """Why a member is not paid now; empty when they are. account: from when the one they named is used, and whether a
    payment to it came back; None for a member who named none.

    A least payout in another currency than the run's says nothing about it.
    """
    if held_minor < least_payout(policy, currency):
        return BELOW_MINIMUM
    if account is None:
        return NO_BANK_ACCOUNT
    usable_time, returned = account
    if returned:
        return RETURNED
    return BANK_ACCOUNT_TOO_NEW if usable_time > at else ""


def least_payout(policy: DividendPolicy, currency: str) -> int:
    return policy.min_payout.amount_minor if policy.min_payout.currency == currency else 0
