"""RPCs of an approved dividend run: posted part by part, made out, exported for the bank, settled."""

from __future__ import annotations

import asyncio

from billing import dividing, store
from billing.dividend_views import run_of
from billing.domain import dividend_runs
from billing.domain.dividend_runs import APPROVED, CLOSED, IS_POSTED, PAYING, POSTED, POSTING
from billing.domain.dividend_words import month_text
from billing.domain.payment_files import Account, Payment, payment_file
from billing.service.base import Context
from billing.service.dividend_base import DividendParts, kept, run_for, steward_of
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import treasury_pb2
from rochdale_kit.clock import now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import Kind, Refusal


class DividendPayments(DividendParts):
    """Runs, from their approval on."""

    async def PostDividendRun(self, request: pb.PostDividendRunRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            run = await run_for(connection, request.name, viewer, lock=True)
            if run.state not in IS_POSTED:
                dividend_runs.require_state(run.name, run.state, APPROVED, POSTING)
                policy = (await store.dividend_policies.get(connection, run.cooperative, run.policy_version)).policy
                run = await dividing.post_part(connection, run, policy, now())
            return await run_of(connection, run, viewer)

    async def PayDividendRun(self, request: pb.PayDividendRunRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            run = await run_for(connection, request.name, viewer, lock=True)
            if run.state not in (PAYING, CLOSED):
                dividend_runs.require_state(run.name, run.state, POSTED)
                policy = (await store.dividend_policies.get(connection, run.cooperative, run.policy_version)).policy
                run = await dividing.make_out(connection, run, policy, self._withholding, now())
            return await run_of(connection, run, viewer)

    async def ExportDividendPayments(
        self, request: pb.ExportDividendPaymentsRequest, context: Context
    ) -> treasury_pb2.PaymentFile:
        async with self._database.read() as connection:
            viewer = await steward_of(connection, request.name)
            run = await run_for(connection, request.name, viewer)
            rows = await store.dividend_lines.payments(connection, run.id)
            if run.state == CLOSED and not rows:
                raise Refusal("NOTHING_TO_PAY", f"{run.name} made out no payments.", Kind.STATE, run=run.name)
            # Once the bank has answered, where the payments went is not kept.
            dividend_runs.require_state(run.name, run.state, PAYING)
            assert run.pay_time is not None, "payments were made out at some time"
            accounts = await store.dividend_lines.payment_accounts(connection, run.id)
            payer = await store.payout_accounts.bank_of(connection, run.cooperative, now())
        text = f"Dividend {month_text(run.month)} {run.cooperative}"
        payments = [
            Payment(row.payment_reference, Account(*accounts[row.member_id]), row.paid_minor, text) for row in rows
        ]
        # Thousands of payments take seconds: the other calls go on meanwhile.
        return await asyncio.to_thread(
            payment_file,
            request.format,
            run.id,
            f"dividends-{run.month}",
            payer,
            payments,
            run.currency,
            run.pay_time,
        )

    async def SettleDividendPayments(
        self, request: pb.SettleDividendPaymentsRequest, context: Context
    ) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            run = await run_for(connection, request.name, viewer, lock=True)
            dividend_runs.require_state(run.name, run.state, PAYING, CLOSED)
            members = f"cooperatives/{run.cooperative}/members/"
            for name in request.returned_members:
                if not name.startswith(members):
                    raise dividing.payment_unknown(run, name)
            returned = {name.removeprefix(members) for name in request.returned_members}
            run = await dividing.settle(connection, run, request.bank_reference, returned, now())
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)
