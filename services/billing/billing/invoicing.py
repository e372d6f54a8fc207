"""Issues invoices and credit notes, in the transaction of what they are about: after the ledger, last before saving.

The caller holds the order's lock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.documents import pdf_of
from billing.domain.invoices import Invoice, credit_content, invoice_content, number_of
from billing.domain.orders import Order
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id


async def issue(connection: AsyncConnection, order: Order, at: dt.datetime) -> Order:
    """The order with its invoice's number; issued now if it has none. The caller saves the order."""
    if order.invoice_number:
        return order
    position = await store.invoices.next_position(connection, order.seller)
    content = invoice_content(order, number_of(order.seller, position, at), at)
    invoice = _invoice(order, position, pb.INVOICE_KIND_INVOICE, "", order.amount, content, at)
    await store.invoices.insert(connection, invoice)
    return replace(order, invoice_number=invoice.number)


async def credit(
    connection: AsyncConnection,
    order: Order,
    cause: str,
    amount_minor: int,
    tax_minor: int,
    reason: str,
    at: dt.datetime,
) -> None:
    """A credit note over amount_minor, of which tax_minor is tax, if the order was invoiced. One for each cause, which is
    a refund's id or invoices.CANCELED."""
    if not order.invoice_number:
        return
    position = await store.invoices.next_position(connection, order.seller)
    content = credit_content(order, number_of(order.seller, position, at), at, amount_minor, tax_minor, reason)
    amount = Money(amount_minor=amount_minor, currency=order.amount.currency)
    note = _invoice(order, position, pb.INVOICE_KIND_CREDIT_NOTE, cause, amount, content, at)
    await store.invoices.insert(connection, note)


def _invoice(
    order: Order,
    position: int,
    kind: pb.InvoiceKind.ValueType,
    cause: str,
    amount: Money,
    content: str,
    at: dt.datetime,
) -> Invoice:
    return Invoice(
        id=new_id("inv"),
        order_id=order.id,
        seller=order.seller,
        position=position,
        kind=kind,
        cause=cause,
        issue_time=at,
        amount=amount,
        content=content,
        pdf_hash=hashlib.sha256(pdf_of(content)).hexdigest(),
    )
