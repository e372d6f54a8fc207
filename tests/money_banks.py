"""What stewards, operators, banks and Stripe do in a history of money: refunds, disputes, payouts, and the rounds of the
engine's own loops. Each act chooses something that can be done, does it, and says whether it did.
"""

from __future__ import annotations

from typing import Any

from money_acts import IBANS, PAID, BuyerActs
from money_history import DAY, HOUR

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import treasury_pb2
from rochdale.type.v1.money_pb2 import Money


class BankActs(BuyerActs):
    """A history with banks and treasurers in it."""

    async def prepare(self) -> None:
        """Both cooperatives can be paid; nothing goes wrong yet."""
        meadow = self.cooperatives[0]
        request = treasury_pb2.StartOnboardingRequest(
            request_id=self.request(), parent="cooperatives/meadow", country="NL"
        )
        await self.ask(meadow.steward(), "treasury", "StartOnboarding", request)
        accounts = (await self.bench.world.get("/v1/accounts")).json()["data"]
        meadow.account = accounts[0]["id"]
        await self.lever(f"accounts/{meadow.account}/complete", external_account=IBANS[1])
        self.said.add("account opened", cooperative=meadow.id, account=meadow.account)
        await self._name_bank(IBANS[0])
        await self.pass_time(80 * HOUR)
        await self.run("accounts")

    async def _name_bank(self, iban: str) -> None:
        orchard = self.cooperatives[1]
        named = treasury_pb2.SetBankAccountRequest(
            request_id=self.request(), parent="cooperatives/orchard", iban=iban, holder="Orchard"
        )
        await self.ask(orchard.steward(1), "treasury", "SetBankAccount", named)
        await self._approve_bank(iban)

    async def _approve_bank(self, iban: str) -> None:
        approval = treasury_pb2.ApproveBankAccountRequest(
            request_id=self.request(), parent="cooperatives/orchard", iban_end=iban[-4:]
        )
        await self.ask(self.cooperatives[1].steward(2), "treasury", "ApproveBankAccount", approval)

    # Money goes back

    async def refund(self, order: Any = None, whole: bool | None = None) -> bool:
        paid = [order] if order else self.orders(PAID)
        if not paid:
            return False
        order = self.random.choice(paid)
        left = order["amount_minor"] - order["refunded_minor"]
        request = pb.RefundOrderRequest(request_id=self.request(), order=f"orders/{order['id']}", reason="agreed")
        whole = self.random.random() < 0.4 if whole is None else whole
        if not whole and left > 1:
            amount = self.random.randint(1, left)
            request.amount.CopyFrom(Money(amount_minor=amount, currency=order["currency"]))
        share = next(one for one in self.rows.shares if one["order_id"] == order["id"])
        made = await self.ask(self.license_of(order).cooperative.steward(), "billing", "RefundOrder", request)
        if made is not None:
            self.met["refund after release" if share["state"] == 2 else "refund before release"] += 1
            if made.receivable.amount_minor:
                self.met["refund became a receivable"] += 1
            runs = [run for run in self.rows.runs if run["state"] in (6, 7, 8)]
            if any(run["cooperative"] == share["cooperative"] and run["currency"] == share["currency"]
                   and run["base_minor"] and share["release_time"] and share["release_time"] < run["post_time"]
                   for run in runs):  # fmt: skip
                self.met["refund after dividend"] += 1
        return True

    async def refund_fails(self) -> bool:
        """The card's bank sends a refund back."""
        found = [one for one in self.rows.refunds if one["state"] == 2 and one["rail_id"]]
        if not found:
            return False
        refund = self.random.choice(found)
        return await self.lever(f"refunds/{refund['rail_id']}/fail") is not None

    async def refund_by_bank(self) -> bool:
        """An operator pays a refund from the bank, where a card did not take it or a bank paid."""
        found = [one for one in self.rows.refunds if one["state"] == 3 or (one["state"] == 1 and one["rail"] == "bank")]
        if not found:
            return False
        refund = self.random.choice(found)
        reference = f"back-{self.seed}-{self.number()}"
        request = pb.ConfirmRefundRequest(
            request_id=self.request(), name=f"orders/{refund['order_id']}/refunds/{refund['id']}",
            bank_reference=reference,
        )  # fmt: skip
        total = refund["tax_minor"] + refund["fee_minor"] + refund["cooperative_minor"]
        line = self.said.add("left the bank", reference=reference, amount=total, currency=refund["currency"])
        if await self.operator("billing", "ConfirmRefund", request) is None:
            self.said.unsay(line)
        return True

    async def dispute(self, kind: str = "", share: Any = None) -> bool:
        """A buyer's bank takes a payment back: all, a part, more than it was; or only asks. Also one that paid nothing."""
        charges = {one["charge_id"]: one["taken_minor"] for one in self.rows.payments if one["charge_id"]}
        charge = share["charge_id"] if share else self.random.choice(sorted(charges) or [""])
        if not charge:
            return False
        kind = kind or self.random.choice(("all", "all", "part", "above", "inquiry"))
        gross = charges[charge]
        asked: dict[str, Any] = {"charge": charge}
        if kind == "part":
            asked["amount"] = self.random.randint(1, gross)
        elif kind == "above":
            asked["amount"] = gross + self.random.randint(1, gross)
        elif kind == "inquiry":
            asked["inquiry"] = True
        self.note(f"a bank disputes {charge}: {kind}")
        made = await self.lever("disputes", **asked)
        if made is not None and not any(one["charge_id"] == charge for one in self.rows.shares):
            self.met["dispute of money that paid no order"] += 1
        if made is not None and kind == "above":
            self.met["dispute above the charge"] += 1
        return made is not None

    async def dispute_unexpected(self) -> bool:
        """A bank takes back money that paid no order: it may be on its way back already."""
        sold = {one["charge_id"] for one in self.rows.shares}
        found = [one for one in self.rows.payments if one["charge_id"] and one["charge_id"] not in sold]
        return bool(found) and await self.dispute("", self.random.choice(found))

    async def rule(self, outcome: str = "") -> bool:
        """A bank decides."""
        found = [one for one in self.rows.disputes if one["state"] in (1, 2)]
        if not found:
            return False
        dispute = self.random.choice(found)
        outcome = outcome or self.random.choice(("won", "lost", "lost"))
        self.note(f"a bank decides {dispute['id']}: {outcome}")
        share = next(one for one in self.rows.shares if one["order_id"] == dispute["order_id"])
        ruled = await self.lever(
            f"disputes/{dispute['rail_id']}/decide", outcome=outcome, return_fee=self.random.random() < 0.7
        )
        if ruled is None or ruled["status"] not in ("won", "lost"):
            return ruled is not None
        self.met[f"dispute {outcome}"] += 1
        sent = any(one["share_id"] == share["id"] and one["state"] == 2 for one in self.rows.transfers)
        if outcome == "lost" and sent:
            self.met["dispute lost after payout"] += 1
        elif outcome == "lost" and share["frozen"] and share["state"] == 1:
            self.met["dispute lost before release"] += 1
        return True

    # Cooperatives are paid

    async def bank_file(self) -> bool:
        """An operator hands the bank what waits."""
        waiting = [one for one in self.rows.payouts if one["state"] == 1 and one["rail"] == 2]
        if not waiting:
            return False
        request = treasury_pb2.ExportPayoutsRequest(
            currency=waiting[0]["currency"], format=treasury_pb2.PAYMENT_FILE_FORMAT_CSV
        )
        await self.operator("treasury", "ExportPayouts", request)
        return True

    async def bank_answers(self, returned: bool | None = None) -> bool:
        """The bank paid a cooperative, could not, or has it back days later."""
        found = [one for one in self.rows.payouts if one["rail"] == 2 and one["state"] in (2, 3)]
        if not found:
            return False
        payout = self.random.choice(found)
        name = f"cooperatives/{payout['cooperative']}/payouts/{payout['id']}"
        arrived = payout["state"] == 3
        back = self.random.random() < (0.3 if arrived else 0.25) if returned is None else returned
        if arrived and not back:
            return False
        amount, currency = payout["amount_minor"], payout["currency"]
        if not back:
            reference = f"out-{self.seed}-{self.number()}"
            confirm = treasury_pb2.ConfirmPayoutRequest(request_id=self.request(), name=name, bank_reference=reference)
            line = self.said.add("left the bank", reference=reference, amount=amount, currency=currency)
            if await self.operator("treasury", "ConfirmPayout", confirm) is None:
                self.said.unsay(line)
            return True
        request = treasury_pb2.ReturnPayoutRequest(request_id=self.request(), name=name, reason="account_closed")
        if arrived:
            line = self.said.add("came back to the bank", payout=payout["id"], amount=amount, currency=currency)
        if await self.operator("treasury", "ReturnPayout", request) is not None:
            self.met["payout returned"] += 1
            # The stewards look at the account again.
            await self._approve_bank(IBANS[0])
        elif arrived:
            self.said.unsay(line)
        return True

    async def account_acts(self) -> bool:
        """Stripe stops the cooperative's account, lets it go on, or its next payout fails."""
        act = self.random.choice(("disable", "enable", "enable", "fail_payout", "complete"))
        self.note(f"at Stripe: {act}")
        await self.lever(f"accounts/{self.cooperatives[0].account}/{act}")
        return True

    async def cost(self) -> bool:
        """A cooperative spends something."""
        coop = self.random.choice(self.cooperatives)
        amount = self.random.randint(1, 5000)
        request = treasury_pb2.RecordCostRequest(
            request_id=self.request(), parent=f"cooperatives/{coop.id}", description=f"server {self.number()}",
            amount=Money(amount_minor=amount, currency="EUR"),
        )  # fmt: skip
        self.said.add("cost", by=coop.id, amount=amount, currency="EUR", why=request.description)
        await self.ask(coop.steward(), "treasury", "RecordCost", request)
        return True

    # Rounds, and time

    async def later(self) -> bool:
        """A little later, long enough for what a dead process had in hand."""
        await self.pass_time(0.05 * DAY)
        return await self.run("webhooks")

    async def treasurer(self) -> bool:
        return await self.run("releasing", "reserves", "accounts", "payouts begun", "payouts sent", "asked back")

    async def keeper(self) -> bool:
        return await self.run("lost answers", "closing", "unexpected money back", "clearing")

    async def sweeps(self) -> bool:
        return await self.run("sweep", "refunds asked again", "disputes looked at", "disputes answered", "saving")

    async def renew(self) -> bool:
        return await self.run("renewing", "unclaimed")

    async def reconcile(self) -> bool:
        await self.run_reconciliation()
        return True

    async def time(self, days: float = 0) -> bool:
        days = days or self.random.choice((0.05, 0.3, 1.1, 1.1, 3, 8, 16, 33, 125))
        return await self.pass_time(days * DAY)
