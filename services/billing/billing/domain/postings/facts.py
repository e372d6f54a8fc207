"""What postings are told: a sale, who bears what goes back, where it is taken from, and money that moved at a rail."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from billing.domain.ledger import PLATFORM, Journal, lines
from rochdale.type.v1.money_pb2 import Money

STRIPE = "stripe"
BANK = "bank"


@dataclass(frozen=True, slots=True)
class Sale:
    """A paid order as the books see it: gross = net + tax, of which the market keeps the fee."""

    order_id: str
    cooperative: str
    currency: str
    gross_minor: int
    tax_minor: int
    fee_minor: int

    @property
    def share_minor(self) -> int:
        return self.gross_minor - self.tax_minor - self.fee_minor


@dataclass(frozen=True, slots=True)
class Parts:
    """How money that goes back to a buyer is borne: by the tax, by the market's fee, and by the cooperative."""

    tax_minor: int
    fee_minor: int
    cooperative_minor: int

    @property
    def total_minor(self) -> int:
        return self.tax_minor + self.fee_minor + self.cooperative_minor


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a cooperative's part is taken from. `pending` or `frozen` before the release; the others after it."""

    pending_minor: int = 0
    frozen_minor: int = 0
    reserve_minor: int = 0
    available_minor: int = 0
    receivable_minor: int = 0

    @property
    def released_minor(self) -> int:
        """What the cooperative's book knows of, because it was released."""
        return self.reserve_minor + self.available_minor + self.receivable_minor


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moved at a rail: its own reference of it, and how much, positive, in the currency it keeps."""

    rail: str
    reference: str
    amount: Money


def moved_journals(
    kind: str, key: str, owed: tuple[str, int], currency: str, moved: Movement, at: dt.datetime
) -> list[Journal]:
    """A movement at a rail against one account. In another currency, the exchange account of each stands between."""
    amount_minor = owed[1]
    account = "stripe:available" if moved.rail == STRIPE else "bank"
    sign = -1 if amount_minor > 0 else 1
    there = (account, sign * moved.amount.amount_minor)
    if moved.amount.currency == currency:
        # What the rail says it moved is what we said; another amount is exchange as well.
        difference = -amount_minor - there[1]
        return [Journal(PLATFORM, kind, key, currency, lines(owed, there, ("fx", difference)), at, moved.reference)]
    return [
        Journal(PLATFORM, kind, key, currency, lines(owed, ("fx", -amount_minor)), at),
        Journal(
            PLATFORM,
            f"{kind}_exchanged",
            f"{key}:exchange",
            moved.amount.currency,
            lines(there, ("fx", -there[1])),
            at,
            moved.reference,
        ),
    ]
