"""A member's statement as a file: PDF, CSV, and JSON with all that is needed to work it out again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from google.protobuf.json_format import MessageToDict
from reportlab.lib.units import mm
from reportlab.platypus import Spacer

from billing.domain.allocation import tie_break
from billing.domain.dividend_runs import Run, RunLine
from billing.domain.dividend_words import month_text
from billing.domain.dividends import Source
from billing.domain.payment_files import guarded
from billing.pdf import a4, pairs, text
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_kit.money import format_money, require_currency

UNDECIDED = (
    "How this is taxed was not decided: nothing was withheld for that reason, and this is no tax form. A later"
    " decision counts for later months."
)
_RULE = (
    "amount = floor(pool_minor * units / total_units), and one more if the remainder pool_minor * units mod total_units"
    " is larger than last_remainder, or equal to it and tie_break <= last_hash; the equal part has one unit for each of"
    " its members; no last_hash means that nothing was left; tie_break = SHA-256 of run, a zero byte and member"
)


def exported(
    format: pb.StatementFormat.ValueType, statement: pb.Statement, run: Run, line: RunLine, sources: Sequence[Source]
) -> pb.ExportStatementResponse:
    """The same statement always gives the same bytes."""
    if format == pb.STATEMENT_FORMAT_PDF:
        content, ending = _pdf(statement, run), "pdf"
    elif format == pb.STATEMENT_FORMAT_CSV:
        content, ending = _csv(statement), "csv"
    else:
        content, ending = _json(statement, run, line, sources), "json"
    return pb.ExportStatementResponse(file_name=f"statement-{run.month}.{ending}", content=content)


def _pdf(statement: pb.Statement, run: Run) -> bytes:
    title = f"Dividend of {month_text(run.month)}"
    sums = [
        ("Carried forward before", format_money(statement.carried_in)),
        ("Allotted for this month", format_money(statement.amount)),
        ("Withheld for taxes", format_money(statement.withheld)),
        ("Paid", format_money(statement.paid)),
        ("Carried forward", format_money(statement.carried_out)),
        ("Why", statement.carry_reason),
        ("Payment reference", statement.payment_reference),
        ("Classified for taxes as", statement.tax_classification),
    ]
    parts = [
        text(title, bold=True, size=16),
        Spacer(1, 6 * mm),
        pairs([("Cooperative", run.cooperative), ("Member", statement.name.split("/")[3]), ("Run", run.id)]),
        Spacer(1, 4 * mm),
        pairs([(name, value) for name, value in sums if value]),
        Spacer(1, 6 * mm),
        text("How it was worked out", bold=True, size=11),
        *(text(sentence) for sentence in statement.explanation.split("\n")),
        Spacer(1, 4 * mm),
        *([text(UNDECIDED)] if statement.tax_classification == "unclassified" else []),
        Spacer(1, 4 * mm),
        pairs([("Inputs SHA-256", run.inputs_hash), ("Policy SHA-256", statement.run.policy.policy_hash)], size=7),
    ]
    return a4(title, f"cooperatives/{run.cooperative}", parts)


def _csv(statement: pb.Statement) -> bytes:
    currency = statement.amount.currency
    exponent = require_currency(currency).exponent

    def money(amount_minor: int) -> str:
        return f"{Decimal(amount_minor).scaleb(-exponent):.{exponent}f}"

    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\r\n")
    rows.writerow(("month", "what", "version", "units", "total_units", "pool", "amount", "currency"))

    def row(what: str, amount: str, version: str = "", *numbers: str) -> None:
        # Units, total units and pool are given together or not at all.
        middle = numbers or ("", "", "")
        rows.writerow([guarded(cell) for cell in (statement.month, what, version, *middle)] + [amount, currency])

    row("equal part", money(statement.equal_part.amount_minor))
    for source in statement.sources:
        numbers = (str(source.units), str(source.total_units), money(source.pool.amount_minor))
        row("contribution", money(source.amount.amount_minor), source.version, *numbers)
    if statement.cap_change.amount_minor:
        row("cap", ("-" if statement.cap_reduces else "") + money(statement.cap_change.amount_minor))
    for what, amount in (
        ("allotted", statement.amount),
        ("carried in", statement.carried_in),
        ("withheld", statement.withheld),
        ("paid", statement.paid),
        ("carried out", statement.carried_out),
    ):
        row(what, money(amount.amount_minor))
    return out.getvalue().encode()


def _json(statement: pb.Statement, run: Run, line: RunLine, sources: Sequence[Source]) -> bytes:
    """With what rounding went by, so that the member's part comes out to the last cent without anybody else's."""
    hash = tie_break(run.id, line.member_id)
    ends = {source.version: source for source in sources}
    document: dict[str, Any] = {
        "statement": MessageToDict(statement, preserving_proto_field_name=True),
        "rule": _RULE,
        "run": run.id,
        "member": line.member_id,
        "tie_break": hash,
        "cap_minor": run.cap_minor,
        "equal": {
            "pool_minor": run.equal_pool_minor,
            "members": run.equal_count,
            "last_hash": run.equal_last_hash,
            "amount_minor": line.line.equal_minor,
        },
        "contributions": [
            {
                "version": part.contribution.version,
                "rows": part.contribution.rows,
                "per_mille": part.contribution.per_mille,
                "days": part.contribution.days,
                "units": part.contribution.units,
                "total_units": source.total_units,
                "pool_minor": source.pool_minor,
                "last_remainder": source.last_remainder,
                "last_hash": source.last_hash,
                "amount_minor": part.amount_minor,
            }
            for part in line.line.parts
            for source in [ends[part.contribution.version]]
        ],
    }
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False).encode()
