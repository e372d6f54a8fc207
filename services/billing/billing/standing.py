"""The one place that changes a license's standing and tells it. Who finds a cause adds it; who sees it gone removes it.

In the caller's transaction, and the last row it locks: order, shares, ledger, standing.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain.standing import Cause, Standing, after
from rochdale.billing.v1 import events_pb2
from rochdale_kit.clock import now
from rochdale_kit.outbox import announce


async def add(connection: AsyncConnection, license: str, cause: Cause, at: dt.datetime | None = None) -> Standing:
    """Something speaks against a license, "licenses/{license}", from now or `at` on. Again, it changes nothing."""
    at = at or now()
    standing = await store.standings.lock(connection, license, at)
    await store.standings.add_cause(connection, license, cause, at)
    return await _settle(connection, license, standing, at)


async def remove(connection: AsyncConnection, license: str, cause: Cause, at: dt.datetime | None = None) -> Standing:
    """It speaks against it no more. What was not there changes nothing; what ended a license is never taken back."""
    if cause.final:
        raise ValueError(f"{cause} ended {license}.")
    at = at or now()
    standing = await store.standings.lock(connection, license, at)
    await store.standings.remove_cause(connection, license, cause)
    return await _settle(connection, license, standing, at)


async def _settle(connection: AsyncConnection, license: str, standing: Standing, at: dt.datetime) -> Standing:
    new = after(standing, await store.standings.causes(connection, license))
    if new is not standing:
        await store.standings.save(connection, license, new, at)
        await announce(
            connection,
            events_pb2.StandingChanged(license=license, standing=new.state, reason=new.reason, sequence=new.sequence),
        )
    return new
