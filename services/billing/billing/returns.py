"""Money on its way back at Stripe: refunds are made and looked at, disputes looked at and answered. Decides nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

from billing.domain.disputes import Moved, SeenDispute
from billing.domain.payments import Payment
from billing.domain.postings import STRIPE, Movement
from billing.domain.refunds import Refund, SeenRefund
from billing.rail import Rail
from rochdale_kit.money import from_stripe_amount, to_stripe_amount

# How many refunds of one payment are looked through for one whose answer was lost.
_MOST = 100
# To be expanded of a refund: what it moved.
_MONEY = ["balance_transaction", "failure_balance_transaction"]


class Returns:
    """Speaks to one Stripe account through its rail."""

    def __init__(self, rail: Rail) -> None:
        self._rail = rail

    async def refund(self, refund: Refund, payment: Payment) -> SeenRefund:
        """Has part of a payment given back, once however often it is called within a day. Raises RailUnavailable,
        RailRefused."""
        async with self._rail.call("refund"):
            made = await self._rail.api.refunds.create_async(
                {
                    "payment_intent": payment.intent_id,
                    "amount": to_stripe_amount(refund.amount),
                    "metadata": {"refund": refund.id, "order": refund.order_id},
                    "expand": _MONEY,
                },
                {"idempotency_key": refund.idempotency_key},
            )
        return _seen_refund(made.to_dict())

    async def find_refund(self, refund: Refund, payment: Payment) -> SeenRefund | None:
        """A refund made under a key that Stripe has forgotten by now; None when it never was. Raises RailUnavailable."""
        async with self._rail.call("find refund"):
            page = await self._rail.api.refunds.list_async(
                {"payment_intent": payment.intent_id, "limit": _MOST, "expand": [f"data.{one}" for one in _MONEY]}
            )
            made = [found.to_dict() async for found in page.auto_paging_iter()]
        return next((_seen_refund(one) for one in made if (one.get("metadata") or {}).get("refund") == refund.id), None)

    async def look_at_refund(self, rail_id: str) -> tuple[str, SeenRefund] | None:
        """The refund of ours an object names, and how it stands; None for another's. Raises RailUnavailable,
        RailRefused."""
        async with self._rail.call("look at refund"):
            found = (await self._rail.api.refunds.retrieve_async(rail_id, {"expand": _MONEY})).to_dict()
        id = (found.get("metadata") or {}).get("refund")
        return (id, _seen_refund(found)) if id else None

    async def look_at_dispute(self, rail_id: str) -> tuple[str, SeenDispute] | None:
        """The payment of ours whose money is disputed, and how that stands; None for another's. Raises RailUnavailable,
        RailRefused."""
        async with self._rail.call("look at dispute"):
            found = (await self._rail.api.disputes.retrieve_async(rail_id, {"expand": ["payment_intent"]})).to_dict()
        intent = found.get("payment_intent") or {}
        payment_id = (intent.get("metadata") or {}).get("payment") if isinstance(intent, dict) else None
        return (payment_id, _seen_dispute(found)) if payment_id else None

    async def answer_dispute(self, rail_id: str, evidence: str) -> None:
        """Gives evidence for good. What was answered before is left as it is. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("answer dispute"):
            found = (await self._rail.api.disputes.retrieve_async(rail_id)).to_dict()
            if (found.get("evidence_details") or {}).get("submission_count"):
                return
            await self._rail.api.disputes.update_async(
                rail_id, {"evidence": {"uncategorized_text": evidence}, "submit": True}
            )


def _seen_refund(refund: dict[str, Any]) -> SeenRefund:
    return SeenRefund(
        refund["id"],
        succeeded=refund["status"] == "succeeded",
        failed=refund["status"] in ("failed", "canceled"),
        paid=_movement(refund.get("balance_transaction")),
        bounced=_movement(refund.get("failure_balance_transaction")),
    )


def _movement(transaction: Any) -> Movement | None:
    """Of a balance transaction that is expanded; None while there is none."""
    if not transaction:
        return None
    return Movement(STRIPE, transaction["id"], from_stripe_amount(abs(transaction["amount"]), transaction["currency"]))


def _seen_dispute(dispute: dict[str, Any]) -> SeenDispute:
    details = dispute.get("evidence_details") or {}
    due = details.get("due_by")
    moved = []
    for transaction in dispute.get("balance_transactions") or ():
        currency = transaction["currency"]
        amount, fee = transaction["amount"], transaction["fee"]
        moved.append(
            Moved(
                transaction["id"],
                currency.upper(),
                from_stripe_amount(abs(amount), currency).amount_minor,
                from_stripe_amount(abs(fee), currency).amount_minor,
                back=amount > 0,
            )
        )
    return SeenDispute(
        dispute["id"],
        dispute["status"],
        from_stripe_amount(dispute["amount"], dispute["currency"]),
        dispute.get("reason") or "general",
        tuple(moved),
        dt.datetime.fromtimestamp(due, dt.UTC) if due else None,
        evidence_given=bool(details.get("submission_count")),
    )
