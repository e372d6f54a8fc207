"""What was revoked, in memory for the hot path; and up to which number of the feed nothing was missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.grants import Grants
from data_gateway.store import trust
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale_kit.clock import from_timestamp, now, seconds

_FOREVER = float("inf")


class Revocations:
    """Applying never un-revokes: an entry that comes twice, late or out of order does no harm. Only the sequence insists
    on order, because it says that nothing is missing."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        # Subject -> when it may be forgotten, in seconds since 1970.
        self._subjects: dict[int, dict[str, float]] = {
            broker.REVOCATION_KIND_TOKEN: {},
            broker.REVOCATION_KIND_GRANT: {},
            broker.REVOCATION_KIND_SIGNING_KEY: {},
        }
        self._tokens = self._subjects[broker.REVOCATION_KIND_TOKEN]
        self._grant_names = self._subjects[broker.REVOCATION_KIND_GRANT]
        self._keys = self._subjects[broker.REVOCATION_KIND_SIGNING_KEY]
        self._ahead: set[int] = set()
        self.applied_sequence = 0
        self.unreadable = False
        # Called after something was revoked: caches are emptied and streams under way looked at.
        self.on_change: Callable[[], None] = lambda: None

    async def load(self, connection: AsyncConnection) -> None:
        found, self.applied_sequence = await trust.revocations(connection)
        for one in found:
            self._revoke(one)

    def token(self, token_id: str) -> bool:
        return token_id in self._tokens

    def grant(self, name: str) -> bool:
        return name in self._grant_names

    def key(self, key_id: str) -> bool:
        return key_id in self._keys

    async def apply(self, connection: AsyncConnection, revocations: Iterable[broker.Revocation]) -> None:
        """In memory first, so that access ends before anything is written; then in the database."""
        listed = list(revocations)
        for one in listed:
            self._revoke(one)
            self._ahead.add(one.sequence)
        while self.applied_sequence + 1 in self._ahead:
            self.applied_sequence += 1
        self._ahead = {sequence for sequence in self._ahead if sequence > self.applied_sequence}
        if listed:
            self.on_change()
        for one in listed:
            if one.kind == broker.REVOCATION_KIND_GRANT:
                await trust.close_grant(connection, one.subject, "REVOKED")
        await trust.save_revocations(connection, listed, self.applied_sequence)

    async def forget(self, connection: AsyncConnection) -> None:
        """Drops what no living token can be reached by any more."""
        current = seconds()
        for subjects in self._subjects.values():
            for subject in [subject for subject, until in subjects.items() if until < current]:
                del subjects[subject]
        await trust.forget_revocations(connection, now())

    def _revoke(self, one: broker.Revocation) -> None:
        subjects = self._subjects.get(one.kind)
        if subjects is None:
            # A kind of a newer broker: we cannot tell what it reaches, so it reaches everything.
            self.unreadable = True
            return
        until = from_timestamp(one.forget_time).timestamp() if one.HasField("forget_time") else _FOREVER
        subjects[one.subject] = max(until, subjects.get(one.subject, 0.0))
        if one.kind == broker.REVOCATION_KIND_GRANT:
            self._grants.close(one.subject, "REVOKED")
