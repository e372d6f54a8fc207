"""Closing months: which one is next, and when the answer is no. A closed month takes no journal, by the database's word."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal


@dataclass(frozen=True)
class ClosedMonth:
    """A month of a book that was closed. `seal` covers every journal of the book before `end_time`."""

    book: str
    month: str
    end_time: dt.datetime
    seal: str
    close_time: dt.datetime
    closed_by: str

    def resource(self) -> pb.ClosedMonth:
        return pb.ClosedMonth(
            month=self.month,
            book=self.book,
            seal=self.seal,
            close_time=to_timestamp(self.close_time),
            closed_by=self.closed_by,
        )


def month_of(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m}"


def end_of(month: str) -> dt.datetime:
    """The first moment after a month such as "2026-09", in UTC. Refuses with REQUEST_INVALID a year no calendar has."""
    year, number = (int(part) for part in month.split("-"))
    try:
        return dt.datetime(year + number // 12, number % 12 + 1, 1, tzinfo=dt.UTC)
    except ValueError:
        raise Refusal(
            "REQUEST_INVALID", f"month: {month} is in no calendar.", Kind.INVALID, field="month", rule="month"
        ) from None


def check(
    month: str,
    last: ClosedMonth | None,
    first_journal: dt.datetime | None,
    reconciled: dt.datetime | None,
    open_breaks: int,
    now: dt.datetime,
) -> None:
    """Refuses with MONTH_NOT_OVER, MONTH_CLOSED, MONTH_OUT_OF_ORDER, NOT_RECONCILED, BREAKS_OPEN.

    first_journal: of the book; the first month to close is its. reconciled: when the books were compared last.
    """
    end = end_of(month)
    if now < end:
        raise Refusal("MONTH_NOT_OVER", f"{month} ends at {end.isoformat()}.", Kind.STATE, month=month)
    if last is not None and month <= last.month:
        raise Refusal(
            "MONTH_CLOSED",
            f"{last.month} and all before it are closed.",
            Kind.STATE,
            month=month,
            closed_month=last.month,
        )
    if last is not None or first_journal is not None:
        expected = month_of(last.end_time if last is not None else first_journal or now)
        if month != expected:
            raise Refusal(
                "MONTH_OUT_OF_ORDER",
                f"The next month to close is {expected}, not {month}.",
                Kind.STATE,
                month=month,
                next_month=expected,
            )
    if reconciled is None or reconciled < end:
        raise Refusal(
            "NOT_RECONCILED",
            f"The books were not compared since {month} ended; that happens each night, or when an operator says so.",
            Kind.STATE,
            month=month,
        )
    if open_breaks:
        raise Refusal(
            "BREAKS_OPEN",
            f"{open_breaks} differences that reconciliation found are open.",
            Kind.STATE,
            month=month,
            open_break_count=open_breaks,
        )
