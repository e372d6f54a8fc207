"""When a share is free, what of it stays as the rolling reserve, and how a share is shown."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from billing.domain.shares import BASIS_POINTS, Share, ShareState
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import to_timestamp

NOT_DELIVERED = "NOT_DELIVERED"
HOLD = "HOLD"
DISPUTED = "DISPUTED"
REFUND_PENDING = "REFUND_PENDING"


@dataclass(frozen=True, slots=True)
class Shown:
    """A share with what others know of it: whether money of it is going back, and what was sent of it and stayed sent.

    used_before: it bills what was used, so it was delivered before it was paid. delivery_deadline: how long after its hold
    a share waits to be delivered; a buyer who never fetches what they paid for must not keep it from the cooperative.
    """

    share: Share
    delivery_deadline: dt.timedelta
    refund_pending: bool = False
    used_before: bool = False
    sent_minor: int = 0

    @property
    def state(self) -> pb.ShareState.ValueType:
        share = self.share
        if share.amount_minor == 0:
            return pb.SHARE_STATE_REVERSED
        if share.state == ShareState.HELD:
            return pb.SHARE_STATE_HELD
        if self.sent_minor >= share.amount_minor:
            return pb.SHARE_STATE_TRANSFERRED
        return pb.SHARE_STATE_RELEASED

    def hold_reason(self, now: dt.datetime) -> str:
        """Why it is held; empty when nothing holds it. A person can do least about the first."""
        share = self.share
        if share.state != ShareState.HELD or share.amount_minor == 0:
            return ""
        if share.frozen:
            return DISPUTED
        if self.refund_pending:
            return REFUND_PENDING
        delivered = share.deliver_time is not None or self.used_before
        if not delivered and now < share.hold_time + self.delivery_deadline:
            return NOT_DELIVERED
        return HOLD if now < share.hold_time else ""

    def free(self, now: dt.datetime) -> bool:
        """Whether it is to be released."""
        return self.state == pb.SHARE_STATE_HELD and not self.hold_reason(now)

    def resource(self, now: dt.datetime) -> pb.Share:
        share = self.share

        def money(amount_minor: int) -> Money:
            return Money(amount_minor=amount_minor, currency=share.currency)

        return pb.Share(
            name=f"orders/{share.order_id}/shares/{share.id}",
            cooperative=f"cooperatives/{share.cooperative}",
            order=f"orders/{share.order_id}",
            net=money(share.net_minor),
            fee=money(share.fee_minor),
            amount=money(share.amount_minor),
            state=self.state,
            hold_time=to_timestamp(share.hold_time),
            hold_reason=self.hold_reason(now),
            create_time=to_timestamp(share.create_time),
            release_time=to_timestamp(share.release_time),
            reserve=money(share.reserve_minor),
            reserve_time=to_timestamp(share.reserve_release_time) if share.reserve_minor else None,
        )


def reserve_of(share: Share, reserve_bps: int) -> int:
    """What of a share stays at the market when it is released, rounded up: the market answers for what lacks."""
    return -(-share.amount_minor * reserve_bps // BASIS_POINTS)
