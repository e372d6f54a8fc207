"""Invoices and credit notes as rows, which are never changed, and the counters that number them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.domain.invoices import Invoice
from billing.store.invoice_tables import invoice_counter_table, invoice_table
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1.money_pb2 import Money

_table = invoice_table


async def next_position(connection: AsyncConnection, seller: str) -> int:
    """The next number of a seller, held until the transaction ends: one that is rolled back leaves no gap.

    Locked after the ledger and before a standing. Everything of one seller waits here, so issue last.
    """
    counter = invoice_counter_table
    statement = (
        upsert(counter)
        .values(seller=seller, last=1)
        .on_conflict_do_update(index_elements=["seller"], set_={"last": counter.c.last + 1})
        .returning(counter.c.last)
    )
    return int((await connection.execute(statement)).scalar_one())


async def insert(connection: AsyncConnection, invoice: Invoice) -> None:
    await connection.execute(
        _table.insert().values(
            id=invoice.id,
            order_id=invoice.order_id,
            seller=invoice.seller,
            position=invoice.position,
            number=invoice.number,
            kind=invoice.kind,
            cause=invoice.cause,
            issue_time=invoice.issue_time,
            amount_minor=invoice.amount.amount_minor,
            currency=invoice.amount.currency,
            content=invoice.content,
            pdf_hash=invoice.pdf_hash,
        )
    )


async def get(connection: AsyncConnection, order_id: str, id: str) -> Invoice | None:
    statement = sa.select(_table).where(_table.c.id == id, _table.c.order_id == order_id)
    row = (await connection.execute(statement)).first()
    return _invoice(row) if row is not None else None


async def of_order(connection: AsyncConnection, order_id: str) -> list[Invoice]:
    """Oldest first, which is the order of their numbers."""
    rows = await connection.execute(sa.select(_table).where(_table.c.order_id == order_id).order_by(_table.c.position))
    return [_invoice(row) for row in rows]


async def invoice_of(connection: AsyncConnection, order_id: str) -> Invoice | None:
    """The invoice of an order, which has one at most; credit notes are not meant."""
    statement = sa.select(_table).where(_table.c.order_id == order_id, _table.c.kind == pb.INVOICE_KIND_INVOICE)
    row = (await connection.execute(statement)).first()
    return _invoice(row) if row is not None else None


def _invoice(row: Any) -> Invoice:
    return Invoice(
        id=row.id,
        order_id=row.order_id,
        seller=row.seller,
        position=row.position,
        kind=row.kind,
        cause=row.cause,
        issue_time=row.issue_time,
        amount=Money(amount_minor=row.amount_minor, currency=row.currency),
        content=row.content,
        pdf_hash=row.pdf_hash,
    )
