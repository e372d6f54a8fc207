"""Where a cooperative is paid: by which rail, who named and approved it, and whether it can be used. Pays nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal, not_found

# https://docs.stripe.com/connect/cross-border-payouts: a platform in any of these can transfer to an account in any
# other. Everywhere else only within one country. Data, so that a change at Stripe is a change of two lines.
_ACROSS_NAMES = "US GB CA CH AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LI LT LU MT NL NO PL PT RO SK SI ES SE"
_WITHIN_NAMES = "AU BR HK JP MX MY NZ SG TH AE GI"
_ACROSS = frozenset(_ACROSS_NAMES.split())
_WITHIN = _ACROSS | frozenset(_WITHIN_NAMES.split())


@dataclass(frozen=True)
class Approver:
    """A person as far as it can be told: a member behind a key, or, for all keys without one, the organization."""

    key: str
    member: str
    operator: bool


@dataclass(frozen=True)
class PayoutAccount:
    """One a cooperative. `can_receive` is Stripe's word; `usable_time` ends the cooling-off, absent where none runs.

    The account that was named before is in no field: from the moment another is named it gets nothing.
    """

    cooperative: str
    rail: pb.PayoutRail.ValueType
    create_time: dt.datetime
    country: str = ""
    stripe_account: str = ""
    requirements: tuple[str, ...] = ()
    disabled_reason: str = ""
    can_receive: bool = False
    bank_account_id: str = ""
    iban_end: str = ""
    holder: str = ""
    set_by: str = ""
    set_member: str = ""
    approved_by: str = ""
    usable_time: dt.datetime | None = None

    @property
    def name(self) -> str:
        return f"cooperatives/{self.cooperative}/payoutAccount"

    def standing(self, now: dt.datetime) -> tuple[pb.PayoutAccountState.ValueType, str]:
        """Whether it can be paid, and why not, in words."""
        if self.rail == pb.PAYOUT_RAIL_BANK and not self.approved_by:
            return pb.PAYOUT_ACCOUNT_STATE_PENDING, "Another steward has to approve it."
        if self.rail == pb.PAYOUT_RAIL_STRIPE and not self.can_receive:
            if self.disabled_reason and not _owes_answers(self.disabled_reason):
                return pb.PAYOUT_ACCOUNT_STATE_DISABLED, f"Stripe stopped the account: {self.disabled_reason}."
            return pb.PAYOUT_ACCOUNT_STATE_PENDING, "Stripe asks for answers; go on with its page."
        if self.usable_time is not None and now < self.usable_time:
            until = self.usable_time.isoformat(timespec="seconds")
            return pb.PAYOUT_ACCOUNT_STATE_PENDING, f"It is new, and can be used from {until}."
        return pb.PAYOUT_ACCOUNT_STATE_ACTIVE, ""

    def active(self, now: dt.datetime) -> bool:
        return self.standing(now)[0] == pb.PAYOUT_ACCOUNT_STATE_ACTIVE

    def resource(self, now: dt.datetime, onboarding_url: str = "") -> pb.PayoutAccount:
        state, reason = self.standing(now)
        bank = self.rail == pb.PAYOUT_RAIL_BANK
        return pb.PayoutAccount(
            name=self.name,
            rail=self.rail,
            state=state,
            reason=reason,
            iban_end=self.iban_end if bank else "",
            holder=self.holder if bank else "",
            usable_time=to_timestamp(self.usable_time),
            set_by=self.set_by if bank else "",
            approved_by=self.approved_by if bank else "",
            requirements=() if bank else self.requirements,
            onboarding_url=onboarding_url,
        )


@dataclass(frozen=True)
class SeenAccount:
    """What Stripe itself says of an account."""

    requirements: tuple[str, ...]
    disabled_reason: str
    payouts_enabled: bool
    transfers_active: bool

    @property
    def can_receive(self) -> bool:
        """Never by `details_submitted`: that is said of accounts that were refused, too."""
        return self.payouts_enabled and self.transfers_active and not self.disabled_reason


def _owes_answers(disabled_reason: str) -> bool:
    return disabled_reason in ("requirements.past_due", "requirements.pending_verification")


def seen(account: PayoutAccount, at_rail: SeenAccount) -> PayoutAccount:
    """The account with what Stripe says of it now."""
    return replace(
        account,
        requirements=at_rail.requirements,
        disabled_reason=at_rail.disabled_reason,
        can_receive=at_rail.can_receive,
    )


def check_country(platform_country: str, country: str) -> None:
    """Refuses with COUNTRY_NOT_SUPPORTED, before an account is opened that could never be paid."""
    both_across = platform_country in _ACROSS and country in _ACROSS
    if not (both_across or (platform_country == country and country in _WITHIN)):
        raise Refusal(
            "COUNTRY_NOT_SUPPORTED",
            f"Stripe pays no account in {country or 'a country that was not named'} from {platform_country};"
            " name a bank account instead.",
            Kind.STATE,
            country=country,
            platform_country=platform_country,
        )


def onboarding(
    before: PayoutAccount | None, cooperative: str, country: str, cooling: dt.timedelta, now: dt.datetime
) -> PayoutAccount:
    """An account at Stripe that is to be opened, or gone on with.

    One that takes the place of a bank account waits as long as a new bank account would: a stolen key must not turn
    payouts around faster by one rail than by the other.
    """
    if before is None:
        return PayoutAccount(cooperative, pb.PAYOUT_RAIL_STRIPE, now, country=country)
    if before.rail == pb.PAYOUT_RAIL_STRIPE:
        return before
    return replace(
        before,
        rail=pb.PAYOUT_RAIL_STRIPE,
        country=before.country or country,
        bank_account_id="",
        iban_end="",
        holder="",
        set_by="",
        set_member="",
        approved_by="",
        usable_time=now + cooling,
    )


def named(
    before: PayoutAccount | None,
    cooperative: str,
    bank_account_id: str,
    iban: str,
    holder: str,
    by: Approver,
    now: dt.datetime,
) -> PayoutAccount:
    """A bank account that waits for its approval. What was there before is used no more."""
    kept = before or PayoutAccount(cooperative, pb.PAYOUT_RAIL_BANK, now)
    return replace(
        kept,
        rail=pb.PAYOUT_RAIL_BANK,
        bank_account_id=bank_account_id,
        iban_end=iban[-4:],
        holder=holder,
        set_by=by.key,
        set_member=by.member,
        approved_by="",
        usable_time=None,
    )


def approved(
    account: PayoutAccount | None, asked: str, by: Approver, iban_end: str, cooling: dt.timedelta, now: dt.datetime
) -> PayoutAccount:
    """The account, approved, with its cooling-off begun.

    Refuses with NOT_FOUND, ACCOUNT_NOT_PENDING, IBAN_MISMATCH, and APPROVER_NOT_INDEPENDENT: another person than the
    one who named it. Keys without a member are nobody's in particular, so all of them together are one person.
    """
    if account is None:
        raise not_found(asked)
    if account.rail != pb.PAYOUT_RAIL_BANK or account.approved_by:
        raise Refusal(
            "ACCOUNT_NOT_PENDING",
            f"No bank account waits for approval at {account.name}.",
            Kind.STATE,
            name=account.name,
        )
    if account.iban_end != iban_end.upper():
        raise Refusal(
            "IBAN_MISMATCH",
            f"The IBAN that waits for approval does not end in {iban_end}.",
            Kind.STATE,
            iban_end=iban_end,
        )
    if not by.operator and (by.key == account.set_by or by.member == account.set_member):
        raise Refusal(
            "APPROVER_NOT_INDEPENDENT",
            "Another steward than the one who named the account has to approve it, or an operator; keys without a member"
            " count as one person.",
            Kind.STATE,
            set_by=account.set_by,
        )
    return replace(account, approved_by=by.key, usable_time=now + cooling)
