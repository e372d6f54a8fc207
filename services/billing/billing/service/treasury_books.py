"""RPCs of the books: balances, journals, the export, and what a cooperative spent."""

from __future__ import annotations

from billing import store
from billing.domain import beancount, postings
from billing.domain.ledger import account_of
from billing.service.base import require_still_member
from billing.service.treasury_base import (
    Context,
    TreasuryParts,
    book_seen,
    journal_resource,
    own,
    posted_resource,
)
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Refusal, not_found

# A journal of a dividend run names up to a thousand members, and clients take 4 MB in one answer.
EXPORT_JOURNALS = 200


class Books(TreasuryParts):
    """What is written, to be read by those it concerns."""

    async def RecordCost(self, request: pb.RecordCostRequest, context: Context) -> pb.Journal:
        cooperative, at, id = own(request.parent), now(), new_id("cst")
        require_currency(request.amount.currency)
        if request.amount.amount_minor <= 0:
            raise Refusal("REQUEST_INVALID", "amount: must be above zero.", field="amount", rule="positive")
        amount, currency = request.amount.amount_minor, request.amount.currency
        async with self._database.begin() as connection:
            await require_still_member(connection, request.parent)
            if earlier := await first_answer(connection, caller().organization, request, pb.Journal):
                return earlier
            (journal,) = postings.cost(id, cooperative, currency, amount, at)
            await store.ledger.post(connection, [journal])
            await store.books.add_cost(
                connection, id, cooperative, amount, currency, request.description, caller().key, at
            )
            return await remember(connection, caller().organization, request, journal_resource(id, journal, at))

    async def ListBalances(self, request: pb.ListBalancesRequest, context: Context) -> pb.ListBalancesResponse:
        book, size = book_seen(request.parent), paging.size(request.page_size)
        name = f"balances?{book}&{request.prefix}"
        position = paging.decode(name, request.page_token, str, str)
        after = (str(position[0]), str(position[1])) if position else None
        async with self._database.read() as connection:
            rows = await store.ledger.page_of_balances(connection, book, request.prefix, after, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (row.code, row.currency))
        return pb.ListBalancesResponse(
            balances=[
                pb.AccountBalance(account=row.code, currency=row.currency, balance_minor=row.balance_minor)
                for row in shown
            ],
            next_page_token=token,
        )

    async def ListJournals(self, request: pb.ListJournalsRequest, context: Context) -> pb.ListJournalsResponse:
        book, size = book_seen(request.parent), paging.size(request.page_size)
        name = f"journals?{book}&{request.account}"
        position = paging.decode(name, request.page_token, int)
        if request.account:
            try:
                account_of(book, request.account)
            except KeyError:
                raise not_found(request.account) from None
        before = position[0] if position else None
        assert before is None or isinstance(before, int), "decode has checked it"
        async with self._database.read() as connection:
            rows = await store.journals.page_of_journals(connection, book, before, size + 1, code=request.account)
        shown, token = paging.page(name, rows, size, lambda row: (row.id,))
        return pb.ListJournalsResponse(journals=[posted_resource(row) for row in shown], next_page_token=token)

    async def ExportBook(self, request: pb.ExportBookRequest, context: Context) -> pb.ExportBookResponse:
        book = book_seen(request.parent)
        name = f"export?{book}"
        position = paging.decode(name, request.page_token, int, int)
        if position is None:
            # Let go of at once: whoever posts waits for it.
            async with self._database.read() as connection:
                until = await store.books.end(connection, book)
            before = until + 1
        else:
            until, before = (int(str(part)) for part in position)
            if before > until + 1:
                raise paging.invalid()
        async with self._database.read() as connection:
            used = await store.books.used(connection, book, until)
            codes = {one.code for one in used}
            text = ""
            if position is None:
                opened = {
                    code: (
                        min(one.since for one in used if one.code == code).date(),
                        {one.currency for one in used if one.code == code},
                    )
                    for code in codes
                }
                text = beancount.openings(book, opened)
            # Newest first; Beancount sorts by itself.
            rows = await store.journals.page_of_journals(connection, book, before, EXPORT_JOURNALS + 1)
            shown, token = paging.page(name, rows, EXPORT_JOURNALS, lambda row: (until, row.id))
            text += beancount.transactions(book, codes, [row.journal for row in shown])
            if not token and used:
                balances = [
                    (one.code, one.currency, one.debits_minor if _by_debit(book, one.code) else -one.debits_minor)
                    for one in used
                ]
                day = await store.books.last_day(connection, book, until)
                text += beancount.assertions(book, codes, balances, day)
        return pb.ExportBookResponse(beancount=text, next_page_token=token)


def _by_debit(book: str, code: str) -> bool:
    return account_of(book, code).kind.by_debit
