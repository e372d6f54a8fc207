"""RPCs of payouts: listing them, giving banks a file, and saying what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import payouts, postings
from billing.domain.payment_files import Payment, payment_file
from billing.domain.payouts import Asked, Payout
from billing.paying_out import fail
from billing.service.treasury_base import Context, TreasuryParts, last, seen
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal, not_found

_ALL = "cooperatives/-"


class Payouts(TreasuryParts):
    """Money on its way to cooperatives."""

    async def ListPayouts(self, request: pb.ListPayoutsRequest, context: Context) -> pb.ListPayoutsResponse:
        everybody = request.parent == _ALL and caller().is_operator
        cooperative = None if everybody else seen(request.parent)
        name, size = f"payouts?{request.parent}&{request.state}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.payouts.page(
                connection, cooperative, str(position[0]) if position else None, size + 1, request.state
            )
        shown, token = paging.page(name, rows, size, lambda payout: (payout.id,))
        return pb.ListPayoutsResponse(payouts=[payout.resource() for payout in shown], next_page_token=token)

    async def ExportPayouts(self, request: pb.ExportPayoutsRequest, context: Context) -> pb.PaymentFile:
        require_currency(request.currency)
        at, file_id = now(), new_id("fil")
        async with self._database.begin() as connection:
            found = await self._to_export(connection, request)
            if earlier := await _exported(connection, request, found):
                return earlier
            banks = await store.payout_accounts.banks(connection, {payout.bank_account_id for payout in found})
            if missing := [payout for payout in found if payout.bank_account_id not in banks]:
                raise Refusal(
                    "PAYOUT_ACCOUNT_MISSING",
                    f"The account of {missing[0].name} was erased.",
                    Kind.STATE,
                    payout=missing[0].name,
                )
            payments = [
                Payment(payout.id, banks[payout.bank_account_id], payout.amount_minor, f"Payout {payout.id[4:]}")
                for payout in found
            ]
            # It takes seconds: the other calls go on meanwhile.
            file = await asyncio.to_thread(
                payment_file, request.format, file_id, "payouts", self._payer, payments, request.currency, at
            )
            await store.payouts.add_file(connection, file_id, request.format, request.currency, file, caller().key, at)
            for payout in found:
                sent = replace(payout, state=pb.PAYOUT_STATE_IN_TRANSIT, file_id=file_id)
                await store.payouts.save(connection, sent)
            return file

    async def _to_export(self, connection: AsyncConnection, request: pb.ExportPayoutsRequest) -> list[Payout]:
        """The payouts asked for, locked. Refuses with NOTHING_TO_PAY, NOT_FOUND, PAYOUT_NOT_PENDING."""
        if not request.payouts:
            found = await store.payouts.lock_pending(connection, currency=request.currency)
            if not found:
                raise Refusal(
                    "NOTHING_TO_PAY",
                    f"No payout in {request.currency} waits for a file; name those of an earlier file to get it again.",
                    Kind.STATE,
                    currency=request.currency,
                )
            return found
        found = await store.payouts.lock_all(connection, {last(name) for name in request.payouts})
        known = {payout.name: payout for payout in found}
        for name in request.payouts:
            if name not in known:
                raise not_found(name)
            if known[name].rail != pb.PAYOUT_RAIL_BANK or known[name].currency != request.currency:
                raise _not_pending(known[name])
        return found

    async def ConfirmPayout(self, request: pb.ConfirmPayoutRequest, context: Context) -> pb.Payout:
        at, reference = now(), request.bank_reference.strip()
        if not reference:
            raise Refusal("REQUEST_INVALID", "bank_reference: must not be blank.", field="bank_reference", rule="blank")
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Payout):
                return earlier
            payout = await _locked(connection, request.name)
            payouts.check_in_transit(payout)
            if await store.payouts.reference_used(connection, reference):
                raise Refusal(
                    "BANK_REFERENCE_USED",
                    f"The transfer {reference} has confirmed another payout already.",
                    Kind.STATE,
                    bank_reference=reference,
                )
            paid = replace(payout, state=pb.PAYOUT_STATE_PAID, reference=reference, settle_time=at)
            await store.payouts.save(connection, paid)
            await store.payouts.settle_transfers(connection, payout.id, Asked.DONE, at)
            journals = postings.payout_done(
                payout.id, payout.cooperative, payout.currency, payout.amount_minor, postings.BANK, reference, at
            )
            await store.ledger.post(connection, journals)
            return await remember(connection, caller().organization, request, paid.resource())

    async def ReturnPayout(self, request: pb.ReturnPayoutRequest, context: Context) -> pb.Payout:
        at = now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Payout):
                return earlier
            # The account before the payout, as everybody takes them.
            account = await store.payout_accounts.lock(connection, request.name.split("/")[1])
            payout = await _locked(connection, request.name)
            payouts.check_in_transit(payout, pb.PAYOUT_STATE_PAID)
            arrived = payout.state == pb.PAYOUT_STATE_PAID
            state = pb.PAYOUT_STATE_RETURNED if arrived else pb.PAYOUT_STATE_FAILED
            ended = await fail(connection, payout, state, request.reason, at)
            if account is not None and account.bank_account_id == payout.bank_account_id:
                # The same account would send it back each day: somebody looks at it again first.
                await store.payout_accounts.save(connection, replace(account, approved_by="", usable_time=None))
            return await remember(connection, caller().organization, request, ended.resource())


async def _exported(
    connection: AsyncConnection, request: pb.ExportPayoutsRequest, found: Sequence[Payout]
) -> pb.PaymentFile | None:
    """The file these payouts are in, if they are all of it; None when all wait for one. Refuses with
    PAYOUT_NOT_PENDING."""
    if all(payout.state == pb.PAYOUT_STATE_PENDING for payout in found):
        return None
    first = found[0]
    if first.file_id is not None:
        ids = [payout.id for payout in found]
        file = await store.payouts.file_of(connection, first.file_id, ids, request.format, request.currency)
        if file is not None:
            return file
    raise _not_pending(next(payout for payout in found if payout.state != pb.PAYOUT_STATE_PENDING))


async def _locked(connection: AsyncConnection, name: str) -> Payout:
    payout = await store.payouts.lock(connection, last(name))
    if payout is None or payout.name != name:
        raise not_found(name)
    return payout


def _not_pending(payout: Payout) -> Refusal:
    state = pb.PayoutState.Name(payout.state).removeprefix("PAYOUT_STATE_")
    return Refusal(
        "PAYOUT_NOT_PENDING",
        f"{payout.name} does not wait for a file of this currency and format.",
        Kind.STATE,
        payout=payout.name,
        state=state,
    )
