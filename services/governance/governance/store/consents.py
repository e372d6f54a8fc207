"""Queries on consents: a history in which one record a member and dataset is live."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from governance.store.contributions import latest
from governance.store.membership_tables import consent_table, contribution_table
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.consent import covers


def consent_of(row: Any, member: str) -> pb.Consent:
    """member: resource name."""
    return pb.Consent(
        name=f"{member}/consents/{row.id}",
        dataset=row.dataset,
        purposes=row.purposes,
        categories=row.categories,
        status=row.status,
        method=row.method,
        evidence=row.evidence,
        notice_hash=row.notice_hash,
        language=row.language,
        give_time=to_timestamp(row.give_time),
        end_time=to_timestamp(row.end_time),
    )


async def excluded_count(
    connection: AsyncConnection, dataset: str, categories: Collection[int], purposes: Sequence[str]
) -> int:
    """Members with rows in the dataset's latest version whose consent does not cover all of these categories and
    purposes."""
    table, last = contribution_table, latest([dataset])
    live = sa.and_(
        consent_table.c.member_id == table.c.member_id,
        consent_table.c.dataset == dataset,
        consent_table.c.end_time.is_(None),
    )
    statement = (
        sa.select(table.c.member_id.label("contributor"), consent_table)
        .join(last, sa.and_(last.c.dataset == table.c.dataset, last.c.number == table.c.number))
        .outerjoin(consent_table, live)
    )
    rows = (await connection.execute(statement)).all()
    return sum(
        row.id is None
        or not all(covers(consent_of(row, "members/x"), dataset, category, purposes) for category in categories)
        for row in rows
    )
