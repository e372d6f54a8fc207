"""Forty histories of money from fixed seeds, each step audited; the hard cases they must have met; and whether the auditor
notices. `make simulate` plays a thousand others."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from money_auditor import Auditor
from money_engine import AFTER_COMMIT, AFTER_RAIL, BEFORE_COMMIT, BEFORE_RAIL, DEATHS
from money_reading import Wrong
from money_simulation import Result, Simulation, simulation
from money_story import Story

from rochdale_local.postgres import Postgres

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


@pytest_asyncio.fixture(scope="module")
async def running(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulation]:
    async with simulation(postgres, "money_sample", tmp_path_factory.mktemp("money")) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def sample(running: Simulation) -> Result:
    total = Result()
    for seed in SEEDS:
        total.add(await running.play(seed))
    return total


async def test_whatever_happens_every_cent_is_accounted_for(sample: Result) -> None:
    told = [f"seed {seed}: {wrong}\n" + "\n".join(log[-20:]) for seed, wrong, log in sample.failures]
    assert not told, "\n\n".join(told)


async def test_every_hard_case_was_met(sample: Result) -> None:
    """A simulation that stopped meeting them would go on passing, and say nothing."""
    assert [case for case in HARD_CASES if not sample.met[case]] == []


async def test_the_process_died_in_every_stretch(sample: Result) -> None:
    stretches = [f"death in {work}, {where}" for work in WRITTEN for where in (BEFORE_COMMIT, AFTER_COMMIT)]
    stretches += [f"death in {work}, {where}" for work in ASKED for where in (BEFORE_RAIL, AFTER_RAIL)]
    assert [stretch for stretch in stretches if not sample.met[stretch]] == []
    assert all(sample.met[f"death {where}"] for where in DEATHS)


async def test_a_seed_tells_the_same_story_again(running: Simulation) -> None:
    stories: list[list[str]] = []

    async def keep(history: Story) -> None:
        stories.append(history.log)

    for _ in range(2):
        assert not (await running.play(45, keep)).failures
    assert stories[0] == stories[1]


# One row changed a little, and changed back.
TAMPERED = {
    "an entry": ("UPDATE entry SET amount_minor = amount_minor {} WHERE journal_id = (SELECT min(id) FROM journal)"
                 " AND seq = 1"),
    "a cached balance": "UPDATE account SET balance_minor = balance_minor {} WHERE code LIKE 'coop:%:receivable'",
    "what was refunded": ('UPDATE "order" SET refunded_minor = refunded_minor - (0 {})'
                          " WHERE id = (SELECT order_id FROM refund ORDER BY id LIMIT 1)"),
    "a share": "UPDATE share SET net_minor = net_minor {} WHERE refunded_minor = 0",
    "a fee": "UPDATE share SET fee_minor = fee_minor - (0 {})",
    "a reserve": "UPDATE share SET reserve_minor = reserve_minor {} WHERE state = 2",
    "a refund": "UPDATE refund SET cooperative_minor = cooperative_minor {}",
    "a transfer": "UPDATE transfer SET amount_minor = amount_minor {}",
    "a line of a run": ("UPDATE dividend_line SET amount_minor = amount_minor {}, equal_minor = equal_minor {},"
                      " carried_out_minor = carried_out_minor {} WHERE posted"),
    "a payment to a member": ("UPDATE dividend_line SET paid_minor = paid_minor {}, withheld_minor = withheld_minor - (0 {})"
                             " WHERE withheld_minor > 0"),
    "a run": "UPDATE dividend_run SET reserve_minor = reserve_minor {} WHERE state >= 6",
    "an invoice": "UPDATE invoice SET amount_minor = amount_minor {} WHERE kind = 2",
    "two entries that still balance": (
        "UPDATE entry SET amount_minor = amount_minor + CASE seq WHEN 1 THEN (0 {}) ELSE -(0 {}) END"
        " WHERE seq <= 2 AND journal_id = (SELECT min(id) FROM journal WHERE kind IN ('charge', 'bank_payment'))"),
}  # fmt: skip


async def test_the_auditor_notices_every_changed_row(running: Simulation) -> None:
    unnoticed: list[str] = []
    full: list[int] = []

    async def tamper(history: Story) -> None:
        await running.connection.execute("SET session_replication_role = 'replica'")
        if await everything_there(running):
            full.append(history.seed)
            unnoticed.extend(await unnoticed_of(running, history))
        await running.connection.execute("RESET session_replication_role")

    for seed in FULL:
        assert not (await running.play(seed, tamper)).failures
        if full:
            break
    assert full, "no history has a row of every kind"
    assert unnoticed == []


async def everything_there(running: Simulation) -> bool:
    """Whether every change finds a row."""
    for statement in TAMPERED.values():
        attempt = running.connection.transaction()
        await attempt.start()
        try:
            changed = await running.connection.execute(statement.replace("{}", "+ 1"))
        except asyncpg.CheckViolationError:
            # The database itself would not have it.
            changed = "UPDATE 0"
        await attempt.rollback()
        if changed.endswith(" 0"):
            return False
    return True


async def unnoticed_of(running: Simulation, history: Story) -> list[str]:
    """The changes that a fresh auditor has nothing to say of."""
    found = []

    def auditor() -> Auditor:
        return Auditor(running.connection, history.bench.world, history.said)

    for what, statement in TAMPERED.items():
        await running.connection.execute(statement.replace("{}", "+ 1"))
        try:
            await auditor().audit()
            found.append(what)
        except Wrong:
            pass
        await running.connection.execute(statement.replace("{}", "- 1"))
    await auditor().audit()
    # And money at Stripe that nobody booked.
    asked = {"amount": 500, "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa"}
    asked |= {"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
    paid = await history.bench.world.post("/v1/payment_intents", data=asked)
    assert paid.status_code == 200, paid.text
    try:
        await auditor().final()
        found.append("a charge at Stripe")
    except Wrong:
        pass
    return found
