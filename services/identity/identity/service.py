"""Identity's RPCs, each told as load, decide, save, announce, reply. Rules are in domain, queries in store."""

from __future__ import annotations

import datetime as dt
from typing import Any

from identity import domain, store
from rochdale.identity.v1 import events_pb2, identity_pb2_grpc
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import from_timestamp, new_id, now, to_timestamp
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import (
    PUBLIC,
    SESSION_LIFE_SECONDS,
    SESSION_RULES,
    Principal,
    caller,
    claims_of,
    roles,
)
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["IdentityService"]
ANY_ROLE = (pb.ROLE_OPERATOR, pb.ROLE_STEWARD, pb.ROLE_MEMBER, pb.ROLE_BUYER, pb.ROLE_GATEWAY)
ACCESS = {
    "RegisterOrganization": PUBLIC,
    "GetOrganization": roles(*ANY_ROLE, verified=False),
    "ListOrganizations": roles(pb.ROLE_OPERATOR),
    "VerifyOrganization": roles(pb.ROLE_OPERATOR),
    "CreateApiKey": roles(pb.ROLE_OPERATOR, pb.ROLE_STEWARD, pb.ROLE_BUYER),
    "ListApiKeys": roles(pb.ROLE_OPERATOR, pb.ROLE_STEWARD, pb.ROLE_BUYER, verified=False),
    "RevokeApiKey": roles(pb.ROLE_OPERATOR, pb.ROLE_STEWARD, pb.ROLE_BUYER, verified=False),
    "IssueSession": PUBLIC,
    "GetKeySet": PUBLIC,
    "RotateSigningKey": roles(pb.ROLE_OPERATOR),
}

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class IdentityService(identity_pb2_grpc.IdentityServiceServicer):
    """Organizations, keys and sessions."""

    def __init__(self, database: Database, keys: LiveKeyring) -> None:
        self._database = database
        self._keys = keys

    async def RegisterOrganization(
        self, request: pb.RegisterOrganizationRequest, context: Context
    ) -> pb.RegisterOrganizationResponse:
        id, at = request.organization_id, now()
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, id, request, pb.RegisterOrganizationResponse):
                return earlier
            organization = await store.insert_organization(
                connection, id, request.kind, request.display_name, request.contact_email, at
            )
            if organization is None:
                raise Refusal("ORGANIZATION_EXISTS", f"The id {id} is taken.", Kind.EXISTS, organization_id=id)
            api_key = await store.insert_api_key(
                connection,
                new_id("key"),
                id,
                request.key_hash,
                "first key",
                [domain.first_role(request.kind)],
                at,
            )
            if api_key is None:
                raise domain.key_exists()
            reply = pb.RegisterOrganizationResponse(organization=organization, api_key=api_key)
            return await remember(connection, id, request, reply)

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Context) -> pb.Organization:
        async with self._database.read() as connection:
            organization = await store.organization(connection, _mine(request.name))
        if organization is None:
            raise not_found(request.name)
        return organization

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Context
    ) -> pb.ListOrganizationsResponse:
        name = f"organizations?{request.unverified_only}"
        size = paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str, str)
        after = (paging.time_of(position[0]), str(position[1])) if position else None
        async with self._database.read() as connection:
            rows = await store.organizations(connection, after, size + 1, request.unverified_only)
        shown, token = paging.page(
            name, rows, size, lambda row: (from_timestamp(row.create_time).isoformat(), _id(row.name))
        )
        return pb.ListOrganizationsResponse(organizations=shown, next_page_token=token)

    async def VerifyOrganization(self, request: pb.VerifyOrganizationRequest, context: Context) -> pb.Organization:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Organization):
                return earlier
            organization = await store.organization(connection, _id(request.name), lock=True)
            if organization is None:
                raise not_found(request.name)
            if not organization.verified:
                organization = await store.verify_organization(connection, _id(request.name), now())
                await announce(connection, events_pb2.OrganizationVerified(organization=organization))
            return await remember(connection, caller().organization, request, organization)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.ApiKey:
        id = _mine(request.parent)
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.ApiKey):
                return earlier
            organization = await store.organization(connection, id)
            if organization is None:
                raise not_found(request.parent)
            domain.check_roles(organization.kind, list(request.roles))
            if id != caller().organization:
                domain.check_roles_for_others(request.roles)
            expires = from_timestamp(request.expire_time) if request.HasField("expire_time") else None
            api_key = await store.insert_api_key(
                connection, new_id("key"), id, request.key_hash, request.label, request.roles, now(), expires
            )
            if api_key is None:
                raise domain.key_exists()
            return await remember(connection, caller().organization, request, api_key)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        id, size = _mine(request.parent), paging.size(request.page_size)
        position = paging.decode(request.parent, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.api_keys(connection, id, str(position[0]) if position else None, size + 1)
        shown, token = paging.page(request.parent, rows, size, lambda row: (_id(row.name),))
        return pb.ListApiKeysResponse(api_keys=shown, next_page_token=token)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> pb.ApiKey:
        organization, _, key_id = request.name.partition("/apiKeys/")
        id = _mine(organization)
        async with self._database.begin() as connection:
            found = await store.revoke_api_key(connection, id, key_id, now())
            if found is None:
                raise not_found(request.name)
            api_key, revoked = found
            if revoked:
                await announce(connection, events_pb2.KeyRevoked(api_key=api_key))
            return api_key

    async def IssueSession(self, request: pb.IssueSessionRequest, context: Context) -> pb.Session:
        key_hash, at = domain.key_hash(request.secret), now()
        async with self._database.read() as connection:
            holder = domain.check_key(await store.holder_of(connection, key_hash), at)
        principal = Principal(
            organization=_id(holder.organization.name),
            kind=holder.organization.kind,
            key=holder.key.name,
            roles=frozenset(holder.key.roles),
            verified=holder.organization.verified,
            member=holder.key.member,
        )
        claims = claims_of(principal, new_id("ses"), int(at.timestamp()))
        return pb.Session(
            token=self._keys.current.sign_token(SESSION_RULES.token_type, claims),
            expire_time=to_timestamp(at.replace(microsecond=0) + dt.timedelta(seconds=SESSION_LIFE_SECONDS)),
            organization=holder.organization,
            roles=holder.key.roles,
            member=holder.key.member,
        )

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


def _id(name: str) -> str:
    return name.rsplit("/", 1)[1]


def _mine(organization: str) -> str:
    """The bare id of an organization the caller belongs to; another's answers as if it did not exist."""
    if not caller().acts_for(_id(organization)):
        raise not_found(organization)
    return _id(organization)
