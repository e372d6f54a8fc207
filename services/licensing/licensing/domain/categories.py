"""Which category a buyer is, computed from what is known of it; nobody chooses one. docs/reference/buyer-categories.md"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp

Category: TypeAlias = scope_pb2.BuyerCategory.ValueType

EVIDENCE_LIFE = dt.timedelta(days=365)
APPROVALS_NEEDED = 2

UNKNOWN = scope_pb2.BUYER_CATEGORY_UNSPECIFIED
ACADEMIC = scope_pb2.BUYER_CATEGORY_ACADEMIC
HEALTH_NONPROFIT = scope_pb2.BUYER_CATEGORY_HEALTH_NONPROFIT
COMPANY = scope_pb2.BUYER_CATEGORY_COMPANY
LARGE_PLATFORM = scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM

# What ROR says of places where research is done. A hospital ("healthcare") is not always one, nor always non-profit.
ACADEMIC_KINDS = frozenset({"education", "facility"})
HEALTH_PURPOSE = "the advancement of health or saving of lives"
# How an entry's kinds stand in found_kind, and there, for an LEI, who owns it.
KINDS_APART = "; "
SUBSIDIARY_OF = "subsidiary of "
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}")


@dataclass(frozen=True)
class Approval:
    """One operator's word. key: resource name of the key it was given with."""

    key: str
    time: dt.datetime


@dataclass(frozen=True)
class Platforms:
    """The large platforms: LEIs of ultimate parents, and names for those whose LEI is not known, in lower case."""

    leis: frozenset[str]
    names: frozenset[str]

    def has(self, claim: pb.RegisterClaim) -> bool:
        if {claim.identifier, claim.ultimate_parent} & self.leis:
            return True
        owners = [plain(kind.removeprefix(SUBSIDIARY_OF)) for kind in claim.found_kind.split(KINDS_APART)]
        return not self.names.isdisjoint([plain(claim.found_name), *owners])


@dataclass(frozen=True)
class Known:
    """All that is known of a buyer. approved: the category that approvals are for; UNKNOWN without any."""

    evidence: str
    claims: Sequence[pb.RegisterClaim]
    approved: Category
    approvals: Sequence[Approval]


@dataclass(frozen=True)
class Assessment:
    """A category, why, and until when the evidence for it holds; expire_time is None where nothing was assessed."""

    category: Category
    reason: str
    expire_time: dt.datetime | None


@dataclass(frozen=True)
class _Finding:
    category: Category
    reason: str
    expire: dt.datetime


NOTHING = Assessment(UNKNOWN, "Nothing has been assessed yet.", None)


def dearest(categories: Collection[Category]) -> Category:
    """Of several, the one for which members ask most. The contract numbers them from the cheapest to the dearest."""
    return max(categories)


def category_of(known: Known, platforms: Platforms, at: dt.datetime) -> Assessment:
    """The category, from evidence that is not older than a year.

    In this order: a group that is a large platform, or not known, is the dearest; then the dearest of what registers
    with one operator's word, or two operators by themselves, say; then, with an LEI, a company; else the dearest.
    """
    claims = [claim for claim in known.claims if _until(claim) > at]
    approvals = sorted((one for one in known.approvals if one.time + EVIDENCE_LIFE > at), key=lambda one: one.time)
    agreed = len({one.key for one in approvals}) >= APPROVALS_NEEDED
    verified = [claim for claim in claims if claim.state == pb.CLAIM_STATE_VERIFIED]
    # However old: a group does not let go of a buyer because nobody looked again.
    groups = [
        claim for claim in known.claims if claim.register == pb.REGISTER_LEI and claim.state == pb.CLAIM_STATE_VERIFIED
    ]
    # One that has lapsed names its group as well.
    for claim in known.claims:
        if claim.register == pb.REGISTER_LEI and platforms.has(claim):
            return Assessment(LARGE_PLATFORM, f"{_called(claim)} belongs to a large platform.", _until(claim))
    for claim in groups:
        if not claim.ultimate_parent:
            return Assessment(
                LARGE_PLATFORM,
                f"Who owns {_called(claim)} is not known, and what is not known counts as the dearest category.",
                _until(claim),
            )
    if not claims and not agreed:
        return NOTHING
    findings = _findings(known, verified, groups, approvals, agreed)
    if findings:
        category = dearest([one.category for one in findings])
        best = max((one for one in findings if one.category == category), key=lambda one: one.expire)
        return Assessment(category, best.reason, best.expire)
    companies = [claim for claim in verified if claim.register == pb.REGISTER_LEI]
    if companies:
        claim = companies[0]
        return Assessment(
            COMPANY, f"{_called(claim)} is a company; no evidence says it is anything else.", _until(claim)
        )
    return Assessment(LARGE_PLATFORM, _missing(claims), min(map(_until, claims)))


def approved(known: Known, category: Category, key: str, at: dt.datetime) -> list[Approval]:
    """All approvals after one more. Another category than before starts over; the same key again only renews its word."""
    before = known.approvals if known.approved == category else ()
    return [*(one for one in before if one.key != key), Approval(key, at)]


def _findings(
    known: Known,
    verified: Sequence[pb.RegisterClaim],
    groups: Sequence[pb.RegisterClaim],
    approvals: Sequence[Approval],
    agreed: bool,
) -> list[_Finding]:
    found = []
    # A foundation or an institute of somebody else's group is what the group is.
    subsidiary = any(claim.ultimate_parent != claim.identifier for claim in groups)
    for claim in verified:
        kind = _kind(claim)
        if kind == COMPANY:
            # A small enterprise is a company too: no contradiction. Anything else by hand would be one.
            if agreed and known.approved == scope_pb2.BUYER_CATEGORY_SME:
                continue
            found.append(_Finding(COMPANY, f"{_called(claim)} is a company.", _until(claim)))
        elif (
            kind != UNKNOWN and kind == known.approved and approvals and not subsidiary and names(known.evidence, claim)
        ):
            found.append(
                _Finding(
                    kind,
                    f"{_called(claim)} is {claim.found_kind}, and an operator vouches that the buyer speaks for it.",
                    min(_until(claim), approvals[-1].time + EVIDENCE_LIFE),
                )
            )
    if agreed:
        # Two are needed, so it holds as long as the older of the two newest.
        holds = approvals[-APPROVALS_NEEDED].time + EVIDENCE_LIFE
        found.append(_Finding(known.approved, "Two operators attested it from the evidence shown.", holds))
    return found


def _kind(claim: pb.RegisterClaim) -> Category:
    """What one entry by itself would make of the organization in it; that is not yet the buyer."""
    kinds = {plain(kind) for kind in claim.found_kind.split(KINDS_APART)}
    if claim.register == pb.REGISTER_ROR:
        if "company" in kinds:
            return COMPANY
        return ACADEMIC if kinds & ACADEMIC_KINDS else UNKNOWN
    if claim.register == pb.REGISTER_CHARITY and HEALTH_PURPOSE in kinds:
        return HEALTH_NONPROFIT
    return UNKNOWN


def names(evidence: str, claim: pb.RegisterClaim) -> bool:
    """Whether what the buyer shows names a domain of the entry it claims, or one below it. It proves nothing about the
    buyer; it keeps a slip, or an entry picked at random, from being vouched for unseen."""
    hosts = _HOST.findall(evidence.lower())
    return any(host == domain or host.endswith(f".{domain}") for host in hosts for domain in claim.found_domains)


def plain(text: str) -> str:
    """For comparing what registers write now with, now without a dot or a capital."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _missing(claims: Sequence[pb.RegisterClaim]) -> str:
    claim = claims[-1]
    if claim.state != pb.CLAIM_STATE_VERIFIED:
        why = f"{_called(claim)} is not in the register, or no longer as active"
    elif _kind(claim) == UNKNOWN:
        why = f"{_called(claim)} is neither academic nor a health charity by its register"
    else:
        why = f"{_called(claim)} alone does not show that the buyer speaks for it"
    return f"{why}; what is not known counts as the dearest category."


def _called(claim: pb.RegisterClaim) -> str:
    word = pb.Register.Name(claim.register).removeprefix("REGISTER_")
    return f"{claim.found_name} ({word} {claim.identifier})" if claim.found_name else f"{word} {claim.identifier}"


def _until(claim: pb.RegisterClaim) -> dt.datetime:
    return from_timestamp(claim.check_time) + EVIDENCE_LIFE
