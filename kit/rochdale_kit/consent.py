"""Whether a member's consent covers a license: the one function by which rows are served or left out."""

from __future__ import annotations

from collections.abc import Collection

from rochdale.governance.v1 import membership_pb2
from rochdale_kit import purposes


def covers(consent: membership_pb2.Consent, dataset: str, category: int, wanted: Collection[str]) -> bool:
    """Whether a consent given covers a license of this dataset (resource name), buyer category and purposes, all of them.

    A refusal, an ended record, an unknown purpose and a license without purposes are covered by nothing.
    """
    return (
        consent.status == membership_pb2.CONSENT_STATUS_GIVEN
        and consent.dataset == dataset
        and category in consent.categories
        and bool(wanted)
        and all(purposes.covered(purpose, consent.purposes) for purpose in wanted)
    )
