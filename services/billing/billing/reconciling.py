"""The books against Stripe and against themselves: finds missed webhooks, lists differences, corrects none."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from dataclasses import dataclass

from billing import store
from billing.config import Config
from billing.connect import Connect
from billing.domain import postings, reconciliation
from billing.domain.ledger import PLATFORM, book_of
from billing.domain.reconciliation import Finding, Moved
from billing.hints import Hints
from billing.rail import RailRefused, RailUnavailable
from billing.webhooks import kind_of
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database

log = logging.getLogger(__name__)

# Money that moves while we look makes two lists of different moments; a difference is one that is still there then.
LOOKS = 3
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class _Look:
    transactions: list[Moved]
    findings: list[Finding]


class Reconciling:
    """Compares. Two runs beside each other find the same, and keep it once."""

    def __init__(self, database: Database, connect: Connect | None, hints: Hints | None, config: Config) -> None:
        self._database = database
        self._connect = connect
        self._hints = hints
        self._every = dt.timedelta(seconds=config.reconcile_seconds)
        self._settle = dt.timedelta(seconds=config.settle_seconds)

    async def nightly(self) -> None:
        """A step: runs when the last run is old enough."""
        async with self._database.read() as connection:
            last = await store.breaks.last_run(connection)
        if last is not None and now() < last + self._every:
            return
        try:
            await self.run()
        except (RailUnavailable, RailRefused) as error:
            log.warning("reconciliation waits for Stripe: %s", error)

    async def run(self) -> pb.Reconciliation:
        """Everything, now. Raises RailUnavailable, RailRefused."""
        at = now()
        async with self._database.read() as connection:
            last = await store.breaks.last_run(connection)
        since = last - reconciliation.OVERLAP if last is not None else None
        checks, findings, transactions, replayed = [*reconciliation.AT_HOME], await self._at_home(at), 0, 0
        if self._connect is not None:
            replayed = await self._replay(self._connect, since, at)
            await self._payouts_of_accounts(self._connect, since)
            look = await self._steady(self._connect, since, at)
            checks += reconciliation.AT_RAIL
            findings += look.findings
            transactions = len(look.transactions)
        async with self._database.begin() as connection:
            breaks = await store.breaks.record(connection, findings, checks, at)
            await store.breaks.add_run(connection, new_id("rec"), at, transactions, breaks, replayed)
        if breaks:
            log.error("%d differences between the books and the world are open", breaks)
        return pb.Reconciliation(
            run_time=to_timestamp(at),
            transaction_count=transactions,
            open_break_count=breaks,
            replayed_event_count=replayed,
        )

    async def _at_home(self, at: dt.datetime) -> list[Finding]:
        async with self._database.read() as connection:
            unanswered = await store.breaks.unanswered(connection, at - self._settle)
        findings = [
            Finding(
                reconciliation.ATTEMPT_UNANSWERED,
                PLATFORM,
                id,
                f"{id} was asked for at {since.isoformat(timespec='seconds')}, and Stripe has not answered.",
            )
            for id, since in unanswered
        ]
        async with self._database.engine.connect() as connection:
            # One moment: journals that commit between two rules would make the mirror look broken.
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            flaws = await store.invariants.flaws(connection)
        return findings + [reconciliation.flaw(sentence) for sentence in flaws]

    async def _replay(self, connect: Connect, since: dt.datetime | None, at: dt.datetime) -> int:
        """Events whose webhook never came, kept as if it had: the workers look into them."""
        oldest = at - reconciliation.EVENTS_KEPT
        replayed = 0
        for event in await connect.events(max(since, oldest) if since is not None else oldest):
            if kind_of(event.type) is None:
                continue
            async with self._database.begin() as connection:
                replayed += await store.webhooks.receive(connection, event.id, event.type, event.object_id, at)
        return replayed

    async def _payouts_of_accounts(self, connect: Connect, since: dt.datetime | None) -> None:
        if self._hints is None:
            return
        async with self._database.read() as connection:
            accounts = await store.payout_accounts.all_of(connection)
        for account in accounts:
            if not account.stripe_account:
                continue
            try:
                found = await connect.payouts(account.stripe_account, since)
            except RailRefused as refused:
                # Closed, or no longer ours to see. One such account must not end every comparison from now on.
                log.error("payouts of %s cannot be seen: %s", account.name, refused)
                continue
            for payout in found:
                await self._hints.apply(account, payout)

    async def _steady(self, connect: Connect, since: dt.datetime | None, at: dt.datetime) -> _Look:
        """What is found each of several times."""
        look = await self._look(connect, since, at)
        for _ in range(LOOKS - 1):
            if not look.findings:
                break
            await asyncio.sleep(PAUSE_SECONDS)
            again = await self._look(connect, since, at)
            look = _Look(again.transactions, [one for one in again.findings if one in look.findings])
        return look

    async def _look(self, connect: Connect, since: dt.datetime | None, at: dt.datetime) -> _Look:
        transactions = await connect.transactions(since)
        known = {moved.id for moved in transactions}
        async with self._database.read() as connection:
            open_ones = await store.breaks.open_subjects(connection, reconciliation.WITHOUT_JOURNAL)
            open_ones += await store.breaks.open_subjects(connection, reconciliation.AMOUNT_DIFFERS)
            named = await store.breaks.booked_since(connection, since)
        # What is open is looked at again, however long ago it moved: nothing is gone because it is old.
        missing = []
        for id in sorted({*open_ones, *named} - known):
            moved = await connect.transaction(id)
            if moved is not None:
                transactions.append(moved)
            elif id in named:
                detail = f"A journal names {id}, which Stripe does not have."
                missing.append(Finding(reconciliation.WITHOUT_TRANSACTION, PLATFORM, id, detail))
        await self._book_facts(transactions)
        at_rail = await connect.balance()
        async with self._database.read() as connection:
            booked = await store.breaks.booked(connection, [moved.id for moved in transactions])
            in_books = await store.breaks.clearing(connection)
        findings = reconciliation.compare(transactions, booked, at - self._settle)
        findings += missing
        unbooked = reconciliation.unbooked(transactions, booked)
        findings += reconciliation.compare_balances(at_rail, in_books, unbooked)
        findings += await self._transfers(connect, since)
        return _Look(transactions, findings)

    async def _book_facts(self, transactions: list[Moved]) -> None:
        """What Stripe did with the market's balance unasked: its payouts to the market's bank, and its own fees."""
        async with self._database.begin() as connection:
            facts = [one for one in transactions if one.type in reconciliation.TO_BANK + reconciliation.FEES]
            booked = await store.breaks.booked(connection, [one.id for one in facts])
            for one in reconciliation.unbooked(facts, booked):
                post = postings.swept if one.type in reconciliation.TO_BANK else postings.stripe_fee
                await store.ledger.post(connection, post(one.id, one.net_minor, one.currency, now()))

    async def _transfers(self, connect: Connect, since: dt.datetime | None) -> list[Finding]:
        """Transfers and what was asked back of them, Stripe's against ours."""
        at_rail = {one.rail_id: one for one in await connect.transfers(since)}
        async with self._database.read() as connection:
            open_ones = await store.breaks.open_subjects(connection, reconciliation.TRANSFER_DIFFERS)
        for rail_id in open_ones:
            if rail_id not in at_rail and (one := await connect.look_at_transfer(rail_id)) is not None:
                at_rail[rail_id] = one
        async with self._database.read() as connection:
            sent = await store.payouts.sent_of(connection, at_rail)
        ours = {transfer.rail_id: (transfer, payout) for transfer, payout in sent}
        findings = []
        for rail_id, seen in at_rail.items():
            if rail_id not in ours:
                detail = (
                    f"{rail_id} sent {seen.amount_minor} {seen.currency} to {seen.destination}; no payout of ours did."
                )
                findings.append(Finding(reconciliation.TRANSFER_DIFFERS, PLATFORM, rail_id, detail))
                continue
            transfer, payout = ours[rail_id]
            expected = (transfer.part.amount_minor, transfer.reversed_minor, payout.currency, payout.stripe_account)
            if expected != (seen.amount_minor, seen.reversed_minor, seen.currency, seen.destination):
                detail = (
                    f"{rail_id} is {seen.amount_minor} {seen.currency} to {seen.destination}, {seen.reversed_minor} of it"
                    f" back; {payout.name} says {expected[0]} {expected[2]} to {expected[3]}, {expected[1]} of it back."
                )
                book = book_of(payout.cooperative)
                findings.append(Finding(reconciliation.TRANSFER_DIFFERS, book, rail_id, detail))
        return findings
