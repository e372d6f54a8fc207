"""What a license says about itself: between whom and until when. What it cites is for rochdale_kit.chain."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import Flaw, end_is_signed
from rochdale_kit.clock import from_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal

_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
_LICENSEE = re.compile(r"licensees/([a-z][a-z0-9-]{1,38}[a-z0-9])")
_LICENSOR = re.compile(r"cooperatives/([a-z][a-z0-9-]{1,38}[a-z0-9])")

# What a charter lets a board do without the members, and by how much a term grows for it at most.
LONGEST_SUSPENSION = dt.timedelta(days=30)
# Between the clocks of licensing and the broker.
CLOCKS = dt.timedelta(minutes=1)


@dataclass(frozen=True)
class Parties:
    """Who a license is between, as bare ids: the cooperative whose gateway serves it, and who holds it."""

    cooperative: str
    holder: str


def parties(license: licensing_pb2.License) -> Parties:
    """Refuses with EVENT_ILL_FORMED a license nobody could be found by; such an event is parked for an operator."""
    licensor, licensee = _LICENSOR.fullmatch(license.terms.licensor), _LICENSEE.fullmatch(license.terms.licensee)
    if not _LICENSE.fullmatch(license.name) or not licensor or not licensee:
        raise Refusal(
            "EVENT_ILL_FORMED",
            f"License '{license.name}' between '{license.terms.licensor}' and '{license.terms.licensee}' has a name "
            "that is none.",
            Kind.INVALID,
            license=license.name,
        )
    return Parties(licensor[1], licensee[1])


def flaw_of_term(license: licensing_pb2.License) -> Flaw | None:
    """A license in force says since when and until when."""
    if not license.HasField("activate_time") or not license.HasField("end_time"):
        return Flaw("TERMS_INCONSISTENT", f"{license.name} is in force without a beginning or an end.")
    return None


def keys_of(
    cooperative: str, introduced: Sequence[governance_pb2.CooperativeKey]
) -> tuple[CooperativeKeys, Flaw | None]:
    """The keys to believe of those governance shows, and what is wrong with their line."""
    try:
        return CooperativeKeys.follow(cooperative, introduced), None
    except Refusal as refusal:
        return CooperativeKeys.none(cooperative), Flaw(refusal.reason, str(refusal))


def without_unsigned_ends(
    rules: Iterable[governance_pb2.SharingRule], keys: CooperativeKeys
) -> list[governance_pb2.SharingRule]:
    """Prohibitions, each without an end its cooperative did not sign: it then lasts until its expire_time."""
    believed = []
    for rule in rules:
        if rule.HasField("end_time") and not end_is_signed(rule, keys):
            lasting = governance_pb2.SharingRule()
            lasting.CopyFrom(rule)
            lasting.ClearField("end_time")
            believed.append(lasting)
        else:
            believed.append(rule)
    return believed


def end_of_grant(license: licensing_pb2.License) -> dt.datetime | None:
    """The earliest of every end a license knows, so that none of them has to be believed alone; None if it has none."""
    terms = license.terms
    ends = []
    if license.HasField("end_time"):
        ends.append(from_timestamp(license.end_time))
    if license.HasField("activate_time") and terms.duration_seconds > 0:
        begun = from_timestamp(license.activate_time)
        ends.append(begun + dt.timedelta(seconds=min(terms.duration_seconds, 100 * 365 * 86_400)))
    if terms.scope.HasField("not_after"):
        ends.append(from_timestamp(terms.scope.not_after))
    return min(ends, default=None)


def is_suspension_news(over: int, license_end: dt.datetime | None, license: licensing_pb2.License) -> bool:
    """Whether a license told as suspended has not resumed since.

    over: how many of its suspensions were over when its grant was opened. license_end: its end as known then. A licensing
    of before suspensions were counted tells of each resumption by a later end alone.
    """
    if license.suspension_count:
        return license.suspension_count > over
    ends = from_timestamp(license.end_time) if license.HasField("end_time") else None
    return ends is None or license_end is None or ends >= license_end


def is_resumption_news(over: int, license_end: dt.datetime | None, license: licensing_pb2.License) -> bool:
    """Whether a license told as resumed was suspended since its grant was opened; as above.

    The end alone does not tell: what was suspended for money resumes with the end it had.
    """
    if license_end is None or not license.HasField("end_time"):
        return False
    if license.suspension_count:
        return license.suspension_count > over
    return from_timestamp(license.end_time) > license_end


def end_after_suspension(
    end: dt.datetime,
    license_end: dt.datetime,
    suspended: dt.datetime | None,
    license: licensing_pb2.License,
    now: dt.datetime,
) -> dt.datetime:
    """When the grant of a resumed license ends: later by as long as it was suspended, and never by more than that.

    end, license_end, suspended: the grant's end, its license's end and since when it was suspended, as known before.
    """
    longer = min(from_timestamp(license.end_time) - license_end, LONGEST_SUSPENSION)
    if suspended is not None:
        longer = min(longer, now - suspended + CLOCKS)
    extended = end + max(longer, dt.timedelta(0))
    scope = license.terms.scope
    return min(extended, from_timestamp(scope.not_after)) if scope.HasField("not_after") else extended
