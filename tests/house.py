"""The services a test asks for, each real: own database, own settings, over the session's PostgreSQL and nats-server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
import os
import secrets
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from rochdale.identity.v1 import identity_pb2 as pb
from rochdale.identity.v1 import identity_pb2_grpc
from rochdale_kit.database import migrate
from rochdale_kit.refusals import Refusal, refusal_of
from rochdale_kit.server import Service
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from rochdale_local.rooms import SERVED_BY_ANOTHER_ROLE

# A part that was killed is asked again at once; the default waits a second, then longer and longer.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 50),
]


def new_secret() -> str:
    """A key as the client makes it."""
    body = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"rochdale_{body}_{zlib.crc32(body.encode()):08x}"


def request_id() -> str:
    return secrets.token_urlsafe(12)


@dataclass(frozen=True)
class Person:
    """Somebody with a session: pass metadata with a call."""

    organization: str
    secret: str
    metadata: tuple[tuple[str, str], ...]


@contextlib.asynccontextmanager
async def refused(reason: str, **facts: str) -> AsyncIterator[list[Refusal]]:
    """Expects the block to be refused over gRPC with this reason, and at least these facts; yields it in a list."""
    caught: list[Refusal] = []
    with pytest.raises(grpc.aio.AioRpcError) as error:
        yield caught
    refusal = refusal_of(error.value)
    assert refusal.reason == reason, refusal
    assert facts.items() <= refusal.facts.items(), refusal.facts
    caught.append(refusal)


class People:
    """Organizations and their sessions, at whatever identity service `address` names."""

    def __init__(self, operator_secret: str) -> None:
        self.operator_secret = operator_secret
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._second_operator: Person | None = None

    def address(self, package: str) -> str:
        """Where a service answers gRPC."""
        raise LookupError(package)

    def channel(self, package: str) -> grpc.aio.Channel:
        address = self.address(package)
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        return self._channels[address]

    async def close_channels(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    @property
    def identity(self) -> Any:
        return identity_pb2_grpc.IdentityServiceStub(self.channel("identity"))

    async def session(self, organization: str, secret: str) -> Person:
        session = await self.identity.IssueSession(pb.IssueSessionRequest(secret=secret))
        return Person(organization, secret, (("authorization", f"Bearer {session.token}"),))

    async def operator(self) -> Person:
        return await self.session("operator", self.operator_secret)

    async def operators(self) -> list[Person]:
        """Two operators with keys of their own, as an attestation by hand needs; the same two each time."""
        first = await self.operator()
        if self._second_operator is None:
            self._second_operator = await self.colleague(first, pb.ROLE_OPERATOR)
            return [first, self._second_operator]
        # A session ends after a quarter of an hour, a key does not.
        return [first, await self.session("operator", self._second_operator.secret)]

    async def steward(self, organization: str) -> Person:
        """The first steward of a new, verified cooperative organization."""
        return await self._join(organization, pb.ORGANIZATION_KIND_COOPERATIVE)

    async def buyer(self, organization: str) -> Person:
        """A new, verified buyer."""
        return await self._join(organization, pb.ORGANIZATION_KIND_BUYER)

    async def colleague(self, person: Person, *roles: pb.Role.ValueType) -> Person:
        """Another key of the same organization, by default with the roles of a steward."""
        secret = new_secret()
        await self.identity.CreateApiKey(
            pb.CreateApiKeyRequest(
                request_id=request_id(),
                parent=f"organizations/{person.organization}",
                key_hash=hashlib.sha256(secret.encode()).digest(),
                label="colleague",
                roles=roles or (pb.ROLE_STEWARD,),
            ),
            metadata=person.metadata,
        )
        return await self.session(person.organization, secret)

    async def _join(self, organization: str, kind: pb.OrganizationKind.ValueType) -> Person:
        secret, operator = new_secret(), await self.operator()
        await self.identity.RegisterOrganization(
            pb.RegisterOrganizationRequest(
                request_id=request_id(),
                organization_id=organization,
                kind=kind,
                display_name=organization.title(),
                contact_email=f"desk@{organization}.example",
                key_hash=hashlib.sha256(secret.encode()).digest(),
            )
        )
        await self.identity.VerifyOrganization(
            pb.VerifyOrganizationRequest(request_id=request_id(), name=f"organizations/{organization}"),
            metadata=operator.metadata,
        )
        return await self.session(organization, secret)


class House(People):
    """Starts services in this process. Every House has databases of its own, on streams of the shared nats-server."""

    def __init__(self, postgres: Postgres, nats: NatsServer, folder: Path) -> None:
        super().__init__(new_secret())
        self.postgres = postgres
        self.nats = nats
        self.folder = folder
        self.tag = secrets.token_hex(4)
        self.services: dict[str, Service] = {}

    async def database_url(self, package: str) -> str:
        """A database of the service's own, migrated, as the role that serves."""
        name = f"{package}_{self.tag}"
        role = f"{name}_service" if package in SERVED_BY_ANOTHER_ROLE else ""
        await self.postgres.ensure_database(name, name, "test", role, "test")
        migrations = importlib.import_module(f"{package}.main").MIGRATIONS
        if migrations is not None:
            await migrate(self.owner_url(package), migrations, role)
        return self.postgres.dsn(name, role or name, "test")

    def owner_url(self, package: str) -> str:
        """The same database, as the role that migrates it."""
        name = f"{package}_{self.tag}"
        return self.postgres.dsn(name, name, "test")

    async def start(self, package: str, **settings: Any) -> Service:
        """Builds and starts one service by its package name and waits until it is healthy."""
        config = importlib.import_module(f"{package}.config").Config
        if "sealing_key_file" in config.model_fields:
            sealing = self.folder / "sealing.key"
            if not sealing.exists():
                sealing.write_bytes(os.urandom(32))
            settings.setdefault("sealing_key_file", str(sealing))
        if package == "identity":
            settings.setdefault("operator_key_hash", hashlib.sha256(self.operator_secret.encode()).hexdigest())
        elif "identity_address" in config.model_fields and "identity" in self.services:
            settings.setdefault("identity_address", self.services["identity"].grpc_address)
        if "database_url" in config.model_fields:
            settings.setdefault("database_url", await self.database_url(package))
            settings.setdefault("nats_url", self.nats.url())
        service: Service = await importlib.import_module(f"{package}.main").build(config(**settings))
        await service.start()
        await service.healthy.wait()
        self.services[package] = service
        return service

    async def stop(self) -> None:
        await self.close_channels()
        for service in reversed(self.services.values()):
            await service.stop()

    def address(self, package: str) -> str:
        return self.services[package].grpc_address
