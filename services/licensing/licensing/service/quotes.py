"""The RPC of quotes."""

from __future__ import annotations

from licensing import domain, store
from licensing.service.base import Calls, Context, offering_for
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller


class QuoteCalls(Calls):
    """What something would cost the caller."""

    async def RequestQuote(self, request: pb.RequestQuoteRequest, context: Context) -> pb.Quote:
        buyer, at = caller().organization, now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, buyer, request, pb.Quote):
                return earlier
            licensee = await store.licensees.licensee(connection, buyer)
            offering = await offering_for(connection, request.offering, buyer)
            deal = domain.deals.proposed(offering, licensee, request.wish, None, at)
            deal.require_inside_offering()
            quote = domain.quotes.quoted(f"quotes/{new_id('quo')}", deal, at)
            await store.quotes.insert(connection, buyer, request.wish, quote)
            return await remember(connection, buyer, request, quote)
