"""What every RPC of TreasuryService shares: its parts, and whose treasury it is."""

from __future__ import annotations

import datetime as dt
from typing import Any

from billing.config import Config
from billing.connect import Connect
from billing.domain.ledger import PLATFORM, Journal, book_of
from billing.domain.payment_files import Account
from billing.domain.payout_accounts import Approver
from billing.paying_out import PayingOut
from billing.reconciling import Reconciling
from billing.store.journals import Posted
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.database import Database
from rochdale_kit.identity import caller
from rochdale_kit.refusals import Kind, Refusal, not_found

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class TreasuryParts:
    """Built once; every noun's RPCs find here what they need. connect is None where no Stripe key is set."""

    def __init__(
        self,
        database: Database,
        connect: Connect | None,
        paying_out: PayingOut,
        reconciling: Reconciling,
        config: Config,
    ) -> None:
        self._database = database
        self._connect = connect
        self._paying_out = paying_out
        self._reconciling = reconciling
        self._public_url = config.public_url
        self._platform_country = config.platform_country
        self._cooling = dt.timedelta(seconds=config.cooling_off_seconds)
        self._delivery_deadline = dt.timedelta(seconds=config.delivery_deadline_seconds)
        self._payout_every = dt.timedelta(seconds=config.payout_seconds)
        self._minimum_minor = max(1, config.payout_minimum_minor)
        self._payer = Account(config.payer_holder, config.payer_iban) if config.payer_iban else None


def seen(parent: str) -> str:
    """The id of a cooperative whose treasury the caller may see: its steward, or an operator. Refuses with NOT_FOUND."""
    cooperative = last(parent)
    if not caller().acts_for(cooperative):
        raise not_found(parent)
    return cooperative


def own(parent: str) -> str:
    """The id of the caller's own cooperative: no operator acts for one. Refuses with NOT_FOUND."""
    cooperative = last(parent)
    if caller().organization != cooperative:
        raise not_found(parent)
    return cooperative


def book_seen(parent: str) -> str:
    """A book the caller may read; an empty parent is the market's own. Refuses with NOT_FOUND."""
    if parent:
        return book_of(seen(parent))
    if not caller().is_operator:
        raise not_found("treasury")
    return PLATFORM


def book_own(parent: str) -> str:
    """A book the caller answers for. Refuses with NOT_FOUND."""
    return book_of(own(parent)) if parent else book_seen(parent)


def person() -> Approver:
    principal = caller()
    return Approver(principal.key, principal.member, principal.is_operator)


def last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def journal_resource(id: str, journal: Journal, record_time: dt.datetime) -> pb.Journal:
    return pb.Journal(
        id=id,
        kind=journal.kind,
        key=journal.key,
        currency=journal.currency,
        external_ref=journal.external_ref,
        occur_time=to_timestamp(journal.occur_time),
        record_time=to_timestamp(record_time),
        entries=[pb.Entry(account=line.code, amount_minor=line.amount_minor) for line in journal.lines],
    )


def posted_resource(posted: Posted) -> pb.Journal:
    return journal_resource(str(posted.id), posted.journal, posted.record_time)


def rail_unavailable(enabled: bool, code: str = "") -> Refusal:
    why = "Stripe does not answer; try again" if enabled else "Stripe is not used here"
    if code:
        why = f"Stripe refuses it with {code}"
    return Refusal(
        "RAIL_UNAVAILABLE",
        f"{why}, or be paid to a bank account.",
        Kind.UNAVAILABLE if enabled and not code else Kind.STATE,
        rail="stripe",
        code=code,
    )
