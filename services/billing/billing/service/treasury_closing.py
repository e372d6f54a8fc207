"""RPCs of comparing and closing: reconciliation, its breaks, and months into which nothing is posted any more."""

from __future__ import annotations

from dataclasses import replace

from billing import store
from billing.domain import months
from billing.domain.months import ClosedMonth
from billing.rail import RailRefused, RailUnavailable
from billing.service.treasury_base import Context, TreasuryParts, book_own, book_seen, last, rail_unavailable
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import Kind, Refusal, not_found


class Closing(TreasuryParts):
    """What does not fit, and what is over."""

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.Reconciliation:
        try:
            return await self._reconciling.run()
        except RailUnavailable:
            raise rail_unavailable(enabled=True) from None
        except RailRefused as refused:
            raise rail_unavailable(enabled=True, code=refused.code) from None

    async def ListBreaks(self, request: pb.ListBreaksRequest, context: Context) -> pb.ListBreaksResponse:
        # Without a parent, those of everybody.
        book = book_seen(request.parent) if request.parent else None
        if book is None:
            book_seen("")
        name, size = f"breaks?{request.parent}&{request.all}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            after = str(position[0]) if position else None
            rows = await store.breaks.page(connection, book, after, size + 1, closed=request.all)
        shown, token = paging.page(name, rows, size, lambda one: (one.id,))
        return pb.ListBreaksResponse(breaks=[one.resource() for one in shown], next_page_token=token)

    async def ResolveBreak(self, request: pb.ResolveBreakRequest, context: Context) -> pb.Break:
        at = now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Break):
                return earlier
            one = await store.breaks.lock(connection, last(request.name))
            if one is None:
                raise not_found(request.name)
            if one.close_time is not None:
                raise Refusal(
                    "BREAK_CLOSED",
                    f"{request.name} is settled: {one.resolution}",
                    Kind.STATE,
                    name=request.name,
                    resolution=one.resolution,
                )
            settled = replace(one, close_time=at, resolution=request.note)
            await store.breaks.settle(connection, settled, caller().key)
            return await remember(connection, caller().organization, request, settled.resource())

    async def CloseMonth(self, request: pb.CloseMonthRequest, context: Context) -> pb.ClosedMonth:
        book, at = book_own(request.parent), now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.ClosedMonth):
                return earlier
            # What is being posted is waited for, and what comes after finds the month closed.
            await store.breaks.hold_book(connection, book)
            months.check(
                request.month,
                await store.breaks.closed_month(connection, book),
                await store.breaks.first_journal(connection, book),
                await store.breaks.last_run(connection),
                await store.breaks.open_count(connection, book),
                at,
            )
            end = months.end_of(request.month)
            seal = (await store.journals.seal_of(connection, book, end)).hex()
            closed = ClosedMonth(book, request.month, end, seal, at, caller().key)
            await store.breaks.close_month(connection, closed)
            return await remember(connection, caller().organization, request, closed.resource())
