"""The grants this gateway has heard of, checked by itself, in memory for the doors and in the database for a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.cooperative_key import OwnKeys
from data_gateway.domain.chain import Witness, flaw, is_signed
from data_gateway.domain.rules import Window
from data_gateway.keys import RemoteKeys
from data_gateway.rules import RuleMemory
from data_gateway.store import trust
from data_gateway.store.trust import CLOSED, OPEN, REFUSED
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import Flaw
from rochdale_kit.clock import now
from rochdale_kit.database import Database

log = logging.getLogger(__name__)


@dataclass(eq=False)
class HeldGrant:
    """A grant: names are resource names, end is seconds since 1970, state is OPEN, CLOSED or REFUSED. category is the
    licensee's, as its terms say. windows are the times in which a prohibition stops it."""

    name: str
    license: str
    holder: str
    scope: scope_pb2.SharingScope
    category: int
    member_recall: bool
    grant_hash: str
    end: float
    state: str
    state_reason: str
    windows: tuple[Window, ...] = field(default=())

    @property
    def purposes(self) -> frozenset[str]:
        return frozenset(self.scope.purposes)

    def forbidden_by(self, at: float) -> str:
        """The rule that forbids access at this moment; empty if none does."""
        return next((one.rule for one in self.windows if one.begin <= at < one.end), "")


class Grants:
    def __init__(
        self, cooperative: str, own_keys: OwnKeys, licensing: RemoteKeys, broker_keys: RemoteKeys, rules: RuleMemory
    ) -> None:
        self._cooperative = cooperative
        self._own_keys = own_keys
        self._licensing = licensing
        self._broker_keys = broker_keys
        self._rules = rules
        self._held: dict[str, HeldGrant] = {}
        self._arrived = asyncio.Condition()
        # Called after a grant stopped or went on being served.
        self.on_change: Callable[[], None] = lambda: None

    async def load(self, connection: AsyncConnection) -> None:
        for row in await trust.grants(connection):
            self._held[row.chain.grant.name] = self._of(row)

    def get(self, name: str) -> HeldGrant | None:
        return self._held.get(name)

    async def wait_for(self, name: str, seconds: float) -> HeldGrant | None:
        """A grant that may be on its way: a token can arrive a moment before the event that opens its grant."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(lambda: name in self._held)
        return self._held.get(name)

    async def take(self, connection: AsyncConnection, chain: broker.GrantChain, revoked: bool) -> None:
        """Checks a chain and keeps it as open, closed (it was revoked before it was heard of) or refused. One that is
        known is left alone, unless it was refused: then it is checked again, as the fault may have been ours."""
        name = chain.grant.name
        known = self._held.get(name)
        if known is not None and known.state != REFUSED:
            return
        await self._fetch_keys(chain)
        state, reason = (CLOSED, "REVOKED") if revoked else (OPEN, "")
        signed = is_signed(chain, self._broker_keys.keys)
        if found := self._flaw(chain, signed):
            state, reason = REFUSED, found.reason
            if known is None or known.state_reason != found.reason:
                log.error("grant %s is refused, %s: %s", name, found.reason, found.sentence)
        row = trust.GrantRow(chain, state, reason, signed)
        await trust.save_grant(connection, row, now())
        self._held[name] = self._of(row)
        async with self._arrived:
            self._arrived.notify_all()

    async def prove(self, database: Database, revoked: Callable[[str], bool]) -> int:
        """Proves every held grant again with what is known now; answers how many do not hold. A grant that was open and
        does not hold is an incident, and never served again until it does."""
        if self._own_keys.trouble:
            # Nobody is served anyway, and no chain could hold.
            return 0
        async with database.read() as connection:
            rows = await trust.grants(connection)
        refused = 0
        for row in rows:
            # Between two grants others get their turn: there may be thousands.
            await asyncio.sleep(0)
            name = row.chain.grant.name
            held = self._held.get(name)
            if held is None or held.state == CLOSED:
                continue
            signed = row.signed or is_signed(row.chain, self._broker_keys.keys)
            found = self._flaw(row.chain, signed)
            refused += found is not None
            state, reason = (REFUSED, found.reason) if found else (OPEN, "")
            if state == OPEN and revoked(name):
                state, reason = CLOSED, "REVOKED"
            if (state, reason, signed) == (held.state, held.state_reason, row.signed):
                continue
            if found is not None and held.state == OPEN:
                log.error("grant %s no longer holds, %s: %s", name, found.reason, found.sentence)
            held.state, held.state_reason = state, reason
            self.on_change()
            async with database.begin() as connection:
                await trust.set_grant_state(connection, name, state, reason, signed)
        return refused

    def look_at_rules(self) -> None:
        """After a rule was heard: prohibitions in force stop what they overlap at once."""
        for held in self._held.values():
            held.windows = self._rules.windows(held.scope, held.member_recall)
        self.on_change()

    def close(self, name: str, reason: str) -> None:
        """In memory, at once; the database follows."""
        if (held := self._held.get(name)) is not None and held.state == OPEN:
            held.state, held.state_reason = CLOSED, reason

    def _flaw(self, chain: broker.GrantChain, signed: bool) -> Flaw | None:
        witness = Witness(
            cooperative=self._cooperative,
            keys=self._own_keys.keys,
            licensing=self._licensing.keys,
            signed=signed,
            ended=self._rules.ended,
            denials=self._rules.denials(),
        )
        return flaw(chain, witness)

    async def _fetch_keys(self, chain: broker.GrantChain) -> None:
        """Keys may have been rotated a moment ago. Who cannot be asked now is asked by its own loop, and then the grant
        is proved again."""
        for keys, key_id in (
            (self._licensing, chain.license_signature.key_id),
            (self._broker_keys, chain.grant_signature.key_id),
        ):
            if key_id not in keys.keys:
                try:
                    await keys.refresh()
                except (grpc.aio.AioRpcError, ValueError) as error:
                    log.warning("keys cannot be fetched: %s", type(error).__name__)

    def _of(self, row: trust.GrantRow) -> HeldGrant:
        grant, terms = row.chain.grant, row.chain.terms
        return HeldGrant(
            name=grant.name,
            license=grant.license,
            holder=grant.holder,
            scope=grant.scope,
            category=terms.category,
            member_recall=terms.member_recall,
            grant_hash=grant.grant_hash,
            end=grant.end_time.seconds + grant.end_time.nanos / 1e9,
            state=row.state,
            state_reason=row.state_reason,
            windows=self._rules.windows(grant.scope, terms.member_recall),
        )
