"""Who may read what, now: the one place every door asks. Serving bytes and finding files is not here."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from dataclasses import dataclass
from functools import cached_property

import grpc

from data_gateway.cooperative_key import OwnKeys
from data_gateway.domain.tokens import TokenDetail, read_detail, token_rules, token_scope
from data_gateway.feed import TrustFeed
from data_gateway.grants import Grants, HeldGrant
from data_gateway.keys import RemoteKeys
from data_gateway.revocations import Revocations
from data_gateway.store.trust import OPEN, REFUSED
from rochdale.type.v1 import scope_pb2
from rochdale_kit.clock import now, seconds
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import permits
from rochdale_kit.signing import TokenError, verify_token

log = logging.getLogger(__name__)

CACHE_SIZE = 10_000
# A token can arrive a moment before the event that opens its grant.
GRANT_WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class Leave:
    """By whose right bytes leave, and until when (seconds since 1970)."""

    grant: HeldGrant
    token_id: str
    key_id: str
    expires: float


@dataclass(frozen=True)
class Pass:
    """A genuine token inside its grant. dataset is a resource name; columns are those it opens."""

    leave: Leave
    detail: TokenDetail
    scope: scope_pb2.SharingScope

    @property
    def license(self) -> str:
        return self.detail.license

    @property
    def dataset(self) -> str:
        return self.detail.dataset

    @cached_property
    def columns(self) -> frozenset[str]:
        return frozenset(self.scope.datasets[0].columns)


class Enforcement:
    def __init__(
        self,
        cooperative: str,
        public_url: str,
        keys: RemoteKeys,
        feed: TrustFeed,
        own_keys: OwnKeys,
        grants: Grants,
        revocations: Revocations,
    ) -> None:
        self._rules = token_rules(cooperative)
        self._public_url = public_url
        self._keys = keys
        self._feed = feed
        self._own_keys = own_keys
        self._grants = grants
        self._revocations = revocations
        self._known: dict[str, Pass] = {}

    def forget(self) -> None:
        """Empties the cache of verified tokens."""
        self._known.clear()

    async def admit(self, authorization: list[str]) -> Pass:
        """The pass behind the only Authorization header. Refuses with TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED,
        TOKEN_REVOKED, GRANT_REVOKED, GRANT_ENDED, GRANT_UNKNOWN, RULE_DENIES, COOPERATIVE_KEY_INVALID, FEED_SILENT,
        FEED_BEHIND."""
        token = _token(authorization)
        known = self._known.get(token)
        if known is None:
            known = await self._verify(token)
            if len(self._known) >= CACHE_SIZE:
                # Emptied rather than trimmed: it refills within one request each, and needs no order.
                self._known.clear()
            self._known[token] = known
        try:
            self.require(known.leave)
        except Refusal:
            self._known.pop(token, None)
            raise
        return known

    def require(self, leave: Leave) -> None:
        """Whether bytes may leave at this moment. Asked before the first and while they flow; no lock, no query."""
        current = seconds()
        if current >= leave.expires:
            raise _unauthorized("TOKEN_EXPIRED", "The token has ended.", leave.grant.license)
        self._feed.require()
        self._own_keys.require()
        if self._revocations.token(leave.token_id) or self._revocations.key(leave.key_id):
            raise _unauthorized("TOKEN_REVOKED", "The token was revoked.", leave.grant.license)
        if leave.grant.state == REFUSED:
            raise _grant_unknown(leave.grant.name, leave.grant.license)
        if leave.grant.state != OPEN or self._revocations.grant(leave.grant.name):
            raise _unauthorized(
                "GRANT_REVOKED", "Access under this license was cut off.", leave.grant.license, grant=leave.grant.name
            )
        if current >= leave.grant.end:
            raise _unauthorized("GRANT_ENDED", "The license's term is over.", leave.grant.license)
        if rule := leave.grant.forbidden_by(current):
            raise Refusal(
                "RULE_DENIES",
                f"{rule} forbids access under this license for now. It goes on when that is over.",
                Kind.FORBIDDEN,
                license=leave.grant.license,
                sharing_rule=rule,
            )

    def allows(self, leave: Leave) -> bool:
        try:
            self.require(leave)
        except Refusal:
            return False
        return True

    def require_request(self, holder: Pass, version: int, columns: frozenset[str], mode: int) -> None:
        """Refuses with REQUEST_OUTSIDE_TOKEN, naming each dimension in which the request leaves the token, and how to
        get more."""
        found = permits(
            holder.scope,
            dataset=holder.dataset,
            version=version,
            columns=columns,
            mode=mode,
            purpose=None,  # a request does not say one; the token's purposes bind by contract
            at=now(),
        )
        if found:
            facts = {one.dimension: f"asked: {one.child}; allowed: {one.parent}" for one in found}
            raise Refusal(
                "REQUEST_OUTSIDE_TOKEN",
                f"The token does not open this: {'; '.join(map(str, found))}. If the license does, get another token "
                f"with `{_fix(holder.license)}`.",
                Kind.FORBIDDEN,
                missing=", ".join(facts),
                fix=_fix(holder.license),
                **facts,
            )

    def leave_of(self, grant: str, token_id: str, key_id: str, expires: float) -> Leave:
        """The right behind a signed address."""
        held = self._grants.get(grant)
        if held is None:
            raise Refusal("GRANT_UNKNOWN", "This gateway knows no such grant.", Kind.FORBIDDEN, grant=grant)
        return Leave(held, token_id, key_id, expires)

    async def _verify(self, token: str) -> Pass:
        try:
            try:
                claims = verify_token(token, self._keys.keys, self._rules, seconds())
            except TokenError as error:
                if str(error) != "unknown key":
                    raise
                await self._keys.refresh()
                claims = verify_token(token, self._keys.keys, self._rules, seconds())
            detail = read_detail(claims, self._public_url)
            # The feed first: while nothing is heard, whether a grant exists is not ours to say.
            self._feed.require()
            self._own_keys.require()
            grant = await self._grant(detail)
            if detail.grant_hash != grant.grant_hash:
                raise TokenError("it cites another grant than the one of that name")
            scope = token_scope(grant.scope, detail)
        except TokenError as error:
            raise self._refuse(error) from None
        except Refusal:
            raise
        except grpc.aio.AioRpcError:
            raise self._refuse(TokenError("unknown key, and the broker cannot be asked")) from None
        except Exception as error:  # whatever else a token sets off is a no
            raise self._refuse(TokenError(type(error).__name__)) from None
        expires = min(
            float(claims["exp"]), grant.end, float("inf") if detail.not_after is None else float(detail.not_after)
        )
        return Pass(Leave(grant, claims["jti"], _key_id(token), expires), detail, scope)

    async def _grant(self, detail: TokenDetail) -> HeldGrant:
        grant = self._grants.get(detail.grant) or await self._grants.wait_for(detail.grant, GRANT_WAIT_SECONDS)
        if grant is None or grant.state == REFUSED or grant.license != detail.license:
            raise _grant_unknown(detail.grant, detail.license)
        return grant

    @staticmethod
    def _refuse(error: TokenError) -> Refusal:
        log.info("token refused: %s", error)
        if str(error) == "expired":
            return _unauthorized("TOKEN_EXPIRED", "The token has ended.")
        return _unauthorized("TOKEN_INVALID", "The token is not one that opens anything at this gateway.")


def _grant_unknown(grant: str, license: str) -> Refusal:
    return Refusal(
        "GRANT_UNKNOWN",
        f"This gateway serves no {grant} of {license}: it has not heard of it, or found that it does not stand on what "
        "the members decided.",
        Kind.FORBIDDEN,
        grant=grant,
        license=license,
    )


def _token(authorization: list[str]) -> str:
    if len(authorization) != 1:
        raise _unauthorized("TOKEN_MISSING", "Send exactly one 'Authorization: Bearer …' with an access token.")
    scheme, _, value = authorization[0].strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        # The token as the password: mlcroissant and curl -u send nothing else.
        try:
            return base64.b64decode(value.strip(), validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise _unauthorized("TOKEN_MISSING", "Send an access token as 'Authorization: Bearer …'.")


def _key_id(token: str) -> str:
    """Of a token already verified."""
    header = token.split(".", 1)[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


def _fix(license: str) -> str:
    return f"rochdale token {license or 'LICENSE'}"


def _unauthorized(reason: str, sentence: str, license: str = "", **facts: object) -> Refusal:
    if license:
        facts["license"] = license
    return Refusal(
        reason,
        f"{sentence} Get a token with `{_fix(license)}`, as long as the license lasts.",
        Kind.UNAUTHENTICATED,
        fix=_fix(license),
        **facts,
    )
