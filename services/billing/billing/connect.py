"""Stripe Connect, as the treasury sees it: accounts of cooperatives, transfers to them and back, and Stripe's own lists of
what moved. Decides nothing.

Accounts are v1 with controller properties; another kind of account would be another file like this one.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from billing.domain.payout_accounts import PayoutAccount, SeenAccount
from billing.domain.payouts import Payout, Reversal, Transfer
from billing.domain.reconciliation import Moved
from billing.rail import MISSING, Rail, RailRefused
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import from_stripe_amount, to_stripe_amount

_PAGE = 100


@dataclass(frozen=True)
class SeenTransfer:
    """A transfer as Stripe has it, with the balance transaction that moved its money."""

    rail_id: str
    transaction: str
    amount_minor: int
    reversed_minor: int
    currency: str
    destination: str
    ours: str


@dataclass(frozen=True)
class SeenPayout:
    """What Stripe paid from a cooperative's own balance to its bank."""

    id: str
    status: str
    failure_code: str
    money: Money
    create_time: dt.datetime


@dataclass(frozen=True)
class Told:
    """An event of Stripe's list."""

    id: str
    type: str
    object_id: str


class Connect:
    """Speaks to one platform account through its rail."""

    def __init__(self, rail: Rail) -> None:
        self._rail = rail

    @property
    def _api(self) -> Any:
        return self._rail.api

    # Accounts

    async def open_account(self, account: PayoutAccount) -> str:
        """A new account, once however often it is called within a day. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("open account"):
            made = await self._api.accounts.create_async(
                {
                    "country": account.country,
                    # The market answers for refunds and disputes, so it bears losses and fees; Stripe asks the questions.
                    "controller": {
                        "losses": {"payments": "application"},
                        "fees": {"payer": "application"},
                        "requirement_collection": "stripe",
                        "stripe_dashboard": {"type": "express"},
                    },
                    "capabilities": {"transfers": {"requested": True}},
                    "metadata": {"cooperative": account.cooperative},
                },
                {"idempotency_key": f"account:{account.cooperative}:{account.country}"},
            )
        return str(made.id)

    async def onboarding(self, stripe_account: str, return_url: str, again_url: str) -> str:
        """A page for the account's person; good once and for minutes. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("account link"):
            made = await self._api.account_links.create_async(
                {
                    "account": stripe_account,
                    "type": "account_onboarding",
                    "return_url": return_url,
                    "refresh_url": again_url,
                }
            )
        return str(made.url)

    async def account(self, stripe_account: str) -> SeenAccount:
        """How an account stands. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("account"):
            found = (await self._api.accounts.retrieve_async(stripe_account)).to_dict()
        requirements = found.get("requirements") or {}
        return SeenAccount(
            requirements=tuple(requirements.get("currently_due") or ()),
            disabled_reason=requirements.get("disabled_reason") or "",
            payouts_enabled=bool(found.get("payouts_enabled")),
            transfers_active=(found.get("capabilities") or {}).get("transfers") == "active",
        )

    async def payout(self, stripe_account: str, payout_id: str) -> SeenPayout:
        """A payout of the account's own balance. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("connected payout"):
            options = {"stripe_account": stripe_account}
            found = (await self._api.payouts.retrieve_async(payout_id, {}, options)).to_dict()
        return _payout(found)

    # Transfers

    async def transfer(self, transfer: Transfer, payout: Payout) -> SeenTransfer:
        """Sends a part of a payout, once however often it is called within a day. Raises RailUnavailable, RailRefused."""
        money = Money(amount_minor=transfer.part.amount_minor, currency=payout.currency)
        asked: dict[str, Any] = {
            "amount": to_stripe_amount(money),
            "currency": payout.currency.lower(),
            "destination": payout.stripe_account,
            "transfer_group": transfer.part.order_id or payout.id,
            "metadata": {"transfer": transfer.id, "payout": payout.id},
        }
        if transfer.part.charge_id:
            # Its money is there when the charge's is, so nobody has to wait for it, nor to keep a buffer.
            asked["source_transaction"] = transfer.part.charge_id
        async with self._rail.call("transfer"):
            made = await self._api.transfers.create_async(asked, {"idempotency_key": transfer.idempotency_key})
        return _transfer(made.to_dict())

    async def find_transfer(self, transfer: Transfer, payout: Payout) -> SeenTransfer | None:
        """A transfer made under a key that Stripe has forgotten by now; None when it never was. Raises RailUnavailable."""
        group = transfer.part.order_id or payout.id
        async with self._rail.call("find transfer"):
            page = await self._api.transfers.list_async({"transfer_group": group, "limit": _PAGE})
            made = [_transfer(found.to_dict()) async for found in page.auto_paging_iter()]
        return next((one for one in made if one.ours == transfer.id), None)

    async def reverse(self, rail_id: str, reversal: Reversal, currency: str) -> tuple[str, str]:
        """Asks part of a transfer back; the reversal's id and its balance transaction.

        Raises RailUnavailable, and RailRefused when the account has not that much.
        """
        amount = to_stripe_amount(Money(amount_minor=reversal.amount_minor, currency=currency))
        async with self._rail.call("reverse transfer"):
            made = (
                await self._api.transfers.reversals.create_async(
                    rail_id,
                    {"amount": amount, "metadata": {"reversal": reversal.id}},
                    {"idempotency_key": reversal.idempotency_key},
                )
            ).to_dict()
        return str(made["id"]), str(made["balance_transaction"])

    async def find_reversal(self, rail_id: str, reversal: Reversal) -> tuple[str, str] | None:
        """A reversal made under a key that Stripe has forgotten by now. Raises RailUnavailable."""
        async with self._rail.call("find reversal"):
            page = await self._api.transfers.reversals.list_async(rail_id, {"limit": _PAGE})
            made = [found.to_dict() async for found in page.auto_paging_iter()]
        ours = (one for one in made if (one.get("metadata") or {}).get("reversal") == reversal.id)
        return next(((str(one["id"]), str(one["balance_transaction"])) for one in ours), None)

    # What moved, as Stripe lists it

    async def balance(self) -> dict[str, int]:
        """All that is ours at Stripe, available or pending, in minor units by currency. Raises RailUnavailable."""
        async with self._rail.call("balance"):
            found = (await self._api.balance.retrieve_async()).to_dict()
        sums: dict[str, int] = {}
        for part in (*found["available"], *found["pending"]):
            money = from_stripe_amount(part["amount"], part["currency"])
            sums[money.currency] = sums.get(money.currency, 0) + money.amount_minor
        return sums

    async def transactions(self, since: dt.datetime | None) -> list[Moved]:
        """Balance transactions since a time; None for all. Raises RailUnavailable."""
        asked: dict[str, Any] = {"limit": _PAGE, **_created(since)}
        async with self._rail.call("balance transactions"):
            page = await self._api.balance_transactions.list_async(asked)
            return [_moved(found.to_dict()) async for found in page.auto_paging_iter()]

    async def transaction(self, id: str) -> Moved | None:
        """One balance transaction; None when Stripe does not have it. Raises RailUnavailable."""
        try:
            async with self._rail.call("balance transaction"):
                return _moved((await self._api.balance_transactions.retrieve_async(id)).to_dict())
        except RailRefused as refused:
            if refused.code == MISSING:
                return None
            raise

    async def transfers(self, since: dt.datetime | None) -> list[SeenTransfer]:
        """Transfers made since a time; None for all. Raises RailUnavailable."""
        async with self._rail.call("transfers"):
            page = await self._api.transfers.list_async({"limit": _PAGE, **_created(since)})
            return [_transfer(found.to_dict()) async for found in page.auto_paging_iter()]

    async def look_at_transfer(self, rail_id: str) -> SeenTransfer | None:
        """One transfer; None when Stripe does not have it. Raises RailUnavailable."""
        try:
            async with self._rail.call("look at transfer"):
                return _transfer((await self._api.transfers.retrieve_async(rail_id)).to_dict())
        except RailRefused as refused:
            if refused.code == MISSING:
                return None
            raise

    async def payouts(self, stripe_account: str, since: dt.datetime | None) -> list[SeenPayout]:
        """Payouts of an account's own balance since a time. Raises RailUnavailable, RailRefused."""
        options = {"stripe_account": stripe_account}
        async with self._rail.call("payouts"):
            page = await self._api.payouts.list_async({"limit": _PAGE, **_created(since)}, options)
            return [_payout(found.to_dict()) async for found in page.auto_paging_iter()]

    async def events(self, since: dt.datetime | None) -> list[Told]:
        """Events since a time, oldest first; Stripe keeps them for 30 days. Raises RailUnavailable."""
        async with self._rail.call("events"):
            page = await self._api.events.list_async({"limit": _PAGE, **_created(since)})
            found = [event.to_dict() async for event in page.auto_paging_iter()]
        found.reverse()
        return [Told(one["id"], one["type"], str(one["data"]["object"].get("id", ""))) for one in found]


def _created(since: dt.datetime | None) -> dict[str, Any]:
    return {} if since is None else {"created": {"gte": int(since.timestamp())}}


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _moved(found: dict[str, Any]) -> Moved:
    money = from_stripe_amount(found["net"], found["currency"])
    source = found.get("source") or ""
    return Moved(
        found["id"],
        found["type"],
        source if isinstance(source, str) else source["id"],
        money.amount_minor,
        money.currency,
        _time(found["created"]),
    )


def _transfer(found: dict[str, Any]) -> SeenTransfer:
    transaction, destination = found["balance_transaction"], found["destination"]
    return SeenTransfer(
        found["id"],
        transaction if isinstance(transaction, str) else transaction["id"],
        from_stripe_amount(found["amount"], found["currency"]).amount_minor,
        from_stripe_amount(found.get("amount_reversed") or 0, found["currency"]).amount_minor,
        found["currency"].upper(),
        destination if isinstance(destination, str) else destination["id"],
        (found.get("metadata") or {}).get("transfer", ""),
    )


def _payout(found: dict[str, Any]) -> SeenPayout:
    return SeenPayout(
        found["id"],
        found["status"],
        found.get("failure_code") or "",
        from_stripe_amount(found["amount"], found["currency"]),
        _time(found["created"]),
    )
