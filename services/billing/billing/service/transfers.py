"""RPCs of bank transfers: what an operator has seen arrive pays its order, or waits in suspense."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import orders, postings
from billing.domain.ledger import Journal
from billing.domain.orders import Order
from billing.domain.payments import Payment
from billing.domain.references import references_in
from billing.service.base import Context, Occupied, Parts, trimmed, visible
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Refusal

ACCESS = {
    "ConfirmBankTransfer": roles(identity_pb2.ROLE_OPERATOR),
    "ImportBankTransfers": roles(identity_pb2.ROLE_OPERATOR),
}
# Of the reasons why a credit waits, those that are not a refusal's own.
MISSING, UNKNOWN, AMBIGUOUS = "REFERENCE_MISSING", "REFERENCE_UNKNOWN", "REFERENCE_AMBIGUOUS"
# A card payment that cannot be ended just now: an operator confirms the credit later.
_LATER = ("PAYMENT_IN_PROGRESS", "RAIL_UNAVAILABLE")


class Transfers(Parts):
    """Money at the market's bank."""

    async def ConfirmBankTransfer(self, request: pb.ConfirmBankTransferRequest, context: Context) -> pb.Order:
        return await self.making_way(lambda: self._confirm(request))

    async def _confirm(self, request: pb.ConfirmBankTransferRequest) -> pb.Order:
        at = now()
        async with self._database.read() as connection:
            order = await visible(connection, request.order, request.order)
        with self._settlement.purchase(order):
            async with self._database.begin() as connection:
                if earlier := await first_answer(connection, caller().organization, request, pb.Order):
                    return earlier
                locked = await store.orders.lock(connection, order.id)
                assert locked is not None, "orders are never deleted"
                orders.check_open(locked)
                require_currency(request.amount.currency)
                orders.check_transfer(locked, request.amount)
                reference = trimmed(request.bank_reference)
                waited = False
                if not await store.transfers.claim(
                    connection, reference, locked.id, caller().key, at, amount=request.amount
                ):
                    await self._take_from_suspense(connection, locked, reference, at)
                    waited = True
                paid = await self._receive(connection, locked, reference, waited, at)
                return await remember(connection, caller().organization, request, paid.resource())

    async def _take_from_suspense(
        self, connection: AsyncConnection, order: Order, reference: str, at: dt.datetime
    ) -> None:
        """A credit that was imported and pays nothing yet. Refuses with BANK_REFERENCE_USED, and as a transfer of the
        amount that arrived would be."""
        transfer = await store.transfers.lock(connection, reference)
        if transfer is None or not transfer.waits or transfer.amount is None:
            raise orders.bank_reference_used(reference)
        orders.check_transfer(order, transfer.amount)
        await store.transfers.match(connection, reference, order.id, caller().key, at)

    async def _receive(
        self, connection: AsyncConnection, order: Order, reference: str, waited: bool, at: dt.datetime
    ) -> Order:
        """The whole amount of an open order is at the bank. The caller holds the order's lock and has booked the
        reference. Raises Occupied for a card payment under way."""
        live = await store.payments.live_of(connection, order.id)
        if live is not None and live.method != pb.PAYMENT_METHOD_BANK_TRANSFER:
            raise Occupied(order, live)
        if live is None:
            live = Payment(
                id=new_id("pay"),
                order_id=order.id,
                method=pb.PAYMENT_METHOD_BANK_TRANSFER,
                state=pb.PAYMENT_STATE_PENDING,
                amount=order.amount,
                payment_reference=order.payment_reference,
                create_time=at,
            )
            await store.payments.insert(connection, live)
        await store.payments.save(connection, replace(live, state=pb.PAYMENT_STATE_SUCCEEDED, settle_time=at))

        def booked(sale: postings.Sale) -> list[Journal]:
            if waited:
                return postings.matched_from_suspense(sale, reference, at)
            return postings.bank_payment(sale, reference, at)

        return await self._settlement.pay(connection, order, at, postings.BANK, booked)

    async def ImportBankTransfers(
        self, request: pb.ImportBankTransfersRequest, context: Context
    ) -> pb.ImportBankTransfersResponse:
        if earlier := await self._answered(request):
            return earlier
        for transfer in request.transfers:
            _check(transfer)
        # Each credit in a transaction of its own: five hundred orders are not locked at once, and a second arrival after
        # a crash finds the first ones booked.
        matches = [await self._book(transfer) for transfer in request.transfers]
        response = pb.ImportBankTransfersResponse(matches=matches)
        async with self._database.begin() as connection:
            if first := await first_answer(connection, caller().organization, request, pb.ImportBankTransfersResponse):
                return first
            return await remember(connection, caller().organization, request, response)

    async def _answered(self, request: pb.ImportBankTransfersRequest) -> pb.ImportBankTransfersResponse | None:
        """The answer of an earlier arrival, without keeping the request's id for this one: others may go on meanwhile."""
        async with self._database.begin() as connection:
            nested = await connection.begin_nested()
            earlier = await first_answer(connection, caller().organization, request, pb.ImportBankTransfersResponse)
            await nested.rollback()
            return earlier

    async def _book(self, transfer: pb.BankTransfer) -> pb.BankTransferMatch:
        try:
            return await self.making_way(lambda: self._match(transfer))
        except Refusal as refused:
            if refused.reason not in _LATER:
                raise
            return await self._suspend(transfer, refused.reason)

    async def _match(self, transfer: pb.BankTransfer) -> pb.BankTransferMatch:
        reference, at = trimmed(transfer.bank_reference), now()
        named = references_in(transfer.text)
        async with self._database.read() as connection:
            if (known := await store.transfers.get(connection, reference)) is not None:
                return _repeated(known)
            found = await store.orders.of_references(connection, named)
        if len(found) != 1:
            return await self._suspend(transfer, AMBIGUOUS if found else UNKNOWN if named else MISSING)
        with self._settlement.purchase(found[0]):
            async with self._database.begin() as connection:
                order = await store.orders.lock(connection, found[0].id)
                assert order is not None, "orders are never deleted"
                if (reason := _why_not(order, transfer)) is None:
                    if not await store.transfers.claim(
                        connection, reference, order.id, caller().key, at, amount=transfer.amount, text=transfer.text
                    ):
                        known = await store.transfers.get(connection, reference)
                        assert known is not None, "another import was faster"
                        return _repeated(known)
                    await self._receive(connection, order, reference, waited=False, at=at)
                    return pb.BankTransferMatch(bank_reference=reference, order=order.name)
        return await self._suspend(transfer, reason)

    async def _suspend(self, transfer: pb.BankTransfer, reason: str) -> pb.BankTransferMatch:
        reference, at = trimmed(transfer.bank_reference), now()
        async with self._database.begin() as connection:
            if not await store.transfers.claim(
                connection,
                reference,
                None,
                caller().key,
                at,
                amount=transfer.amount,
                text=transfer.text,
                suspense_reason=reason,
            ):
                known = await store.transfers.get(connection, reference)
                assert known is not None, "another import was faster"
                return _repeated(known)
            await store.ledger.post(
                connection,
                postings.unmatched_transfer(reference, transfer.amount.amount_minor, transfer.amount.currency, at),
            )
        return pb.BankTransferMatch(bank_reference=reference, suspense_reason=reason)


def _repeated(known: store.transfers.Transfer) -> pb.BankTransferMatch:
    """What became of a credit that was booked before, as it stands now."""
    return pb.BankTransferMatch(
        bank_reference=known.bank_reference,
        order=f"orders/{known.order_id}" if known.order_id else "",
        suspense_reason=known.suspense_reason if known.waits else "",
        repeated=True,
    )


def _why_not(order: Order, transfer: pb.BankTransfer) -> str | None:
    """Why a credit does not pay the order it names; None when it does."""
    try:
        orders.check_open(order)
        orders.check_transfer(order, transfer.amount)
    except Refusal as refused:
        return refused.reason
    return None


def _check(transfer: pb.BankTransfer) -> None:
    trimmed(transfer.bank_reference)
    require_currency(transfer.amount.currency)
    if not transfer.amount.amount_minor:
        raise Refusal("REQUEST_INVALID", "amount: a credit is more than zero.", field="amount", rule="zero")
