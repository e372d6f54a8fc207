"""A consent's record as a member can keep it: the fields of ISO/IEC TS 27560:2023 as DPV's guide names them, in JSON-LD."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.purposes import VOCABULARY

SCHEMA = "https://w3id.org/dpv/schema/dpv-27560#receipt-record"
# Said rather than left out: nobody should read a silence as an answer.
UNKNOWN = "not known to the market; ask the cooperative"

_STATUS = {
    pb.CONSENT_STATUS_GIVEN: "ConsentGiven",
    pb.CONSENT_STATUS_REFUSED: "ConsentRefused",
    pb.CONSENT_STATUS_WITHDRAWN: "ConsentWithdrawn",
    pb.CONSENT_STATUS_EXPIRED: "ConsentExpired",
    pb.CONSENT_STATUS_SUPERSEDED: "ConsentInvalidated",
}


def receipt(consent: pb.Consent, cooperative: governance.Cooperative, recipients: Sequence[str], now: Timestamp) -> str:
    """Canonical JSON. recipients: those who received the member's rows so far, "organizations/…"."""
    member = consent.name.partition("/consents/")[0]
    categories = [scope_pb2.BuyerCategory.Name(one).removeprefix("BUYER_CATEGORY_") for one in consent.categories]
    document: dict[str, Any] = {
        "@context": {"dpv": f"{VOCABULARY}#", "dct": "http://purl.org/dc/terms/"},
        "@type": "dpv:ConsentReceipt",
        "schema_version": SCHEMA,
        "record_id": consent.name,
        "receipt_id": f"{consent.name}@{now.ToJsonString()}",
        "pii_principal_id": member,
        "privacy_notice": {"sha256": consent.notice_hash, "language": consent.language},
        "language": consent.language,
        "purposes": [f"{VOCABULARY}#{purpose}" for purpose in consent.purposes],
        "lawful_basis": f"{VOCABULARY}#Consent",
        "pii_information": [{"dataset": consent.dataset, "type": UNKNOWN, "special_category": UNKNOWN}],
        "pii_controllers": [
            {
                "id": cooperative.name,
                "name": cooperative.display_name,
                "address": UNKNOWN,
                "contact": UNKNOWN,
                "type": f"{VOCABULARY}#DataController",
            }
        ],
        "collection_method": UNKNOWN,
        "processing_method": "licensed to buyers within sharing rules the members voted; rows under pseudonyms",
        "storage_locations": ["the cooperative's own gateway"],
        "retention_period": "until consent is withdrawn; a new version without the rows follows",
        "jurisdiction": UNKNOWN,
        "recipient_third_parties": {"categories_agreed_to": categories, "received_so_far": list(recipients)},
        "withdrawal_method": "MembershipService.WithdrawConsent, or `rochdale consent withdraw`: one call, no reason",
        "privacy_rights": ["access", "withdrawal", "erasure", "portability: this receipt"],
        "party": {
            "id": cooperative.name,
            "name": cooperative.display_name,
            "address": UNKNOWN,
            "contact": UNKNOWN,
            "type": f"{VOCABULARY}#DataCooperative",
        },
        "events": _events(consent, member),
        "method": "given by the member, signed in"
        if consent.method == pb.CONSENT_METHOD_MEMBER
        else f"recorded by a steward; evidence: {consent.evidence}",
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _events(consent: pb.Consent, member: str) -> list[dict[str, str]]:
    first = "ConsentGiven" if consent.purposes else "ConsentRefused"
    events = [
        {
            "event_time": consent.give_time.ToJsonString(),
            "validity_duration": "until withdrawn",
            "entity_id": member,
            "event_type": "explicit",
            "event_state": f"{VOCABULARY}#{first}",
        }
    ]
    if consent.HasField("end_time"):
        events.append(
            {
                "event_time": consent.end_time.ToJsonString(),
                "validity_duration": "for good",
                "entity_id": member,
                "event_type": "explicit",
                "event_state": f"{VOCABULARY}#{_STATUS[consent.status]}",
            }
        )
    return events
