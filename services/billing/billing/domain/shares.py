"""Shares: what one cooperative earns of one paid order, from the payment until it is free. When it is free: releases."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, replace

from billing.domain.orders import Order
from billing.domain.postings import Sale

BASIS_POINTS = 10_000


class ShareState(enum.IntEnum):
    """HELD: the market keeps it. RELEASED: it is the cooperative's, but for its reserve."""

    HELD = 1
    RELEASED = 2


@dataclass(frozen=True, slots=True)
class Share:
    """A share. `rail` is postings.STRIPE or postings.BANK; net_minor is the order's, of which the market keeps the fee.

    refunded_minor: of the cooperative's part, what went back to the buyer; owed_minor: of that, what it had no more and
    owed. reserve_minor: of a released one, what is in the rolling reserve now. hold_time: until when it is held at least.
    """

    id: str
    order_id: str
    cooperative: str
    net_minor: int
    tax_minor: int
    fee_minor: int
    currency: str
    rail: str
    charge_id: str
    create_time: dt.datetime
    hold_time: dt.datetime
    state: ShareState = ShareState.HELD
    refunded_minor: int = 0
    owed_minor: int = 0
    deliver_time: dt.datetime | None = None
    frozen: bool = False
    release_time: dt.datetime | None = None
    reserve_minor: int = 0
    reserve_time: dt.datetime | None = None
    reserve_release_time: dt.datetime | None = None
    reversed_minor: int = 0

    @property
    def amount_minor(self) -> int:
        """The cooperative's part, less what went back."""
        return self.net_minor - self.fee_minor - self.refunded_minor

    @property
    def released(self) -> bool:
        return self.state == ShareState.RELEASED

    def sale(self) -> Sale:
        """As the books saw the payment."""
        return Sale(
            self.order_id,
            self.cooperative,
            self.currency,
            self.net_minor + self.tax_minor,
            self.tax_minor,
            self.fee_minor,
        )

    def less(self, cooperative_minor: int, reserve_minor: int, owed_minor: int) -> Share:
        """After cooperative_minor of it went back, of which reserve_minor came from its reserve, and owed_minor is owed
        because the cooperative had it no more."""
        return replace(
            self,
            refunded_minor=self.refunded_minor + cooperative_minor,
            reserve_minor=self.reserve_minor - reserve_minor,
            owed_minor=self.owed_minor + owed_minor,
        )


def share_of(
    order: Order, id: str, rail: str, charge_id: str, fee_bps: int, hold_seconds: float, now: dt.datetime
) -> Share:
    """What a cooperative earns of an order that was just paid. The market's fee is on the net, rounded down."""
    net = order.net.amount_minor
    return Share(
        id=id,
        order_id=order.id,
        cooperative=order.seller,
        net_minor=net,
        tax_minor=order.amount.amount_minor - net,
        fee_minor=net * fee_bps // BASIS_POINTS,
        currency=order.amount.currency,
        rail=rail,
        charge_id=charge_id,
        create_time=now,
        hold_time=now + dt.timedelta(seconds=hold_seconds),
    )
