"""What each business event does to the books. Pure: facts in, journals out; docs/reference/ledger.md is the prose.

Amounts are positive minor units of one currency. A function gives all journals of its event, the market's first; they are
posted in one transaction, so that what the market owes a cooperative and what the cooperative's book calls due stay equal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from billing.domain.ledger import PLATFORM, Journal, book_of, lines
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


# Money comes in


def charge(sale: Sale, charge_id: str, transaction: str, processing_minor: int, at: dt.datetime) -> list[Journal]:
    """A card paid an order. Stripe keeps its fee before the money is ours."""
    return [
        Journal(
            PLATFORM,
            "charge",
            f"charge:{charge_id}",
            sale.currency,
            lines(
                ("stripe:pending", sale.gross_minor - processing_minor),
                ("processing_fees", processing_minor),
                *_earned(sale),
            ),
            at,
            transaction,
        )
    ]


def exchanged_charge(
    sale: Sale,
    charge_id: str,
    transaction: str,
    brought_minor: int,
    processing_minor: int,
    brought_currency: str,
    at: dt.datetime,
) -> list[Journal]:
    """A card paid an order, and Stripe keeps the money in another currency. What is owed stays in the order's own; the
    exchange account of each currency shows what became of which, by the transaction's rate."""
    return [
        Journal(
            PLATFORM,
            "charge",
            f"charge:{charge_id}",
            sale.currency,
            lines(("fx", sale.gross_minor), *_earned(sale)),
            at,
        ),
        Journal(
            PLATFORM,
            "charge_exchanged",
            f"exchange:{charge_id}",
            brought_currency,
            lines(
                ("stripe:pending", brought_minor - processing_minor),
                ("processing_fees", processing_minor),
                ("fx", -brought_minor),
            ),
            at,
            transaction,
        ),
    ]


def bank_payment(sale: Sale, bank_reference: str, at: dt.datetime) -> list[Journal]:
    """A bank transfer paid an order."""
    return [
        Journal(
            PLATFORM,
            "bank_payment",
            f"order:{sale.order_id}",
            sale.currency,
            lines(("bank", sale.gross_minor), *_earned(sale)),
            at,
            bank_reference,
        )
    ]


def _earned(sale: Sale) -> list[tuple[str, int]]:
    return [
        (f"coop:{sale.cooperative}:pending", -sale.share_minor),
        ("fee_revenue", -sale.fee_minor),
        ("tax:payable", -sale.tax_minor),
    ]


def available(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe lets us use what a balance transaction brought."""
    return [
        Journal(
            PLATFORM,
            "available",
            f"available:{transaction}",
            currency,
            lines(("stripe:available", net_minor), ("stripe:pending", -net_minor)),
            at,
        )
    ]


def unexpected_charge(
    charge_id: str, transaction: str, gross_minor: int, processing_minor: int, currency: str, at: dt.datetime
) -> list[Journal]:
    """A card brought money that pays no order. It waits in suspense and goes back."""
    return [
        Journal(
            PLATFORM,
            "unexpected_charge",
            f"charge:{charge_id}",
            currency,
            lines(
                ("stripe:pending", gross_minor - processing_minor),
                ("processing_fees", processing_minor),
                ("suspense", -gross_minor),
            ),
            at,
            transaction,
        )
    ]


def unexpected_charge_returned(refund_id: str, waited: Money, moved: Movement, at: dt.datetime) -> list[Journal]:
    """What waited in suspense went back to its card. What the rail kept in another currency than was charged goes back at
    another rate than it came; the difference is exchange."""
    return _moved(
        "unexpected_charge_returned",
        f"refund:{refund_id}",
        ("suspense", waited.amount_minor),
        waited.currency,
        moved,
        at,
    )


def unmatched_transfer(bank_reference: str, amount_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """A credit at the bank that pays no order."""
    return [
        Journal(
            PLATFORM,
            "unmatched_transfer",
            f"bank:{bank_reference}",
            currency,
            lines(("bank", amount_minor), ("suspense", -amount_minor)),
            at,
            bank_reference,
        )
    ]


def matched_from_suspense(sale: Sale, bank_reference: str, at: dt.datetime) -> list[Journal]:
    """A credit that waited in suspense pays an order after all."""
    return [
        Journal(
            PLATFORM,
            "matched_from_suspense",
            f"order:{sale.order_id}",
            sale.currency,
            lines(("suspense", sale.gross_minor), *_earned(sale)),
            at,
        )
    ]


def swept(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe paid the market's own balance to its bank (net_minor below zero), or got money from there."""
    parts = lines(("stripe:available", net_minor), ("bank", -net_minor))
    return [Journal(PLATFORM, "swept", f"swept:{transaction}", currency, parts, at, transaction)]


def stripe_fee(transaction: str, net_minor: int, currency: str, at: dt.datetime) -> list[Journal]:
    """Stripe took a fee that belongs to no charge (net_minor below zero), or gave one back."""
    parts = lines(("stripe:available", net_minor), ("processing_fees", -net_minor))
    return [Journal(PLATFORM, "stripe_fee", f"stripe_fee:{transaction}", currency, parts, at, transaction)]


# The cooperative's share


def release(
    share_id: str,
    cooperative: str,
    currency: str,
    amount_minor: int,
    reserve_minor: int,
    owed_minor: int,
    at: dt.datetime,
) -> list[Journal]:
    """A share is free. A part stays as the rolling reserve; what the cooperative owes the market is taken at once.

    reserve_minor + owed_minor are at most amount_minor; owed_minor is at most what it owes.
    """
    coop, key = f"coop:{cooperative}", f"release:{share_id}"
    return [
        Journal(
            PLATFORM,
            "release",
            key,
            currency,
            lines(
                (f"{coop}:pending", amount_minor),
                (f"{coop}:reserve", -reserve_minor),
                (f"{coop}:available", -(amount_minor - reserve_minor - owed_minor)),
                (f"{coop}:receivable", -owed_minor),
            ),
            at,
        ),
        Journal(
            book_of(cooperative),
            "revenue",
            key,
            currency,
            lines(
                ("due_from_platform", amount_minor - owed_minor),
                ("due_to_platform", owed_minor),
                ("surplus", -amount_minor),
            ),
            at,
        ),
    ]


def reserve_released(
    share_id: str, cooperative: str, currency: str, amount_minor: int, owed_minor: int, at: dt.datetime
) -> list[Journal]:
    """The rolling reserve of a share is over; what the cooperative owes is taken at once."""
    coop, key = f"coop:{cooperative}", f"reserve:{share_id}"
    journals = [
        Journal(
            PLATFORM,
            "reserve_released",
            key,
            currency,
            lines(
                (f"{coop}:reserve", amount_minor),
                (f"{coop}:available", -(amount_minor - owed_minor)),
                (f"{coop}:receivable", -owed_minor),
            ),
            at,
        )
    ]
    if owed_minor:
        journals.append(_netted(key, cooperative, currency, owed_minor, at))
    return journals


def netted(event: str, cooperative: str, currency: str, owed_minor: int, at: dt.datetime) -> list[Journal]:
    """What is available pays what is owed."""
    coop, key = f"coop:{cooperative}", f"netted:{event}"
    return [
        Journal(
            PLATFORM,
            "netted",
            key,
            currency,
            lines((f"{coop}:available", owed_minor), (f"{coop}:receivable", -owed_minor)),
            at,
        ),
        _netted(key, cooperative, currency, owed_minor, at),
    ]


def _netted(key: str, cooperative: str, currency: str, owed_minor: int, at: dt.datetime) -> Journal:
    return Journal(
        book_of(cooperative),
        "netted",
        key,
        currency,
        lines(("due_to_platform", owed_minor), ("due_from_platform", -owed_minor)),
        at,
    )


def frozen(event: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime) -> list[Journal]:
    """What is held of a share is held because of a dispute now."""
    coop = f"coop:{cooperative}"
    parts = lines((f"{coop}:pending", amount_minor), (f"{coop}:frozen", -amount_minor))
    return [Journal(PLATFORM, "frozen", f"frozen:{event}", currency, parts, at)]


def thawed(event: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime) -> list[Journal]:
    """The other way."""
    coop = f"coop:{cooperative}"
    parts = lines((f"{coop}:frozen", amount_minor), (f"{coop}:pending", -amount_minor))
    return [Journal(PLATFORM, "thawed", f"thawed:{event}", currency, parts, at)]


# Money goes to the cooperative


def payout_started(
    payout_id: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime
) -> list[Journal]:
    """Meant to be sent: nothing else can use it."""
    coop = f"coop:{cooperative}"
    parts = lines((f"{coop}:available", amount_minor), (f"{coop}:in_transit", -amount_minor))
    return [Journal(PLATFORM, "payout_started", f"payout:{payout_id}", currency, parts, at)]


def payout_done(
    payout_id: str, cooperative: str, currency: str, amount_minor: int, rail: str, external_ref: str, at: dt.datetime
) -> list[Journal]:
    """It is the cooperative's: in its Stripe account, or in its bank."""
    key, stripe = f"payout_done:{payout_id}", rail == STRIPE
    return [
        Journal(
            PLATFORM,
            "payout_done",
            key,
            currency,
            lines(
                (f"coop:{cooperative}:in_transit", amount_minor),
                ("stripe:available" if stripe else "bank", -amount_minor),
            ),
            at,
            external_ref,
        ),
        Journal(
            book_of(cooperative),
            "payout_done",
            key,
            currency,
            lines(("stripe_connect" if stripe else "bank", amount_minor), ("due_from_platform", -amount_minor)),
            at,
        ),
    ]


def payout_failed(payout_id: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime) -> list[Journal]:
    """It was never sent, or never arrived: available again."""
    coop = f"coop:{cooperative}"
    parts = lines((f"{coop}:in_transit", amount_minor), (f"{coop}:available", -amount_minor))
    return [Journal(PLATFORM, "payout_failed", f"payout_failed:{payout_id}", currency, parts, at)]


def payout_returned(
    payout_id: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime
) -> list[Journal]:
    """A bank sent it back after it had arrived: available again."""
    key = f"payout_returned:{payout_id}"
    return [
        Journal(
            PLATFORM,
            "payout_returned",
            key,
            currency,
            lines(("bank", amount_minor), (f"coop:{cooperative}:available", -amount_minor)),
            at,
        ),
        Journal(
            book_of(cooperative),
            "payout_returned",
            key,
            currency,
            lines(("due_from_platform", amount_minor), ("bank", -amount_minor)),
            at,
        ),
    ]


def connected_payout(
    payout_id: str, cooperative: str, currency: str, amount_minor: int, returned: bool, at: dt.datetime
) -> list[Journal]:
    """Stripe sent the cooperative's own balance to its bank; or that came back."""
    sign = -1 if returned else 1
    return [
        Journal(
            book_of(cooperative),
            "connected_payout_returned" if returned else "connected_payout",
            f"connected_payout{'_returned' if returned else ''}:{payout_id}",
            currency,
            lines(("bank", sign * amount_minor), ("stripe_connect", -sign * amount_minor)),
            at,
        )
    ]


# Money goes back to the buyer


def split(sale: Sale, refunded_minor: int, amount_minor: int) -> Parts:
    """Who bears the next `amount_minor` that goes back after `refunded_minor` did.

    Cumulative, so that any sequence of refunds that ends at the gross gives back exactly the tax, the fee and the share.
    Each part only ever grows. ValueError for more than is left.
    """
    if not 0 < amount_minor <= sale.gross_minor - refunded_minor:
        raise ValueError(f"{amount_minor} of {sale.gross_minor} after {refunded_minor}")

    def borne(back: int) -> tuple[int, int, int]:
        net = sale.gross_minor - sale.tax_minor
        tax = sale.tax_minor * back // sale.gross_minor
        # Of what is left, so that no part of one cent is counted twice.
        fee = sale.fee_minor * (back - tax) // net if net else 0
        return tax, fee, back - tax - fee

    before, after = borne(refunded_minor), borne(refunded_minor + amount_minor)
    return Parts(*(now - then for now, then in zip(after, before, strict=True)))


def sources(parts: Parts, *, released: bool, is_frozen: bool, reserve_minor: int, available_minor: int) -> Sources:
    """Where the cooperative's part comes from: an unreleased share pays itself; after that this share's reserve, then
    what is available, and what then lacks is owed. reserve_minor and available_minor are what there is."""
    left = parts.cooperative_minor
    if not released:
        return Sources(frozen_minor=left) if is_frozen else Sources(pending_minor=left)
    reserve = min(left, reserve_minor)
    from_available = min(left - reserve, available_minor)
    return Sources(
        reserve_minor=reserve, available_minor=from_available, receivable_minor=left - reserve - from_available
    )


def _borne(cooperative: str, parts: Parts, taken: Sources) -> list[tuple[str, int]]:
    coop = f"coop:{cooperative}"
    return [
        ("tax:payable", parts.tax_minor),
        ("fee_revenue", parts.fee_minor),
        (f"{coop}:pending", taken.pending_minor),
        (f"{coop}:frozen", taken.frozen_minor),
        (f"{coop}:reserve", taken.reserve_minor),
        (f"{coop}:available", taken.available_minor),
        (f"{coop}:receivable", taken.receivable_minor),
    ]


def _lost(key: str, cooperative: str, currency: str, taken: Sources, at: dt.datetime) -> list[Journal]:
    """The cooperative's side, for what its book had as revenue."""
    if not taken.released_minor:
        return []
    return [
        Journal(
            book_of(cooperative),
            "revenue_taken_back",
            key,
            currency,
            lines(
                ("surplus", taken.released_minor),
                ("due_from_platform", -(taken.reserve_minor + taken.available_minor)),
                ("due_to_platform", -taken.receivable_minor),
            ),
            at,
        )
    ]


def refund_owed(refund_id: str, buyer: str, sale: Sale, parts: Parts, taken: Sources, at: dt.datetime) -> list[Journal]:
    """A refund is decided: the money is the buyer's, wherever it still lies."""
    key = f"refund:{refund_id}"
    return [
        Journal(
            PLATFORM,
            "refund_owed",
            key,
            sale.currency,
            lines(*_borne(sale.cooperative, parts, taken), (f"buyer:{buyer}:credit", -parts.total_minor)),
            at,
        ),
        *_lost(key, sale.cooperative, sale.currency, taken, at),
    ]


def refund_paid(refund_id: str, buyer: str, owed: Money, moved: Movement, at: dt.datetime) -> list[Journal]:
    """The buyer has it. A refund that a card did not take may be paid again, by bank."""
    return _moved(
        "refund_paid",
        f"refund_paid:{refund_id}:{moved.rail}",
        (f"buyer:{buyer}:credit", owed.amount_minor),
        owed.currency,
        moved,
        at,
    )


def refund_bounced(refund_id: str, buyer: str, owed: Money, moved: Movement, at: dt.datetime) -> list[Journal]:
    """The card's bank did not take it: the buyer's credit again."""
    return _moved(
        "refund_bounced",
        f"refund_bounced:{refund_id}",
        (f"buyer:{buyer}:credit", -owed.amount_minor),
        owed.currency,
        moved,
        at,
    )


def _moved(
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


def transfer_reversed(
    reversal_id: str,
    cooperative: str,
    currency: str,
    amount_minor: int,
    owed_minor: int,
    external_ref: str,
    at: dt.datetime,
) -> list[Journal]:
    """Money came back from the cooperative's Stripe account. It pays what is owed by now; the rest is available again."""
    coop, key = f"coop:{cooperative}", f"reversal:{reversal_id}"
    pays = min(amount_minor, owed_minor)
    return [
        Journal(
            PLATFORM,
            "transfer_reversed",
            key,
            currency,
            lines(
                ("stripe:available", amount_minor),
                (f"{coop}:receivable", -pays),
                (f"{coop}:available", -(amount_minor - pays)),
            ),
            at,
            external_ref,
        ),
        Journal(
            book_of(cooperative),
            "transfer_reversed",
            key,
            currency,
            lines(
                ("due_to_platform", pays),
                ("due_from_platform", amount_minor - pays),
                ("stripe_connect", -amount_minor),
            ),
            at,
        ),
    ]


# Disputes


def dispute_opened(
    dispute_id: str, currency: str, amount_minor: int, fee_minor: int, transaction: str, at: dt.datetime
) -> list[Journal]:
    """The bank took the money, and Stripe its fee for that."""
    return [
        Journal(
            PLATFORM,
            "dispute_opened",
            f"dispute:{dispute_id}",
            currency,
            lines(
                ("dispute:held", amount_minor),
                ("dispute_losses", fee_minor),
                ("stripe:available", -(amount_minor + fee_minor)),
            ),
            at,
            transaction,
        )
    ]


def dispute_won(
    dispute_id: str,
    currency: str,
    held_minor: int,
    amount_minor: int,
    fee_minor: int,
    transaction: str,
    at: dt.datetime,
) -> list[Journal]:
    """The bank gives back amount_minor, and Stripe fee_minor of its fee. Another amount than was held is exchange."""
    return [
        Journal(
            PLATFORM,
            "dispute_won",
            f"dispute_won:{dispute_id}",
            currency,
            lines(
                ("stripe:available", amount_minor + fee_minor),
                ("dispute_losses", -fee_minor),
                ("dispute:held", -held_minor),
                ("fx", held_minor - amount_minor),
            ),
            at,
            transaction,
        )
    ]


def dispute_lost(
    dispute_id: str, sale: Sale, held: Money, parts: Parts, taken: Sources, at: dt.datetime
) -> list[Journal]:
    """The buyer keeps it: borne as a refund is; what the bank took beyond the order is exchange, the market's."""
    key = f"dispute_lost:{dispute_id}"
    borne, total = _borne(sale.cooperative, parts, taken), parts.total_minor
    lost = _lost(key, sale.cooperative, sale.currency, taken, at)
    if held.currency == sale.currency:
        rest = held.amount_minor - total
        whole = lines(*borne, ("fx", rest), ("dispute:held", -held.amount_minor))
        return [Journal(PLATFORM, "dispute_lost", key, sale.currency, whole, at), *lost]
    exchanged = lines(("fx", held.amount_minor), ("dispute:held", -held.amount_minor))
    there = Journal(PLATFORM, "dispute_lost_exchanged", f"{key}:exchange", held.currency, exchanged, at)
    if not total:
        return [there]
    return [Journal(PLATFORM, "dispute_lost", key, sale.currency, lines(*borne, ("fx", -total)), at), there, *lost]


# The cooperative's own book


def cost(cost_id: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime) -> list[Journal]:
    """The cooperative spent something."""
    parts = lines(("surplus", amount_minor), ("bank", -amount_minor))
    return [Journal(book_of(cooperative), "cost", f"cost:{cost_id}", currency, parts, at)]


def loss_covered(event: str, cooperative: str, currency: str, amount_minor: int, at: dt.datetime) -> list[Journal]:
    """The reserve meets a loss."""
    parts = lines(("reserve", amount_minor), ("surplus", -amount_minor))
    return [Journal(book_of(cooperative), "loss_covered", f"loss:{event}", currency, parts, at)]


def surplus_divided(
    run_id: str,
    cooperative: str,
    currency: str,
    *,
    reserve_minor: int,
    commons_minor: int,
    solidarity_minor: int,
    pool_minor: int,
    at: dt.datetime,
) -> list[Journal]:
    """A run takes what it divides out of the surplus."""
    parts = lines(
        ("surplus", reserve_minor + commons_minor + solidarity_minor + pool_minor),
        ("reserve", -reserve_minor),
        ("commons", -commons_minor),
        ("solidarity", -solidarity_minor),
        ("dividend_pool", -pool_minor),
    )
    return [Journal(book_of(cooperative), "surplus_divided", f"run:{run_id}", currency, parts, at)]


def dividends_posted(
    run_id: str, chunk: int, cooperative: str, currency: str, shares: Sequence[tuple[str, int]], at: dt.datetime
) -> list[Journal]:
    """A part of a run becomes its members'. shares: member id and amount."""
    parts = lines(
        ("dividend_pool", sum(amount for _, amount in shares)),
        *((f"member:{member}:payable", -amount) for member, amount in shares),
    )
    return [Journal(book_of(cooperative), "dividends_posted", f"run:{run_id}:{chunk}", currency, parts, at)]


def dividends_made_out(
    run_id: str,
    chunk: int,
    cooperative: str,
    currency: str,
    payments: Sequence[tuple[str, int, int]],
    at: dt.datetime,
) -> list[Journal]:
    """Payments of a run are on their way. payments: member id, amount paid, amount withheld for taxes."""
    parts = lines(
        *((f"member:{member}:payable", paid + withheld) for member, paid, withheld in payments),
        *((f"member:{member}:in_transit", -paid) for member, paid, _ in payments),
        ("withholding:payable", -sum(withheld for _, _, withheld in payments)),
    )
    return [Journal(book_of(cooperative), "dividends_made_out", f"pay:{run_id}:{chunk}", currency, parts, at)]


def dividends_settled(
    run_id: str, chunk: int, cooperative: str, currency: str, payments: Sequence[tuple[str, int]], at: dt.datetime
) -> list[Journal]:
    """They arrived. payments: member id and amount."""
    parts = lines(
        *((f"member:{member}:in_transit", amount) for member, amount in payments),
        ("bank", -sum(amount for _, amount in payments)),
    )
    return [Journal(book_of(cooperative), "dividends_settled", f"settle:{run_id}:{chunk}", currency, parts, at)]


def dividend_returned(
    payment_id: str, member: str, cooperative: str, currency: str, amount_minor: int, *, arrived: bool, at: dt.datetime
) -> list[Journal]:
    """A member's payment came back: payable again. arrived: whether it had been taken for arrived."""
    source = "bank" if arrived else f"member:{member}:in_transit"
    parts = lines((source, amount_minor), (f"member:{member}:payable", -amount_minor))
    return [Journal(book_of(cooperative), "dividend_returned", f"dividend_returned:{payment_id}", currency, parts, at)]


def unclaimed(
    event: str, member: str, cooperative: str, currency: str, amount_minor: int, *, claimed: bool, at: dt.datetime
) -> list[Journal]:
    """Nobody knows where to pay a member: still owed. claimed: the other way, when they are found."""
    sign = -1 if claimed else 1
    parts = lines((f"member:{member}:payable", sign * amount_minor), ("unclaimed", -sign * amount_minor))
    kind = "claimed" if claimed else "unclaimed"
    return [Journal(book_of(cooperative), kind, f"{kind}:{event}", currency, parts, at)]
