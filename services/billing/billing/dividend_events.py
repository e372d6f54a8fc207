"""What billing hears for dividends: members, consents, policies, contributions, and which version a license delivered."""

from __future__ import annotations

import datetime as dt

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain import dividend_policies
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.governance.v1 import governance_pb2, membership_pb2
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.cooperative_keys import followed
from rochdale_kit.inbox import Subscription, on


def of_governance() -> list[Subscription]:
    return [
        on(governance.CooperativeCreated, cooperative_created),
        on(governance.CooperativeKeyAdded, cooperative_key_added),
        on(governance.MemberJoined, member_joined),
        on(governance.MemberLeft, member_left),
        on(governance.MemberErased, member_erased),
        on(governance.ConsentRecorded, consent_recorded),
        on(governance.ConsentWithdrawn, consent_withdrawn),
        on(governance.DividendPolicyEnacted, policy_enacted),
    ]


async def cooperative_created(connection: AsyncConnection, event: governance.CooperativeCreated) -> None:
    await _keep_keys(connection, event.cooperative)


async def cooperative_key_added(connection: AsyncConnection, event: governance.CooperativeKeyAdded) -> None:
    await _keep_keys(connection, event.cooperative)


async def _keep_keys(connection: AsyncConnection, told: governance_pb2.Cooperative) -> None:
    known = await store.dividend_policies.cooperative(connection, told.name.split("/")[1], lock=True)
    await store.dividend_policies.keep_cooperative(connection, followed(known, told))


async def member_joined(connection: AsyncConnection, event: governance.MemberJoined) -> None:
    of: dict[str, list[str]] = {}
    for name in event.members:
        _, cooperative, _, id = name.split("/")
        of.setdefault(cooperative, []).append(id)
    for cooperative, ids in of.items():
        await store.members.joined(connection, cooperative, ids, _time(event, "join_time"))


async def member_left(connection: AsyncConnection, event: governance.MemberLeft) -> None:
    _, cooperative, _, id = event.member.split("/")
    await store.members.left(connection, cooperative, id, _time(event, "leave_time"))


async def member_erased(connection: AsyncConnection, event: governance.MemberErased) -> None:
    """The ledger keeps an id that points at nobody; where they were paid is forgotten."""
    _, cooperative, _, id = event.member.split("/")
    await store.members.erased(connection, cooperative, id, _time(event, "erase_time"))
    await store.payees.forget(connection, id)


async def consent_recorded(connection: AsyncConnection, event: governance.ConsentRecorded) -> None:
    for item in event.items:
        await _keep_consent(connection, item)


async def consent_withdrawn(connection: AsyncConnection, event: governance.ConsentWithdrawn) -> None:
    for item in event.items:
        await _keep_consent(connection, item)


async def _keep_consent(connection: AsyncConnection, item: membership_pb2.ConsentItem) -> None:
    consent = item.consent
    await store.members.keep_consent(
        connection,
        consent.name,
        item.member.rsplit("/", 1)[1],
        consent.dataset,
        # A refusal names no purpose. The state says no more once it is over.
        bool(consent.purposes),
        from_timestamp(consent.give_time),
        from_timestamp(consent.end_time) if consent.HasField("end_time") else None,
    )


async def policy_enacted(connection: AsyncConnection, event: governance.DividendPolicyEnacted) -> None:
    """Believed because the cooperative signed it, not because governance says so."""
    id = event.cooperative.split("/")[1]
    dividend_policies.require_signed(event, await store.dividend_policies.cooperative(connection, id))
    await store.dividend_policies.insert(
        connection,
        id,
        pb.DividendPolicyVersion(
            name=f"{event.cooperative}/dividendPolicies/{event.version}",
            policy=event.policy,
            policy_hash=event.policy_hash,
            proposal=event.proposal,
            effective_time=event.effective_time,
        ),
    )


async def contributions_recorded(connection: AsyncConnection, event: gateway.ContributionsRecorded) -> None:
    # Told again with nothing, a member has nothing. Contributions stay in their cooperative.
    members = f"cooperatives/{event.version.split('/')[1]}/members/"
    rows = {
        one.member.removeprefix(members): one.row_count
        for one in event.contributions
        if one.member.startswith(members) and one.row_count >= 0
    }
    await store.members.keep_contributions(connection, event.version, rows)


async def usage_recorded(connection: AsyncConnection, event: gateway.UsageRecorded) -> None:
    """Which version a license delivered, the first time. Each use comes here, and nearly all of them change nothing."""
    await store.members.keep_delivery(connection, event.license, event.version, _time(event, "record_time"))


def _time(
    event: governance.MemberJoined | governance.MemberLeft | governance.MemberErased | gateway.UsageRecorded, field: str
) -> dt.datetime:
    """When it happened; told by an earlier version without a time, now."""
    stamp: Timestamp = getattr(event, field)
    return from_timestamp(stamp) if event.HasField(field) else now()  # type: ignore[arg-type] # one of each kind's own
