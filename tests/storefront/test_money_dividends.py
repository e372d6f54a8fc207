"""Dividends on pages: a month's run by its stewards, and what one member sees of it, over a real storefront and billing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from dividend_world import IBANS, Cooperative, Market
from house import House
from money_browser import Browser, Shopfront, open_shopfront

from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

MARCH = "2026-03"


class Hallway:
    """A market with dividends, and a storefront before it."""

    def __init__(self, market: Market, stub: Any, front: Shopfront) -> None:
        self.market, self.stub, self.front = market, stub, front

    async def cooperative(self) -> Cooperative:
        return await self.market.cooperative(self.stub)

    async def member(self, coop: Cooperative, member: str) -> Browser:
        return await self.front.browser(await coop.person(member))


@pytest_asyncio.fixture(scope="module")
async def hallway(
    postgres: Postgres, shelf: Any, hall: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hallway]:
    folder = tmp_path_factory.mktemp("dividends")
    server = NatsServer(folder / "nats", durable=False)
    await server.start()
    house = House(postgres, server, folder)
    await house.start("identity")
    market = Market(house)
    stub = await market.start(cooling_off_seconds=3600)
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(open_shopfront(house, market.services[0], shelf, hall))
        yield Hallway(market, stub, front)
    await market.stop()
    await house.stop()
    await server.stop()


async def test_a_month_goes_from_its_opening_to_the_bank(hallway: Hallway) -> None:
    coop = await hallway.cooperative()
    ada, ben = await coop.join(2)
    home = f"/{coop.name}/dividends"
    steward, second = await hallway.front.browser(coop.steward), await hallway.front.browser(coop.second)
    sheet = await steward.page(home)
    assert "Members have not decided yet" in sheet.text and "No month was run yet." in sheet.text
    refused = await steward.post(sheet, "/open", month=MARCH)
    assert refused.status_code == 409 and 'role="alert"' in refused.text

    await coop.enact(coop.policy(reserve_bps=2_000, equal_bps=1_000, objection_seconds=3))
    await coop.contribute(coop.version(), {ada: 3, ben: 1})
    await coop.earn(100_000, MARCH, coop.version())
    sheet = await steward.page(home)
    assert "20 % of each month's surplus, which meets losses first" in sheet.text
    run = await steward.send(sheet, "/open", month=MARCH)
    for words in (
        "To divide EUR 1,000.00",
        "Reserve EUR 200.00",
        "Members, by contribution EUR 720.00",
        "Largest line",
    ):
        assert words in run.text, words
    assert coop.version() in run.text and "Nobody objected." in run.text and "the median" in run.text
    run = await steward.send(run, "/publish")
    assert "shown to members, who may object" in run.text

    browser = await hallway.member(coop, ada)
    [path] = [one for one in (await browser.page(f"/{ada}/statements")).links if "/statements/run_" in one]
    statement = await browser.send(await browser.page(path), "/objections", objection="I had four rows.")
    assert "I had four rows." in statement.text and "It has no answer yet." in statement.text
    refused = await steward.post(run, "/approve")
    assert refused.status_code == 409 and "I had four rows." in refused.text
    [run_path] = {one.rpartition("/")[0] for one in run.forms if one.startswith(home)}
    run = await steward.send(await steward.page(run_path), "/answer", answer="One of them was a duplicate.")
    assert "One of them was a duplicate." in (await browser.page(path)).text
    assert f"{path}/objections" in (await browser.page(path)).forms

    async def approved(who: Browser) -> Any:
        async with asyncio.timeout(10):
            while True:
                answer = await who.post(await who.page(run_path), "/approve")
                if answer.status_code == 200:
                    return await who.page(run_path)
                await asyncio.sleep(0.3)

    assert "You approved it" not in (await approved(steward)).text
    twice = await steward.post(await steward.page(run_path), "/approve")
    assert twice.status_code in (403, 409)
    assert "approved" in (await approved(second)).text
    run = await steward.send(await steward.page(run_path), "/post")
    assert "3 of 3" in run.text and "booked to members" in run.text

    assert "Keep it" in (await browser.page(f"/{ada}/payee")).html
    payee = await browser.send(await browser.page(f"/{ada}/payee"), "/payee", iban=IBANS[0], holder="Ada")
    assert "3000" in payee.text
    run = await steward.send(run, "/pay")
    file = await steward.file(f"{run_path}/payments?format=csv")
    assert IBANS[0].encode() in file.content and file.headers["content-type"].startswith("text/csv")
    assert "either pain-001 or csv" in (await steward.page(f"{run_path}/payments?format=x", 400)).text
    run = await steward.send(run, "/settle", bank_reference="B-7")
    assert "The payments are settled." in run.text and "closed" in run.text
    statement = await browser.page(path)
    assert "Paid EUR" in statement.text and f"{path}/objections" not in statement.forms
    other = await hallway.member(coop, ben)
    listed = await other.page(f"/{ben}/statements")
    assert "nobody has said where to pay it" in listed.text and "is yours and not paid yet" in listed.text


async def test_a_member_sees_their_own_line_with_its_arithmetic_and_of_others_nothing(hallway: Hallway) -> None:
    coop = await hallway.cooperative()
    ada, ben = await coop.join(2)
    await coop.enact(coop.policy(equal_bps=1_000, objection_seconds=3600))
    await coop.contribute(coop.version(), {ada: 12, ben: 8})
    await coop.earn(100_000, MARCH, coop.version())
    run = await coop.compute(MARCH)
    mine = await hallway.member(coop, ada)
    assert "There is no statement yet." in (await mine.page(f"/{ada}/statements")).text
    await coop.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name))
    await coop.ask(
        "ObjectToDividendRun",
        pb.ObjectToDividendRunRequest(request_id="objection-of-ben", name=run.name, text="Secret of Ben."),
        await coop.person(ben),
    )
    run_id = run.name.rsplit("/", 1)[1]
    path = f"/{ada}/statements/{run_id}"
    sheet = await mine.page(path)
    for words in ("12 rows x 1.000", "x 12,000 / 20,000 = EUR 540.00", "it may still change", "unclassified"):
        assert words in sheet.text, words
    theirs = await coop.statement(run, ben)
    seen = [sheet, await mine.page(f"/{ada}/statements"), await mine.page(f"/{coop.name}/dividends/{run_id}")]
    for page in seen:
        assert ben.rsplit("/", 1)[1] not in page.html and "Secret of Ben." not in page.html
        assert f"{theirs.amount.amount_minor / 100:.2f}" not in page.text
        assert "Largest line" not in page.text and "What to do" not in page.text
    assert "few" in seen[2].text and [one for one in seen[2].forms if one != "/sign-out"] == []
    for format, begins in (("pdf", b"%PDF"), ("csv", b""), ("json", b"{")):
        file = await mine.file(f"{path}/file?format={format}")
        assert file.content.startswith(begins) and f".{format}" in file.headers["content-disposition"]
    assert json.loads((await mine.file(f"{path}/file?format=json")).content)
    assert "one of pdf, csv and json" in (await mine.page(f"{path}/file?format=exe", 400)).text
    # Another member's pages do not exist, nor those of another cooperative.
    stranger = await hallway.cooperative()
    for other in (f"/{ben}/statements", f"/{ben}/statements/{run_id}", f"/{ben}/payee", f"/{stranger.name}/dividends"):
        assert "This page does not exist" in (await mine.page(other, 404)).text, other
    treasury = await mine.page(f"/{coop.name}/treasury", 403)
    assert "your key has no role for it" in treasury.text
    # A steward sees the statement at the counter, and not where it is paid.
    steward = await hallway.front.browser(coop.steward)
    assert "The member's objections" in (await steward.page(path)).text
    assert f"{path}/objections" not in (await steward.page(path)).forms
    await steward.page(f"/{ada}/payee", 403)


async def test_where_a_member_is_paid_is_masked_waits_and_is_forgotten(hallway: Hallway) -> None:
    coop = await hallway.cooperative()
    [ada] = await coop.join(1)
    browser = await hallway.member(coop, ada)
    path = f"/{ada}/payee"
    sheet = await browser.page(path)
    assert "Nobody knows where to pay you." in sheet.text
    assert "unclassified: nobody has decided yet how this is taxed, and the market does not" in sheet.text
    wrong = await browser.send(sheet, "/payee", 400, iban="NL91 ABNA 0417 1643 01", holder="Ada L.")
    assert wrong.forms[path]["holder"] == "Ada L."
    sheet = await browser.send(wrong, "/payee", iban=IBANS[0])
    assert "•••• 3000" in sheet.text and "Ada L." in sheet.text and IBANS[0] not in sheet.html
    fields = {"proof": sheet.forms[path]["proof"], "request_id": "forget-the-account", "forget": "yes"}
    answer = await browser.client.post(path, data=fields, headers={"origin": browser.origin})
    assert "Nobody knows where to pay you." in answer.text
    await coop.ask(
        "SetTaxProfile",
        pb.SetTaxProfileRequest(
            request_id="tax-profile-of-ada",
            tax_profile=pb.TaxProfile(
                name=f"{ada}/taxProfile", classification="patronage_dividend", withholding_bps=1_500, jurisdiction="NL"
            ),
        ),
    )
    sheet = await browser.page(path)
    assert "patronage dividend" in sheet.text and "15 %" in sheet.text
