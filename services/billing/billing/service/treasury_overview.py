"""RPCs that show a treasurer how things stand: balances, what is next, shares."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain.ledger import PLATFORM
from billing.service.treasury_base import Context, TreasuryParts, book_seen, last, seen
from billing.store.ledger import AccountBalance
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit import paging
from rochdale_kit.clock import now, to_timestamp

# Which account of which book is which field; of the market's own treasury, all cooperatives' together.
_AT_MARKET = {
    "pending": "held_minor",
    "frozen": "frozen_minor",
    "available": "available_minor",
    "reserve": "market_reserve_minor",
    "in_transit": "in_transit_minor",
    "receivable": "owed_minor",
}
_AT_HOME = {
    "bank": "bank_minor",
    "surplus": "surplus_minor",
    "reserve": "reserve_minor",
    "commons": "commons_minor",
    "solidarity": "solidarity_minor",
    "unclaimed": "unclaimed_minor",
}
_EARNED = {"fee_revenue": 1, "processing_fees": -1, "dispute_losses": -1, "fx": -1, "rounding": -1}


class Overview(TreasuryParts):
    """How a treasury stands."""

    async def GetTreasury(self, request: pb.GetTreasuryRequest, context: Context) -> pb.Treasury:
        book, at = book_seen(request.parent), now()
        if book == PLATFORM:
            return await self._of_market()
        cooperative = last(request.parent)
        async with self._database.read() as connection:
            at_market = await store.ledger.balances(connection, PLATFORM, prefix=f"coop:{cooperative}:")
            at_home = await store.ledger.balances(connection, book, besides="member:")
            balances = _of_cooperative(at_market, at_home, await store.ledger.members_payable(connection, book))
            account = await store.payout_accounts.get(connection, cooperative)
            month = await store.breaks.closed_month(connection, book)
            treasury = pb.Treasury(
                name=f"cooperatives/{cooperative}/treasury",
                balances=[balances[currency] for currency in sorted(balances)],
                payout_account=account.resource(at) if account is not None else None,
                next_release_time=to_timestamp(await store.releases.next_release(connection, cooperative)),
                open_break_count=await store.breaks.open_count(connection, book),
                closed_month=month.month if month is not None else "",
            )
            if account is not None and account.active(at):
                await self._tell_next(connection, cooperative, treasury, at)
        return treasury

    async def _tell_next(
        self, connection: AsyncConnection, cooperative: str, treasury: pb.Treasury, at: dt.datetime
    ) -> None:
        times = []
        for balance in treasury.balances:
            amount = balance.available_minor - balance.owed_minor
            if amount < self._minimum_minor:
                continue
            before, _ = await store.payouts.latest(connection, cooperative, balance.currency)
            times.append(max(at, before + self._payout_every) if before is not None else at)
            treasury.next_payout.append(Money(amount_minor=amount, currency=balance.currency))
        if times:
            treasury.next_payout_time.CopyFrom(to_timestamp(min(times)))

    async def _of_market(self) -> pb.Treasury:
        async with self._database.read() as connection:
            found: dict[str, pb.TreasuryBalance] = {}
            for one in await store.ledger.balances(connection, PLATFORM):
                into, part = _of(found, one.currency), one.code.rpartition(":")[2]
                if one.code.startswith("coop:"):
                    _add(into, _AT_MARKET[part], one.balance_minor)
                elif one.code == "bank":
                    into.bank_minor += one.balance_minor
                elif one.code in _EARNED:
                    into.surplus_minor += _EARNED[one.code] * one.balance_minor
            month = await store.breaks.closed_month(connection, PLATFORM)
            return pb.Treasury(
                name="treasury",
                balances=[found[currency] for currency in sorted(found)],
                open_break_count=await store.breaks.open_count(connection, None),
                closed_month=month.month if month is not None else "",
            )

    async def ListShares(self, request: pb.ListSharesRequest, context: Context) -> pb.ListSharesResponse:
        cooperative, at = seen(request.parent), now()
        name, size = f"shares?{cooperative}&{request.state}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            before = str(position[0]) if position else None
            rows = await store.releases.page(
                connection, cooperative, before, size + 1, request.state, self._delivery_deadline
            )
        shown, token = paging.page(name, rows, size, lambda one: (one.share.id,))
        return pb.ListSharesResponse(shares=[one.resource(at) for one in shown], next_page_token=token)


def _of_cooperative(
    at_market: Iterable[AccountBalance], at_home: Iterable[AccountBalance], members_payable: Mapping[str, int]
) -> dict[str, pb.TreasuryBalance]:
    found: dict[str, pb.TreasuryBalance] = {}
    for one in at_market:
        _add(_of(found, one.currency), _AT_MARKET[one.code.rpartition(":")[2]], one.balance_minor)
    for one in at_home:
        into = _of(found, one.currency)
        if one.code in _AT_HOME:
            _add(into, _AT_HOME[one.code], one.balance_minor)
    for currency, amount_minor in members_payable.items():
        _of(found, currency).members_payable_minor = amount_minor
    return found


def _of(found: dict[str, pb.TreasuryBalance], currency: str) -> pb.TreasuryBalance:
    return found.setdefault(currency, pb.TreasuryBalance(currency=currency))


def _add(balance: pb.TreasuryBalance, field: str, amount_minor: int) -> None:
    setattr(balance, field, getattr(balance, field) + amount_minor)
