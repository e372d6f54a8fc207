"""Payouts: money on its way to a cooperative, and the transfers one is made of at Stripe. Decides amounts, sends nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp
from rochdale_kit.money import CURRENCIES
from rochdale_kit.refusals import Kind, Refusal

# Why a payout failed, where the word is ours.
ACCOUNT_CHANGED = "account_changed"
LIVE = (pb.PAYOUT_STATE_PENDING, pb.PAYOUT_STATE_IN_TRANSIT)
# Stripe forgets an idempotency key after 24 hours; from then on what was made is looked for first.
KEY_LIFE = dt.timedelta(hours=23)


class Asked(IntEnum):
    """How a transfer or a reversal stands at the rail."""

    PENDING = 1
    DONE = 2
    FAILED = 3


@dataclass(frozen=True)
class Payout:
    """Money on its way. `file_id` is the file a bank was given it in."""

    id: str
    cooperative: str
    rail: pb.PayoutRail.ValueType
    amount_minor: int
    currency: str
    create_time: dt.datetime
    stripe_account: str = ""
    bank_account_id: str = ""
    state: pb.PayoutState.ValueType = pb.PAYOUT_STATE_PENDING
    failure_code: str = ""
    settle_time: dt.datetime | None = None
    reference: str = ""
    file_id: str | None = None

    @property
    def name(self) -> str:
        return f"cooperatives/{self.cooperative}/payouts/{self.id}"

    def resource(self) -> pb.Payout:
        return pb.Payout(
            name=self.name,
            amount=Money(amount_minor=self.amount_minor, currency=self.currency),
            rail=self.rail,
            state=self.state,
            failure_code=self.failure_code,
            create_time=to_timestamp(self.create_time),
            settle_time=to_timestamp(self.settle_time),
            reference=self.reference,
        )


@dataclass(frozen=True)
class Part:
    """What a payout takes of one share; without a share, money that is no share's any more."""

    share_id: str
    order_id: str
    charge_id: str
    amount_minor: int


@dataclass(frozen=True)
class Transfer:
    """A part of a payout at Stripe, asked for under its own key until there is an answer."""

    id: str
    payout_id: str
    part: Part
    attempt: int
    create_time: dt.datetime
    state: Asked = Asked.PENDING
    rail_id: str = ""
    failure_code: str = ""
    reversed_minor: int = 0
    settle_time: dt.datetime | None = None

    @property
    def idempotency_key(self) -> str:
        return f"transfer:{self.part.share_id or self.id}:{self.attempt}"


@dataclass(frozen=True)
class Reversal:
    """Part of a transfer that is asked back, because more was sent than the cooperative still has of the share."""

    id: str
    transfer_id: str
    attempt: int
    amount_minor: int
    create_time: dt.datetime

    @property
    def idempotency_key(self) -> str:
        return f"reversal:{self.transfer_id}:{self.attempt}"


@dataclass(frozen=True)
class Payable:
    """What can still be sent of one share: charge - fee - taxes - what was given back - reserve - what was sent."""

    share_id: str
    order_id: str
    charge_id: str
    left_minor: int


def parts_of(available_minor: int, payables: Iterable[Payable], unit: int) -> list[Part]:
    """An available balance as transfers, one a share and oldest first, each no more than its share can still give.

    What is there beyond all shares, such as what a reversal brought back, goes without a charge. Whole units only, which
    are what the rail counts in; the rest waits. The parts never sum to more than the balance.
    """
    left = available_minor - available_minor % unit
    found = []
    for payable in payables:
        take = min(left, payable.left_minor)
        take -= take % unit
        if take > 0:
            found.append(Part(payable.share_id, payable.order_id, payable.charge_id, take))
            left -= take
    if left:
        found.append(Part("", "", "", left))
    return found


def standing_of(payout: Payout, transfers: Sequence[Transfer], now: dt.datetime) -> Payout:
    """A payout at Stripe after another of its transfers was answered.

    One that was refused leaves the payout, which then is what arrived; when all were, the payout failed.
    """
    if any(transfer.state is Asked.PENDING for transfer in transfers):
        return replace(payout, state=pb.PAYOUT_STATE_IN_TRANSIT)
    done = [transfer for transfer in transfers if transfer.state is Asked.DONE]
    code = next((transfer.failure_code for transfer in transfers if transfer.state is Asked.FAILED), "")
    if not done:
        return replace(payout, state=pb.PAYOUT_STATE_FAILED, failure_code=code, settle_time=now)
    return replace(
        payout,
        state=pb.PAYOUT_STATE_PAID,
        amount_minor=sum(transfer.part.amount_minor for transfer in done),
        reference=done[0].rail_id if len(done) == 1 else "",
        settle_time=now,
    )


def smallest_unit(currency: str) -> int:
    """The least that Stripe can move of a currency, in our minor units."""
    known = CURRENCIES[currency]
    if known.stripe_exponent < known.exponent:
        coarser: int = 10 ** (known.exponent - known.stripe_exponent)
        return coarser
    finer: int = 10 ** (known.stripe_exponent - known.exponent)
    return max(1, known.stripe_charge_multiple // finer)


def check_in_transit(payout: Payout, *also: pb.PayoutState.ValueType) -> None:
    """Refuses with PAYOUT_NOT_IN_TRANSIT what no bank was asked to pay, or has answered."""
    if payout.rail != pb.PAYOUT_RAIL_BANK or payout.state not in (pb.PAYOUT_STATE_IN_TRANSIT, *also):
        state = pb.PayoutState.Name(payout.state).removeprefix("PAYOUT_STATE_")
        raise Refusal(
            "PAYOUT_NOT_IN_TRANSIT",
            f"{payout.name} is {state.lower()}"
            + (", and at Stripe." if payout.rail == pb.PAYOUT_RAIL_STRIPE else ", not on its way."),
            Kind.STATE,
            payout=payout.name,
            state=state,
        )
