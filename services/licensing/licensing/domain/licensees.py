"""What a licensee claims, and what of it counts."""

from __future__ import annotations

import datetime as dt

from licensing.domain.territories import TERRITORIES
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import from_timestamp
from rochdale_kit.refusals import Kind, Refusal


def require_territory(code: str) -> None:
    """Refuses a seat in a country that does not exist with TERRITORY_UNKNOWN."""
    if code not in TERRITORIES:
        raise Refusal(
            "TERRITORY_UNKNOWN", f"'{code}' is not a country of ISO 3166-1, such as DE.", Kind.INVALID, territory=code
        )


def same_claim(licensee: pb.Licensee, request: pb.RegisterLicenseeRequest) -> bool:
    """Whether a registration says nothing new; then the attestation of what was said stays."""
    return (licensee.claimed_category, licensee.evidence, licensee.territory) == (
        request.claimed_category,
        request.evidence,
        request.territory,
    )


def require_attested(licensee: pb.Licensee | None, at: dt.datetime) -> pb.Licensee:
    """Refuses a buyer whose category is not attested, or no longer, with LICENSEE_NOT_ATTESTED."""
    if licensee is None or licensee.category == scope_pb2.BUYER_CATEGORY_UNSPECIFIED:
        raise Refusal(
            "LICENSEE_NOT_ATTESTED",
            "The buyer's category is not attested yet; register as a licensee, claim a register's entry, and wait.",
            Kind.STATE,
        )
    if licensee.HasField("attest_expire_time") and from_timestamp(licensee.attest_expire_time) <= at:
        until = from_timestamp(licensee.attest_expire_time).isoformat()
        raise Refusal(
            "LICENSEE_NOT_ATTESTED",
            f"The attestation of {licensee.name} ended at {until}; claim the register's entry anew, or ask operators to.",
            Kind.STATE,
            licensee=licensee.name,
            attest_expire_time=until,
        )
    return licensee
