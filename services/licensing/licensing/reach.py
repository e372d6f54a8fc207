"""What a decision about sharing does to licenses that live already: recalled, suspended, resumed. Signing is elsewhere."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.domain.licenses import MEMBER_RECALL
from licensing.ending import end_early
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import from_timestamp
from rochdale_kit.outbox import announce
from rochdale_kit.scope import overlaps


async def settle(connection: AsyncConnection, name: str, at: dt.datetime) -> None:
    """Carries a rule out as it is now, and notes when that has to be done again. The caller holds the book alone.

    Twice does no more than once: it looks at how the rule and the licenses are.
    """
    rule = await store.rules.latest(connection, name)
    assert rule is not None, "the caller has just kept or found it"
    begin, over = from_timestamp(rule.effective_time), domain.rules.over_at(rule)
    again: dt.datetime | None = None
    if begin > at:
        # The cooperative's clock may be a little ahead of ours.
        again = begin
    elif domain.rules.is_emergency(rule):
        if over is not None and over <= at:
            await _resume(connection, rule, at)
        else:
            await _suspend(connection, rule, at)
            again = over
    elif rule.effect == governance_pb2.RULE_EFFECT_DENY:
        if over is None or over > at:
            await _recall(connection, rule, "", at)
    elif rule.HasField("end_time") and from_timestamp(rule.end_time) > at:
        again = from_timestamp(rule.end_time)
    else:
        await _recall(connection, rule, rule.name, at)
    await store.rules.settle_at(connection, rule.name, rule.revision, again)


async def _recall(connection: AsyncConnection, rule: governance_pb2.SharingRule, under: str, at: dt.datetime) -> None:
    cooperative = rule.name.split("/")[1]
    for license in await store.licenses.recallable(connection, cooperative, under):
        if domain.licenses.recalled(license, rule):
            await end_early(connection, license, pb.PARTY_COOPERATIVE, MEMBER_RECALL, at)


async def _suspend(connection: AsyncConnection, emergency: governance_pb2.SharingRule, at: dt.datetime) -> None:
    for license in await store.licenses.suspendable(connection, emergency.name.split("/")[1]):
        if overlaps(emergency.scope, license.terms.scope):
            await suspend(connection, license, emergency.name, at)


async def suspend(connection: AsyncConnection, license: pb.License, cause: str, at: dt.datetime) -> None:
    """Interrupts one license, and tells unless it already was. The caller has locked it."""
    after = domain.licenses.suspended(license, cause, at)
    await store.licenses.save(connection, after)
    if license.state != pb.LICENSE_STATE_SUSPENDED:
        await announce(connection, events_pb2.LicenseSuspended(license=after), at)


async def resume(connection: AsyncConnection, license: pb.License, at: dt.datetime) -> None:
    """Lets one license go on, and tells. The caller has locked it, and nothing suspends it any more."""
    after = domain.licenses.resumed(license, at)
    await store.licenses.save(connection, after)
    await announce(connection, events_pb2.LicenseResumed(license=after), at)


async def _resume(connection: AsyncConnection, emergency: governance_pb2.SharingRule, at: dt.datetime) -> None:
    cooperative = emergency.name.split("/")[1]
    for license in await store.licenses.suspended(connection, cooperative, emergency.name):
        # Another emergency may reach it too, or its money be in disorder: then it stays suspended, now by that.
        if other := await emergency_over(connection, license, at):
            await suspend(connection, license, other, at)
        elif held := (await store.licenses.standing(connection, license.name)).held:
            await suspend(connection, license, domain.licenses.held_by(held), at)
        else:
            await resume(connection, license, at)


async def emergency_over(connection: AsyncConnection, license: pb.License, at: dt.datetime) -> str:
    """The name of an emergency in force that reaches a license; empty for none. The caller holds the book."""
    for rule in await store.rules.in_force(connection, license.terms.licensor.split("/")[1], at):
        if domain.rules.is_emergency(rule) and overlaps(rule.scope, license.terms.scope):
            return rule.name
    return ""
