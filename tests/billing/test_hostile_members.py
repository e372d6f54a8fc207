"""One member against everybody else: what they write of themselves must not spoil a run, nor outlive them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dividend_world import Cooperative, Market, open_market
from house import refused

from billing.domain.payment_files import Account, Payment, checked_holder, payment_file
from rochdale.billing.v1 import treasury_pb2
from rochdale_kit.clock import now
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
