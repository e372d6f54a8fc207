"""The example of docs/reference/dividends.md is what the code works out."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from billing.domain.dividend_runs import Month
from billing.domain.dividends import Books, Contribution, Earning, Inputs, Member, compute
from rochdale.type.v1.dividend_policy_pb2 import CONTRIBUTION_BASIS_RECORDS, DividendPolicy
from rochdale.type.v1.money_pb2 import Money

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "dividends.md").read_text()
ROWS = {"mem_ADA": 12, "mem_BEN": 7, "mem_CLEO": 1}


def cents(text: str) -> int:
    return int(text.replace(".", "").replace("+", "").replace(",", ""))


def test_the_example_is_what_the_code_works_out() -> None:
    run = re.search(r"`(run_\w+)`", PAGE)
    assert run is not None
    division = compute(
        Inputs(
            run_id=run[1],
            month="2026-10",
            end_time=Month("2026-10").end_time,
            currency="EUR",
            policy=DividendPolicy(
                reserve_bps=2_000,
                commons_bps=300,
                solidarity_bps=200,
                equal_bps=1_000,
                member_cap_bps=5_000,
                basis=CONTRIBUTION_BASIS_RECORDS,
                min_payout=Money(amount_minor=1_000, currency="EUR"),
            ),
            books=Books(100_001, 100_001, 0, 0),
            members=[Member(one, dt.datetime(2025, 1, 1, tzinfo=dt.UTC)) for one in ROWS],
            earnings=[Earning("shr", 100_001, ("v1",))],
            contributions=[Contribution(one, "v1", rows * 1_000, rows) for one, rows in ROWS.items()],
        )
    )
    steps = {
        name: cents(amount) for name, amount in re.findall(r"^\| (\w+) \| [^|]*\| ([0-9.]+) \|$", PAGE, re.MULTILINE)
    }
    assert steps == {
        "reserve": division.reserve_minor,
        "commons": division.commons_minor,
        "solidarity": division.solidarity_minor,
        "members": division.patronage_minor,
        "equal": division.equal_pool_minor,
        "contribution": division.contribution_pool_minor,
        "cap": division.cap_minor,
    }
    told = re.findall(r"^\| (mem_\w+) \| (\S+) \| (\S+) \| [^|]* \| (\S+) \| (\S+) \|$", PAGE, re.MULTILINE)
    assert [(member, *map(cents, amounts)) for member, *amounts in told] == [
        (line.member, line.equal_minor, line.parts[0].amount_minor, line.cap_change_minor, line.amount_minor)
        for line in division.lines
    ]
