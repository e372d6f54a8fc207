"""What buyers do in a history of money: they agree to licenses, pay in every way, and use what they paid for. Each act
chooses something that can be done, does it, and says whether it did. Banks and stewards are in money_banks.py.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from money_engine import principal
from money_history import BUYERS, CURRENCIES, Attempt, History, License

from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.identity import Principal
from rochdale_kit.signing import canonical_hash

PAID = 2
IBANS = ("DE89370400440532013000", "NL91ABNA0417164300", "FR1420041010050500013M02606")
CARDS = ("pm_card_visa",) * 7 + (
    "pm_card_createDispute",
    "pm_card_refundFail",
    "pm_card_pendingRefund",
    "pm_card_visa_chargeDeclined",
    "pm_card_createDisputeInquiry",
)
INTENT, CHECKOUT, TRANSFER, SAVED = 1, 2, 3, 4


def buyer(name: str) -> Principal:
    return principal(name, identity_pb2.ROLE_BUYER, identity_pb2.ORGANIZATION_KIND_BUYER)


class BuyerActs(History):
    """A history with buyers in it."""

    async def lever(self, path: str, **asked: Any) -> Any:
        """Something that happens at Stripe without us: None when it cannot."""
        answer = await self.bench.world.post(f"/_simulator/{path}", json=asked)
        return answer.json() if answer.status_code == 200 else None

    # Licenses

    async def agree(self, cooperative: int | None = None, monthly: bool | None = None, price: int = 0) -> bool:
        """A license is agreed, and billing hears of it sooner or later."""
        coop = self.cooperatives[self.random.randrange(2) if cooperative is None else cooperative]
        name, who = f"licenses/lic_{self.seed}_{self.number()}", self.random.choice(list(BUYERS))
        currency = "EUR" if price else self.random.choice(CURRENCIES)
        cents = price or self.random.choice((self.random.randint(100, 3000), self.random.randint(3000, 900_000)))
        if not price and self.random.random() < 0.05:
            cents = 0
        monthly = self.random.random() < 0.3 if monthly is None else monthly
        terms = licensing.LicenseTerms(
            license=name,
            licensor=f"cooperatives/{coop.id}",
            licensee=f"licensees/{who}",
            price=Money(amount_minor=cents, currency=currency),
            duration_seconds=int(dt.timedelta(days=self.random.choice((59, 80, 365))).total_seconds()),
        )
        unit_price, included = "", "0"
        if monthly:
            unit_price, included = self.random.choice((("37.5", "0"), ("250", "1"), ("12.345", "2")))
            meter = pricing_pb2.MeteredPrice(
                meter=pricing_pb2.METER_GIGABYTE, unit_price=unit_price, included=included, cap="20"
            )
            terms.price_plan.CopyFrom(
                pricing_pb2.PricePlan(interval=pricing_pb2.BILLING_INTERVAL_MONTH, metered=[meter])
            )
        agreed = licensing.License(
            name=name, terms=terms, terms_hash=canonical_hash(terms), state=licensing.LICENSE_STATE_AGREED
        )
        self.said.add(
            "agreed", license=name, buyer=who, cooperative=coop.id, currency=currency, net=cents,
            tax_percent=BUYERS[who], unit_price=unit_price, included=included,
        )  # fmt: skip
        self.note(f"agreed {name}: {cents} {currency} of {coop.id} to {who}{' a month' if monthly else ''}")
        self.licenses.append(License(name, who, coop, currency, cents, monthly))
        self.tell(licensing_events.LicenseAgreed(license=agreed))
        return await self.hear(everything=True)

    def orders(self, *states: int) -> list[Any]:
        found = [order for order in self.rows.orders.values() if order["state"] in states and order["amount_minor"]]
        return sorted(found, key=lambda order: order["id"])

    def license_of(self, order: Any) -> License:
        return next(one for one in self.licenses if one.name == order["license"])

    async def terminate(self) -> bool:
        if not self.licenses:
            return False
        one = self.random.choice(self.licenses)
        ended = licensing.License(name=one.name, state=licensing.LICENSE_STATE_TERMINATED)
        self.tell(licensing_events.LicenseTerminated(license=ended))
        return await self.hear()

    # Buyers pay

    async def start(self, method: int = 0, order: Any = None) -> bool:
        """A buyer begins to pay, perhaps in another way than before."""
        open_ones = [order] if order else self.orders(1)
        if not open_ones:
            return False
        order = self.random.choice(open_ones)
        license = self.license_of(order)
        method = method or self.random.choice((INTENT, INTENT, INTENT, CHECKOUT, CHECKOUT, TRANSFER, SAVED))
        request = pb.StartPaymentRequest(
            request_id=self.request(), order=f"orders/{order['id']}", method=pb.PaymentMethod.ValueType(method)
        )
        made = await self.ask(buyer(license.buyer), "billing", "StartPayment", request)
        if made is not None and (made.payment_intent or made.checkout_url):
            attempt = Attempt(order["id"], made.name, made.payment_intent, made.checkout_url)
            if all(one.payment != attempt.payment for one in license.attempts):
                license.attempts.append(attempt)
        return True

    async def pay(self, card: str = "", latest: bool = False) -> bool:
        """A buyer pays what they hold, even if it was given up since."""
        attempts = [attempt for license in self.licenses for attempt in license.attempts]
        if not attempts:
            return False
        attempt = attempts[-1] if latest else self.random.choice(attempts)
        card = card or self.random.choice(CARDS)
        self.note(f"a card pays {attempt.payment.rsplit('/', 1)[1]}: {card}")
        if attempt.page:
            number = "4000000000000002" if card.endswith("Declined") else "4242424242424242"
            answer = await self.bench.world.post(attempt.page, data={"card_number": number})
            return answer.status_code in (303, 402)
        currency = next(one["currency"] for one in self.rows.orders.values() if one["id"] == attempt.order)
        if currency == "USD" and self.random.random() < 0.4:
            # It takes an hour until the bank says yes or no.
            card = self.random.choice(("pm_usBankAccount_success",) * 3 + ("pm_usBankAccount_insufficientFunds",))
            self.met["bank debit"] += 1
        asked = {"payment_method": card}
        answer = await self.bench.world.post(f"/v1/payment_intents/{attempt.intent}/confirm", data=asked)
        return answer.status_code in (200, 402)

    async def pay_orphan(self) -> bool:
        """Money for an attempt nobody should be able to pay any more: whoever pays it, it must go back."""
        listed = await self.bench.world.get("/v1/payment_intents", params={"limit": 100})
        live = {one["intent_id"] for one in self.rows.payments if one["state"] in (1, 2, 5)}
        lost = [one for one in listed.json()["data"]
                if one["status"] == "requires_payment_method" and one["id"] not in live]  # fmt: skip
        if not lost:
            return False
        intent = self.random.choice(lost)
        self.note(f"somebody pays {intent['metadata']['payment']}")
        asked = {"payment_method": "pm_card_visa"}
        paid = await self.bench.world.post(f"/v1/payment_intents/{intent['id']}/confirm", data=asked)
        if paid.status_code == 200 and any(one["id"] == intent["metadata"]["payment"] and one["state"] == 4
                                           for one in self.rows.payments):  # fmt: skip
            self.met["money on an attempt given up"] += 1
        return paid.status_code == 200

    async def save_method(self, who: str = "") -> bool:
        """A buyer saves a card for what comes."""
        who = who or self.random.choice(list(BUYERS))
        request = pb.SetUpPaymentMethodRequest(request_id=self.request())
        made = await self.ask(buyer(who), "billing", "SetUpPaymentMethod", request)
        if made is None or not made.setup_url:
            return True
        number = self.random.choice(("4242424242424242",) * 3 + ("4000000000000341",))
        await self.bench.world.post(made.setup_url, data={"card_number": number})
        return True

    async def transfer(self, kind: str = "", order: Any = None) -> bool:
        """A credit arrives at the market's bank, with or without the right reference and amount, and is imported."""
        found = [order] if order else self.orders(1, 1, 2, 3)
        if not found:
            return False
        order = self.random.choice(found)
        kind = kind or self.random.choice(("right", "right", "short", "too much", "no reference", "confirmed", "again"))
        amount, text = order["amount_minor"], f"for {order['payment_reference']} thanks"
        if kind == "short":
            amount = max(1, amount - self.random.randint(1, 500))
        elif kind == "too much":
            amount += self.random.randint(1, 500)
        elif kind == "no reference":
            text = "invoice"
        reference = f"bank-{self.seed}-{self.number()}"
        money = Money(amount_minor=amount, currency=order["currency"])
        self.note(f"a credit arrives for {order['id']}: {kind}")
        if kind == "confirmed":
            confirm = pb.ConfirmBankTransferRequest(
                request_id=self.request(), order=f"orders/{order['id']}", amount=money, bank_reference=reference
            )
            line = self.said.add("credit arrived", reference=reference, amount=amount, currency=order["currency"])
            if await self.operator("billing", "ConfirmBankTransfer", confirm) is None:
                self.said.unsay(line)
            return True
        self.said.add("credit arrived", reference=reference, amount=amount, currency=order["currency"])
        imported = pb.BankTransfer(bank_reference=reference, amount=money, text=text)
        for _ in range(2 if kind == "again" else 1):
            request = pb.ImportBankTransfersRequest(request_id=self.request(), transfers=[imported])
            while await self.operator("billing", "ImportBankTransfers", request) is None:
                self.chaos.disarm()
        if kind in ("short", "too much", "no reference"):
            self.met["wrong bank transfer"] += 1
        return True

    async def match(self) -> bool:
        """An operator finds the order of a credit that waits."""
        waiting = [one for one in self.rows.credits if one["order_id"] is None]
        pairs = [
            (one, order)
            for one in waiting
            for order in self.orders(1)
            if (one["amount_minor"], one["currency"]) == (order["amount_minor"], order["currency"])
        ]
        if not pairs:
            return False
        credit, order = self.random.choice(pairs)
        request = pb.ConfirmBankTransferRequest(
            request_id=self.request(),
            order=f"orders/{order['id']}",
            amount=Money(amount_minor=credit["amount_minor"], currency=credit["currency"]),
            bank_reference=credit["bank_reference"],
        )
        await self.operator("billing", "ConfirmBankTransfer", request)
        return True

    # Subscriptions

    async def change_subscription(self) -> bool:
        """A buyer cancels for the period's end, caps the use, or takes the saved card away."""
        monthly = [one for one in self.licenses if one.monthly]
        if not monthly:
            return False
        one = self.random.choice(monthly)
        what = self.random.choice(("cancel", "budget", "budget", "remove"))
        if what == "cancel":
            await self.ask(
                buyer(one.buyer),
                "billing",
                "CancelSubscription",
                pb.CancelSubscriptionRequest(request_id=self.request(), license=one.name),
            )
        elif what == "budget":
            cap = self.random.choice(("", "5", "9.5"))
            budget = pb.SetBudgetRequest(
                request_id=self.request(), license=one.name, meter=pricing_pb2.METER_GIGABYTE, cap=cap
            )
            await self.ask(buyer(one.buyer), "billing", "SetBudget", budget)
        else:
            await self.ask(buyer(one.buyer), "billing", "RemovePaymentMethod", pb.RemovePaymentMethodRequest())
        return True

    # Use

    async def use(self, license: License | None = None, gigabytes: str = "") -> bool:
        """Data leaves through a gateway's door."""
        paid = [self.license_of(order) for order in self.orders(PAID)]
        if not paid and license is None:
            return False
        license = license or self.random.choice(paid)
        amount = gigabytes or self.random.choice(("0.5", "3.25", "7", "12.000000001", "25"))
        event = gateway.UsageRecorded(
            grant="grants/grt_1",
            license=license.name,
            token_id="1",
            version=f"cooperatives/{license.cooperative.id}/datasets/visits/versions/1",
            sent_bytes=int(float(amount) * 1_000_000_000),
            listed_files=1,
            record_time=to_timestamp(self.now),
        )
        begun = any(o["license"] == license.name and o["kind"] == 1 and o["state"] == PAID for o in self.orders(PAID))
        if license.monthly and begun:
            at = event.record_time.ToDatetime(tzinfo=dt.UTC).isoformat()
            used = f"{event.sent_bytes / 1_000_000_000:.9f}"
            self.said.add("used", license=license.name, gigabytes=used, at=at)
        self.note(f"used {license.name}: {amount} GB")
        self.tell(event)
        return await self.hear(everything=True)
