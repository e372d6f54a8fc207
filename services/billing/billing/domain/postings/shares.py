"""The cooperative's share: released, held, netted, and on its way to the cooperative."""

from __future__ import annotations

import datetime as dt

from billing.domain.ledger import PLATFORM, Journal, book_of, lines
from billing.domain.postings.facts import STRIPE


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
