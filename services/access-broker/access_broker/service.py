"""The broker's RPCs, each told as load, decide, save, announce, reply. Rules are in domain, queries in store."""

from __future__ import annotations

import logging
from typing import Any

from access_broker import store
from access_broker.domain import tokens
from access_broker.domain.tokens import HeldGrant, Issuance
from access_broker.issuance import IssuanceWriter
from access_broker.proving import Prover
from access_broker.sealing import Sealer
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import access_broker_pb2_grpc, events_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import PUBLIC, caller, roles
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found, unavailable

log = logging.getLogger(__name__)

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["AccessBrokerService"]
_PARTIES = (
    identity_pb2.ROLE_OPERATOR,
    identity_pb2.ROLE_STEWARD,
    identity_pb2.ROLE_BUYER,
    identity_pb2.ROLE_GATEWAY,
)
ACCESS = {
    "RegisterGateway": roles(identity_pb2.ROLE_GATEWAY),
    "GetGateway": PUBLIC,
    "GetGrant": roles(*_PARTIES),
    "ListGrants": roles(*_PARTIES),
    # Nobody asks for a token but the holder: not the cooperative, and not the operator either.
    "IssueToken": roles(identity_pb2.ROLE_BUYER),
    # Cutting off must never wait for a verification.
    "RevokeToken": roles(
        identity_pb2.ROLE_OPERATOR, identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_BUYER, verified=False
    ),
    "ListRevocations": roles(identity_pb2.ROLE_GATEWAY, verified=False),
    "ListGrantChains": roles(identity_pb2.ROLE_GATEWAY),
    # To doubt must never wait for a verification either.
    "ProveGrants": roles(identity_pb2.ROLE_OPERATOR, identity_pb2.ROLE_STEWARD, verified=False),
    "ListProofReports": roles(identity_pb2.ROLE_OPERATOR, identity_pb2.ROLE_STEWARD, verified=False),
    "GetKeySet": PUBLIC,
    "RotateSigningKey": roles(identity_pb2.ROLE_OPERATOR),
}

HELD_CACHE_SIZE = 2_000
# A page of chains stays below what a gRPC client takes in one message (4 MiB): chains with 2,000 columns are large.
MAX_CHAINS_BYTES = 2 * 1024 * 1024

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class AccessBrokerService(access_broker_pb2_grpc.AccessBrokerServiceServicer):
    """Grants, tokens, revocation."""

    def __init__(
        self, database: Database, keys: LiveKeyring, writer: IssuanceWriter, sealer: Sealer, prover: Prover
    ) -> None:
        self._database = database
        self._keys = keys
        self._writer = writer
        self._sealer = sealer
        self._prover = prover
        # What never changes about grants that were open when they were first asked for. Whether one is still open is
        # not in here; that is decided where the token is kept.
        self._held: dict[str, HeldGrant] = {}

    async def RegisterGateway(self, request: pb.RegisterGatewayRequest, context: Context) -> pb.Gateway:
        async with self._database.begin() as connection:
            return await store.register_gateway(
                connection, caller().organization, request.public_url, request.control_address, now()
            )

    async def GetGateway(self, request: pb.GetGatewayRequest, context: Context) -> pb.Gateway:
        async with self._database.read() as connection:
            gateway = await store.gateway(connection, request.name.removeprefix("gateways/"))
        if gateway is None:
            raise not_found(request.name)
        return gateway

    async def GetGrant(self, request: pb.GetGrantRequest, context: Context) -> pb.Grant:
        async with self._database.read() as connection:
            row = await store.grant(connection, request.name.removeprefix("grants/"), _organization())
        if row is None:
            raise not_found(request.name)
        return row.grant

    async def ListGrants(self, request: pb.ListGrantsRequest, context: Context) -> pb.ListGrantsResponse:
        name = f"grants?{_organization()}&{request.license}"
        size = paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        before = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.grants(connection, _organization(), request.license, before, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (row.id,))
        return pb.ListGrantsResponse(grants=[row.grant for row in shown], next_page_token=token)

    async def IssueToken(self, request: pb.IssueTokenRequest, context: Context) -> pb.IssuedToken:
        grant = await self._grant(request.license)
        scope = tokens.narrow(grant, request)
        issue_time, expire_time = tokens.lifetime(grant, request.ttl_seconds, now())
        issuance = Issuance(
            token_id=new_id("tok"),
            organization=caller().organization,
            request_id=request.request_id,
            request=request.SerializeToString(deterministic=True),
            grant_id=grant.id,
            client=caller().key,
            issue_time=issue_time,
            expire_time=expire_time,
        )
        gateway_url = await self._writer.save(issuance)
        if gateway_url is None:
            earlier = await self._earlier(grant, issuance)
            if earlier is None:
                # Remembered here, but closed since, and another opened after a suspension.
                self._held.pop(grant.license, None)
                return await self.IssueToken(request, context)
            issuance, gateway_url = earlier
        return self._reply(grant, issuance, scope, gateway_url)

    async def _grant(self, license: str) -> HeldGrant:
        """The caller's own grant of a license. Refuses with NOT_FOUND, GRANT_NOT_OPEN."""
        grant = self._held.get(license)
        if grant is None:
            async with self._database.read() as connection:
                row = await store.grant_of_license(connection, license)
            if row is None or row.holder != caller().organization:
                raise not_found(license)
            _require_open(row)
            if flaw := self._sealer.flaw(row):
                log.error("no token is issued: %s %s", flaw.reason, flaw.sentence)
                raise tokens.not_open(license, "is not as it was opened", state="OPEN", state_reason=flaw.reason)
            grant = row.held
            if len(self._held) >= HELD_CACHE_SIZE:
                # Emptied rather than trimmed: it refills within one request each, and needs no order.
                self._held.clear()
            self._held[license] = grant
        if grant.holder != caller().organization:
            raise not_found(license)
        return grant

    async def _earlier(self, grant: HeldGrant, issuance: Issuance) -> tuple[Issuance, str] | None:
        """Why nothing was kept: the same request arrived before, which is answered again, or one of the refusals. None if
        the license has another grant by now."""
        async with self._database.read() as connection:
            row = await store.grant_of_license(connection, grant.license)
            gateway = await store.gateway(connection, grant.cooperative)
            earlier = await store.issuance_of_request(connection, issuance.organization, issuance.request_id)
        if row is None:
            raise not_found(grant.license)
        # Also for a retry: nothing is signed under a grant that is no longer open, even if it was signed before.
        _require_open(row)
        if earlier is not None and earlier.request != issuance.request:
            raise Refusal(
                "REQUEST_ID_REUSED",
                f"Request id {issuance.request_id} was used for another request.",
                Kind.STATE,
                request_id=issuance.request_id,
            )
        if earlier is not None and earlier.grant_id != row.id:
            raise tokens.not_open(
                grant.license, "was closed since the request came first", grant=f"grants/{earlier.grant_id}"
            )
        if grant.id != row.id:
            return None
        if gateway is None:
            raise Refusal(
                "GATEWAY_UNKNOWN",
                f"gateways/{grant.cooperative} has not said where it is.",
                Kind.STATE,
                gateway=f"gateways/{grant.cooperative}",
            )
        if earlier is None:
            # The grant or the gateway came back between the two looks; the caller's next try finds it.
            raise unavailable("The grant")
        return earlier, gateway.public_url

    def _reply(
        self, grant: HeldGrant, issuance: Issuance, scope: scope_pb2.SharingScope, gateway_url: str
    ) -> pb.IssuedToken:
        claims = tokens.claims(grant, issuance, scope, gateway_url)
        return pb.IssuedToken(
            token=self._keys.current.sign_token(tokens.TOKEN_TYPE, claims),
            token_id=issuance.token_id,
            expire_time=to_timestamp(issuance.expire_time),
            gateway=f"gateways/{grant.cooperative}",
            gateway_url=gateway_url,
            scope=scope,
        )

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        at = now()
        async with self._database.begin() as connection:
            issued = await store.lock_issuance(connection, request.token_id, _organization())
            if issued is None:
                raise not_found(request.token_id)
            if issued.revoke_time is not None:
                return pb.RevokeTokenResponse(revoke_time=to_timestamp(issued.revoke_time))
            await store.set_revoked(connection, request.token_id, at)
            revocation = await store.insert_revocation(
                connection, issued.cooperative, pb.REVOCATION_KIND_TOKEN, request.token_id, at, issued.expire_time
            )
            await announce(
                connection, events_pb2.AccessRevoked(gateway=f"gateways/{issued.cooperative}", revocation=revocation)
            )
        return pb.RevokeTokenResponse(revoke_time=to_timestamp(at))

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Context) -> pb.ListRevocationsResponse:
        limit = request.page_size or 1000
        async with self._database.read() as connection:
            found, last = await store.revocations(connection, caller().organization, request.after_sequence, limit)
        return pb.ListRevocationsResponse(revocations=found, last_sequence=last)

    async def ListGrantChains(self, request: pb.ListGrantChainsRequest, context: Context) -> pb.ListGrantChainsResponse:
        cooperative, size = caller().organization, paging.size(request.page_size)
        name = f"chains?{cooperative}"
        position = paging.decode(name, request.page_token, str)
        after = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.open_grants(connection, cooperative, now(), after, size + 1)
        fitting, total = 0, 0
        chains: list[pb.GrantChain] = []
        for row in rows[:size]:
            if flaw := self._sealer.flaw(row):
                # Proving cuts it off; until then nobody is told to serve it.
                log.error("not told to its gateway: %s %s", flaw.reason, flaw.sentence)
            else:
                chain = self._sealer.chain(row)
                total += chain.ByteSize()
                if chains and total > MAX_CHAINS_BYTES:
                    break
                chains.append(chain)
            fitting += 1
        _, token = paging.page(name, rows, fitting, lambda row: (row.id,))
        return pb.ListGrantChainsResponse(chains=chains, next_page_token=token)

    async def ProveGrants(self, request: pb.ProveGrantsRequest, context: Context) -> pb.ProofReport:
        cooperative = _organization()
        if request.license:
            async with self._database.read() as connection:
                if not await store.grants(connection, cooperative, request.license, None, 1):
                    raise not_found(request.license)
        return await self._prover.prove(cooperative, request.license)

    async def ListProofReports(
        self, request: pb.ListProofReportsRequest, context: Context
    ) -> pb.ListProofReportsResponse:
        cooperative, size = _organization(), paging.size(request.page_size)
        name = f"proofReports?{cooperative}"
        position = paging.decode(name, request.page_token, str)
        before = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.reports(connection, cooperative, before, size + 1)
        shown, token = paging.page(name, rows, size, lambda report: (report.name.removeprefix("proofReports/"),))
        if cooperative is not None:
            shown = [_as_told_to(cooperative, report) for report in shown]
        return pb.ListProofReportsResponse(proof_reports=shown, next_page_token=token)

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Context) -> pb.KeySet:
        return pb.KeySet(jwks_json=self._keys.jwks())

    async def RotateSigningKey(self, request: pb.RotateSigningKeyRequest, context: Context) -> pb.KeySet:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.KeySet):
                return earlier
            keyring = await self._keys.rotate(connection)
            reply = await remember(connection, caller().organization, request, pb.KeySet(jwks_json=keyring.jwks()))
        await self._keys.refresh()
        return reply


def _organization() -> str | None:
    """Whose things the caller sees; None for an operator, who sees all."""
    return None if caller().is_operator else caller().organization


def _as_told_to(cooperative: str, report: pb.ProofReport) -> pb.ProofReport:
    """A report with what concerns one cooperative (bare id); how many grants others have is not its business."""
    return pb.ProofReport(
        name=report.name,
        begin_time=report.begin_time,
        end_time=report.end_time,
        failures=[one for one in report.failures if one.cooperative == f"cooperatives/{cooperative}"],
    )


def _require_open(row: store.GrantRow) -> None:
    if row.grant.state != pb.GRANT_STATE_OPEN:
        word = pb.GrantState.Name(row.grant.state).removeprefix("GRANT_STATE_")
        raise tokens.not_open(
            row.grant.license,
            f"is {word.lower()} ({row.grant.state_reason})",
            state=word,
            state_reason=row.grant.state_reason,
        )
