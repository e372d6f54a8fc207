"""The arithmetic of a run, tried with everything: exact sums, nobody below zero, caps, and what a line says of itself."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.domain.allocation import tie_break
from billing.domain.dividend_runs import Month
from billing.domain.dividends import (
    NO_VERSION,
    Books,
    Contribution,
    Division,
    Earning,
    Inputs,
    Line,
    Member,
    compute,
)
from rochdale.type.v1.dividend_policy_pb2 import CONTRIBUTION_BASIS_RECORDS, DividendPolicy
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.refusals import Refusal

thoroughly = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

END = Month("2026-03").end_time
LONG_AGO = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
VERSIONS = ("v1", "v2", "v3")


def policy(**given_fields: Any) -> DividendPolicy:
    given_fields.setdefault("min_payout", Money(amount_minor=1000, currency="EUR"))
    return DividendPolicy(basis=CONTRIBUTION_BASIS_RECORDS, **given_fields)


def inputs(surplus: int, **more: Any) -> Inputs:
    given_fields: dict[str, Any] = {
        "run_id": "run_A",
        "month": "2026-03",
        "end_time": END,
        "currency": "EUR",
        "policy": policy(),
        "books": Books(surplus, surplus, 0, 0),
        "members": [],
        "earnings": [],
        "contributions": [],
    }
    return Inputs(**(given_fields | more))


def amounts(division: Division) -> dict[str, int]:
    return {line.member: line.amount_minor for line in division.lines}


def members(*ids: str) -> list[Member]:
    return [Member(id, LONG_AGO) for id in ids]


@st.composite
def anything(draw: st.DrawFn) -> Inputs:
    split = sorted(draw(st.lists(st.integers(0, 10_000), min_size=3, max_size=3)))
    names = [f"m{number}" for number in range(draw(st.integers(1, 9)))]
    times = st.one_of(st.none(), st.sampled_from([LONG_AGO, END - dt.timedelta(1), END + dt.timedelta(1)]))
    people = [
        Member(name, draw(st.sampled_from([LONG_AGO, END - dt.timedelta(days=3)])), draw(times), draw(times))
        for name in names
    ]
    earnings = [
        Earning(f"s{number}", draw(st.integers(0, 10**9)), tuple(draw(st.sets(st.sampled_from(VERSIONS)))))
        for number in range(draw(st.integers(0, 4)))
    ]
    contributions = [
        Contribution(name, version, units, units)
        for version in VERSIONS
        for name in names
        if (units := draw(st.one_of(st.just(0), st.integers(0, 10**9))))
    ]
    return inputs(
        0,
        policy=policy(
            reserve_bps=split[0],
            commons_bps=split[1] - split[0],
            solidarity_bps=split[2] - split[1],
            equal_bps=draw(st.integers(0, 10_000)),
            member_cap_bps=draw(st.one_of(st.just(0), st.integers(1, 10_000))),
            min_membership_seconds=draw(st.sampled_from([0, 7 * 86400])),
        ),
        books=Books(
            draw(st.integers(-(10**9), 10**12)), draw(st.integers(-(10**9), 10**12)), draw(st.integers(0, 10**6)), 0
        ),
        members=people,
        earnings=earnings,
        contributions=contributions,
        indebted=frozenset(draw(st.sets(st.sampled_from(names)))),
    )


@thoroughly
@given(anything())
def test_every_minor_unit_is_somebodys(given_inputs: Inputs) -> None:
    try:
        division = compute(given_inputs)
    except Refusal as refusal:
        assert refusal.reason == "NOBODY_EARNS"
        assert not any(one.active(END) and one.tenured(END, 0) for one in given_inputs.members) or (
            given_inputs.policy.min_membership_seconds
        )
        return
    base = given_inputs.books.base_minor
    assert division.base_minor == base >= 0
    assert base <= max(0, given_inputs.books.surplus_now_minor)
    given_away = division.reserve_minor + division.commons_minor + division.solidarity_minor
    lines = sum(line.amount_minor for line in division.lines)
    assert given_away + lines == base and lines == division.patronage_minor
    assert all(line.amount_minor >= 0 for line in division.lines)
    assert len({line.member for line in division.lines}) == len(division.lines)
    assert given_inputs.indebted <= {line.member for line in division.lines}
    for source in division.sources:
        parts = [part for line in division.lines for part in line.parts if part.contribution.version == source.version]
        if source.version != NO_VERSION:
            assert sum(part.amount_minor for part in parts) == source.pool_minor
            assert sum(part.contribution.units for part in parts) == source.total_units
    if division.cap_minor:
        assert max((line.amount_minor for line in division.lines), default=0) <= division.cap_minor


@thoroughly
@given(anything(), st.randoms(use_true_random=False))
def test_the_order_of_what_goes_in_says_nothing(given_inputs: Inputs, chance: random.Random) -> None:
    def mixed(things: Any) -> list[Any]:
        return chance.sample(list(things), len(things))

    other = replace(
        given_inputs,
        members=mixed(given_inputs.members),
        earnings=mixed(given_inputs.earnings),
        contributions=mixed(given_inputs.contributions),
    )
    assert other.hash == given_inputs.hash
    try:
        assert compute(other) == compute(given_inputs)
    except Refusal:
        return
    more = replace(given_inputs, books=replace(given_inputs.books, owed_minor=given_inputs.books.owed_minor + 1))
    assert more.hash != given_inputs.hash


@thoroughly
@given(anything())
def test_a_member_works_out_their_own_part_to_the_last_cent(given_inputs: Inputs) -> None:
    """As the JSON of a statement says it: without anybody else's numbers."""
    try:
        division = compute(given_inputs)
    except Refusal:
        return
    sources = {source.version: source for source in division.sources}
    for line in division.lines:
        mine = tie_break("run_A", line.member)
        for part in line.parts:
            source = sources[part.contribution.version]
            floor, remainder = divmod(source.pool_minor * part.contribution.units, source.total_units)
            extra = source.last_remainder is not None and (
                remainder > source.last_remainder or (remainder == source.last_remainder and mine <= source.last_hash)
            )
            assert part.amount_minor == floor + extra
        if line.equal_minor or division.equal_pool_minor:
            is_equal = line.equal_minor or line.member in {
                one.id
                for one in given_inputs.members
                if one.active(END) and one.tenured(END, given_inputs.policy.min_membership_seconds)
            }
            if is_equal:
                floor = division.equal_pool_minor // division.equal_count
                assert line.equal_minor == floor + (bool(division.equal_last_hash) and mine <= division.equal_last_hash)


def test_32_a_remainder_goes_to_members_and_none_to_rounding() -> None:
    """100.00 over three members with the same rows: 33.34 once, 33.33 twice, and who gets the cent is a hash's choice."""
    won = set()
    for number in range(40):
        division = compute(
            inputs(
                10_000,
                run_id=f"run_{number}",
                members=members("a", "b", "c"),
                earnings=[Earning("s", 10_000, ("v1",))],
                contributions=[Contribution(one, "v1", 7_000, 7) for one in "abc"],
            )
        )
        assert sorted(amounts(division).values()) == [3333, 3333, 3334]
        won |= {member for member, amount in amounts(division).items() if amount == 3334}
    assert won == {"a", "b", "c"}


def test_an_order_of_several_versions_is_divided_by_their_units() -> None:
    """Rows of a dataset that counts double earn double."""
    division = compute(
        inputs(
            9_000,
            members=members("a", "b"),
            earnings=[Earning("s", 9_000, ("v1", "v2"))],
            contributions=[Contribution("a", "v1", 10_000, 10), Contribution("b", "v2", 20_000, 10, 2000)],
        )
    )
    assert amounts(division) == {"a": 3_000, "b": 6_000}
    assert [(one.version, one.earned_minor) for one in division.sources] == [("v1", 3_000), ("v2", 6_000)]


def test_what_no_members_rows_earned_is_shared_equally() -> None:
    division = compute(
        inputs(
            1_000,
            members=members("a", "b"),
            earnings=[Earning("s", 600, ("v1",)), Earning("t", 400, ("v9",))],
            contributions=[Contribution("a", "v1", 1, 1)],
        )
    )
    assert amounts(division) == {"a": 800, "b": 200}
    assert (division.equal_pool_minor, division.contribution_pool_minor) == (400, 600)
    assert [(one.version, one.pool_minor, one.member_count) for one in division.sources] == [
        ("v1", 600, 1),
        ("", 400, 2),
    ]


def test_who_left_earns_by_what_was_delivered_and_who_was_erased_does_not() -> None:
    gone, erased = END - dt.timedelta(days=10), END - dt.timedelta(days=9)
    division = compute(
        inputs(
            900,
            policy=policy(equal_bps=5_000),
            members=[*members("a"), Member("b", LONG_AGO, gone), Member("c", LONG_AGO, gone, erased)],
            earnings=[Earning("s", 900, ("v1",))],
            contributions=[Contribution(one, "v1", 1, 1) for one in "abc"],
        )
    )
    assert amounts(division) == {"a": 675, "b": 225}


def test_26_a_farm_of_fake_members_gets_no_more_than_the_policy_lets_it() -> None:
    """Joined yesterday: nothing. One with nearly all the rows: no more than the cap, and an approver sees the line."""
    fakes = [Member(f"fake{number}", END - dt.timedelta(days=1)) for number in range(90)]
    junk = [Contribution(one.id, "v1", 10**9, 10**6) for one in fakes]
    given_inputs = inputs(
        100_000,
        policy=policy(equal_bps=2_000, member_cap_bps=1_000, min_membership_seconds=30 * 86400),
        members=[*fakes, *members("hoarder", *(f"m{number}" for number in range(30)))],
        earnings=[Earning("s", 100_000, ("v1",))],
        contributions=[
            *junk,
            Contribution("hoarder", "v1", 99_000, 99),
            *(Contribution(f"m{number}", "v1", 1_000, 1) for number in range(30)),
        ],
    )
    division = compute(given_inputs)
    found = amounts(division)
    assert not any(member.startswith("fake") for member in found)
    assert found["hoarder"] == division.cap_minor == 10_000
    assert sum(found.values()) == 100_000
    hoarder = next(line for line in division.lines if line.member == "hoarder")
    assert hoarder.cap_change_minor < 0 < min(line.cap_change_minor for line in division.lines if line is not hoarder)


def test_a_cap_under_which_the_pool_does_not_fit_makes_all_equal() -> None:
    division = compute(
        inputs(
            1_001,
            policy=policy(member_cap_bps=1),
            members=members("a", "b"),
            earnings=[Earning("s", 1, ("v1",))],
            contributions=[Contribution("a", "v1", 1, 1)],
        )
    )
    assert sorted(amounts(division).values()) == [500, 501]


def test_a_loss_leaves_nothing_to_divide_and_the_reserve_meets_it_first() -> None:
    books = Books(-300, -300, 0, 200)
    division = compute(inputs(0, books=books, members=members("a"), indebted=frozenset("a")))
    assert (division.base_minor, books.loss_minor, books.covered_minor) == (0, 300, 200)
    assert division.lines == (Line("a", 0, (), 0),)
    # Met by what came in since: no loss any more, and nothing of the new month is divided.
    assert Books(-300, 50, 0, 200).covered_minor == 0 and Books(-300, 50, 0, 200).base_minor == 0
    # A refund since the month's end, and what is owed to the market: both lessen it.
    assert Books(1_000, 700, 100, 0).base_minor == 600
    assert Books(1_000, 2_000, 100, 0).base_minor == 900


def test_a_pool_and_nobody_to_divide_it_among_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        compute(inputs(1))
    assert refused.value.reason == "NOBODY_EARNS"
    assert compute(inputs(0)).lines == ()


@pytest.mark.parametrize("text, days", [("2026-02", 28), ("2028-02", 29), ("2026-12", 31)])
def test_a_month_ends_where_the_next_begins(text: str, days: int) -> None:
    month = Month(text)
    assert month.end_time - month.begin_time == dt.timedelta(days=days)
    assert month.end_time.day == 1
