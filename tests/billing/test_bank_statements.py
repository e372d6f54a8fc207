"""Bank statements: a credit that names a reference and its whole amount pays; the rest waits, and nothing is booked twice."""

import asyncio
from typing import Any

import pytest
from billing_desk import CHECKOUT, TRANSFER, Desk
from house import refused, request_id
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.references import REFERENCES, payment_reference, references_in
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

COOP = "coop:valley-health"


def credit(reference: str, amount: Money, text: str) -> pb.BankTransfer:
    return pb.BankTransfer(bank_reference=reference, amount=amount, text=text)


async def read(desk: Desk, *credits: pb.BankTransfer, **more: Any) -> list[pb.BankTransferMatch]:
    given: dict[str, Any] = {"request_id": request_id(), "transfers": credits} | more
    request = pb.ImportBankTransfersRequest(**given)
    return list((await desk.stub.ImportBankTransfers(request, metadata=desk.operator.metadata)).matches)


def outcome(match: pb.BankTransferMatch) -> tuple[str, str, bool]:
    return match.order, match.suspense_reason, match.repeated


async def test_a_statement_pays_what_it_names_and_the_rest_waits(desk: Desk) -> None:
    paid, short, foreign, closed = [await desk.agree(1_000 + number) for number in range(4)]
    await desk.terminate(closed)
    await desk.becomes(closed, pb.ORDER_STATE_CANCELED)
    usd = Money(amount_minor=foreign.amount.amount_minor, currency="USD")
    less = Money(amount_minor=short.amount.amount_minor - 1, currency="EUR")
    unknown = next(reference for number in range(9) if (reference := payment_reference(number)))
    credits = [
        credit(" B-1 ", paid.amount, f"invoice /{paid.payment_reference.lower().replace('-', ' ')}. thanks"),
        credit("B-2", less, short.payment_reference),
        credit("B-3", usd, foreign.payment_reference),
        credit("B-4", closed.amount, closed.payment_reference),
        credit("B-5", paid.amount, "for the data"),
        credit("B-6", paid.amount, unknown),
        credit("B-7", paid.amount, f"{paid.payment_reference} and {short.payment_reference}"),
    ]
    id = request_id()
    matches = await read(desk, *credits, request_id=id)
    assert [outcome(match) for match in matches] == [
        (paid.name, "", False),
        ("", "AMOUNT_MISMATCH", False),
        ("", "CURRENCY_MISMATCH", False),
        ("", "ORDER_NOT_OPEN", False),
        ("", "REFERENCE_MISSING", False),
        ("", "REFERENCE_UNKNOWN", False),
        ("", "REFERENCE_AMBIGUOUS", False),
    ]
    assert [match.bank_reference for match in matches] == [f"B-{number}" for number in range(1, 8)]
    assert (await desk.order(paid)).state == pb.ORDER_STATE_PAID
    assert await desk.told(paid) == ["OrderPaid"]
    # All that is at the bank is in the books: one order's, and what waits.
    waiting = less.amount_minor + closed.amount.amount_minor + 3 * paid.amount.amount_minor
    assert await desk.balance("suspense") == waiting
    assert await desk.balance("bank") == waiting + paid.amount.amount_minor
    assert await desk.balance("suspense", currency="USD") == await desk.balance("bank", currency="USD") == 1_002
    assert await desk.balance(f"{COOP}:pending") == 950
    # A retry gets the first answer; another statement with the same credits books none of them.
    assert await read(desk, *credits, request_id=id) == matches
    again = await read(desk, *credits)
    assert [outcome(match) for match in again] == [(match.order, match.suspense_reason, True) for match in matches]
    assert await desk.balance("suspense") == waiting
    assert await desk.flaws() == []
    async with refused("REQUEST_ID_REUSED"):
        await read(desk, credits[0], request_id=id)


async def test_a_credit_that_waited_pays_when_an_operator_says_for_what(desk: Desk) -> None:
    order, other = await desk.agree(7_000), await desk.agree(9_000)
    await read(desk, credit("B-1", order.amount, "no word"))
    async with refused("AMOUNT_MISMATCH"):
        await desk.confirm_transfer(other, bank_reference="B-1")
    paid = await desk.confirm_transfer(order, bank_reference="B-1")
    assert paid.state == pb.ORDER_STATE_PAID
    assert (await desk.balance("suspense"), await desk.balance("bank")) == (0, 7_000)
    assert [row.kind for row in await desk.rows("SELECT kind FROM journal ORDER BY id")] == [
        "unmatched_transfer",
        "matched_from_suspense",
    ]
    async with refused("BANK_REFERENCE_USED"):
        await desk.confirm_transfer(await desk.agree(7_000), bank_reference="B-1")
    (match,) = await read(desk, credit("B-1", order.amount, "no word"))
    assert outcome(match) == (order.name, "", True)
    assert await desk.flaws() == []


async def test_a_statement_read_twice_at_once_books_each_credit_once(desk: Desk) -> None:
    made = [await desk.agree(1_000) for _ in range(4)]
    credits = [credit(f"B-{index}", order.amount, order.payment_reference) for index, order in enumerate(made)]
    credits.append(credit("B-x", made[0].amount, ""))
    answers = await asyncio.gather(*(read(desk, *some) for some in (credits, credits[::-1], credits)))
    for answer in answers:
        assert {match.order for match in answer} == {order.name for order in made} | {""}
    assert sum(not match.repeated for answer in answers for match in answer) == len(credits)
    assert (await desk.balance("bank"), await desk.balance("suspense")) == (5_000, 1_000)
    for order in made:
        assert await desk.told(order) == ["OrderPaid"]
    assert await desk.flaws() == []


async def test_a_credit_ends_the_card_payment_under_way_or_waits_for_it(desk: Desk) -> None:
    order, debited = await desk.agree(1_000), await desk.agree(2_000)
    card = await desk.pay(order)
    await desk.post(await desk.pay(debited, CHECKOUT), pay_with="bank")
    matches = await read(
        desk,
        credit("B-1", order.amount, order.payment_reference),
        credit("B-2", debited.amount, debited.payment_reference),
    )
    assert [outcome(match) for match in matches] == [(order.name, "", False), ("", "PAYMENT_IN_PROGRESS", False)]
    assert (await desk.stripe.intents.retrieve_async(card.payment_intent)).status == "canceled"
    desk.simulator.settle(debits_at_once=True)
    await desk.becomes(debited, pb.ORDER_STATE_PAID)
    assert await desk.balance("suspense") == 2_000
    assert await desk.flaws() == []


async def test_a_statement_with_nonsense_books_nothing(desk: Desk) -> None:
    order = await desk.agree(1_000)
    good = credit("B-1", order.amount, order.payment_reference)
    for bad, reason in (
        (credit("B-2", Money(amount_minor=1, currency="ZZZ"), ""), "CURRENCY_UNKNOWN"),
        (credit("B-2", Money(amount_minor=0, currency="EUR"), ""), "REQUEST_INVALID"),
        (credit("  ", order.amount, ""), "REQUEST_INVALID"),
    ):
        async with refused(reason):
            await read(desk, good, bad)
    assert not await desk.rows("SELECT 1 FROM bank_transfer")
    async with refused("ROLE_MISSING"):
        request = pb.ImportBankTransfersRequest(request_id=request_id(), transfers=[good])
        await desk.stub.ImportBankTransfers(request, metadata=desk.buyer.metadata)


async def test_the_payment_a_buyer_announced_is_the_one_that_succeeds(desk: Desk) -> None:
    order = await desk.agree(1_000)
    payment = await desk.pay(order, TRANSFER)
    await read(desk, credit("B-1", order.amount, order.payment_reference))
    assert (await desk.payment(payment)).state == pb.PAYMENT_STATE_SUCCEEDED


@given(st.integers(0, REFERENCES - 1), st.data())
def test_a_reference_is_found_however_it_is_spaced(number: int, data: st.DataObject) -> None:
    reference = payment_reference(number)
    spaces = st.sampled_from(["", " ", "-", " - ", "\n", ".", "/"])
    written = "".join(sign + data.draw(spaces) for sign in reference.replace("-", ""))
    if data.draw(st.booleans()):
        written = written.lower()
    before, after = data.draw(
        st.tuples(st.sampled_from(["", "Invoice ", "+++"]), st.sampled_from(["", " thanks", "!"]))
    )
    assert reference in references_in(before + written + after)


@pytest.mark.parametrize(
    "text", ["", "RD", "RD-7K3M-9Q2P", "the card of Edward", "RD-7K3M-9Q2P-" + "Z", "РД-7К3М-9Q2P-5"]
)
def test_what_is_no_reference_is_none(text: str) -> None:
    assert references_in(text) == []


def test_the_reference_of_the_contract_in_each_of_its_forms() -> None:
    reference = payment_reference(123_456_789)
    plain = reference.replace("-", "")
    forms = (reference, plain.lower(), " ".join(plain), f"x{plain}y", reference.replace("-", " - "))
    for text in forms:
        assert references_in(text) == [reference], text
    assert references_in(f"{reference} {reference}") == [reference]
