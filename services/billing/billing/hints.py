"""What Stripe says of connected accounts: a webhook is a hint, and what changed is read from Stripe.

Nothing is kept of one. It is looked into before it is answered, so that Stripe repeats what was not; what it gives up on is
found by the treasurer's own round and by reconciliation. Every effect belongs to its object, however often it is heard.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from billing import store
from billing.connect import Connect, SeenPayout
from billing.domain import postings
from billing.domain.ledger import Journal, book_of
from billing.domain.payout_accounts import PayoutAccount
from billing.paying_out import PayingOut
from billing.rail import RailRefused, RailUnavailable
from billing.webhooks import is_id
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

_PAYOUT = "payout."


def read(body: bytes, live: bool) -> tuple[str, str, str]:
    """Type, account and object id of a verified body.

    Refuses with WEBHOOK_UNREADABLE, and with WEBHOOK_NOT_OURS for another mode or for what is no account's.
    """
    try:
        event: Any = json.loads(body)
        texts = (event["type"], event.get("account") or "", event["data"]["object"].get("id", ""))
        mode = event["livemode"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        texts, mode = (None, None, None), None
    readable = all(isinstance(text, str) for text in texts) and isinstance(mode, bool)
    if not readable or (texts[0].startswith(_PAYOUT) and not is_id(texts[2])):
        raise Refusal("WEBHOOK_UNREADABLE", "The body is not an event.", Kind.INVALID)
    if mode is not live or not texts[1]:
        log.error("a webhook of another mode, or of no account, was signed with our secret for connected accounts")
        raise Refusal("WEBHOOK_NOT_OURS", "The event is of another mode, or of no account.", Kind.INVALID)
    return texts


class Hints:
    """Looks into hints about cooperatives' accounts."""

    def __init__(self, database: Database, connect: Connect, paying_out: PayingOut) -> None:
        self._database = database
        self._connect = connect
        self._paying_out = paying_out

    async def receive(self, type: str, stripe_account: str, object_id: str) -> None:
        """Applies what Stripe says now. Refuses with SERVICE_UNAVAILABLE when Stripe does not answer: it comes again."""
        async with self._database.read() as connection:
            account = await store.payout_accounts.of_stripe(connection, stripe_account)
        if account is None:
            # Of an account that was opened by hand, or whose opening we have not heard the answer of yet.
            log.warning("Stripe tells of %s, which is no cooperative's", stripe_account)
            return
        try:
            if type.startswith(_PAYOUT):
                await self.apply(account, await self._connect.payout(stripe_account, object_id))
            # A payout that failed stops the account too.
            await self._paying_out.look(account)
        except RailUnavailable as error:
            raise Refusal("SERVICE_UNAVAILABLE", "Stripe cannot be asked.", Kind.UNAVAILABLE, what="Stripe") from error
        except RailRefused as refused:
            log.error("%s of %s cannot be looked into: %s", type, stripe_account, refused)

    async def apply(self, account: PayoutAccount, payout: SeenPayout) -> None:
        """Books what left the cooperative's own balance at Stripe for its bank, or came back from there."""
        cooperative, money = account.cooperative, payout.money

        def journals(returned: bool) -> list[Journal]:
            return postings.connected_payout(
                payout.id, cooperative, money.currency, money.amount_minor, returned, now()
            )

        if payout.status not in ("paid", "failed", "canceled"):
            return
        async with self._database.begin() as connection:
            if payout.status == "paid":
                await store.ledger.post(connection, journals(returned=False))
                return
            # Banks say no days after Stripe said paid. What was never said to be paid has nothing to come back.
            (sent,) = journals(returned=False)
            if await store.breaks.posted(connection, book_of(cooperative), sent.key):
                await store.ledger.post(connection, journals(returned=True))
        log.warning(
            "%s of %s did not reach its bank: %s", payout.id, account.name, payout.failure_code or payout.status
        )
