"""How money reads on a page: amounts, states, holds and reasons in words, and what people write read back. No arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.billing.v1 import dividends_pb2 as dividends
from rochdale.billing.v1 import treasury_pb2 as treasury
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import format_money, require_currency
from rochdale_kit.refusals import Refusal
from rochdale_kit.scope_words import moment

_WORDS: dict[str, Mapping[int, str]] = {
    "order": {
        billing.ORDER_STATE_OPEN: "waiting for payment",
        billing.ORDER_STATE_PAID: "paid",
        billing.ORDER_STATE_CANCELED: "closed unpaid",
    },
    "order_kind": {
        billing.ORDER_KIND_UNSPECIFIED: "a license",
        billing.ORDER_KIND_LICENSE: "a license",
        billing.ORDER_KIND_PERIOD: "a period of a license",
        billing.ORDER_KIND_USAGE: "what was used in a period",
    },
    "method": {
        billing.PAYMENT_METHOD_PAYMENT_INTENT: "by card, from the buyer's own code",
        billing.PAYMENT_METHOD_CHECKOUT: "by card",
        billing.PAYMENT_METHOD_BANK_TRANSFER: "by bank transfer",
        billing.PAYMENT_METHOD_SAVED: "with what is saved",
    },
    "payment": {
        billing.PAYMENT_STATE_STARTING: "being started",
        billing.PAYMENT_STATE_PENDING: "waiting for you",
        billing.PAYMENT_STATE_SUCCEEDED: "received in full",
        billing.PAYMENT_STATE_FAILED: "not received",
        billing.PAYMENT_STATE_UNKNOWN: "not known; the rail did not answer and is asked again",
    },
    "refund": {
        billing.REFUND_STATE_PENDING: "on its way",
        billing.REFUND_STATE_SUCCEEDED: "given back",
        billing.REFUND_STATE_FAILED: "could not be given back by card; an operator pays it another way",
    },
    "dispute": {
        billing.DISPUTE_STATE_NEEDS_RESPONSE: "needs an answer",
        billing.DISPUTE_STATE_UNDER_REVIEW: "answered; the bank decides",
        billing.DISPUTE_STATE_WON: "decided for the cooperative",
        billing.DISPUTE_STATE_LOST: "decided for the buyer",
    },
    "invoice": {billing.INVOICE_KIND_INVOICE: "invoice", billing.INVOICE_KIND_CREDIT_NOTE: "credit note"},
    "subscription": {
        billing.SUBSCRIPTION_STATE_ACTIVE: "paid up",
        billing.SUBSCRIPTION_STATE_PAST_DUE: "overdue",
        billing.SUBSCRIPTION_STATE_SUSPENDED: "suspended until it is paid",
        billing.SUBSCRIPTION_STATE_ENDED: "ended",
    },
    "meter": {
        pricing.METER_GIGABYTE: "gigabytes sent",
        pricing.METER_QUERY: "queries answered",
        pricing.METER_EPSILON: "privacy loss (epsilon)",
    },
    "interval": {
        pricing.BILLING_INTERVAL_UNSPECIFIED: "once",
        pricing.BILLING_INTERVAL_MONTH: "each month, in advance",
        pricing.BILLING_INTERVAL_YEAR: "each year, in advance",
    },
    "license": {
        licensing.LICENSE_STATE_AGREED: "agreed, not yet paid",
        licensing.LICENSE_STATE_ACTIVE: "in force",
        licensing.LICENSE_STATE_SUSPENDED: "suspended",
        licensing.LICENSE_STATE_TERMINATED: "ended early",
        licensing.LICENSE_STATE_EXPIRED: "ended as agreed",
    },
    "share": {
        treasury.SHARE_STATE_HELD: "held",
        treasury.SHARE_STATE_RELEASED: "free",
        treasury.SHARE_STATE_TRANSFERRED: "sent to the cooperative",
        treasury.SHARE_STATE_REVERSED: "given back whole",
    },
    "rail": {
        treasury.PAYOUT_RAIL_STRIPE: "a Stripe account of its own",
        treasury.PAYOUT_RAIL_BANK: "a bank account",
    },
    "account": {
        treasury.PAYOUT_ACCOUNT_STATE_PENDING: "cannot be paid yet",
        treasury.PAYOUT_ACCOUNT_STATE_ACTIVE: "can be paid",
        treasury.PAYOUT_ACCOUNT_STATE_DISABLED: "disabled; money waits",
    },
    "payout": {
        treasury.PAYOUT_STATE_PENDING: "waits to be sent",
        treasury.PAYOUT_STATE_IN_TRANSIT: "on its way",
        treasury.PAYOUT_STATE_PAID: "arrived",
        treasury.PAYOUT_STATE_FAILED: "did not arrive; the money is available again",
        treasury.PAYOUT_STATE_RETURNED: "came back; the money is available again",
    },
    "run": {
        dividends.RUN_STATE_DRAFT: "opened",
        dividends.RUN_STATE_COMPUTED: "worked out; stewards look at it",
        dividends.RUN_STATE_OBJECTION: "shown to members, who may object",
        dividends.RUN_STATE_APPROVED: "approved",
        dividends.RUN_STATE_POSTING: "being booked to members",
        dividends.RUN_STATE_POSTED: "booked to members",
        dividends.RUN_STATE_PAYING: "being paid",
        dividends.RUN_STATE_CLOSED: "closed",
        dividends.RUN_STATE_DISCARDED: "given up",
    },
}
_HOLDS = {
    "NOT_DELIVERED": "nothing was delivered yet",
    "HOLD": "the time buyers have to complain is not over",
    "DISPUTED": "the buyer's bank disputes the payment",
    "REFUND_PENDING": "a refund is on its way",
}
_CARRIED = {
    "BELOW_MINIMUM": "it is below the least amount that members decided to pay out",
    "NO_BANK_ACCOUNT": "nobody has said where to pay it",
}
_SUSPENSE = {
    "REFERENCE_MISSING": "it names no payment reference",
    "REFERENCE_UNKNOWN": "no order has the reference it names",
    "REFERENCE_AMBIGUOUS": "several orders have what it names",
    "ORDER_NOT_OPEN": "its order is not open",
    "AMOUNT_MISMATCH": "it is not the whole amount",
    "CURRENCY_MISMATCH": "it is in another currency",
    "PAYMENT_IN_PROGRESS": "a card payment of its order is in progress",
    "RAIL_UNAVAILABLE": "a card payment of its order cannot be ended now",
}
# As `rochdale billing` names them, in the order a treasurer asks.
BALANCES = (
    ("Held", "held_minor", "paid by buyers, not free yet"),
    ("Frozen by disputes", "frozen_minor", "free when the bank decides for the cooperative"),
    ("Available", "available_minor", "free, and not yet sent"),
    ("Rolling reserve", "market_reserve_minor", "kept by the market for a while against refunds and disputes"),
    ("On its way", "in_transit_minor", "to the cooperative"),
    ("Owed to the market", "owed_minor", "taken from the next releases"),
    ("Bank", "bank_minor", "as far as the book knows"),
    ("Surplus", "surplus_minor", "earned and not divided; below zero, a loss that is carried"),
    ("Reserve", "reserve_minor", "which meets losses first"),
    ("Commons", "commons_minor", "for common projects"),
    ("Solidarity", "solidarity_minor", "for members in need"),
    ("Owed to members", "members_payable_minor", "what is carried forward included"),
    ("Unclaimed", "unclaimed_minor", "owed to members who cannot be paid"),
)
_AMOUNT = re.compile(r"(?:([A-Za-z]{3}) ?)?([0-9][0-9,]{0,18}(?:\.[0-9]{1,4})?)(?: ?([A-Za-z]{3}))?")
_WARNS_AT_PERCENT = 80


def state(number: int, kind: str) -> str:
    """A state in words; one that is newer than this page is said to be so."""
    return _WORDS[kind].get(number, "in a state this page does not know")


def hold(reason: str) -> str:
    return _HOLDS.get(reason, _plain(reason))


def carried(reason: str) -> str:
    return _CARRIED.get(reason, _plain(reason))


def suspense(reason: str) -> str:
    return _SUSPENSE.get(reason, _plain(reason))


def tax_class(classification: str) -> str:
    """A classification is data that a person decided; when nobody did, that is said."""
    if classification in ("", "unclassified"):
        return "unclassified: nobody has decided yet how this is taxed, and the market does not"
    return _plain(classification)


def _plain(code: str) -> str:
    return code.lower().replace("_", " ").replace("-", " ")


def minor(amount_minor: int, currency: str) -> str:
    return format_money(Money(amount_minor=amount_minor, currency=currency))


def unit_price(text: str, currency: str) -> str:
    """A price of one unit, which may be a part of a minor unit: "EUR 0.0025" of "0.25"."""
    try:
        exact = Decimal(text).scaleb(-require_currency(currency).exponent)
    except (ArithmeticError, Refusal):
        return text
    return f"{currency} {exact.normalize():,f}"


def when(stamp: Timestamp) -> str:
    """A time in UTC; empty when there is none."""
    return moment(stamp) if stamp.seconds or stamp.nanos else ""


def last(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rsplit("/", 1)[-1]


def filled(usage: billing.MeterUsage) -> int:
    """How much of a cap was used, in percent, at most 100; 0 without a cap."""
    try:
        used, cap = Decimal(usage.used or "0"), Decimal(usage.cap or "0")
        return max(0, min(100, int(100 * used / cap))) if cap > 0 else (100 if usage.cap else 0)
    except ArithmeticError:
        return 0


def warned(usage: billing.MeterUsage) -> str:
    """What is to be said of a cap, from what billing said and from the numbers beside it."""
    if usage.HasField("reach_time") or (usage.cap and filled(usage) >= 100):
        return "The cap is reached: access stops until the next period, or until the cap is higher."
    if usage.HasField("warn_time") or filled(usage) >= _WARNS_AT_PERCENT:
        return f"More than {_WARNS_AT_PERCENT} % of the cap is used."
    return ""


def read_money(text: str) -> Money:
    """Money of "1200.00 EUR" or "EUR 1,200.00". Refuses with a sentence."""
    match = _AMOUNT.fullmatch(text.strip())
    codes = [code for code in (match[1], match[3]) if code] if match else []
    if match is None or len(codes) != 1:
        raise Refusal("REQUEST_INVALID", f"“{text[:40]}” is not an amount; write it like 1200.00 EUR.", value=text)
    currency = require_currency(codes[0].upper())
    amount = Decimal(match[2].replace(",", "")).scaleb(currency.exponent)
    if amount != amount.to_integral_value() or amount > 10**15:
        raise Refusal("REQUEST_INVALID", f"“{text[:40]}” is no amount of {currency.code}.", value=text)
    return Money(amount_minor=int(amount), currency=currency.code)


def filters() -> dict[str, Any]:
    """What templates may call on what billing says."""
    return {
        "money": format_money,
        "minor": minor,
        "unit_price": unit_price,
        "when": when,
        "state": state,
        "hold": hold,
        "carried": carried,
        "suspense": suspense,
        "tax_class": tax_class,
        "last": last,
        "filled": filled,
        "warned": warned,
        "plain": _plain,
        "has": lambda message, field: message.HasField(field),
    }
