"""The RPCs of negotiations, RequestLicense first."""

from __future__ import annotations

from licensing import domain, store
from licensing.service.base import Calls, Context, offering_for, party, sight
from licensing.signature import allowing_rule, hold_rules, sign
from licensing.store.tables import bare
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import not_found


class NegotiationCalls(Calls):
    """From the first request to an agreement, or to none."""

    async def RequestLicense(self, request: pb.RequestLicenseRequest, context: Context) -> pb.Negotiation:
        buyer, wish, quote = caller().organization, request.wish, None
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, buyer, request, pb.Negotiation):
                return earlier
            licensee = await store.licensees.licensee(connection, buyer, lock=True)
            offering = await offering_for(connection, request.offering, buyer, lock=True)
            await hold_rules(connection, offering.name)
            at = now()
            if request.quote:
                quote = await store.quotes.quote(connection, buyer, request.quote)
                if quote is None:
                    raise not_found(request.quote)
                domain.quotes.require_usable(quote, request, at)
                wish = quote.wish
            # A quote is of the listed price; what its wish said about a price was ignored then and is now.
            price = wish.price if wish.HasField("price") and quote is None else None
            deal = domain.deals.proposed(offering, licensee, wish, price, at)
            if quote is not None:
                domain.quotes.require_unchanged(quote, deal, at)
            if deal.listed:
                deal.require_inside_offering()
            else:
                deal.require_negotiable()
            rule = await allowing_rule(connection, deal, at)
            negotiation = domain.negotiations.requested(
                f"negotiations/{new_id('neg')}",
                offering.name,
                f"licensees/{buyer}",
                offering.name.partition("/offerings/")[0],
                deal.scope,
                deal.plan,
                request.message,
                at,
                at + self._lives.negotiation,
            )
            await store.negotiations.save(connection, negotiation)
            if deal.listed:
                pay_by = at + self._lives.payment
                negotiation = await sign(
                    connection, self._keys.current, negotiation, pb.PARTY_MARKET, deal, rule, at, pay_by
                )
            return await remember(connection, buyer, request, negotiation)

    async def Counter(self, request: pb.CounterRequest, context: Context) -> pb.Negotiation:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Negotiation):
                return earlier
            before = await store.negotiations.negotiation(
                connection, bare(request.name), caller().organization, lock=True
            )
            if before is None:
                raise not_found(request.name)
            licensee = await store.licensees.licensee(connection, bare(before.licensee), lock=True)
            # Before the rules are held: who carries out a decision holds them, and waits for negotiations with a license.
            domain.negotiations.require_move(before, party(), request.etag, now())
            offering = await store.offerings.offering(connection, before.offering)
            assert offering is not None, "a negotiation has a foreign key to its offering"
            await hold_rules(connection, offering.name)
            at = now()
            domain.negotiations.require_move(before, party(), request.etag, at)
            price = request.wish.price if request.wish.HasField("price") else before.price
            deal = domain.deals.proposed(offering, licensee, request.wish, price, at)
            deal.require_negotiable()
            await allowing_rule(connection, deal, at)
            after = domain.negotiations.countered(
                before, party(), deal.scope, request.message, at, at + self._lives.negotiation
            )
            await store.negotiations.save(connection, after, before)
            return await remember(connection, caller().organization, request, after)

    async def AcceptNegotiation(self, request: pb.AcceptNegotiationRequest, context: Context) -> pb.Negotiation:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Negotiation):
                return earlier
            before = await store.negotiations.negotiation(
                connection, bare(request.name), caller().organization, lock=True
            )
            if before is None:
                raise not_found(request.name)
            licensee = await store.licensees.licensee(connection, bare(before.licensee), lock=True)
            # Before the rules are held: who carries out a decision holds them, and waits for negotiations with a license.
            domain.negotiations.require_move(before, party(), request.etag, now())
            offering = await store.offerings.offering(connection, before.offering, lock=True)
            assert offering is not None, "a negotiation has a foreign key to its offering"
            await hold_rules(connection, offering.name)
            at = now()
            domain.negotiations.require_move(before, party(), request.etag, at)
            deal = domain.deals.on_the_table(offering, licensee, before.scope, at)
            deal.require_negotiable()
            rule = await allowing_rule(connection, deal, at)
            after = await sign(
                connection, self._keys.current, before, party(), deal, rule, at, at + self._lives.payment
            )
            return await remember(connection, caller().organization, request, after)

    async def TerminateNegotiation(self, request: pb.TerminateNegotiationRequest, context: Context) -> pb.Negotiation:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Negotiation):
                return earlier
            before = await store.negotiations.negotiation(
                connection, bare(request.name), caller().organization, lock=True
            )
            if before is None:
                raise not_found(request.name)
            domain.negotiations.require_under_way(before)
            after = domain.negotiations.terminated(before, party(), request.message, now())
            await store.negotiations.save(connection, after, before)
            return await remember(connection, caller().organization, request, after)

    async def GetNegotiation(self, request: pb.GetNegotiationRequest, context: Context) -> pb.Negotiation:
        async with self._database.read() as connection:
            negotiation = await store.negotiations.negotiation(connection, bare(request.name), sight())
        if negotiation is None:
            raise not_found(request.name)
        return negotiation

    async def ListNegotiations(
        self, request: pb.ListNegotiationsRequest, context: Context
    ) -> pb.ListNegotiationsResponse:
        name, size = f"negotiations?{sight()}&{request.state}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        before = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.negotiations.negotiations(connection, sight(), request.state, before, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (bare(row.name),))
        return pb.ListNegotiationsResponse(negotiations=shown, next_page_token=token)
