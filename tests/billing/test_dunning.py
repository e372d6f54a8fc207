"""What is done about an unpaid order follows from the time alone, once, however often and however late it is asked."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from billing.domain.pricing import Calendar
from billing.domain.subscriptions import Due, Dunning, Stage, dun, state_of
from rochdale.billing.v1 import billing_pb2 as pb

START = dt.datetime(2027, 1, 31, tzinfo=dt.UTC)
RULES = Dunning()
DAYS = st.lists(st.floats(0, 45), min_size=1, max_size=30).map(sorted)
CALENDARS = st.sampled_from([Calendar(), Calendar(1.0)])


def fresh() -> Due:
    return Due("ord_1", "licenses/lic_1", pb.ORDER_KIND_PERIOD, due_time=START, next_time=START)


@given(CALENDARS, DAYS)
def test_whenever_it_is_asked_each_thing_is_done_once_and_in_order(calendar: Calendar, moments: list[float]) -> None:
    due, charges, suspends, terminates = fresh(), 0, 0, 0
    for day in moments:
        now = START + calendar.days(day)
        verdict = dun(due, calendar, RULES, now)
        assert verdict.due.stage >= due.stage and verdict.due.tries >= due.tries
        charges, suspends = charges + verdict.charge, suspends + verdict.suspend
        if verdict.terminate:
            terminates += 1
            assert day >= 30 and verdict.due.stage == Stage.OVER and verdict.due.next_time is None
            break
        again = dun(verdict.due, calendar, RULES, now)
        assert again.due == verdict.due and not (again.charge or again.suspend or again.terminate)
        assert verdict.due.next_time is not None and verdict.due.next_time > now
        assert (verdict.due.stage == Stage.GRACE_OVER) == (day >= 14)
        due = verdict.due
    assert charges <= 5 and suspends <= 1
    assert terminates == (moments[-1] >= 30)


def test_followed_from_one_moment_to_the_next_it_is_the_rules_to_the_day() -> None:
    due, done = fresh(), []
    while due.next_time is not None:
        day = (due.next_time - START).days
        verdict = dun(due, Calendar(), RULES, due.next_time)
        done.append((day, "".join("c" * verdict.charge + "s" * verdict.suspend + "t" * verdict.terminate)))
        due = verdict.due
    assert done == [(0, "c"), (1, "c"), (3, "c"), (5, "c"), (7, "c"), (14, "s"), (30, "t")]


@given(st.lists(st.sampled_from(Stage)))
def test_the_worst_order_says_where_a_subscription_stands(stages: list[Stage]) -> None:
    state = state_of([Due("ord_1", "licenses/lic_1", pb.ORDER_KIND_USAGE, START, stage) for stage in stages])
    assert (state == pb.SUBSCRIPTION_STATE_SUSPENDED) == (Stage.GRACE_OVER in stages)
    assert (state == pb.SUBSCRIPTION_STATE_ACTIVE) == (not {Stage.OVERDUE, Stage.GRACE_OVER} & set(stages))
