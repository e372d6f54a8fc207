"""The RPCs of requests outside the mandate. How they go on is heard in events and carried out in mandate."""

from __future__ import annotations

from licensing import domain, store
from licensing.mandate import close
from licensing.service.base import Calls, Context, sight
from licensing.store.tables import bare
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import not_found


class MandateCalls(Calls):
    """A buyer asks members for what their rules do not allow."""

    async def RequestMandate(self, request: pb.RequestMandateRequest, context: Context) -> pb.MandateRequest:
        buyer = caller().organization
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, buyer, request, pb.MandateRequest):
                return earlier
            licensee = await store.licensees.licensee(connection, buyer, lock=True)
            offering = await store.offerings.offering(connection, request.offering)
            if offering is None:
                raise not_found(request.offering)
            cooperative, at = offering.name.split("/")[1], now()
            scope = domain.mandates.asked_scope(offering, licensee, request.wish, at)
            why = domain.mandates.outside(scope, await store.rules.in_force(connection, cooperative, at))
            assert licensee is not None, "asked_scope refuses who is not attested"
            asked = domain.mandates.requested(
                f"mandateRequests/{new_id('mreq')}",
                offering,
                licensee,
                scope,
                why,
                request.message,
                at,
                domain.mandates.response_time(await store.cooperatives.cooperative(connection, cooperative)),
            )
            await store.mandates.save(connection, asked)
            await announce(connection, events_pb2.MandateRequested(mandate_request=asked), at)
            return await remember(connection, buyer, request, asked)

    async def GetMandateRequest(self, request: pb.GetMandateRequestRequest, context: Context) -> pb.MandateRequest:
        async with self._database.read() as connection:
            found = await store.mandates.mandate_request(connection, bare(request.name), sight())
        if found is None:
            raise not_found(request.name)
        return found

    async def ListMandateRequests(
        self, request: pb.ListMandateRequestsRequest, context: Context
    ) -> pb.ListMandateRequestsResponse:
        name, size = f"mandateRequests?{sight()}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        before = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.mandates.mandate_requests(connection, sight(), before, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (bare(row.name),))
        return pb.ListMandateRequestsResponse(mandate_requests=shown, next_page_token=token)

    async def WithdrawMandateRequest(
        self, request: pb.WithdrawMandateRequestRequest, context: Context
    ) -> pb.MandateRequest:
        async with self._database.begin() as connection:
            before = await store.mandates.mandate_request(
                connection, bare(request.name), caller().organization, lock=True
            )
            if before is None:
                raise not_found(request.name)
            if before.state == pb.MANDATE_REQUEST_STATE_WITHDRAWN:
                return before
            return await close(connection, domain.mandates.withdrawn(before), now())
