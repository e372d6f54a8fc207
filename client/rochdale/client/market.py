"""A market to talk to: where its services are, the session, and one way of calling. It knows no command and no file of data."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from rochdale.access_broker.v1 import access_broker_pb2, access_broker_pb2_grpc
from rochdale.billing.v1 import billing_pb2_grpc, dividends_pb2_grpc, treasury_pb2_grpc
from rochdale.catalog.v1 import catalog_pb2_grpc
from rochdale.client.keys import read_key_file
from rochdale.client.refusals import MarketError, from_grpc
from rochdale.client.renewal import Renewable
from rochdale.client.transport import within_machine
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.governance.v1 import governance_pb2_grpc, membership_pb2_grpc, proposals_pb2_grpc
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale.licensing.v1 import licensing_pb2_grpc

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

DEFAULT_MARKET_FILE = Path("~/.rochdale/market.json")
SERVICES = ("identity", "governance", "catalog", "licensing", "billing", "access_broker")

# Every RPC may be said twice: reads by nature, changes by their request_id. So a service that is just being restarted
# is simply asked again, for about seven seconds in all.
_RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 3.0)

_CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Left at gRPC's usual second, a retry within it would fail without trying.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A file for a bank has about 330 bytes a payment: gRPC's usual 4 MiB end at thirteen thousand members.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What market.json says. Service names are those of SERVICES, addresses "host:port"."""

    file: Path
    services: dict[str, str]
    storefront: str | None
    stripe: str | None
    operator_key_file: Path | None


@dataclass(frozen=True, slots=True)
class Session:
    """Who the key speaks for, and the token that says so."""

    token: str
    expires_at: float
    organization: str
    roles: tuple[str, ...]
    member: str = ""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A cooperative's gateway: HTTP for bytes at `public_url`, gRPC for stewards through `control`."""

    public_url: str
    control_address: str
    control: data_gateway_pb2_grpc.DataGatewayServiceStub


def market_file(path: Path | None = None) -> Path:
    """The file that says where the market is: `path`, else ROCHDALE_MARKET, else ~/.rochdale/market.json."""
    return Path(path or os.environ.get("ROCHDALE_MARKET") or DEFAULT_MARKET_FILE).expanduser()


def read_addresses(path: Path | None = None) -> Addresses:
    """Reads market.json. Refuses with MARKET_NOT_FOUND, MARKET_FILE_INVALID."""
    file = market_file(path)
    facts = {"path": str(file)}
    try:
        data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise MarketError(
            "MARKET_NOT_FOUND",
            f"No market is known: {file} does not exist. Start one with `rochdale up`, or name its market.json with "
            "--market or ROCHDALE_MARKET.",
            facts,
        ) from None
    except (OSError, ValueError):
        raise MarketError("MARKET_FILE_INVALID", f"{file} cannot be read as JSON.", facts) from None
    services = data.get("services") if isinstance(data, dict) else None
    if not isinstance(services, dict) or data.get("version") != 1:
        raise MarketError("MARKET_FILE_INVALID", f"{file} is not a market file of version 1.", facts)
    if missing := [name for name in SERVICES if not isinstance(services.get(name), str)]:
        raise MarketError("MARKET_FILE_INVALID", f"{file} names no address of {', '.join(missing)}.", facts)
    operator_key_file = data.get("operator_key_file")
    return Addresses(
        file=file,
        services={str(name): str(address) for name, address in services.items()},
        storefront=data.get("storefront"),
        stripe=data.get("stripe"),
        operator_key_file=Path(operator_key_file).expanduser() if operator_key_file else None,
    )


def open_channel(address: str) -> grpc.Channel:
    """A channel to "host:port". Secrets travel in the clear only within one machine; anywhere else it is TLS."""
    host = address.rpartition(":")[0].strip("[]")
    if within_machine(host):
        return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(), options=_CHANNEL_OPTIONS)


class Market:
    """The services of one market, called as one organization or, without a secret, as anybody.

    Use it as a context manager, or close it. Safe to use from many threads.
    """

    def __init__(self, addresses: Addresses, secret: str | None = None) -> None:
        self.addresses = addresses
        self._secret = secret
        self._channels: dict[str, grpc.Channel] = {}
        self.sessions: Renewable[Session] = Renewable(self._issue_session)

    @classmethod
    def open(cls, market: Path | None = None, key_file: Path | None = None) -> Self:
        """Opens the market of a market.json with the key in `key_file`, else ROCHDALE_KEY_FILE, else no key at all."""
        addresses = read_addresses(market)
        named = key_file or os.environ.get("ROCHDALE_KEY_FILE")
        return cls(addresses, read_key_file(Path(named).expanduser()) if named else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    @cached_property
    def identity(self) -> identity_pb2_grpc.IdentityServiceStub:
        return identity_pb2_grpc.IdentityServiceStub(self._channel(self.addresses.services["identity"]))

    @cached_property
    def governance(self) -> governance_pb2_grpc.GovernanceServiceStub:
        return governance_pb2_grpc.GovernanceServiceStub(self._channel(self.addresses.services["governance"]))

    @cached_property
    def proposals(self) -> proposals_pb2_grpc.ProposalServiceStub:
        return proposals_pb2_grpc.ProposalServiceStub(self._channel(self.addresses.services["governance"]))

    @cached_property
    def membership(self) -> membership_pb2_grpc.MembershipServiceStub:
        return membership_pb2_grpc.MembershipServiceStub(self._channel(self.addresses.services["governance"]))

    @cached_property
    def catalog(self) -> catalog_pb2_grpc.CatalogServiceStub:
        return catalog_pb2_grpc.CatalogServiceStub(self._channel(self.addresses.services["catalog"]))

    @cached_property
    def licensing(self) -> licensing_pb2_grpc.LicensingServiceStub:
        return licensing_pb2_grpc.LicensingServiceStub(self._channel(self.addresses.services["licensing"]))

    @cached_property
    def billing(self) -> billing_pb2_grpc.BillingServiceStub:
        return billing_pb2_grpc.BillingServiceStub(self._channel(self.addresses.services["billing"]))

    @cached_property
    def treasury(self) -> treasury_pb2_grpc.TreasuryServiceStub:
        return treasury_pb2_grpc.TreasuryServiceStub(self._channel(self.addresses.services["billing"]))

    @cached_property
    def dividends(self) -> dividends_pb2_grpc.DividendServiceStub:
        return dividends_pb2_grpc.DividendServiceStub(self._channel(self.addresses.services["billing"]))

    @cached_property
    def access_broker(self) -> access_broker_pb2_grpc.AccessBrokerServiceStub:
        return access_broker_pb2_grpc.AccessBrokerServiceStub(self._channel(self.addresses.services["access_broker"]))

    def gateway(self, cooperative: str) -> Gateway:
        """The gateway of "cooperatives/{cooperative}". Refuses with NOT_FOUND until it has registered."""
        request = access_broker_pb2.GetGatewayRequest(name=f"gateways/{cooperative.removeprefix('cooperatives/')}")
        found = self.call(self.access_broker.GetGateway, request)
        control = data_gateway_pb2_grpc.DataGatewayServiceStub(self._channel(found.control_address))
        return Gateway(found.public_url, found.control_address, control)

    @property
    def organization(self) -> str:
        """The id of the organization the key speaks for. Refuses with KEY_MISSING, KEY_INVALID."""
        return self.session().organization.removeprefix("organizations/")

    @property
    def member(self) -> str:
        """Resource name of the member the key speaks for. Refuses with KEY_MISSING, KEY_INVALID, KEY_OF_NO_MEMBER."""
        if member := self.session().member:
            return member
        raise MarketError(
            "KEY_OF_NO_MEMBER",
            f"This key speaks for {self.organization} as a whole, and this is for members. Name a member's key with "
            "--key-file; `rochdale member join` makes one.",
            {"organization": self.organization},
        )

    def session(self) -> Session:
        """The current session, renewed when it is about to end. Refuses with KEY_MISSING, KEY_INVALID."""
        return self.sessions.current()

    def call(self, method: grpc.UnaryUnaryMultiCallable[Q, R], request: Q, timeout_seconds: float = 30.0) -> R:
        """Calls `method` in the name of the key, if there is one. Raises MarketError for every refusal and failure.

        A service that is unavailable is asked again with the same request; a session refused is exchanged once.
        """
        if self._secret is None:
            try:
                return self._attempt(method, request, timeout_seconds, None)
            except MarketError as error:
                if error.reason != "SESSION_MISSING":
                    raise
                raise _key_missing() from None
        session = self.session()
        try:
            return self._attempt(method, request, timeout_seconds, session)
        except _SessionRefusedError:
            return self._attempt(method, request, timeout_seconds, self.sessions.replace(session), last=True)

    def _attempt(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        timeout_seconds: float,
        session: Session | None,
        last: bool = False,
    ) -> R:
        metadata = (("authorization", f"Bearer {session.token}"),) if session else ()
        delays = iter(_RETRY_DELAYS_SECONDS)
        while True:
            try:
                return method(request, timeout=timeout_seconds, metadata=metadata)
            except grpc.RpcError as error:
                code = error.code()
                refusal = from_grpc(error, str(self.addresses.file))
                if code == grpc.StatusCode.UNAUTHENTICATED and session and not last:
                    raise _SessionRefusedError from None
                delay = next(delays, None) if code == grpc.StatusCode.UNAVAILABLE else None
                if delay is None:
                    raise refusal from None
                time.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311  # spreads retries, guards nothing

    def _issue_session(self) -> Session:
        if self._secret is None:
            raise _key_missing()
        request = identity_pb2.IssueSessionRequest(secret=self._secret)
        issued = self._attempt(self.identity.IssueSession, request, 30.0, None)
        roles = tuple(identity_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in issued.roles)
        return Session(issued.token, float(issued.expire_time.seconds), issued.organization.name, roles, issued.member)

    def _channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address)
        return self._channels[address]


def _key_missing() -> MarketError:
    return MarketError(
        "KEY_MISSING",
        "This needs an API key. Name its file with --key-file or ROCHDALE_KEY_FILE; "
        "`rochdale organization register` makes the first one.",
    )


class _SessionRefusedError(Exception):
    """The session was refused; a new one may be accepted."""
