"""RPCs of invoices and credit notes."""

from __future__ import annotations

import hashlib
import logging

from billing import invoicing, store
from billing.documents import pdf_of
from billing.domain import orders
from billing.service.base import READERS, Context, Parts, last, visible
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.refusals import not_found

log = logging.getLogger(__name__)

ACCESS = {
    "ListInvoices": READERS,
    "GetInvoice": READERS,
    "IssueInvoice": roles(identity_pb2.ROLE_BUYER),
}


class Invoices(Parts):
    """The documents of orders."""

    async def ListInvoices(self, request: pb.ListInvoicesRequest, context: Context) -> pb.ListInvoicesResponse:
        async with self._database.read() as connection:
            order = await visible(connection, request.order, request.order)
            found = await store.invoices.of_order(connection, order.id)
        return pb.ListInvoicesResponse(invoices=[invoice.resource() for invoice in found])

    async def GetInvoice(self, request: pb.GetInvoiceRequest, context: Context) -> pb.Invoice:
        order_name, _, id = request.name.partition("/invoices/")
        async with self._database.read() as connection:
            order = await visible(connection, order_name, request.name)
            invoice = await store.invoices.get(connection, order.id, id)
        if invoice is None:
            raise not_found(request.name)
        pdf = pdf_of(invoice.content)
        if hashlib.sha256(pdf).hexdigest() != invoice.pdf_hash:
            # The content is kept and unchanged, so it is the library that draws it otherwise now.
            log.error("%s has other bytes than when it was issued", invoice.name)
        return invoice.resource(pdf)

    async def IssueInvoice(self, request: pb.IssueInvoiceRequest, context: Context) -> pb.Invoice:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Invoice):
                return earlier
            order = await store.orders.lock(connection, last(request.order))
            if order is None or order.buyer != caller().organization:
                raise not_found(request.order)
            if not order.invoice_number:
                orders.check_open(order)
                order = await invoicing.issue(connection, order, now())
                await store.orders.save(connection, order)
            invoice = await store.invoices.invoice_of(connection, order.id)
            assert invoice is not None, "an order with a number has its invoice"
            return await remember(connection, caller().organization, request, invoice.resource())
