"""What is available leaves: a payout is written down with its hold on the money, then Stripe is asked until it answers.

A payout to a bank waits for its file. What was sent of a share beyond what the cooperative still has of it is asked back.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from dataclasses import replace
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.config import Config
from billing.connect import Connect
from billing.domain import payouts, postings
from billing.domain.ledger import PLATFORM, accounts_of_shares
from billing.domain.payout_accounts import PayoutAccount, SeenAccount, seen
from billing.domain.payouts import Asked, Payout, Reversal, Transfer
from billing.keeper import each
from billing.rail import RailRefused
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database

log = logging.getLogger(__name__)

BATCH = 200


class PayingOut:
    """Steps of the treasurer; each is safe to repeat and beside another replica's. Without Stripe, banks are paid."""

    def __init__(self, database: Database, connect: Connect | None, config: Config) -> None:
        self._database = database
        self._connect = connect
        self._every = dt.timedelta(seconds=config.payout_seconds)
        self._minimum_minor = config.payout_minimum_minor
        self._check_every = dt.timedelta(seconds=config.account_check_seconds)
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def connect(self) -> Connect:
        assert self._connect is not None, "only what is at Stripe is asked of it"
        return self._connect

    # Accounts

    async def check_accounts(self) -> None:
        """How accounts at Stripe stand, whether or not it told us of a change."""
        if self._connect is None:
            return
        at = now()
        async with self._database.begin() as connection:
            due = await store.payout_accounts.claim_check(connection, at - self._check_every, at, BATCH)
        await each(due, self._check)

    async def _check(self, cooperative: str) -> None:
        async with self._database.read() as connection:
            account = await store.payout_accounts.get(connection, cooperative)
        if account is not None and account.stripe_account:
            await self.look(account)

    async def look(self, account: PayoutAccount) -> PayoutAccount:
        """Asks Stripe how an account stands and keeps it. Raises RailUnavailable."""
        # One at a time: what Stripe said before must not be kept over what it says now.
        async with self._looking.setdefault(account.cooperative, asyncio.Lock()):
            return await self._look(account)

    async def _look(self, account: PayoutAccount) -> PayoutAccount:
        try:
            at_rail = await self.connect.account(account.stripe_account)
        except RailRefused as refused:
            # Closed, or no longer ours to see.
            at_rail = SeenAccount((), refused.code, payouts_enabled=False, transfers_active=False)
        async with self._database.begin() as connection:
            locked = await store.payout_accounts.lock(connection, account.cooperative)
            assert locked is not None, "payout accounts are never deleted"
            if locked.stripe_account != account.stripe_account:
                return locked
            known = seen(locked, at_rail)
            if known != locked:
                await store.payout_accounts.save(connection, known)
        if known.rail == pb.PAYOUT_RAIL_STRIPE and known.can_receive != locked.can_receive:
            state, reason = known.standing(now())
            log.warning("%s is %s now. %s", known.name, pb.PayoutAccountState.Name(state), reason)
        return known

    # Payouts begin

    async def start(self) -> None:
        """For each cooperative that can be paid and each currency, at most one payout in the time set for it."""
        async with self._database.read() as connection:
            accounts = await store.payout_accounts.all_of(connection)
        at = now()
        await each([account.cooperative for account in accounts if account.active(at)], self._start_all)

    async def _start_all(self, cooperative: str) -> None:
        async with self._database.read() as connection:
            found = await store.ledger.balances(connection, PLATFORM, prefix=f"coop:{cooperative}:available")
        for balance in found:
            if balance.balance_minor >= max(1, self._minimum_minor):
                await self._start(cooperative, balance.currency)

    async def _start(self, cooperative: str, currency: str) -> None:
        at = now()
        async with self._database.begin() as connection:
            # Held until the payout is written down: what is sent goes to the account that was looked at.
            account = await store.payout_accounts.lock(connection, cooperative)
            if account is None or not account.active(at):
                return
            stripe = account.rail == pb.PAYOUT_RAIL_STRIPE
            if stripe and self._connect is None:
                return
            last, waits = await store.payouts.latest(connection, cooperative, currency)
            if waits or (last is not None and at < last + self._every):
                return
            payout_id = new_id("out")
            available = await _netted(connection, payout_id, cooperative, currency, at)
            if available < max(1, self._minimum_minor):
                return
            payables = await store.releases.payables(connection, cooperative, currency)
            parts = payouts.parts_of(available, payables, payouts.smallest_unit(currency) if stripe else 1)
            amount = sum(part.amount_minor for part in parts)
            if not amount:
                return
            payout = Payout(
                payout_id,
                cooperative,
                account.rail,
                amount,
                currency,
                at,
                stripe_account=account.stripe_account if stripe else "",
                bank_account_id="" if stripe else account.bank_account_id,
            )
            if not await store.payouts.insert(connection, payout):
                return
            await store.payouts.add_transfers(connection, payout_id, [(new_id("trn"), part) for part in parts], at)
            await store.ledger.post(connection, postings.payout_started(payout_id, cooperative, currency, amount, at))
        log.info("%s of %s %s is written down", payout.name, amount, currency)

    # Stripe is asked

    async def send(self) -> None:
        """Transfers that Stripe has not answered."""
        if self._connect is None:
            return
        async with self._database.read() as connection:
            waiting = await store.payouts.to_send(connection, BATCH)
        await each(waiting, self._send)

    async def _send(self, one: tuple[Transfer, Payout]) -> None:
        transfer, payout = one
        try:
            sent = None
            if now() - transfer.create_time > payouts.KEY_LIFE:
                sent = await self.connect.find_transfer(transfer, payout)
            if sent is None:
                sent = await self.connect.transfer(transfer, payout)
        except RailRefused as refused:
            log.error("a transfer of %s is refused by Stripe: %s", payout.name, refused)
            await self._settle(transfer.id, payout, Asked.FAILED, code=refused.code)
            # Most of the time it is the account, and then nothing more is sent to it until it is mended.
            await self._check(payout.cooperative)
            return
        await self._settle(transfer.id, payout, Asked.DONE, rail_id=sent.rail_id, transaction=sent.transaction)

    async def _settle(
        self, id: str, of: Payout, state: Asked, *, rail_id: str = "", transaction: str = "", code: str = ""
    ) -> None:
        async with self._database.begin() as connection:
            payout = await store.payouts.lock(connection, of.id)
            transfer, at = await store.payouts.lock_transfer(connection, id), now()
            assert payout is not None, "payouts are never deleted"
            if transfer.state is not Asked.PENDING:
                return
            settled = replace(transfer, state=state, rail_id=rail_id, failure_code=code, settle_time=at)
            await store.payouts.save_transfer(connection, settled)
            amount = transfer.part.amount_minor
            if state is Asked.DONE:
                journals = postings.payout_done(
                    id, payout.cooperative, payout.currency, amount, postings.STRIPE, transaction, at
                )
            else:
                journals = postings.payout_failed(id, payout.cooperative, payout.currency, amount, at)
            await store.ledger.post(connection, journals)
            parts = await store.payouts.transfers_of(connection, payout.id)
            await store.payouts.save(connection, payouts.standing_of(payout, parts, at))

    # Money is asked back

    async def recover(self) -> None:
        """Refunds and lost disputes of what was sent already, as far as the cooperative's account at Stripe has it."""
        if self._connect is None:
            return
        async with self._database.read() as connection:
            oversent = await store.releases.oversent(connection, now() - self._every, BATCH)
        await each(oversent, self._ask_back)
        async with self._database.read() as connection:
            pending = await store.payouts.pending_reversals(connection, BATCH)
        await each(pending, self._reverse)

    async def _ask_back(self, one: tuple[str, str, int]) -> None:
        share_id, cooperative, more = one
        async with self._database.begin() as connection:
            for transfer, payout in await store.payouts.sent_of_share(connection, share_id):
                code = f"coop:{cooperative}:receivable"
                owed = await store.ledger.balance(connection, PLATFORM, code, payout.currency)
                # What is asked back of another share pays the same debt.
                owed -= await store.payouts.being_reversed(connection, cooperative, payout.currency)
                amount = min(more, owed, transfer.part.amount_minor - transfer.reversed_minor)
                attempt, last = await store.payouts.last_reversal(connection, transfer.id)
                at = now()
                # An account that was short is asked again as often as it is paid; what it is not paid meanwhile is netted.
                if amount <= 0 or (last is not None and at < last + self._every):
                    continue
                reversal = Reversal(new_id("rev"), transfer.id, attempt + 1, amount, at)
                await store.payouts.insert_reversal(connection, reversal)
                more -= amount

    async def _reverse(self, reversal: Reversal) -> None:
        async with self._database.read() as connection:
            transfer, payout = await store.payouts.transfer_and_payout(connection, reversal.transfer_id)
        try:
            made = None
            if now() - reversal.create_time > payouts.KEY_LIFE:
                made = await self.connect.find_reversal(transfer.rail_id, reversal)
            if made is None:
                made = await self.connect.reverse(transfer.rail_id, reversal, payout.currency)
        except RailRefused as refused:
            log.warning("%s keeps what it owes until it is netted: %s", payout.cooperative, refused)
            async with self._database.begin() as connection:
                await store.payouts.settle_reversal(connection, reversal.id, Asked.FAILED, "", refused.code, now())
            return
        rail_id, transaction = made
        async with self._database.begin() as connection:
            at = now()
            share = await store.shares.lock(connection, transfer.part.order_id)
            if not await store.payouts.settle_reversal(connection, reversal.id, Asked.DONE, rail_id, "", at):
                return
            locked = await store.payouts.lock_transfer(connection, transfer.id)
            back = locked.reversed_minor + reversal.amount_minor
            await store.payouts.save_transfer(connection, replace(locked, reversed_minor=back))
            if share is not None:
                total = share.reversed_minor + reversal.amount_minor
                await store.shares.save(connection, replace(share, reversed_minor=total))
            held = await store.ledger.hold(
                connection, PLATFORM, accounts_of_shares(payout.cooperative), payout.currency
            )
            owed = held[f"coop:{payout.cooperative}:receivable"]
            journals = postings.transfer_reversed(
                reversal.id, payout.cooperative, payout.currency, reversal.amount_minor, owed, transaction, at
            )
            await store.ledger.post(connection, journals)


async def _netted(connection: AsyncConnection, event: str, cooperative: str, currency: str, at: dt.datetime) -> int:
    """What is available once it has paid what the cooperative owes; both are held."""
    available, receivable = f"coop:{cooperative}:available", f"coop:{cooperative}:receivable"
    held = await store.ledger.hold(connection, PLATFORM, accounts_of_shares(cooperative), currency)
    owed = min(held[available], held[receivable])
    if owed:
        await store.ledger.post(connection, postings.netted(event, cooperative, currency, owed, at))
    return held[available] - owed


async def abandon(connection: AsyncConnection, cooperative: str, at: dt.datetime) -> None:
    """Ends payouts that wait for a file, because the account they would go to is used no more."""
    for payout in await store.payouts.lock_pending(connection, cooperative=cooperative):
        await fail(connection, payout, pb.PAYOUT_STATE_FAILED, payouts.ACCOUNT_CHANGED, at)


async def fail(
    connection: AsyncConnection, payout: Payout, state: pb.PayoutState.ValueType, code: str, at: dt.datetime
) -> Payout:
    """A payout to a bank did not arrive, or came back: available again. The caller holds its lock."""
    arrived = state == pb.PAYOUT_STATE_RETURNED
    post = postings.payout_returned if arrived else postings.payout_failed
    ended = replace(payout, state=state, failure_code=code, settle_time=at)
    await store.payouts.save(connection, ended)
    await store.payouts.settle_transfers(connection, payout.id, Asked.FAILED, at)
    journals = post(payout.id, payout.cooperative, payout.currency, payout.amount_minor, at)
    await store.ledger.post(connection, journals)
    return ended
