"""RPCs of disputes."""

from __future__ import annotations

from billing import evidence, store
from billing.domain import disputes
from billing.domain.disputes import Dispute
from billing.domain.orders import Order
from billing.domain.payments import rail_unavailable
from billing.rail import RailRefused, RailUnavailable
from billing.service.base import READERS, Context, Parts, last, organization
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.refusals import not_found

_SELLERS = roles(identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR)
ACCESS = {"ListDisputes": READERS, "GetEvidence": _SELLERS, "SubmitEvidence": _SELLERS}


class Disputes(Parts):
    """Payments that a buyer's bank takes back."""

    async def ListDisputes(self, request: pb.ListDisputesRequest, context: Context) -> pb.ListDisputesResponse:
        name = f"disputes?{organization()}&{request.open_only}"
        size = paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            before = str(position[0]) if position else None
            rows = await store.disputes.page(connection, organization(), before, size + 1, request.open_only)
        shown, token = paging.page(name, rows, size, lambda dispute: (dispute.id,))
        return pb.ListDisputesResponse(disputes=[one.resource() for one in shown], next_page_token=token)

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Context) -> pb.Evidence:
        dispute, _ = await self._of_seller(request.name)
        async with self._database.read() as connection:
            pack = await evidence.assemble(connection, dispute)
        return pb.Evidence(text=evidence.text_of(pack), content_json=evidence.json_of(pack))

    async def SubmitEvidence(self, request: pb.SubmitEvidenceRequest, context: Context) -> pb.Dispute:
        dispute, order = await self._of_seller(request.name)
        async with self._database.begin() as connection:
            # Not claimed yet: until the rail has the evidence there is no answer to keep, and a retry goes on.
            nested = await connection.begin_nested()
            earlier = await first_answer(connection, caller().organization, request, pb.Dispute)
            await nested.rollback()
        if earlier is not None:
            return earlier
        if dispute.state != pb.DISPUTE_STATE_NEEDS_RESPONSE or dispute.evidence_time is not None:
            raise disputes.not_open(dispute)
        try:
            # The rail takes evidence once; asked again after a lost answer, it leaves the first as it is.
            answered = await self._disputing.answer(dispute, request.statement)
        except (RailUnavailable, RailRefused):
            raise rail_unavailable(order, self._cards) from None
        async with self._database.begin() as connection:
            if first := await first_answer(connection, caller().organization, request, pb.Dispute):
                return first
            return await remember(connection, caller().organization, request, answered.resource())

    async def _of_seller(self, name: str) -> tuple[Dispute, Order]:
        """A dispute of an order the caller sells, or any for the market itself."""
        async with self._database.read() as connection:
            dispute = await store.disputes.get(connection, last(name))
            order = await store.orders.get(connection, dispute.order_id) if dispute is not None else None
        if dispute is None or order is None or dispute.name != name or organization() not in (None, order.seller):
            raise not_found(name)
        return dispute, order
