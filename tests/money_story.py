"""What happens in a history: a beginning by its theme, then chance. The themes make sure that hard cases are met often."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from money_acts import INTENT, PAID, SAVED, buyer
from money_engine import LOST_ANSWER
from money_history import BUYERS, DAY, Cooperative
from money_members import MemberActs

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale_kit.refusals import Refusal

CHANCES = 10
TRIES = 60
# In each theme one history of so many dies in every stretch of everything it does.
RELENTLESS_EACH = 16
THEMES = (
    "refunds", "disputes", "short_reversal", "returned_payout", "subscription", "dividends", "late_money",
    "forgotten_keys", "chance",
)  # fmt: skip
# How likely each act is.
CHANCES_OF = {
    "agree": 3, "start": 6, "pay": 7, "pay_orphan": 1, "transfer": 3, "match": 3, "use": 4, "refund": 4,
    "refund_fails": 2, "refund_by_bank": 2, "dispute": 3, "dispute_unexpected": 1, "rule": 3, "bank_file": 3, "bank_answers": 4,
    "account_acts": 1, "treasurer": 9, "keeper": 4, "sweeps": 3, "renew": 3, "reconcile": 1, "time": 9, "deliver":
    8, "hear": 2, "terminate": 1, "save_method": 1, "divide": 3, "go_on": 3, "bank_pays_members": 3, "cost": 1,
    "change_subscription": 2,
}  # fmt: skip


class Story(MemberActs):
    """A history that tells itself."""

    async def tell_itself(self) -> None:
        self.rows = await self.auditor.audit()
        await self.prepare()
        await self.fetch()
        theme = THEMES[self.seed % len(THEMES)]
        relentless = self.seed // len(THEMES) % RELENTLESS_EACH == 0
        # Deaths everywhere take their time, so then nothing else happens.
        self.chaos.relentless = relentless
        await getattr(self, theme)()
        if not relentless:
            await self.by_chance()
        await self.finish()

    async def by_chance(self) -> None:
        goal = self.steps + CHANCES
        for _ in range(TRIES):
            name = self.random.choices(list(CHANCES_OF), list(CHANCES_OF.values()))[0]
            await self.step(name, getattr(self, name))
            if self.steps >= goal:
                return

    async def do(self, act: Callable[..., Awaitable[bool]], *given: Any, trouble: float = 0.25) -> bool:
        async def acts() -> bool:
            return await act(*given)

        return await self.step(act.__name__, acts, trouble)

    # Beginnings

    async def chance(self) -> None:
        await self.do(self.agree)
        await self.do(self.agree)

    async def sold(self, coop: int, price: int = 0, method: int = INTENT, monthly: bool = False) -> Any:
        """An order that a card or a bank transfer paid; nothing when it did not come to that."""
        await self.do(self.agree, coop, monthly, price)
        name = self.licenses[-1].name
        for _ in range(3):
            order = next((one for one in self.orders(1, PAID) if one["license"] == name), None)
            if order is None:
                await self.do(self.hear, True, trouble=0)
            elif order["state"] == PAID:
                return order
            elif method == 3:
                await self.do(self.transfer, "right", order)
            else:
                await self.do(self.start, method, order)
                await self.do(self.pay, "pm_card_visa", True)
                await self.do(self.deliver)
                await self.do(self.deliver, True)
                await self.do(self.later)
        return next((one for one in self.orders(PAID) if one["license"] == name), None)

    async def released(self, coop: int, price: int = 0, method: int = INTENT) -> Any:
        """An order whose share is free."""
        order = await self.sold(coop, price, method)
        if order is not None:
            await self.do(self.use, self.license_of(order), "0.5")
            await self.do(self.time, 8)
            await self.do(self.treasurer)
        return order

    async def arrived(self, coop: int, price: int = 0, method: int = INTENT) -> Any:
        """An order whose share is with the cooperative."""
        order = await self.released(coop, price, method)
        await self.do(self.treasurer)
        if coop == 1:
            await self.do(self.bank_file)
            await self.do(self.bank_answers, False)
        return order

    async def refunds(self) -> None:
        order = await (self.arrived if self.random.random() < 0.6 else self.released)(self.random.randrange(2))
        if order is not None:
            await self.do(self.refund, order, False)
            await self.do(self.treasurer)
            await self.do(self.refund, order)
            await self.do(self.treasurer)
            await self.do(self.sweeps)
        await self.sold(self.random.randrange(2), method=self.random.choice((INTENT, 3)))
        await self.do(self.refund)

    async def disputes(self) -> None:
        order = await (self.arrived if self.seed // len(THEMES) % 2 else self.sold)(0)
        share = next((one for one in self.rows.shares if order is not None and one["order_id"] == order["id"]), None)
        if share is not None:
            kind = self.random.choice(("above", "above", "all", "part"))
            await self.do(self.dispute, kind, share)
            await self.do(self.deliver, True)
            await self.do(self.refund, order)
            await self.do(self.later)
            await self.do(self.rule, self.random.choice(("lost", "lost", "lost", "won")))
            await self.do(self.deliver, True)
            await self.do(self.later)
            await self.do(self.treasurer)

    async def short_reversal(self) -> None:
        """The cooperative's account at Stripe has paid out what is asked back."""
        order = await self.arrived(0)
        if order is not None:
            await self.do(self.time, 4)
            await self.do(self.refund, order, True)
            await self.do(self.treasurer)
            if any(one["failure_code"] == "balance_insufficient" for one in self.rows.reversals):
                self.met["reversal short"] += 1
            await self.do(self.time, 1.1)
        await self.released(0)

    async def returned_payout(self) -> None:
        await self.released(1, method=self.random.choice((INTENT, 3)))
        await self.do(self.treasurer)
        await self.do(self.bank_file)
        if self.random.random() < 0.5:
            await self.do(self.bank_answers, False)
        await self.do(self.bank_answers, True)
        await self.do(self.time, 4)
        await self.do(self.treasurer)

    async def subscription(self) -> None:
        for who in BUYERS:
            await self.do(self.save_method, who)
        await self.do(self.deliver, True)
        await self.do(self.later)
        order = await self.sold(self.random.randrange(2), monthly=True, method=self.random.choice((INTENT, SAVED)))
        if order is None:
            return
        license = self.license_of(order)
        await self.do(self.change_subscription)
        for _ in range(2):
            await self.do(self.use, license, self.random.choice(("7", "25")))
            await self.do(self.time, 32)
            await self.do(self.renew)
            await self.do(self.time, 0.3)
            await self.do(self.renew)
            await self.do(self.deliver)
        if any(tally["reach_time"] for tally in self.rows.tallies):
            self.met["cap reached"] += 1

    async def founded(self) -> Cooperative:
        number = self.random.randrange(2)
        coop = self.cooperatives[number]
        await self.do(self.found, coop)
        return coop

    async def dividends(self) -> None:
        coop = await self.founded()
        number = self.cooperatives.index(coop)
        order = await self.arrived(
            number, self.random.choice((*(self.random.randint(500, 9000) for _ in range(3)), 300_000))
        )
        await self.do(self.time, 4)
        await self.do(self.deliver, True)
        await self.do(self.next_month)
        await self.do(self.treasurer)
        await self.do(self.divide, coop)
        await self.do(self.bank_pays_members)
        if order is not None and self.random.random() < 0.7:
            await self.do(self.refund, order)
        await self.arrived(number, self.random.randint(20_000, 400_000))
        await self.do(self.time, 4)
        await self.do(self.deliver, True)
        await self.do(self.next_month)
        await self.do(self.divide, coop)
        await self.do(self.go_on)
        await self.do(self.bank_pays_members)

    async def start_unheard(self) -> bool:
        """A buyer begins to pay, and Stripe's answer is lost."""
        found = self.orders(1)
        if not found:
            return False
        order = self.random.choice(found)
        request = pb.StartPaymentRequest(
            request_id=self.request(), order=f"orders/{order['id']}", method=pb.PAYMENT_METHOD_PAYMENT_INTENT
        )
        self.note("StartPayment, whose answer is lost")
        relentless, self.chaos.relentless = self.chaos.relentless, False
        self.chaos.arm(LOST_ANSWER, 1)
        with contextlib.suppress(Refusal):
            await self.engine.ask(buyer(self.license_of(order).buyer), "billing", "StartPayment", request)
        self.chaos.relentless = relentless
        return True

    async def unanswered(self, act: Callable[..., Awaitable[bool]], *given: Any) -> bool:
        """Stripe does it, and its answer is lost for so long that it forgets the key."""
        self.chaos.arm(LOST_ANSWER, 1)
        await act(*given)
        if not self.chaos.kind:
            self.met["answer lost until its key was forgotten"] += 1
        self.chaos.disarm()
        return await self.pass_time(1.3 * DAY)

    async def forgotten_keys(self) -> None:
        """What is asked again after a day is looked for first."""
        order = await self.sold(0)
        if order is not None:
            await self.do(self.use, self.license_of(order), "0.5")
            await self.do(self.time, 8)
            await self.do(self.unanswered, self.treasurer, trouble=0)
        await self.do(self.treasurer)
        if order is not None:
            await self.do(self.unanswered, self.refund, order, False, trouble=0)
            await self.do(self.sweeps)
            await self.do(self.unanswered, self.treasurer, trouble=0)
            await self.do(self.treasurer)
        await self.do(self.agree)
        await self.do(self.save_method, self.licenses[-1].buyer)
        await self.do(self.deliver, True)
        open_ones = [one for one in self.orders(1) if one["license"] == self.licenses[-1].name]
        if open_ones:
            method = self.random.choice((INTENT, SAVED, SAVED))
            await self.do(self.unanswered, self.start, method, open_ones[-1], trouble=0)
            await self.do(self.keeper)

    async def late_money(self) -> None:
        """Attempts given up before their money, or word of it, arrives."""
        await self.do(self.agree)
        await self.do(self.hear, True, trouble=0)
        for _ in range(2):
            await self.do(self.start_unheard, trouble=0)
        await self.do(self.start, INTENT)
        await self.do(self.pay_orphan)
        await self.do(self.deliver)
        if self.random.random() < 0.4:
            await self.do(self.dispute_unexpected)
            await self.do(self.deliver, True)
        await self.do(self.pay, "pm_card_visa", True)
        await self.do(self.transfer)
        await self.do(self.terminate)
        await self.do(self.deliver)
        await self.do(self.keeper)
        await self.do(self.deliver, True)
        await self.do(self.keeper)
