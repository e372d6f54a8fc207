"""When a consent says something clear. Whether one covers a license is for rochdale_kit.consent."""

from __future__ import annotations

from collections.abc import Sequence

from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit import purposes
from rochdale_kit.refusals import Kind, Refusal

# By when every live token stops reaching the rows of somebody who withdrew.
BLOCKED_WITHIN_SECONDS = 60
# An event has room for so many members, however long their references and purposes are.
ITEMS_PER_EVENT = 200


def check(cooperative_id: str, dataset: str, terms: Sequence[str], categories: Sequence[int]) -> None:
    """Refuses with DATASET_NOT_OWN, PURPOSE_UNKNOWN, CONSENT_ILL_FORMED."""
    if not dataset.startswith(f"cooperatives/{cooperative_id}/datasets/"):
        raise Refusal(
            "DATASET_NOT_OWN",
            f"{dataset} is not a dataset of {cooperative_id}.",
            Kind.INVALID,
            dataset=dataset,
            cooperative=cooperative_id,
        )
    for term in terms:
        if not purposes.known(term):
            raise Refusal("PURPOSE_UNKNOWN", f"'{term}' is not a purpose of DPV.", Kind.INVALID, purpose=term)
    if bool(terms) != bool(categories):
        raise Refusal(
            "CONSENT_ILL_FORMED",
            "Say for which purposes and for which buyers; or neither, to refuse everything.",
            Kind.INVALID,
        )


def status_of(terms: Sequence[str]) -> pb.ConsentStatus.ValueType:
    return pb.CONSENT_STATUS_GIVEN if terms else pb.CONSENT_STATUS_REFUSED


def for_gateway(consent: pb.Consent) -> pb.Consent:
    """As much of a consent as a gateway needs."""
    short = pb.Consent()
    short.CopyFrom(consent)
    for name in ("evidence", "notice_hash", "language", "method"):
        short.ClearField(name)
    return short
