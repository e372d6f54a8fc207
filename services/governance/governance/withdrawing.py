"""What a withdrawal sets off: the records end, the gateway is told, and everybody with a copy gets a notice to delete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import new_id
from rochdale_kit.outbox import announce
from rochdale_kit.signing import SigningKey


async def withdraw(
    connection: AsyncConnection,
    member: governance.Member,
    dataset: str,
    ground: pb.DeletionGround.ValueType,
    at: dt.datetime,
    key: SigningKey,
) -> list[pb.Consent]:
    """Ends what a member agreed to, for one dataset or for all; the consents that ended."""
    ended = [
        consent
        for _, consent in await store.consents.end_live(
            connection, [member.name], dataset, pb.CONSENT_STATUS_WITHDRAWN, at, given_only=True
        )
    ]
    if not ended:
        return []
    for start in range(0, len(ended), domain.consents.ITEMS_PER_EVENT):
        items = [
            pb.ConsentItem(member=member.name, reference=member.reference, consent=domain.consents.for_gateway(consent))
            for consent in ended[start : start + domain.consents.ITEMS_PER_EVENT]
        ]
        await announce(connection, events_pb2.ConsentWithdrawn(items=items, ground=ground), at)
    await issue_notices(connection, member.name, [consent.dataset for consent in ended], ground, at, key)
    names = ", ".join(sorted(consent.dataset.rsplit("/", 1)[1] for consent in ended))
    await store.notices.tell_one(
        connection,
        member.name,
        pb.NOTICE_KIND_MEMBERSHIP,
        f"You withdrew consent for {names}"[:200],
        "Your rows are served to nobody from now on. A version without them follows, and everybody who received them is "
        "asked to delete them; see your uses for what they attest.",
        ended[0].name,
        at,
    )
    return ended


async def issue_notices(
    connection: AsyncConnection,
    member: str,
    datasets: Sequence[str],
    ground: pb.DeletionGround.ValueType,
    at: dt.datetime,
    key: SigningKey,
) -> list[pb.DeletionNotice]:
    """One notice to each license under which rows of the member were delivered and not yet asked back.

    member: resource name.
    """
    _, cooperative_id, _, member_id = member.split("/")
    asked = await store.deletions.noticed(connection, member_id)
    history = (await store.consents.history(connection, [member_id], datasets)).get(member_id, [])
    by_license: dict[str, list[domain.deletions.Delivered]] = {}
    for one in await store.uses.delivered_of(connection, member_id, datasets):
        if (one.license, one.version) not in asked and domain.deletions.reached(one, history):
            by_license.setdefault(one.license, []).append(one)
    if not by_license:
        return []
    cooperative = await store.cooperatives.cooperative(connection, cooperative_id)
    assert cooperative is not None, "a member is a cooperative's"
    issued = []
    for rows in by_license.values():
        notice = domain.deletions.notice(
            f"deletionNotices/{new_id('del')}",
            cooperative.name,
            rows,
            ground,
            cooperative.charter.deletion_seconds,
            at,
            key,
        )
        await store.deletions.insert_notice(connection, notice, member_id, notice.versions)
        await announce(connection, events_pb2.DeletionNoticeIssued(deletion_notice=notice), at)
        issued.append(notice)
    return issued
