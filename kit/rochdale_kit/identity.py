"""Who is calling: sessions verified offline with identity's public keys. Making sessions is identity's own business."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import grpc

from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc
from rochdale_kit.channels import open_channel
from rochdale_kit.clock import seconds
from rochdale_kit.refusals import Kind, Refusal, unavailable
from rochdale_kit.signing import KeySet, TokenError, TokenRules, verify_token

log = logging.getLogger(__name__)

SESSION_LIFE_SECONDS = 15 * 60
SESSION_RULES = TokenRules("session+jwt", "rochdale-identity", "rochdale-market", SESSION_LIFE_SECONDS)
KEY_REFRESH_SECONDS = 30.0
CACHE_SIZE = 10_000

Role = identity_pb2.Role
OrganizationKind = identity_pb2.OrganizationKind


@dataclass(frozen=True)
class Principal:
    """A verified caller. organization is the bare id, such as "valley-health"; key is the API key's resource name; member
    is the resource name of the member behind the key, empty for a key of the organization as a whole."""

    organization: str
    kind: int
    key: str
    roles: frozenset[int]
    verified: bool
    member: str = ""

    @property
    def is_operator(self) -> bool:
        return identity_pb2.ROLE_OPERATOR in self.roles

    def acts_for(self, organization: str) -> bool:
        """Whether the caller belongs to an organization, or operates the market."""
        return self.is_operator or self.organization == organization


_principal: ContextVar[Principal | None] = ContextVar("principal", default=None)


def caller() -> Principal:
    """The verified caller of the RPC being answered. A program fault in a public RPC, which has none."""
    principal = _principal.get()
    assert principal is not None, "this RPC is public and has no caller"
    return principal


def optional_caller() -> Principal | None:
    """The caller of a public RPC, if it sent a session."""
    return _principal.get()


@dataclass(frozen=True)
class Access:
    """One line of an access table: who may call an RPC. No roles means anybody, with or without a session."""

    roles: frozenset[int] = frozenset()
    verified: bool = True

    @property
    def public(self) -> bool:
        return not self.roles


PUBLIC = Access()


def roles(*allowed: int, verified: bool = True) -> Access:
    """Callers with any of these roles; verified=False also lets organizations in that no operator has verified yet."""
    return Access(frozenset(allowed), verified)


def claims_of(principal: Principal, session_id: str, issued: int) -> dict[str, object]:
    """The claims of a session token."""
    return {
        "iss": SESSION_RULES.issuer,
        "aud": SESSION_RULES.audience,
        "sub": principal.key,
        "jti": session_id,
        "iat": issued,
        "exp": issued + SESSION_LIFE_SECONDS,
        "organization": principal.organization,
        "kind": principal.kind,
        "roles": sorted(principal.roles),
        "verified": principal.verified,
        **({"member": principal.member} if principal.member else {}),
    }


class Keys(Protocol):
    """Where public keys come from: identity for everybody else, its own keyring for identity."""

    @property
    def keys(self) -> KeySet: ...

    async def refresh(self) -> None: ...


class KeySource:
    """Identity's public keys, fetched from a configured address (never from one a token names) and refreshed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._keys = KeySet({})
        self._tried = float("-inf")
        self._reached = False
        self._lock = asyncio.Lock()

    @property
    def keys(self) -> KeySet:
        return self._keys

    async def run(self) -> None:
        """Refreshes until canceled."""
        while True:
            try:
                await self.refresh()
            except grpc.aio.AioRpcError as error:
                log.warning("identity's keys cannot be fetched: %s", error.code().name)
            except Refusal:
                pass  # a request has just tried, and failed
            await asyncio.sleep(KEY_REFRESH_SECONDS if len(self._keys) else 0.2)

    async def refresh(self) -> None:
        """Fetches now, unless that was tried within the last second: a flood of unknown key ids costs one call a second.

        Raises AioRpcError when identity cannot be reached, or SERVICE_UNAVAILABLE when it could not be a moment ago.
        """
        async with self._lock:
            if time.monotonic() - self._tried < 1.0 and len(self._keys):
                if not self._reached:
                    raise unavailable("Identity")
                return
            self._reached = False
            async with open_channel(self._address) as channel:
                try:
                    reply = await identity_pb2_grpc.IdentityServiceStub(channel).GetKeySet(
                        identity_pb2.GetKeySetRequest(), timeout=5
                    )
                finally:
                    # After the attempt, which may have taken its five seconds: others wait for it at the lock.
                    self._tried = time.monotonic()
            self._keys = KeySet.from_jwks(reply.jwks_json)
            self._reached = True

    async def check(self) -> None:
        """Raises while no key is known: a service that can verify nobody cannot do its work."""
        if not len(self._keys):
            raise unavailable("Identity")


class Sessions:
    """Verifies session tokens, remembering genuine ones until they end."""

    def __init__(self, source: Keys) -> None:
        self._source = source
        self._known: dict[str, tuple[Principal, float]] = {}
        self._asking = asyncio.Lock()
        self._asked = float("-inf")

    async def principal(self, token: str) -> Principal:
        """The caller behind a token. Refuses with SESSION_INVALID, which never says why: the log does."""
        now = seconds()
        if (known := self._known.get(token)) is not None:
            if now < known[1]:
                return known[0]
            del self._known[token]
        try:
            claims = verify_token(token, self._source.keys, SESSION_RULES, now)
        except TokenError as error:
            if str(error) != "unknown key":
                raise self._refuse(error) from None
            try:
                await self._ask()
                claims = verify_token(token, self._source.keys, SESSION_RULES, now)
            except TokenError as second:
                raise self._refuse(second) from None
            except grpc.aio.AioRpcError:
                raise unavailable("Identity") from None
        principal = _read(claims)
        if len(self._known) >= CACHE_SIZE:
            # Emptied rather than trimmed: it refills within one request each, and needs no order.
            self._known.clear()
        self._known[token] = (principal, float(claims["exp"]))
        return principal

    async def _ask(self) -> None:
        # Once a second: anybody can make up tokens with unknown keys, and identity pays for each look into its database.
        async with self._asking:
            if time.monotonic() - self._asked >= 1.0:
                await self._source.refresh()
                self._asked = time.monotonic()

    @staticmethod
    def _refuse(error: TokenError) -> Refusal:
        log.info("session refused: %s", error)
        return Refusal(
            "SESSION_INVALID", "The session is not valid; exchange your key for a new one.", Kind.UNAUTHENTICATED
        )


def _read(claims: Mapping[str, object]) -> Principal:
    held = claims.get("roles")
    organization, kind, member = claims.get("organization"), claims.get("kind"), claims.get("member", "")
    if not (
        isinstance(held, list) and isinstance(organization, str) and isinstance(kind, int) and isinstance(member, str)
    ):
        raise Refusal(
            "SESSION_INVALID", "The session is not valid; exchange your key for a new one.", Kind.UNAUTHENTICATED
        )
    return Principal(
        organization=organization,
        kind=kind,
        key=str(claims["sub"]),
        roles=frozenset(role for role in held if isinstance(role, int)),
        verified=claims.get("verified") is True,
        member=member,
    )


def authorize(access: Access, principal: Principal | None, method: str) -> None:
    """Refuses a caller that an access table does not let in."""
    if access.public:
        return
    if principal is None:
        raise Refusal(
            "SESSION_MISSING", "This call needs a session; send one as 'authorization: Bearer …'.", Kind.UNAUTHENTICATED
        )
    if not access.roles & principal.roles:
        raise Refusal("ROLE_MISSING", f"Your key has no role that may call {method}.", Kind.FORBIDDEN, method=method)
    if access.verified and not principal.verified:
        raise Refusal(
            "ORGANIZATION_NOT_VERIFIED",
            f"{principal.organization} has not been verified by an operator yet.",
            Kind.FORBIDDEN,
            organization=principal.organization,
        )


def bearer(values: Iterable[str]) -> str | None:
    """The token of the only authorization header; none is None, two are refused."""
    found = list(values)
    if not found:
        return None
    if len(found) > 1 or not found[0].startswith("Bearer "):
        raise Refusal("SESSION_INVALID", "Send exactly one 'authorization: Bearer …'.", Kind.UNAUTHENTICATED)
    return found[0].removeprefix("Bearer ")


class Credentials:
    """A service's own session with the market, from an API key in a file. Renewed before it ends."""

    def __init__(self, identity_address: str, secret: str) -> None:
        self._address = identity_address
        self._secret = secret
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """gRPC metadata with a live session. Raises AioRpcError when identity refuses or cannot be reached."""
        async with self._lock:
            if seconds() >= self._renew_at:
                async with open_channel(self._address) as channel:
                    session = await identity_pb2_grpc.IdentityServiceStub(channel).IssueSession(
                        identity_pb2.IssueSessionRequest(secret=self._secret), timeout=5
                    )
                self._token = session.token
                self._renew_at = session.expire_time.seconds - 120
        return (("authorization", f"Bearer {self._token}"),)
