"""Governance and licensing as this gateway asks them; and the loop that asks at the start, each night, and when told to."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable

import grpc

from data_gateway.consents import Consents
from data_gateway.cooperative_key import OwnKeys
from data_gateway.grants import Grants
from data_gateway.rules import RuleMemory
from rochdale.governance.v1 import governance_pb2, governance_pb2_grpc, membership_pb2, membership_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database
from rochdale_kit.identity import Credentials
from rochdale_kit.refusals import Refusal

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 0.5
# A cooperative without a key, or with keys that are not believed, is asked for again this often.
NO_KEY_SECONDS = 5.0
PROOF_HOUR_UTC = 2


class Governance:
    """Every method raises AioRpcError when governance, or identity for the session, refuses or cannot be reached."""

    def __init__(self, address: str, cooperative: str, credentials: Credentials) -> None:
        self._name = f"cooperatives/{cooperative}"
        self._channel = open_channel(address)
        self._stub = governance_pb2_grpc.GovernanceServiceStub(self._channel)
        self._members = membership_pb2_grpc.MembershipServiceStub(self._channel)
        self._credentials = credentials

    async def cooperative(self) -> governance_pb2.Cooperative:
        """The cooperative with its keys; one that is not founded yet has none."""
        request = governance_pb2.GetCooperativeRequest(name=self._name)
        try:
            reply: governance_pb2.Cooperative = await self._stub.GetCooperative(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return governance_pb2.Cooperative(name=self._name)
        return reply

    async def rules(self) -> AsyncIterator[governance_pb2.SharingRule]:
        """The latest revision of every rule."""
        token = ""
        while True:
            request = governance_pb2.ListSharingRulesRequest(parent=self._name, page_size=1000, page_token=token)
            try:
                reply = await self._stub.ListSharingRules(request, timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise
                return
            for rule in reply.sharing_rules:
                yield rule
            token = reply.next_page_token
            if not token:
                return

    async def live_consents(self) -> AsyncIterator[list[membership_pb2.ConsentItem]]:
        """Every consent that stands, in pages."""
        token = ""
        while True:
            try:
                reply = await self._members.ListLiveConsents(
                    membership_pb2.ListLiveConsentsRequest(page_token=token),
                    timeout=TIMEOUT_SECONDS,
                    metadata=await self._credentials.metadata(),
                )
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise
                return
            yield list(reply.items)
            token = reply.next_page_token
            if not token:
                return

    async def close(self) -> None:
        await self._channel.close()


class Licensing:
    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._stub = licensing_pb2_grpc.LicensingServiceStub(self._channel)

    async def key_set(self) -> str:
        """Raises AioRpcError."""
        reply: licensing_pb2.KeySet = await self._stub.GetKeySet(
            licensing_pb2.GetKeySetRequest(), timeout=TIMEOUT_SECONDS
        )
        return reply.jwks_json

    async def close(self) -> None:
        await self._channel.close()


class Proof:
    """Asks governance for keys, rules and consents and proves every held grant: at the start, each night, and grants alone
    whenever keys or rules changed. What it heard before counts while governance is away."""

    def __init__(
        self,
        database: Database,
        governance: Governance,
        own_keys: OwnKeys,
        rules: RuleMemory,
        consents: Consents,
        grants: Grants,
        revoked: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._governance = governance
        self._own_keys = own_keys
        self._rules = rules
        self._consents = consents
        self._grants = grants
        self._revoked = revoked
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Keys or rules changed."""
        self._wake.set()

    async def run(self) -> None:
        """Until canceled."""
        ask_at = now()
        while True:
            self._wake.clear()
            try:
                if now() >= ask_at:
                    ask_at = await self._asked()
                # Also while somebody cannot be asked: what is known may be enough.
                if refused := await self._grants.prove(self._database, self._revoked):
                    log.warning("%d grants do not hold and are not served", refused)
            except LOST as error:
                log.warning("grants cannot be proved yet: %s", error)
                ask_at = now() + dt.timedelta(seconds=RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, (ask_at - now()).total_seconds())):
                    await self._wake.wait()

    async def _asked(self) -> dt.datetime:
        """Asks, and answers when to ask again."""
        try:
            await self._ask()
        except (grpc.aio.AioRpcError, Refusal) as error:
            why = error.code().name if isinstance(error, grpc.aio.AioRpcError) else error.message
            log.warning("governance cannot be asked yet: %s", why)
            return now() + dt.timedelta(seconds=RETRY_SECONDS)
        if not self._own_keys.keys:
            return now() + dt.timedelta(seconds=NO_KEY_SECONDS)
        return _next_night(now())

    async def _ask(self) -> None:
        self._own_keys.take(await self._governance.cooperative())
        changed = False
        if self._own_keys.keys:
            async for rule in self._governance.rules():
                async with self._database.begin() as connection:
                    changed = await self._rules.take(connection, rule) or changed
        if changed:
            self._grants.look_at_rules()
        begun = now()
        standing: set[tuple[str, str]] = set()
        async for items in self._governance.live_consents():
            async with self._database.begin() as connection:
                await self._consents.record(connection, items)
            standing.update((item.member, item.consent.dataset) for item in items)
        async with self._database.begin() as connection:
            await self._consents.end_all_but(connection, standing, begun)


def _next_night(after: dt.datetime) -> dt.datetime:
    tonight = after.replace(hour=PROOF_HOUR_UTC, minute=0, second=0, microsecond=0)
    return tonight if tonight > after else tonight + dt.timedelta(days=1)
