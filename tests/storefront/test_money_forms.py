"""What browsers send and people write, read within bounds: forms, files, amounts, bank statements. No service runs here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from rochdale.billing.v1 import billing_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import CURRENCIES, format_money
from rochdale_kit.refusals import Refusal
from storefront import money_words
from storefront.forms import Form, parts_of, read_credits, read_form
from storefront.visitors import safe_path

BOUNDARY = b"--x\r\n"
FIELD = b'Content-Disposition: form-data; name="note"\r\n\r\nWe met.\r\n'
FILE = b'Content-Disposition: form-data; name="statement"; filename="a.csv"\r\nContent-Type: text/csv\r\n\r\na,b\n\r\n'


async def read(body: bytes, kind: str = "application/x-www-form-urlencoded") -> Form:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode("latin-1"))]
    return await read_form(Request({"type": "http", "method": "POST", "headers": headers}, receive))


async def test_fields_and_files_are_told_apart() -> None:
    form = await read(BOUNDARY + FIELD + BOUNDARY + FILE + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert form.get("note") == "We met." and form.files == {"statement": b"a,b\n"}
    assert (await read(b"note=We+met.%0D%0ATwice.&note=Last+%C3%BC")).get("note") == "Last ü"
    assert form.get("absent") == ""


@given(
    body=st.binary(max_size=400), kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", ""])
)
async def test_nonsense_is_a_form_or_a_refusal(body: bytes, kind: str) -> None:
    for one in (body, BOUNDARY + body + b"\r\n--x--\r\n", BOUNDARY + FIELD + BOUNDARY + body):
        try:
            form = await read(one, kind)
        except Refusal as refusal:
            assert refusal.reason == "REQUEST_INVALID"
        else:
            assert all(isinstance(value, str) for value in form.fields.values())


async def test_a_header_in_the_kind_of_content_begins_no_other() -> None:
    with pytest.raises(Refusal, match="not what a form of this page sends"):
        await read(b"a=b", "multipart/form-data\r\nX: y")


async def test_too_many_fields_are_refused() -> None:
    with pytest.raises(Refusal):
        await read(b"&".join(b"a%d=1" % number for number in range(2000)))


@given(amount=st.integers(0, 10**15), code=st.sampled_from(sorted(CURRENCIES)))
def test_an_amount_that_a_page_shows_is_read_back(amount: int, code: str) -> None:
    money = Money(amount_minor=amount, currency=code)
    assert money_words.read_money(format_money(money)) == money


@given(text=st.text(max_size=40))
def test_what_is_no_amount_is_said_so(text: str) -> None:
    try:
        assert money_words.read_money(text).currency in CURRENCIES
    except Refusal as refusal:
        assert refusal.reason in ("REQUEST_INVALID", "CURRENCY_UNKNOWN")


@pytest.mark.parametrize(
    "text", ["", "12", "EUR", "EUR 1 EUR", "1.001 EUR", "-1 EUR", "1e9 EUR", "1 ZZZ", "٣ EUR", "9" * 20 + " EUR"]
)
def test_these_are_no_amounts(text: str) -> None:
    with pytest.raises(Refusal):
        money_words.read_money(text)


def test_a_bank_statement_is_read_with_or_without_a_header() -> None:
    lines = "reference,amount,text\n2026/42,1200.00 EUR,RD-7K3M\n\n2026/43,EUR 5,\n"
    for content in (lines.encode(), "\ufeff".encode() + lines.encode(), lines.partition("\n")[2].encode()):
        assert [credit.amount.amount_minor for credit in read_credits(content)] == [120_000, 500]


@pytest.mark.parametrize(
    "content", [b"", b"a,b,c\n", b"\xff", b"a,1 EUR,x\nb,1 EUR\n", b'a,1 EUR,x\n"', b"a\x00b,1 EUR,x"]
)
def test_what_is_no_bank_statement_is_said_so(content: bytes) -> None:
    try:
        assert len(read_credits(content)) == 1
    except Refusal as refusal:
        assert refusal.reason == "REQUEST_INVALID"


def test_a_long_statement_is_sent_in_parts_that_lose_nothing() -> None:
    credits = [billing_pb2.BankTransfer(bank_reference=str(n), text="x" * (n % 900)) for n in range(1_800)]
    parts = list(parts_of(credits))
    assert [credit for part in parts for credit in part] == credits and parts == list(parts_of(credits))
    assert all(len(part) <= 500 and sum(one.ByteSize() for one in part) < 256 * 1024 for part in parts)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/orders", "/orders"),
        ("//evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("/a\\b", "/account"),
        ("https://evil.example", "/account"),
        ("/a\r\nb", "/account"),
        ("", "/account"),
        ("/" + "x" * 600, "/account"),
    ],
)
def test_signing_in_stays_here(text: str, path: str) -> None:
    assert safe_path(text) == path


@given(used=st.text(max_size=12), cap=st.text(max_size=12))
def test_a_bar_is_between_nothing_and_full_whatever_is_told(used: str, cap: str) -> None:
    assert 0 <= money_words.filled(billing_pb2.MeterUsage(used=used, cap=cap)) <= 100
    assert money_words.filled(billing_pb2.MeterUsage(used="-1", cap="2")) == 0


def test_prices_below_a_cent_are_told_exactly() -> None:
    assert money_words.unit_price("0.25", "EUR") == "EUR 0.0025"
    assert money_words.unit_price("100", "JPY") == "JPY 100" and money_words.unit_price("?", "EUR") == "?"
