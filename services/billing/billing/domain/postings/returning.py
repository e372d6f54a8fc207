"""Money goes back to the buyer: by a refund, or by a dispute that is lost."""

from __future__ import annotations

import datetime as dt

from billing.domain.ledger import PLATFORM, Journal, book_of, lines
from billing.domain.postings.facts import Movement, Parts, Sale, Sources, moved_journals
from rochdale.type.v1.money_pb2 import Money


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
    return moved_journals(
        "refund_paid",
        f"refund_paid:{refund_id}:{moved.rail}",
        (f"buyer:{buyer}:credit", owed.amount_minor),
        owed.currency,
        moved,
        at,
    )


def refund_bounced(refund_id: str, buyer: str, owed: Money, moved: Movement, at: dt.datetime) -> list[Journal]:
    """The card's bank did not take it: the buyer's credit again."""
    return moved_journals(
        "refund_bounced",
        f"refund_bounced:{refund_id}",
        (f"buyer:{buyer}:credit", -owed.amount_minor),
        owed.currency,
        moved,
        at,
    )


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
