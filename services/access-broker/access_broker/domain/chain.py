"""What a license says about itself: between whom and until when. What it cites is for rochdale_kit.chain."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import Flaw, flaw_of_terms
from rochdale_kit.refusals import Kind, Refusal

_LICENSE = re.compile(r"licenses/lic_[0-9A-Z]{26}")
_LICENSEE = re.compile(r"licensees/([a-z][a-z0-9-]{1,38}[a-z0-9])")
_LICENSOR = re.compile(r"cooperatives/([a-z][a-z0-9-]{1,38}[a-z0-9])")


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


def flaw_of_license(license: licensing_pb2.License) -> Flaw | None:
    """What the license says about itself. Nothing it cites need be asked for before this holds."""
    if flaw := flaw_of_terms(license.terms, license.name, license.terms_hash):
        return flaw
    if not license.HasField("activate_time") or not license.HasField("end_time"):
        return Flaw("TERMS_INCONSISTENT", f"{license.name} is in force without a beginning or an end.")
    return None


def end_of_grant(license: licensing_pb2.License) -> dt.datetime | None:
    """The earliest of every end a license knows, so that none of them has to be believed alone; None if it has none."""
    terms = license.terms
    ends = []
    if license.HasField("end_time"):
        ends.append(license.end_time.ToDatetime(tzinfo=dt.UTC))
    if license.HasField("activate_time") and terms.duration_seconds > 0:
        begun = license.activate_time.ToDatetime(tzinfo=dt.UTC)
        ends.append(begun + dt.timedelta(seconds=min(terms.duration_seconds, 100 * 365 * 86_400)))
    if terms.scope.HasField("not_after"):
        ends.append(terms.scope.not_after.ToDatetime(tzinfo=dt.UTC))
    return min(ends, default=None)
