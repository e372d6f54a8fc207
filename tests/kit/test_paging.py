"""Page tokens: the next page, and every token this list did not give out."""

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rochdale_kit import paging
from rochdale_kit.refusals import Refusal


def made_up(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(parts)).encode()).decode().rstrip("=")


@given(st.text(), st.integers(-(1 << 63), (1 << 63) - 1), st.text(alphabet=st.characters(codec="utf-8")))
def test_a_token_leads_back_to_where_the_page_ended(name: str, number: int, text: str) -> None:
    try:
        token = paging.encode(name, number, text)
    except UnicodeEncodeError:  # a name that is no text
        return
    assert paging.decode(name, token, int, str) == [number, text]
    with pytest.raises(Refusal):
        paging.decode(name + "!", token, int, str)
    with pytest.raises(Refusal):
        paging.decode(name, token, str, int)


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_nothing_but_a_refusal_comes_of_what_is_no_token(token: str) -> None:
    try:
        assert paging.decode("list", token, int) is None
        assert token == ""
    except Refusal as refusal:
        assert refusal.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "position", [True, 1.5, None, 1 << 63, [], {}, "1", float("nan")], ids=lambda value: repr(value)[:20]
)
def test_a_made_up_number_does_not_reach_a_query(position: object) -> None:
    with pytest.raises(Refusal):
        paging.decode("list", paging.encode("list", position), int)


@pytest.mark.parametrize(
    "text", ["", "now", "2024-01-01", "2024-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_a_made_up_time_does_not_reach_a_query(text: str) -> None:
    with pytest.raises(Refusal):
        paging.time_of(text)


def test_a_time_keeps_its_microseconds() -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)
    assert paging.time_of(moment.isoformat()) == moment


def test_rows_are_cut_into_pages_until_there_are_no_more() -> None:
    rows, seen, token = list(range(7)), [], ""
    while True:
        position = paging.decode("list", token, int)
        after = position[0] if position else -1
        found = [row for row in rows if row > after][: 3 + 1]  # type: ignore[operator]
        page, token = paging.page("list", found, 3, lambda row: [row])
        seen.append(page)
        if not token:
            break
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]
    assert made_up("x", 1) != paging.encode("list", 1)
