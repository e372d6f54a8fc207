"""The cooperative's own book: what it spends, and what becomes its members'."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from billing.domain.ledger import Journal, book_of, lines


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
