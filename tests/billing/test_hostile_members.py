"""One member against everybody else: what they write of themselves must not spoil a run, nor outlive them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import sqlalchemy as sa
from dividend_world import Cooperative, Market, open_market
from house import refused, request_id

from billing.domain.payment_files import Account, Payment, checked_holder, payment_file
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import treasury_pb2, treasury_pb2_grpc
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.refusals import Refusal
from rochdale_local.postgres import Postgres

IBAN = "NL91ABNA0417164300"
# The first four ended every export of the file that the run's members are paid with, one's log with their names in it.
SPOILERS = ("", " ", "\x01", "😀", "\ufeff", "\u202eadA", "a\nb", "\x7f", "𐍈𐍈", "-", "a\u2028b")
NAMES = ("Ada", "Özgür Ünal", "北京", "Иван", "=cmd|' /C calc'", "A & B <C>", "O'Neill", "ß" * 70, "﷽" * 9 + "x")


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


@pytest.mark.parametrize("holder", SPOILERS)
def test_a_name_that_would_spoil_everybodys_file_is_not_taken(holder: str) -> None:
    with pytest.raises(Refusal, match="must be a name"):
        checked_holder(holder)


@pytest.mark.parametrize("holder", NAMES)
def test_every_name_that_is_taken_can_be_paid(holder: str) -> None:
    payment = Payment("run-0", Account(checked_holder(holder), IBAN), 100, "Dividend")
    for format in (treasury_pb2.PAYMENT_FILE_FORMAT_PAIN_001, treasury_pb2.PAYMENT_FILE_FORMAT_CSV):
        payment_file(format, "run_0", "dividends", Account("Valley Health", IBAN), [payment], "EUR", now())


def test_what_does_not_fit_into_a_file_is_not_in_the_error() -> None:
    payment = Payment("run-0", Account("\ufeff", IBAN), 100, "Dividend")
    with pytest.raises(ValueError, match="The file run_0") as error:
        payment_file(
            treasury_pb2.PAYMENT_FILE_FORMAT_PAIN_001, "run_0", "x", Account("V", IBAN), [payment], "EUR", now()
        )
    assert error.value.__cause__ is None and error.value.__suppress_context__


async def test_a_member_names_an_account_that_can_be_paid(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    person = await coop.person(ada)
    for holder in ("", "😀", "\x01"):
        async with refused("REQUEST_INVALID", field="holder"):
            await coop.name_account(person, ada, IBAN, holder)
    assert (await coop.name_account(person, ada, IBAN, " Ada ")).holder == "Ada"
    assert not (await coop.name_account(person, ada, "", "")).holder, "to be paid no more takes no name"


async def open_window(coop: Cooperative) -> pb.DividendRun:
    await coop.enact(coop.policy(objection_seconds=60, equal_bps=10_000))
    await coop.earn(1_000, "2026-03")
    run = await coop.compute("2026-03")
    shown: pb.DividendRun = await coop.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name))
    return shown


async def test_one_member_alone_does_not_bury_a_run_in_objections(coop: Cooperative) -> None:
    ada, ben = await coop.join(2)
    persons = [await coop.person(member) for member in (ada, ben)]
    run = await open_window(coop)

    async def object_(person: object, text: str = "No.") -> pb.DividendRun:
        request = pb.ObjectToDividendRunRequest(request_id=request_id(), name=run.name, text=text)
        return await coop.ask("ObjectToDividendRun", request, person)  # type: ignore[arg-type, no-any-return]

    for _ in range(10):
        await object_(persons[0])
    async with refused("OBJECTIONS_TOO_MANY", limit="10"):
        await object_(persons[0])
    assert len((await object_(persons[1])).objections) == 11, "everybody else is heard"


async def test_an_answer_that_is_given_again_is_made_for_whoever_asks(coop: Cooperative) -> None:
    ada, ben = await coop.join(2)
    persons = [await coop.person(member) for member in (ada, ben)]
    run = await open_window(coop)
    request = pb.ObjectToDividendRunRequest(request_id=request_id(), name=run.name, text="My rows are missing.")
    [own] = (await coop.ask("ObjectToDividendRun", request, persons[0])).objections
    [others] = (await coop.ask("ObjectToDividendRun", request, persons[1])).objections
    assert (own.member, others.member) == (ada, "")


async def test_who_is_erased_is_in_no_answer_that_was_kept(coop: Cooperative) -> None:
    [ada] = await coop.join(1)
    person = await coop.person(ada)
    await coop.name_account(person, ada, IBAN, "Ada Unmistakable")
    run = await open_window(coop)
    objection = pb.ObjectToDividendRunRequest(request_id=request_id(), name=run.name, text="I am Ada Unmistakable.")
    await coop.ask("ObjectToDividendRun", objection, person)
    answer = pb.AnswerObjectionRequest(request_id=request_id(), name=run.name, number=1, answer="So you are.")
    await coop.ask("AnswerObjection", answer)
    note = pb.TaxProfile(name=f"{ada}/taxProfile", classification="other", basis_note="Ada Unmistakable wrote to us.")
    wish = pb.SetTaxProfileRequest(request_id=request_id(), tax_profile=note)
    assert (await coop.ask("SetTaxProfile", wish)).basis_note
    assert (await coop.ask("SetTaxProfile", wish)).basis_note, "a retry is answered with what is kept"
    await coop.market.tell(governance.MemberErased(member=ada, erase_time=to_timestamp(now())))
    await coop.heard("SELECT 1 FROM objection WHERE text = '(erased)'")
    for table in ("request", "objection", "payee", "tax_profile", "outbox"):
        kept = await coop.market.rows(f"SELECT encode(convert_to(t::text, 'UTF8'), 'escape') AS row FROM {table} AS t")
        # Answers are bytes, which PostgreSQL shows in hexadecimal.
        assert table != "request" or any(run.name.encode().hex() in one.row for one in kept)
        assert not [one for one in kept if "Unmistakable" in one.row or b"Unmistakable".hex() in one.row], table
    assert not (await coop.ask("SetTaxProfile", wish)).basis_note


async def test_a_steward_who_left_moves_no_money_while_the_session_lasts(coop: Cooperative) -> None:
    treasury = treasury_pb2_grpc.TreasuryServiceStub(coop.market.channels[-1])
    named = treasury_pb2.SetBankAccountRequest(
        request_id=request_id(), parent=coop.name, iban=IBAN, holder="Valley Health"
    )
    await treasury.SetBankAccount(named, metadata=coop.steward.metadata)
    [row] = await coop.market.rows("SELECT id FROM member WHERE cooperative = :id", id=coop.id)
    member = f"{coop.name}/members/{row.id}"
    await coop.market.tell(governance.MemberLeft(member=member, leave_time=to_timestamp(now())))
    await coop.heard("SELECT 1 FROM member WHERE id = :id AND leave_time IS NOT NULL", id=row.id)
    theirs = {"request_id": request_id(), "parent": coop.name}
    spent = Money(amount_minor=1, currency="EUR")
    for method, request in (
        ("ApproveBankAccount", treasury_pb2.ApproveBankAccountRequest(**theirs, iban_end=IBAN[-4:])),
        ("SetBankAccount", treasury_pb2.SetBankAccountRequest(**theirs, iban=IBAN, holder="Mine")),
        ("RecordCost", treasury_pb2.RecordCostRequest(**theirs, amount=spent, description="a car")),
    ):
        async with refused("NOT_FOUND"):
            await getattr(treasury, method)(request, metadata=coop.second.metadata)


async def test_a_run_asked_for_many_times_at_once_keeps_no_other_cooperative_waiting(coop: Cooperative) -> None:
    await coop.join(1)
    await coop.enact(coop.policy(equal_bps=10_000))
    run = await coop.create("2026-03")
    other = await coop.market.cooperative(coop.stub)
    wish = pb.ComputeDividendRunRequest(name=run.name)
    async with coop.market.database.begin() as connection:
        # As if the first of them took its time.
        await connection.execute(
            sa.text("SELECT 1 FROM dividend_run WHERE id = :id FOR UPDATE"), {"id": run.name[-30:]}
        )
        waiting = [asyncio.ensure_future(coop.ask("ComputeDividendRun", wish)) for _ in range(40)]
        await asyncio.sleep(1)
        async with asyncio.timeout(3):
            await other.ask("ListDividendPolicies", pb.ListDividendPoliciesRequest(parent=other.name))
    assert {one.state for one in await asyncio.gather(*waiting)} == {pb.RUN_STATE_COMPUTED}
