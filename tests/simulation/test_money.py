"""Forty histories of money from fixed seeds, each step audited; the hard cases they must have met; and whether the auditor
notices. `make simulate` plays a thousand others."""

import pytest
from money_engine import AFTER_COMMIT, AFTER_RAIL, BEFORE_COMMIT, BEFORE_RAIL, DEATHS
from money_sample import apart, played, tampered_with, told_twice
from money_simulation import Result

# In the first nine, one of each theme, the process dies in every stretch of everything it does.
SEEDS = range(40)
# Those of dividends, among which one has a row of every kind.
FULL = range(14, 140, 9)
HARD_CASES = (
    "refund after dividend",
    "dispute lost after payout",
    "dispute lost before release",
    "dispute won",
    "dispute above the charge",
    "reversal short",
    "webhook twice",
    "webhook dropped",
    "late webhook on a superseded attempt",
    "money on an attempt given up",
    "carried forward",
    "carried in and paid",
    "dividends posted in parts",
    "dividend came back",
    "payout returned",
    "cap reached",
    "refund became a receivable",
    "wrong bank transfer",
    "answer lost until its key was forgotten",
)
# What is written down, and what Stripe is asked beside that: the process died before and after each.
WRITTEN = (
    "LicenseAgreed", "UsageRecorded", "StartPayment", "ImportBankTransfers", "RefundOrder", "ConfirmPayout",
    "ReturnPayout", "CreateDividendRun", "ComputeDividendRun", "PostDividendRun", "PayDividendRun",
    "SettleDividendPayments", "webhooks", "releasing", "payouts begun", "payouts sent", "asked back", "renewing",
)  # fmt: skip
ASKED = ("StartPayment", "RefundOrder", "payouts sent", "asked back", "renewing")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def sample() -> Result:
    return apart(played, SEEDS)


def test_whatever_happens_every_cent_is_accounted_for(sample: Result) -> None:
    told = [f"seed {seed}: {wrong}\n" + "\n".join(log[-20:]) for seed, wrong, log in sample.failures]
    assert not told, "\n\n".join(told)


def test_every_hard_case_was_met(sample: Result) -> None:
    """A simulation that stopped meeting them would go on passing, and say nothing."""
    assert [case for case in HARD_CASES if not sample.met[case]] == []


def test_the_process_died_in_every_stretch(sample: Result) -> None:
    stretches = [f"death in {work}, {where}" for work in WRITTEN for where in (BEFORE_COMMIT, AFTER_COMMIT)]
    stretches += [f"death in {work}, {where}" for work in ASKED for where in (BEFORE_RAIL, AFTER_RAIL)]
    assert [stretch for stretch in stretches if not sample.met[stretch]] == []
    assert all(sample.met[f"death {where}"] for where in DEATHS)


def test_a_seed_tells_the_same_story_again() -> None:
    first, second = apart(told_twice, 45)
    assert first == second


def test_the_auditor_notices_every_changed_row() -> None:
    unnoticed = apart(tampered_with, FULL)
    assert unnoticed is not None, "no history has a row of every kind"
    assert unnoticed == []
