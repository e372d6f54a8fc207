"""The end of a license before its time, the same for whoever asks for it: a side, an unpaid order, the clock."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.store.tables import bare
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.outbox import announce


async def end_early(
    connection: AsyncConnection, before: pb.License, party: pb.Party.ValueType, reason: str, at: dt.datetime
) -> pb.License:
    """The license as TERMINATED, and its negotiation too if it was never active. The caller has locked the license."""
    after = domain.licenses.terminated(before, reason, at)
    await store.licenses.save(connection, after)
    if before.state == pb.LICENSE_STATE_AGREED:
        negotiation = await negotiation_of(connection, before)
        ended = domain.negotiations.terminated(negotiation, party, reason, at)
        await store.negotiations.save(connection, ended, negotiation)
    await announce(connection, events_pb2.LicenseTerminated(license=after), at)
    return after


async def negotiation_of(connection: AsyncConnection, license: pb.License) -> pb.Negotiation:
    """The negotiation a license came from, locked; always after the license, so that two never wait for each other."""
    negotiation = await store.negotiations.negotiation(connection, bare(license.negotiation), None, lock=True)
    assert negotiation is not None, "a license has a foreign key to its negotiation"
    return negotiation
