"""docs/journeys/a-withdrawal.md, walked with the unmodified delta-sharing client: rows there before, gone after."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import delta_sharing
import httpx
import pandas as pd
from assembly import Member
from house import request_id
from walk import ACADEMIC, MarketPeople, NotYet, Purchase, eventually

from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale_kit.signing import DELETION_NOTICE_PREFIX, KeySet, canonical_hash, verify_hash

NOTICE_FIELDS = (
    "name", "cooperative", "license", "recipient", "versions", "rows_hashes", "row_count", "ground", "due_time",
    "issue_time",
)  # fmt: skip
MEMBERS = ["1001", "1002", "1003"]
ROWS = "person,visits\n" + "".join(f"{MEMBERS[number % 3]},{number}\n" for number in range(30))


def profile_of(folder: Path, token: Any) -> str:
    path = folder / "lab.share"
    path.write_text(
        json.dumps(
            {
                "shareCredentialsVersion": 1,
                "endpoint": f"{token.gateway_url}/delta-sharing/",
                "bearerToken": token.token,
            }
        )
    )
    return f"{path}#spinners.data.looms"


async def load(table: str) -> pd.DataFrame:
    return await asyncio.to_thread(delta_sharing.load_as_pandas, table)


async def test_a_member_withdraws_and_the_rows_are_gone(market: MarketPeople, tmp_path: Path) -> None:
    steward = await market.found("spinners", MEMBERS)
    cooperative = market.assemblies["spinners"]
    version = await market.add_dataset(steward, "looms", ROWS.encode(), "person")
    dataset = version.name.partition("/versions/")[0]
    await market.consent(steward, dataset, MEMBERS)
    # The member of reference 1001 has a key of her own; she was a member before.
    (rosa,) = await cooperative.join("1001")
    cooperative.voters.remove(rosa)
    offering = await market.offer(steward, version, {ACADEMIC: 0})
    lab = await market.licensee("spinners-lab", ACADEMIC)
    purchase = Purchase(lab, offering.name)
    token = await market.buy(purchase)
    table = profile_of(tmp_path, token)

    async def everything() -> pd.DataFrame:
        rows = await load(table)
        if len(rows) != 30:
            raise NotYet(len(rows))
        return rows

    # The consents reach the gateway by an event.
    before = await eventually(everything)
    assert before["person"].nunique() == 3
    listed = await market.files(purchase, token)

    use = await use_of(cooperative, rosa)
    assert (use.license, use.recipient, use.row_count) == (purchase.license, "organizations/spinners-lab", 10)
    assert use.proposal.startswith("cooperatives/spinners/proposals/") and use.price.amount_minor == 0
    assert list(use.purposes) == ["ResearchAndDevelopment"]

    withdrawn = await cooperative.members_desk.WithdrawConsent(
        membership.WithdrawConsentRequest(parent=rosa.name), metadata=rosa.metadata
    )
    assert [one.status for one in withdrawn.consents] == [membership.CONSENT_STATUS_WITHDRAWN]

    async def gone() -> pd.DataFrame:
        try:
            rows = await load(table)
        except FileNotFoundError:
            # Caught between the list of files and their end: the client says so of every refusal.
            raise NotYet("rows") from None
        if len(rows) == 30:
            raise NotYet("rows")
        return rows

    after = await eventually(gone, 60)
    assert len(after) == 20 and set(after["person"]) < set(before["person"])
    assert sorted(after["visits"]) == [number for number in range(30) if number % 3 != 0]

    # What was listed before is not sent again.
    async with httpx.AsyncClient() as client:
        answer = await client.get(
            httpx.URL(token.gateway_url).join(listed["files"][0]["url"]),
            headers={"Authorization": f"Bearer {token.token}"},
        )
    assert answer.status_code == 403 and answer.json()["errorCode"] == "FILE_WITHDRAWN", answer.text

    await the_recipient_is_told(market, rosa, purchase, lab)
    await a_version_without_the_rows_follows(market, dataset)
    assert len(await load(table)) == 20


async def use_of(cooperative: Any, member: Member) -> membership.Use:
    async def told() -> membership.Use:
        page = await cooperative.members_desk.ListUses(
            membership.ListUsesRequest(parent=member.name), metadata=member.metadata
        )
        if not page.uses:
            raise NotYet("use")
        assert isinstance(page.uses[0], membership.Use)
        return page.uses[0]

    return await eventually(told)


async def the_recipient_is_told(market: MarketPeople, member: Member, purchase: Purchase, lab: Any) -> None:
    """A signed notice, an attestation, and both in the member's own ledger."""
    cooperative = market.assemblies["spinners"]

    async def issued() -> membership.DeletionNotice:
        page = await cooperative.members_desk.ListDeletionNotices(
            membership.ListDeletionNoticesRequest(open_only=True), metadata=lab.metadata
        )
        if not page.deletion_notices:
            raise NotYet("notice")
        assert isinstance(page.deletion_notices[0], membership.DeletionNotice)
        return page.deletion_notices[0]

    notice = await eventually(issued)
    assert (notice.license, notice.row_count, notice.recipient) == (purchase.license, 10, "organizations/spinners-lab")
    keys = await cooperative.cooperatives_desk.GetKeySet(governance.GetKeySetRequest())
    hashed = canonical_hash(notice, *NOTICE_FIELDS)
    assert verify_hash(KeySet.from_jwks(keys.jwks_json), notice.signature, DELETION_NOTICE_PREFIX, hashed)

    await cooperative.members_desk.AttestDeletion(
        membership.AttestDeletionRequest(request_id=request_id(), name=notice.name, attestation="Deleted everywhere."),
        metadata=lab.metadata,
    )
    use = await use_of(cooperative, member)
    assert use.deletion_notice == notice.name and use.HasField("attest_time")
    inbox = await cooperative.members_desk.ListNotices(
        membership.ListNoticesRequest(parent=member.name), metadata=member.metadata
    )
    kinds = {one.kind for one in inbox.notices}
    assert {membership.NOTICE_KIND_USE, membership.NOTICE_KIND_MEMBERSHIP, membership.NOTICE_KIND_PROPOSAL} <= kinds


async def a_version_without_the_rows_follows(market: MarketPeople, dataset: str) -> None:
    async def superseded() -> catalog.Version:
        version = await market.stub("catalog").GetVersion(catalog.GetVersionRequest(name=f"{dataset}/versions/1"))
        if not version.superseded_by:
            raise NotYet("version 2")
        assert isinstance(version, catalog.Version)
        return version

    earlier = await eventually(superseded)
    assert (earlier.superseded_by, earlier.sample_json) == (2, "")
    later = await market.stub("catalog").GetVersion(catalog.GetVersionRequest(name=f"{dataset}/versions/2"))
    assert later.row_count == 20
