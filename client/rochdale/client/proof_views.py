"""How reports of proving licenses again look in a terminal."""

from __future__ import annotations

from rochdale.access_broker.v1 import access_broker_pb2
from rochdale.client.names import short
from rochdale.client.output import say, table
from rochdale.client.terms import count


def failures_table(failures: list[access_broker_pb2.ProofFailure]) -> None:
    """What did not hold; its access is cut off already."""
    rows = [
        [short(each.license), short(each.grant), short(each.cooperative), each.reason, each.message]
        for each in failures
    ]
    table(["license", "grant", "cooperative", "reason", "why it does not hold"], rows, empty="Everything holds.")


def show_report(report: access_broker_pb2.ProofReport) -> None:
    """One report."""
    if report.proved_count or report.unanswered_count:
        unanswered = f"; {report.unanswered_count} could not be, and are tried again" if report.unanswered_count else ""
        say(f"{count(report.proved_count, 'grant')} proved from the vote on{unanswered}.")
    failures_table(list(report.failures))
