"""Words and units of scopes as people write them: enum words, durations, times, and what several scopes have in common."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from ulid import ULID

from rochdale.billing.v1 import billing_pb2, dividends_pb2, treasury_pb2
from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.money import format_money, parse_money
from rochdale.data_gateway.v1 import data_gateway_pb2
from rochdale.governance.v1 import decisions_pb2, governance_pb2, membership_pb2, proposals_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import money_pb2, pricing_pb2, scope_pb2

V = TypeVar("V", bound=int)

# Services take times of the caller's clock within five minutes of theirs.
_JUST_NOW_SECONDS = 240

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


class Words(Generic[V]):
    """An enum as words: BUYER_CATEGORY_HEALTH_NONPROFIT is "health-nonprofit"; zero has no word."""

    def __init__(self, enum: Any, prefix: str, what: str) -> None:
        self._what = what
        self._numbers: dict[str, V] = {
            name.removeprefix(prefix).lower().replace("_", "-"): number for name, number in enum.items() if number
        }
        self._words: dict[int, str] = {number: word for word, number in self._numbers.items()}

    @property
    def all(self) -> str:
        """Every word, for a help text."""
        return ", ".join(self._numbers)

    def parse(self, text: str | int) -> V:
        """The number of a word; a number stays itself. Raises ValueError with a sentence."""
        if isinstance(text, int):
            return text  # type: ignore[return-value]  # a default that was parsed before
        word = text.strip().lower().replace("_", "-")
        if word not in self._numbers:
            raise ValueError(f"{text!r} is no {self._what}; choose from {self.all}.")
        return self._numbers[word]

    def format(self, number: int) -> str:
        """The word of a number; "-" for zero."""
        return self._words.get(number, "-" if number == 0 else str(number))

    def format_all(self, numbers: Iterable[int]) -> str:
        """Words with commas between."""
        return ", ".join(self.format(number) for number in numbers)


CATEGORIES: Words[scope_pb2.BuyerCategory.ValueType] = Words(
    scope_pb2.BuyerCategory, "BUYER_CATEGORY_", "buyer category"
)
ACTIONS: Words[scope_pb2.UseAction.ValueType] = Words(scope_pb2.UseAction, "USE_ACTION_", "action")
MODES: Words[scope_pb2.AccessMode.ValueType] = Words(scope_pb2.AccessMode, "ACCESS_MODE_", "access mode")
DUTIES: Words[scope_pb2.Duty.ValueType] = Words(scope_pb2.Duty, "DUTY_", "duty")
EXCLUSIVITIES: Words[scope_pb2.Exclusivity.ValueType] = Words(scope_pb2.Exclusivity, "EXCLUSIVITY_", "exclusivity")
MODALITIES: Words[catalog_pb2.Modality.ValueType] = Words(catalog_pb2.Modality, "MODALITY_", "modality")
ORDERS: Words[catalog_pb2.SearchOrder.ValueType] = Words(catalog_pb2.SearchOrder, "SEARCH_ORDER_", "order")
OFFERING_STATES: Words[catalog_pb2.OfferingState.ValueType] = Words(
    catalog_pb2.OfferingState, "OFFERING_STATE_", "state"
)
KINDS: Words[identity_pb2.OrganizationKind.ValueType] = Words(
    identity_pb2.OrganizationKind, "ORGANIZATION_KIND_", "kind of organization"
)
ROLES: Words[identity_pb2.Role.ValueType] = Words(identity_pb2.Role, "ROLE_", "role")
EFFECTS: Words[governance_pb2.RuleEffect.ValueType] = Words(governance_pb2.RuleEffect, "RULE_EFFECT_", "effect")
RULE_STATES: Words[governance_pb2.RuleState.ValueType] = Words(governance_pb2.RuleState, "RULE_STATE_", "state")
MEMBER_STATES: Words[governance_pb2.MemberState.ValueType] = Words(governance_pb2.MemberState, "MEMBER_STATE_", "state")
DECISION_CLASSES: Words[decisions_pb2.DecisionClass.ValueType] = Words(
    decisions_pb2.DecisionClass, "DECISION_CLASS_", "class of decisions"
)
SECRECIES: Words[decisions_pb2.Secrecy.ValueType] = Words(decisions_pb2.Secrecy, "SECRECY_", "level of secrecy")
PROPOSAL_STATES: Words[proposals_pb2.ProposalState.ValueType] = Words(
    proposals_pb2.ProposalState, "PROPOSAL_STATE_", "state"
)
CHOICES: Words[proposals_pb2.BallotChoice.ValueType] = Words(proposals_pb2.BallotChoice, "BALLOT_CHOICE_", "choice")
CHALLENGE_GROUNDS: Words[proposals_pb2.ChallengeGround.ValueType] = Words(
    proposals_pb2.ChallengeGround, "CHALLENGE_GROUND_", "ground"
)
CONSENT_STATUSES: Words[membership_pb2.ConsentStatus.ValueType] = Words(
    membership_pb2.ConsentStatus, "CONSENT_STATUS_", "status"
)
CONSENT_METHODS: Words[membership_pb2.ConsentMethod.ValueType] = Words(
    membership_pb2.ConsentMethod, "CONSENT_METHOD_", "method"
)
DELETION_GROUNDS: Words[membership_pb2.DeletionGround.ValueType] = Words(
    membership_pb2.DeletionGround, "DELETION_GROUND_", "ground"
)
NOTICE_KINDS: Words[membership_pb2.NoticeKind.ValueType] = Words(membership_pb2.NoticeKind, "NOTICE_KIND_", "kind")
FORMATS: Words[data_gateway_pb2.SourceFormat.ValueType] = Words(
    data_gateway_pb2.SourceFormat, "SOURCE_FORMAT_", "format"
)
BROKEN_ROWS: Words[data_gateway_pb2.BrokenRows.ValueType] = Words(data_gateway_pb2.BrokenRows, "BROKEN_ROWS_", "choice")
NEGOTIATION_STATES: Words[licensing_pb2.NegotiationState.ValueType] = Words(
    licensing_pb2.NegotiationState, "NEGOTIATION_STATE_", "state"
)
PARTIES: Words[licensing_pb2.Party.ValueType] = Words(licensing_pb2.Party, "PARTY_", "party")
LICENSE_STATES: Words[licensing_pb2.LicenseState.ValueType] = Words(
    licensing_pb2.LicenseState, "LICENSE_STATE_", "state"
)
REGISTERS: Words[licensing_pb2.Register.ValueType] = Words(licensing_pb2.Register, "REGISTER_", "register")
CLAIM_STATES: Words[licensing_pb2.ClaimState.ValueType] = Words(licensing_pb2.ClaimState, "CLAIM_STATE_", "state")
MANDATE_STATES: Words[licensing_pb2.MandateRequestState.ValueType] = Words(
    licensing_pb2.MandateRequestState, "MANDATE_REQUEST_STATE_", "state"
)
ORDER_STATES: Words[billing_pb2.OrderState.ValueType] = Words(billing_pb2.OrderState, "ORDER_STATE_", "state")
PAYMENT_STATES: Words[billing_pb2.PaymentState.ValueType] = Words(billing_pb2.PaymentState, "PAYMENT_STATE_", "state")

REFUND_STATES: Words[billing_pb2.RefundState.ValueType] = Words(billing_pb2.RefundState, "REFUND_STATE_", "state")
DISPUTE_STATES: Words[billing_pb2.DisputeState.ValueType] = Words(billing_pb2.DisputeState, "DISPUTE_STATE_", "state")
INVOICE_KINDS: Words[billing_pb2.InvoiceKind.ValueType] = Words(billing_pb2.InvoiceKind, "INVOICE_KIND_", "kind")
ORDER_KINDS: Words[billing_pb2.OrderKind.ValueType] = Words(billing_pb2.OrderKind, "ORDER_KIND_", "kind")
SUBSCRIPTION_STATES: Words[billing_pb2.SubscriptionState.ValueType] = Words(
    billing_pb2.SubscriptionState, "SUBSCRIPTION_STATE_", "state"
)
METERS: Words[pricing_pb2.Meter.ValueType] = Words(pricing_pb2.Meter, "METER_", "meter")
SHARE_STATES: Words[treasury_pb2.ShareState.ValueType] = Words(treasury_pb2.ShareState, "SHARE_STATE_", "state")
PAYOUT_STATES: Words[treasury_pb2.PayoutState.ValueType] = Words(treasury_pb2.PayoutState, "PAYOUT_STATE_", "state")
PAYOUT_RAILS: Words[treasury_pb2.PayoutRail.ValueType] = Words(treasury_pb2.PayoutRail, "PAYOUT_RAIL_", "way")
PAYOUT_ACCOUNT_STATES: Words[treasury_pb2.PayoutAccountState.ValueType] = Words(
    treasury_pb2.PayoutAccountState, "PAYOUT_ACCOUNT_STATE_", "state"
)
PAYMENT_FILE_FORMATS: Words[treasury_pb2.PaymentFileFormat.ValueType] = Words(
    treasury_pb2.PaymentFileFormat, "PAYMENT_FILE_FORMAT_", "format"
)
RUN_STATES: Words[dividends_pb2.RunState.ValueType] = Words(dividends_pb2.RunState, "RUN_STATE_", "state")
STATEMENT_FORMATS: Words[dividends_pb2.StatementFormat.ValueType] = Words(
    dividends_pb2.StatementFormat, "STATEMENT_FORMAT_", "format"
)


def money(text: str | money_pb2.Money) -> money_pb2.Money:
    """Money of "1200.00 EUR". Raises ValueError with a sentence."""
    if isinstance(text, money_pb2.Money):
        return text
    amount_minor, currency = parse_money(text)
    return money_pb2.Money(amount_minor=amount_minor, currency=currency)


def count(number: int, one: str, many: str = "") -> str:
    """ "1 row", "20,190 rows"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def price(amount: money_pb2.Money) -> str:
    """ "1200.00 EUR", or "free"."""
    return format_money(amount.amount_minor, amount.currency) if amount.amount_minor else f"free ({amount.currency})"


def duration(text: str | int) -> int:
    """Seconds of "365d", "12h", "2w", "1y" (365 days) or "900". Raises ValueError with a sentence."""
    match = re.fullmatch(r"([0-9]{1,11})([smhdwy]?)", str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it like 365d, 12h or 15m.")
    return int(match[1]) * _SECONDS[match[2] or "s"]


def days(seconds: int) -> str:
    """A duration in the largest unit that is whole."""
    for unit in "dhm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def moment(text: str | Timestamp) -> Timestamp:
    """A time in ISO 8601; without an offset it is UTC. Raises ValueError with a sentence."""
    if isinstance(text, Timestamp):
        return text
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write it like 2027-01-31T00:00:00Z.") from None
    stamp = Timestamp()
    stamp.FromDatetime(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
    return stamp


def when(message: Any, field: str) -> str:
    """A time field in UTC, ISO 8601, to the second; "-" if it is absent."""
    if not message.HasField(field):
        return "-"
    at: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> Timestamp:
    """The time on this machine, in whole milliseconds: what is signed must read the same in every database."""
    return _milliseconds(time.time())


def moment_of(request_id: str) -> Timestamp:
    """When something asked under this id is to take effect: when the id was made, if that was just now, else now.

    So the same id said again asks for exactly the same.
    """
    try:
        made = ULID.from_str(request_id).timestamp
    except ValueError:
        return now()
    return _milliseconds(made) if 0 <= time.time() - made < _JUST_NOW_SECONDS else now()


def _milliseconds(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(int(seconds * 1000))
    return stamp


def left_until(stamp: Timestamp) -> str:
    """ "in 3 days", "in 2 hours", "in 5 minutes", or "over"."""
    seconds = stamp.seconds - time.time()
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"in {count(int(seconds // size), unit)}"
    return "in less than a minute" if seconds > 0 else "over"


def common(scopes: Sequence[scope_pb2.SharingScope]) -> scope_pb2.SharingScope:
    """The widest scope inside all of them, comparing purposes by name only. Raises ValueError if they share nothing.

    A convenience for whoever writes an offering over several rules. The market decides containment itself.
    """
    result = scope_pb2.SharingScope()
    result.CopyFrom(scopes[0])
    for other in scopes[1:]:
        _narrow(result, other)
    for dimension in ("datasets", "purposes", "actions", "territories"):
        if not getattr(result, dimension):
            raise ValueError(f"The rules have no {dimension} in common.")
    return result


def _narrow(result: scope_pb2.SharingScope, other: scope_pb2.SharingScope) -> None:
    theirs = {entry.dataset: entry for entry in other.datasets}
    kept = []
    for entry in result.datasets:
        match = theirs.get(entry.dataset)
        columns = [column for column in entry.columns if match and column in match.columns]
        if match and columns:
            kept.append(
                scope_pb2.DatasetScope(
                    dataset=entry.dataset,
                    first_version=max(entry.first_version, match.first_version),
                    last_version=_cap(entry.last_version, match.last_version),
                    columns=columns,
                )
            )
    del result.datasets[:]
    result.datasets.extend(kept)
    result.purposes[:] = [purpose for purpose in result.purposes if purpose in other.purposes]
    result.actions[:] = [action for action in result.actions if action in other.actions]
    result.max_mode = min(result.max_mode, other.max_mode)
    if list(result.territories) == ["WORLD"]:
        result.territories[:] = other.territories
    elif list(other.territories) != ["WORLD"]:
        result.territories[:] = [territory for territory in result.territories if territory in other.territories]
    result.max_duration_seconds = min(result.max_duration_seconds, other.max_duration_seconds)
    if other.HasField("not_before") and other.not_before.ToNanoseconds() > result.not_before.ToNanoseconds():
        result.not_before.CopyFrom(other.not_before)
    if other.HasField("not_after") and (
        not result.HasField("not_after") or other.not_after.ToNanoseconds() < result.not_after.ToNanoseconds()
    ):
        result.not_after.CopyFrom(other.not_after)
    result.max_licenses = _cap(result.max_licenses, other.max_licenses)
    result.max_exclusivity = min(result.max_exclusivity, other.max_exclusivity)
    result.duties[:] = sorted({*result.duties, *other.duties})
    result.max_epsilon_nano = min(result.max_epsilon_nano, other.max_epsilon_nano)


def _cap(one: int, other: int) -> int:
    """The smaller of two caps of which zero means none."""
    return min(one, other) if one and other else one or other
