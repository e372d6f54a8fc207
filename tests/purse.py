"""A treasurer at a desk of billing: TreasuryService, accounts at the simulated Stripe, and who may do what there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
from billing_desk import Desk, Parties, until
from google.protobuf.message import Message
from house import Person, request_id

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.billing.v1 import treasury_pb2_grpc

CONNECT_SECRET = "whsec_test_of_connected_accounts"
COOPERATIVE = "cooperatives/valley-health"
IBAN, OTHER_IBAN = "NL91ABNA0417164300", "DE89370400440532013000"
# Everything at once, so that a test waits for nothing but what it is about.
QUICK: dict[str, Any] = {
    "hold_seconds": 0,
    "payout_seconds": 0.2,
    "reserve_bps_cards": 0,
    "cooling_off_seconds": 0,
    "account_check_seconds": 3600,
    "reconcile_seconds": 10**9,
    "settle_seconds": 0,
    "stripe_connect_webhook_secret": CONNECT_SECRET,
    "payer_holder": "The Market",
    "payer_iban": OTHER_IBAN,
}


class Purse:
    """A desk with a treasury. `start` may be called again for a second instance."""

    def __init__(self, desk: Desk, stack: AsyncExitStack) -> None:
        self.desk = desk
        self._stack = stack
        self.stub: Any
        self.parties: Parties = desk.parties

    async def start(self, **settings: Any) -> None:
        await self.desk.start(**(QUICK | settings))
        channel = grpc.aio.insecure_channel(self.desk.service.grpc_address)
        self._stack.push_async_callback(channel.close)
        self.stub = treasury_pb2_grpc.TreasuryServiceStub(channel)

    def hear_webhooks(self) -> None:
        self.desk.hear_webhooks()
        self.hear_accounts()

    def hear_accounts(self) -> None:
        url = f"http://{self.desk.service.http_address}/webhooks/stripe-connect"
        self.desk.simulator.add_webhook(url, CONNECT_SECRET, connect=True)

    async def ask(self, method: str, request: Message, by: Person | None = None) -> Any:
        return await getattr(self.stub, method)(request, metadata=(by or self.parties.steward).metadata)

    async def treasury(self) -> pb.Treasury:
        reply: pb.Treasury = await self.ask("GetTreasury", pb.GetTreasuryRequest(parent=COOPERATIVE))
        return reply

    async def balance(self, currency: str = "EUR") -> pb.TreasuryBalance:
        balances = {one.currency: one for one in (await self.treasury()).balances}
        return balances.get(currency, pb.TreasuryBalance(currency=currency))

    async def becomes(self, good: Callable[[pb.TreasuryBalance], bool]) -> pb.TreasuryBalance:
        return await until(self.balance, good)

    async def shares(self, state: pb.ShareState.ValueType = pb.SHARE_STATE_UNSPECIFIED) -> list[pb.Share]:
        reply = await self.ask("ListShares", pb.ListSharesRequest(parent=COOPERATIVE, state=state))
        return list(reply.shares)

    async def payouts(self, state: pb.PayoutState.ValueType = pb.PAYOUT_STATE_UNSPECIFIED) -> list[pb.Payout]:
        reply = await self.ask("ListPayouts", pb.ListPayoutsRequest(parent=COOPERATIVE, state=state))
        return list(reply.payouts)

    async def one_payout(self, state: pb.PayoutState.ValueType) -> pb.Payout:
        return (await until(lambda: self.payouts(state), bool))[0]

    async def breaks(self, parent: str = "") -> list[pb.Break]:
        reply = await self.ask("ListBreaks", pb.ListBreaksRequest(parent=parent), self.parties.operator)
        return list(reply.breaks)

    async def reconcile(self) -> pb.Reconciliation:
        reply: pb.Reconciliation = await self.ask("Reconcile", pb.ReconcileRequest(), self.parties.operator)
        return reply

    # Accounts

    async def onboard(self, country: str = "NL", complete: bool = True) -> str:
        """The cooperative's account at Stripe, with all questions answered; its id."""
        request = pb.StartOnboardingRequest(request_id=request_id(), parent=COOPERATIVE, country=country)
        account: pb.PayoutAccount = await self.ask("StartOnboarding", request)
        assert account.onboarding_url.startswith("http")
        (row,) = await self.desk.rows("SELECT stripe_account FROM payout_account")
        if complete:
            await self.act(row.stripe_account, "complete", external_account=IBAN)
        return str(row.stripe_account)

    async def act(self, stripe_account: str, act: str, **how: Any) -> None:
        """What happens to an account that Stripe has no endpoint for."""
        answer = await self.desk.stripe.browser.post(
            f"{self.desk.stripe.url}/_simulator/accounts/{stripe_account}/{act}", json=how
        )
        assert answer.status_code == 200, answer.text

    async def look_again(self) -> None:
        """Of an account that Stripe tells nothing of: a retried onboarding looks at it."""
        request = pb.StartOnboardingRequest(request_id=request_id(), parent=COOPERATIVE)
        account = await self.ask("StartOnboarding", request)
        assert account.state == pb.PAYOUT_ACCOUNT_STATE_ACTIVE

    async def account(self) -> pb.PayoutAccount:
        reply: pb.PayoutAccount = await self.ask("GetPayoutAccount", pb.GetPayoutAccountRequest(parent=COOPERATIVE))
        return reply

    async def account_becomes(self, state: pb.PayoutAccountState.ValueType) -> pb.PayoutAccount:
        return await until(self.account, lambda account: account.state == state)

    async def set_bank(self, iban: str = IBAN, by: Person | None = None, **more: Any) -> pb.PayoutAccount:
        given = {"request_id": request_id(), "parent": COOPERATIVE, "iban": iban, "holder": "Valley Health"} | more
        reply: pb.PayoutAccount = await self.ask("SetBankAccount", pb.SetBankAccountRequest(**given), by)
        return reply

    async def approve(self, by: Person, iban: str = IBAN) -> pb.PayoutAccount:
        request = pb.ApproveBankAccountRequest(request_id=request_id(), parent=COOPERATIVE, iban_end=iban[-4:])
        reply: pb.PayoutAccount = await self.ask("ApproveBankAccount", request, by)
        return reply

    async def bank(self, iban: str = IBAN) -> None:
        """A bank account that can be paid."""
        await self.set_bank(iban)
        await self.approve(self.parties.operator, iban)

    async def export(
        self, format: pb.PaymentFileFormat.ValueType = pb.PAYMENT_FILE_FORMAT_PAIN_001, *names: str
    ) -> pb.PaymentFile:
        request = pb.ExportPayoutsRequest(payouts=names, currency="EUR", format=format)
        reply: pb.PaymentFile = await self.ask("ExportPayouts", request, self.parties.operator)
        assert reply.content_hash == hashlib.sha256(reply.content).hexdigest()
        return reply
