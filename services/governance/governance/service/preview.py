"""What members are told would happen, worked out at the freeze from what governance knows."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.type.v1.money_pb2 import Money


async def impact_of(
    connection: AsyncConnection, proposal: pb.Proposal, ends: dict[str, governance.SharingRule]
) -> pb.ImpactPreview:
    """The preview. Of several datasets, the one that leaves most members out says how many are left out at least."""
    concerned = domain.delta.datasets(proposal.delta, ends)
    members, rows = await store.contributions.counts(connection, concerned) if concerned else (0, 0)
    preview = pb.ImpactPreview(member_count=members, record_count=rows, summary=domain.delta.summary(proposal.delta))
    if ends:
        preview.live_license_count = await store.uses.live_count(connection, list(ends))
    allowed = [draft.scope for draft in proposal.delta.rules if draft.effect == governance.RULE_EFFECT_ALLOW]
    for scope in allowed:
        for part in scope.datasets:
            excluded = await store.consents.excluded_count(
                connection, part.dataset, list(scope.categories), list(scope.purposes)
            )
            preview.excluded_member_count = max(preview.excluded_member_count, excluded)
        preview.max_epsilon_nano = max(preview.max_epsilon_nano, scope.max_epsilon_nano)
    if allowed:
        # Rules in different currencies have no lowest price; the first one's stands for what it says.
        currency = allowed[0].floor_price.currency
        lowest = min(scope.floor_price.amount_minor for scope in allowed if scope.floor_price.currency == currency)
        preview.floor_price.CopyFrom(Money(amount_minor=lowest, currency=currency))
        preview.expected_per_member.CopyFrom(Money(amount_minor=lowest // members if members else 0, currency=currency))
    return preview
