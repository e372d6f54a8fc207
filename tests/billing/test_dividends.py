"""Dividends from a released share to a posted run: what earns, who may take each step, and that it happens once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dividend_world import LONG_AGO, Cooperative, Market, open_market
from house import refused, request_id

from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_local.postgres import Postgres

MARCH, APRIL, MAY = "2026-03", "2026-04", "2026-05"
IN_APRIL = dt.datetime(2026, 4, 5, tzinfo=dt.UTC)


@pytest_asyncio.fixture(scope="module")
async def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    async with open_market(postgres, tmp_path_factory.mktemp) as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def stub(market: Market) -> object:
    return await market.start()


@pytest.fixture
async def coop(market: Market, stub: object) -> Cooperative:
    return await market.cooperative(stub)


async def test_rows_earn_by_the_license_that_delivered_them_and_a_member_sees_how(coop: Cooperative) -> None:
    ada, ben, *others = await coop.join(12)
    await coop.enact(coop.policy(reserve_bps=2_000, equal_bps=1_000))
    await coop.contribute(coop.version(), {ada: 12, ben: 8, **dict.fromkeys(others, 1)})
    await coop.earn(100_000, MARCH, coop.version())
    run = await coop.compute(MARCH)
    assert (run.surplus.amount_minor, run.reserve.amount_minor) == (100_000, 20_000)
    assert (run.equal_pool.amount_minor, run.contribution_pool.amount_minor) == (8_000, 72_000)
    [source] = run.sources
    assert (source.version, source.member_count, source.total_units) == (coop.version(), 12, 30_000)
    assert source.earned.amount_minor == 100_000
    # Thirteen with the steward, who has no rows: 8,000 / 13 is 615 and a rest; 72,000 x 12 / 30 is 28,800.
    statement = await coop.statement(run, ada)
    assert statement.equal_part.amount_minor in (615, 616)
    [part] = statement.sources
    assert (part.units, part.units_text, part.amount.amount_minor) == (12_000, "12 rows x 1.000", 28_800)
    assert statement.explanation.split("\n") == [
        "At the end of March 2026 there was EUR 1,000.00 to divide: the surplus, less what the cooperative owed the"
        " market. Version 1 of the policy was in force.",
        "EUR 200.00 went to the reserve; EUR 800.00 is the members'.",
        f"EUR 80.00 is divided equally among 13 members: EUR 6.{statement.equal_part.amount_minor - 600} is yours.",
        "Your 12 rows of 30 in randhie version 1, which earned EUR 1,000.00, of which EUR 720.00 is divided by"
        " contribution: EUR 720.00 x 12,000 / 30,000 = EUR 288.00.",
        f"Together EUR 294.{statement.equal_part.amount_minor - 600}.",
    ]
    run = await coop.post(await coop.approve(run))
    assert run.state == pb.RUN_STATE_POSTED and run.posted_count == run.member_count == 13
    assert await coop.payable(ada) == statement.amount.amount_minor
    assert [await coop.balance(code) for code in ("surplus", "reserve", "dividend_pool")] == [0, 20_000, 0]
    [told] = await coop.told("DividendPosted")
    assert sum(one.amount.amount_minor for one in told.dividends) == 80_000
    assert {one.member for one in told.dividends if not one.carried_forward} >= {ada, ben}
    assert await coop.flaws() == []


async def test_members_see_their_own_line_and_totals_and_no_small_group(coop: Cooperative) -> None:
    ada, ben = await coop.join(2)
    await coop.enact(coop.policy())
    await coop.contribute(coop.version(), {ada: 2, ben: 1})
    await coop.earn(900, MARCH, coop.version())
    run = await coop.compute(MARCH)
    person, get = await coop.person(ada), pb.GetDividendRunRequest(name=run.name)
    async with refused("NOT_FOUND"):
        await coop.ask("GetDividendRun", get, person)
    await coop.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name))
    seen = await coop.ask("GetDividendRun", get, person)
    assert [source.member_count for source in seen.sources] == [0] and not seen.HasField("largest_line")
    assert [source.member_count for source in (await coop.ask("GetDividendRun", get)).sources] == [2]
    assert (await coop.statement(run, ada, person)).amount.amount_minor == 600
    async with refused("NOT_FOUND"):
        await coop.statement(run, ben, person)
    listed = await coop.ask("ListDividendRuns", pb.ListDividendRunsRequest(parent=coop.name), person)
    assert [one.name for one in listed.dividend_runs] == [run.name]
    other = await coop.market.cooperative(coop.stub)
    for request, method in (
        (get, "GetDividendRun"),
        (pb.ListDividendRunsRequest(parent=coop.name), "ListDividendRuns"),
        (pb.ListDividendPoliciesRequest(parent=coop.name), "ListDividendPolicies"),
        (pb.PostDividendRunRequest(name=run.name), "PostDividendRun"),
        (pb.ListStatementsRequest(parent=ada), "ListStatements"),
        (pb.GetTaxProfileRequest(parent=ada), "GetTaxProfile"),
    ):
        async with refused("NOT_FOUND"):
            await coop.ask(method, request, other.steward)


async def test_a_run_waits_for_its_objections_and_for_two_people(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    person = await coop.person(ada)
    await coop.enact(coop.policy(objection_seconds=2, equal_bps=10_000))
    await coop.earn(1_000, MARCH)
    run = await coop.compute(MARCH)

    async def approve(who: object = None, seen: str = run.inputs_hash) -> pb.DividendRun:
        request = pb.ApproveDividendRunRequest(request_id=request_id(), name=run.name, inputs_hash=seen)
        return await coop.ask("ApproveDividendRun", request, who)  # type: ignore[arg-type, no-any-return]

    async with refused("RUN_STATE_WRONG", state="COMPUTED"):
        await approve()
    shown = await coop.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name))
    assert await coop.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name)) == shown
    objection = pb.ObjectToDividendRunRequest(request_id=request_id(), name=run.name, text="My rows are missing.")
    [heard] = (await coop.ask("ObjectToDividendRun", objection, person)).objections
    assert (heard.number, heard.member) == (1, ada)
    assert len((await coop.ask("ObjectToDividendRun", objection, person)).objections) == 1
    async with refused("OBJECTIONS_OPEN"):
        await approve()
    await asyncio.sleep(2.1)
    async with refused("OBJECTIONS_CLOSED"):
        late = pb.ObjectToDividendRunRequest(request_id=request_id(), name=run.name, text="Late.")
        await coop.ask("ObjectToDividendRun", late, person)
    async with refused("OBJECTIONS_OPEN", unanswered="1"):
        await approve()
    answer = pb.AnswerObjectionRequest(request_id=request_id(), name=run.name, number=1, answer="They come in April.")
    assert (await coop.ask("AnswerObjection", answer)).objections[0].answer == "They come in April."
    async with refused("OBJECTION_ANSWERED"):
        again = pb.AnswerObjectionRequest(request_id=request_id(), name=run.name, number=1, answer="No.")
        await coop.ask("AnswerObjection", again)
    async with refused("INPUTS_CHANGED"):
        await approve(seen="0" * 64)
    assert (await approve()).state == pb.RUN_STATE_OBJECTION
    # Another key of the organization, without a member behind it, is nobody else.
    colleague = await coop.market.house.colleague(coop.steward)
    async with refused("APPROVER_NOT_INDEPENDENT"):
        await approve(colleague)
    run = await approve(coop.second)
    assert run.state == pb.RUN_STATE_APPROVED and len(run.approved_by) == 2


async def test_a_month_is_divided_once_and_after_the_one_before_it(coop: Cooperative) -> None:
    await coop.join(1)
    async with refused("POLICY_MISSING"):
        await coop.create(MARCH)
    await coop.enact(coop.policy(equal_bps=10_000))
    later = dt.datetime.now(dt.UTC).strftime("%Y-%m")
    async with refused("MONTH_NOT_OVER"):
        await coop.create(later)
    async with refused("CURRENCY_UNKNOWN"):
        await coop.create(MARCH, "XXX")
    wish = pb.CreateDividendRunRequest(request_id=request_id(), parent=coop.name, month=MARCH, currency="EUR")
    run, same = await asyncio.gather(coop.ask("CreateDividendRun", wish), coop.ask("CreateDividendRun", wish))
    assert run == same
    async with refused("RUN_EXISTS"):
        await coop.create(MARCH)
    async with refused("MONTH_OUT_OF_ORDER", other_month=MARCH):
        await coop.create(APRIL)
    async with refused("MONTH_OUT_OF_ORDER"):
        await coop.create("2026-02")
    assert (await coop.create(APRIL, "USD")).currency == "USD"
    discard = pb.DiscardDividendRunRequest(request_id=request_id(), name=run.name)
    assert (await coop.ask("DiscardDividendRun", discard)).state == pb.RUN_STATE_DISCARDED
    async with refused("RUN_STATE_WRONG"):
        await coop.ask("ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))
    wishes = [
        pb.CreateDividendRunRequest(request_id=request_id(), parent=coop.name, month=month, currency="EUR")
        for month in (MARCH, APRIL, MARCH)
    ]
    answers = await asyncio.gather(*(coop.ask("CreateDividendRun", one) for one in wishes), return_exceptions=True)
    assert sum(isinstance(answer, pb.DividendRun) for answer in answers) == 1


async def test_what_a_run_divided_is_not_divided_again_however_late_it_was_posted(coop: Cooperative) -> None:
    """Posted long after the month's end, the earlier run's money is in no later pool."""
    await coop.join(1)
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.earn(1_000, MARCH)
    await coop.earn(500, APRIL)
    march = await coop.divide(MARCH)
    assert march.surplus.amount_minor == 1_000
    assert (await coop.divide(APRIL)).surplus.amount_minor == 500
    assert (await coop.divide(MAY)).surplus.amount_minor == 0
    assert await coop.balance("surplus") == 0
    assert await coop.flaws() == []


async def test_a_policy_counts_from_when_it_is_in_force_and_only_if_it_is_signed(coop: Cooperative) -> None:
    await coop.join(1)
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.enact(coop.policy(reserve_bps=5_000), at=dt.datetime(2026, 4, 15, tzinfo=dt.UTC))
    forged = coop.policy(reserve_bps=10_000)
    await coop.enact(forged, signature=None)
    parked = "SELECT reason FROM parked_event WHERE reason = 'POLICY_SIGNATURE_INVALID'"
    await coop.heard(parked)
    listed = await coop.ask("ListDividendPolicies", pb.ListDividendPoliciesRequest(parent=coop.name))
    assert [one.policy.reserve_bps for one in listed.policies] == [0, 5_000]
    await coop.earn(1_000, MARCH)
    assert (await coop.divide(MARCH)).policy.name.endswith("/1")
    await coop.earn(1_000, APRIL)
    april = await coop.divide(APRIL)
    assert april.policy.name.endswith("/2") and april.reserve.amount_minor == 500


async def test_a_refund_between_the_approval_and_the_posting_stops_the_run(coop: Cooperative) -> None:
    await coop.join(1)
    await coop.enact(coop.policy(equal_bps=10_000))
    share = await coop.earn(1_000, MARCH, in_bank=False)
    run = await coop.approve(await coop.compute(MARCH))
    await coop.refund(share, 400, IN_APRIL)
    async with refused("SURPLUS_SHORT", needed_minor="1000", there_minor="600"):
        await coop.ask("PostDividendRun", pb.PostDividendRunRequest(name=run.name))
    await coop.ask("DiscardDividendRun", pb.DiscardDividendRunRequest(request_id=request_id(), name=run.name))
    assert (await coop.divide(MARCH)).surplus.amount_minor == 600


async def test_19_a_refund_after_the_dividend_never_touches_a_member(coop: Cooperative) -> None:
    """The reserve meets the loss first; the rest lessens the next pool; a statement says both."""
    [ada] = await coop.join(1)
    await coop.enact(coop.policy(reserve_bps=2_000, equal_bps=10_000))
    share = await coop.earn(10_000, MARCH)
    await coop.divide(MARCH)
    before = await coop.payable(ada)
    assert before == 4_000
    await coop.refund(share, 5_000, IN_APRIL, receivable_minor=5_000)
    assert await coop.balance("surplus") == -5_000 and await coop.balance("due_to_platform") == 5_000
    april = await coop.divide(APRIL)
    assert april.surplus.amount_minor == 0 and april.state == pb.RUN_STATE_POSTED
    assert await coop.payable(ada) == before
    assert await coop.balance("reserve") == 0 and await coop.balance("surplus") == -3_000
    statement = await coop.statement(april, ada)
    assert "loss of EUR 50.00: the reserve met EUR 20.00, and EUR 30.00 lessens" in statement.explanation
    assert "EUR 50.00 that went back to buyers had been taken off before" in statement.explanation
    assert statement.carried_in.amount_minor == statement.carried_out.amount_minor == before
    await coop.earn(20_000, MAY)
    # 20,000 - 3,000 of the loss that is left, and 5,000 that the cooperative still owes the market.
    may = await coop.divide(MAY)
    assert may.surplus.amount_minor == 12_000
    assert await coop.payable(ada) == before + 4_800
    assert await coop.flaws() == []


async def test_costs_are_taken_off_before_and_said(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    await coop.enact(coop.policy(equal_bps=10_000))
    await coop.earn(10_000, MARCH)
    await coop.spend(3_000, dt.datetime(2026, 3, 20, tzinfo=dt.UTC))
    run = await coop.divide(MARCH)
    assert (run.surplus.amount_minor, run.costs.amount_minor) == (7_000, 3_000)
    assert "EUR 30.00 of costs had been taken off before" in (await coop.statement(run, ada)).explanation


async def test_days_of_consent_count_where_the_policy_says_so(coop: Cooperative) -> None:
    ada, ben, cleo = await coop.join(3)
    await coop.enact(coop.policy(basis=2))
    await coop.contribute(coop.version(), dict.fromkeys((ada, ben, cleo), 10))
    march = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    await coop.consent(ada, "randhie", LONG_AGO)
    # To the end of the 10th; ended by the consent that took its place, then that one by its withdrawal on the 21st.
    await coop.consent(ben, "randhie", LONG_AGO)
    await coop.consent(ben, "randhie", march + dt.timedelta(days=9, hours=5), march + dt.timedelta(days=20, hours=1))
    await coop.earn(52_000, MARCH, coop.version())
    run = await coop.compute(MARCH)
    texts = {member: (await coop.statement(run, member)).sources for member in (ada, ben)}
    assert texts[ada][0].units_text == "10 rows x 31 days x 1.000"
    assert texts[ben][0].units_text == "10 rows x 21 days x 1.000"
    assert texts[ada][0].amount.amount_minor == 31_000 and texts[ben][0].amount.amount_minor == 21_000
    assert not (await coop.statement(run, cleo)).sources if run.member_count > 2 else True


async def test_imported_weights_count_once_they_are_whole_and_signed(coop: Cooperative) -> None:
    from hashlib import sha256

    from rochdale_kit.signing import DIVIDEND_WEIGHTS_PREFIX, SigningKey, sign_hash

    ada, ben = await coop.join(2)
    await coop.enact(coop.policy(basis=3))
    await coop.earn(9_000, MARCH, coop.version())
    run = await coop.create(MARCH)
    async with refused("WEIGHTS_MISSING"):
        await coop.ask("ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))
    weights = [pb.MemberWeight(member=one, version=coop.version(), units=units) for one, units in ((ada, 2), (ben, 1))]
    lines = [f"{coop.name}\t{MARCH}\n", *(f"{one.member}\t{one.version}\t{one.units}\n" for one in weights)]
    hashed = sha256("".join(lines).encode()).hexdigest()

    async def bring(
        first: int, part: list[pb.MemberWeight], last: bool, key: SigningKey = coop.key, month: str = MARCH
    ) -> object:
        return await coop.ask(
            "ImportWeights",
            pb.ImportWeightsRequest(
                request_id=request_id(),
                parent=coop.name,
                month=month,
                weights_hash=hashed,
                signature=sign_hash(key, DIVIDEND_WEIGHTS_PREFIX, hashed),
                weights=part,
                offset=first,
                last=last,
            ),
        )

    async with refused("KEY_UNKNOWN"):
        await bring(0, weights, True, SigningKey.generate())
    async with refused("WEIGHTS_INVALID"):
        await bring(1, weights[1:], True)
    async with refused("WEIGHTS_INVALID"):
        await bring(0, [weights[0], weights[0]], False)
    async with refused("WEIGHTS_INVALID"):
        await bring(0, weights[:1], True)
    async with refused("WEIGHTS_INVALID"):
        # What was signed for one month counts for no other.
        await bring(0, weights, True, month=APRIL)
    foreign = pb.MemberWeight(member="cooperatives/other-coop/members/mem_A", version=coop.version(), units=1)
    async with refused("WEIGHTS_INVALID"):
        await bring(0, [foreign], False)
    assert await bring(0, weights[:1], False) == pb.ImportWeightsResponse(weight_count=1)
    async with refused("WEIGHTS_MISSING"):
        await coop.ask("ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))
    assert await bring(1, weights[1:], True) == pb.ImportWeightsResponse(weight_count=2, complete=True)
    assert await bring(0, weights, True) == pb.ImportWeightsResponse(weight_count=2, complete=True)
    run = await coop.ask("ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))
    statement = await coop.statement(run, ada)
    assert statement.amount.amount_minor == 6_000
    assert statement.sources[0].units_text == "2 points of the imported file"
    assert "Your 2 points of 3 in randhie version 1" in statement.explanation
