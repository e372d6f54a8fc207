"""Tokens: what they say, how they narrow, that a retry gets the same one, and that somebody else's library agrees."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
import sqlalchemy as sa
from broker_market import DAY, Deal, Market, Site, claims_of
from house import Person, refused, request_id
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet as JoseKeySet

from access_broker.domain import tokens
from access_broker.domain.tokens import HeldGrant, Issuance
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.type.v1 import money_pb2, scope_pb2
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import Database
from rochdale_kit.refusals import Refusal
from rochdale_kit.scope import escapes
from rochdale_kit.signing import MAX_TOKEN_BYTES, KeySet, SigningKey, TokenRules, verify_token


async def opened(market: Market, site: Site, buyer: Person, *datasets: str, **changes: Any) -> Deal:
    deal = market.deal(site, buyer, *datasets, **changes)
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN
    return deal


def rules_for(site: Site) -> TokenRules:
    return TokenRules("at+jwt", "rochdale-access-broker", f"gateways/{site.id}", tokens.MAX_TTL_SECONDS)


async def keys_of(market: Market) -> str:
    reply = await market.broker.GetKeySet(pb.GetKeySetRequest())
    return str(reply.jwks_json)


async def test_a_token_says_what_the_grant_opens(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    issued = await market.issue(buyer, deal)
    claims = verify_token(issued.token, KeySet.from_jwks(await keys_of(market)), rules_for(site), time.time())
    detail = claims.pop("authorization_details")[0]
    assert claims == {
        "iss": "rochdale-access-broker",
        "aud": f"gateways/{site.id}",
        "sub": f"organizations/{buyer.organization}",
        "client_id": claims["client_id"],
        "iat": issued.expire_time.seconds - 900,
        "exp": issued.expire_time.seconds,
        "jti": issued.token_id,
    }
    assert claims["client_id"].startswith(f"organizations/{buyer.organization}/apiKeys/key_")
    assert detail == {
        "type": "rochdale_dataset",
        "locations": [issued.gateway_url],
        "license": deal.license.name,
        "grant": (await market.grant_of(deal)).name,
        "grant_hash": (await market.grant_of(deal)).grant_hash,
        "dataset": site.dataset(),
        "first_version": 1,
        "last_version": 0,
        "mode": "ACCESS_MODE_DOWNLOAD",
        "purposes": ["ResearchAndDevelopment"],
        "actions": ["USE_ACTION_ANALYZE", "USE_ACTION_PRETRAIN"],
    }
    assert (issued.gateway, issued.gateway_url) == (f"gateways/{site.id}", f"http://{site.id}.example")
    assert issued.scope == deal.terms.scope


async def test_a_library_that_never_saw_our_code_verifies_it(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    issued = await market.issue(buyer, deal, columns=["age"], version=3, mode=scope_pb2.ACCESS_MODE_STREAM)
    keys = JoseKeySet.import_key_set(json.loads(await keys_of(market)))
    with pytest.warns(match="EdDSA"):
        decoded = jwt.decode(issued.token, keys, algorithms=["EdDSA"])
    assert decoded.header["typ"] == "at+jwt"
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": "rochdale-access-broker"},
        aud={"essential": True, "value": f"gateways/{site.id}"},
        sub={"essential": True, "value": f"organizations/{buyer.organization}"},
        exp={"essential": True},
        iat={"essential": True},
        jti={"essential": True},
    ).validate(decoded.claims)
    (detail,) = decoded.claims["authorization_details"]
    assert (detail["columns"], detail["mode"]) == (["age"], "ACCESS_MODE_STREAM")
    assert (detail["first_version"], detail["last_version"]) == (3, 3)
    assert list(issued.scope.datasets[0].columns) == ["age"]


async def test_wider_than_the_grant_is_refused_naming_each_dimension(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer, max_mode=scope_pb2.ACCESS_MODE_STREAM)
    async with refused("TOKEN_OUTSIDE_GRANT", escapes="columns, max_mode"):
        await market.issue(buyer, deal, columns=["age", "name"], mode=scope_pb2.ACCESS_MODE_DOWNLOAD)
    async with refused("TOKEN_OUTSIDE_GRANT", escapes="datasets"):
        await market.issue(buyer, deal, dataset=site.dataset("secrets"))
    async with refused("TOKEN_OUTSIDE_GRANT", escapes="max_mode"):
        await market.issue(buyer, deal, mode=99)
    async with refused("TTL_TOO_SHORT", min_ttl_seconds="60"):
        await market.issue(buyer, deal, ttl_seconds=59)
    async with refused("REQUEST_INVALID", field="ttl_seconds"):
        await market.issue(buyer, deal, ttl_seconds=86_401)


async def test_a_token_opens_one_dataset_of_several(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer, "claims", "visits")
    async with refused("DATASET_NOT_NAMED"):
        await market.issue(buyer, deal)
    issued = await market.issue(buyer, deal, dataset=site.dataset("visits"))
    assert [part.dataset for part in issued.scope.datasets] == [site.dataset("visits")]
    assert claims_of(issued.token)["authorization_details"][0]["dataset"] == site.dataset("visits")


async def test_a_token_never_outlives_its_grant(market: Market, site: Site, buyer: Person) -> None:
    deal = market.deal(site, buyer)
    deal.license.end_time.seconds = int(time.time()) + 2
    assert (await market.activate(deal)).state == pb.GRANT_STATE_OPEN
    issued = await market.issue(buyer, deal, ttl_seconds=DAY)
    assert issued.expire_time == deal.license.end_time
    await asyncio.sleep(max(0, deal.license.end_time.seconds - time.time()))
    async with refused("GRANT_NOT_OPEN"):
        await market.issue(buyer, deal)
    reply = await market.broker.ListGrantChains(
        pb.ListGrantChainsRequest(page_size=1000), metadata=site.gateway.metadata
    )
    assert deal.license.name not in [chain.grant.license for chain in reply.chains]


async def test_a_retry_gets_the_same_token_and_another_request_is_refused(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = await opened(market, site, buyer)
    id = request_id()
    first = await market.issue(buyer, deal, request_id=id, columns=["age"])
    await asyncio.sleep(1.1)  # long enough that a token made anew would end later
    assert await market.issue(buyer, deal, request_id=id, columns=["age"]) == first
    async with refused("REQUEST_ID_REUSED", request_id=id):
        await market.issue(buyer, deal, request_id=id, columns=["region"])
    at_once = await asyncio.gather(*(market.issue(buyer, deal, request_id="one-wish-only") for _ in range(30)))
    assert len({issued.token for issued in at_once}) == 1
    # Another organization's ids are its own.
    other = await market.house.buyer("namesake")
    elsewhere = await opened(market, site, other)
    assert (await market.issue(other, elsewhere, request_id=id)).token_id != first.token_id


async def test_sixty_at_once_get_sixty_tokens(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    issued = await asyncio.gather(*(market.issue(buyer, deal) for _ in range(60)))
    assert len({one.token_id for one in issued}) == 60


async def test_connections_that_died_while_nobody_asked_cost_no_token(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = await opened(market, site, buyer)
    database = Database(await market.house.database_url("access_broker"))
    for _ in range(2):
        async with database.begin() as connection:
            await connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'"
                )
            )
        issued = await asyncio.gather(*(market.issue(buyer, deal) for _ in range(5)))
        assert len({one.token_id for one in issued}) == 5
    await database.close()


async def test_only_the_holder_is_given_a_token(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    await market.issue(buyer, deal)
    stranger = await market.house.buyer("curious")
    async with refused("NOT_FOUND", name=deal.license.name):
        await market.issue(stranger, deal)
    async with refused("NOT_FOUND"):
        await market.issue(stranger, market.deal(site, stranger))
    for person in (site.steward, site.gateway, await market.house.operator()):
        async with refused("ROLE_MISSING"):
            await market.issue(person, deal)


async def test_without_a_gateway_there_is_nowhere_to_send_a_buyer(market: Market, buyer: Person) -> None:
    site = await market.site("homeless", registered=False)
    deal = await opened(market, site, buyer)
    id = request_id()
    async with refused("GATEWAY_UNKNOWN", gateway=f"gateways/{site.id}"):
        await market.issue(buyer, deal, request_id=id)
    async with refused("NOT_FOUND"):
        await market.broker.GetGateway(pb.GetGatewayRequest(name=f"gateways/{site.id}"))
    for url in ("http://a.example", "https://b.example"):
        said = await market.broker.RegisterGateway(
            pb.RegisterGatewayRequest(public_url=url, control_address="b.example:1"), metadata=site.gateway.metadata
        )
    assert await market.broker.GetGateway(pb.GetGatewayRequest(name=f"gateways/{site.id}")) == said
    assert (await market.issue(buyer, deal, request_id=id)).gateway_url == "https://b.example"
    async with refused("ROLE_MISSING"):
        await market.broker.RegisterGateway(
            pb.RegisterGatewayRequest(public_url="http://x", control_address="x:1"), metadata=site.steward.metadata
        )


async def test_a_suspended_or_closed_grant_gives_no_token_not_even_the_same_one(
    market: Market, site: Site, buyer: Person
) -> None:
    deal = await opened(market, site, buyer)
    id = request_id()
    await market.issue(buyer, deal, request_id=id)
    await market.tell(licensing_events.LicenseSuspended(license=deal.license))
    await market.grant_of(deal, pb.GRANT_STATE_SUSPENDED)
    for again in (id, request_id()):
        async with refused("GRANT_NOT_OPEN", state="SUSPENDED"):
            await market.issue(buyer, deal, request_id=again)
    await market.terminate(deal)
    for again in (id, request_id()):
        async with refused("GRANT_NOT_OPEN", state="CLOSED", state_reason="LICENSE_TERMINATED"):
            await market.issue(buyer, deal, request_id=again)


async def test_rotation_keeps_living_tokens_alive(market: Market, site: Site, buyer: Person) -> None:
    deal = await opened(market, site, buyer)
    id, operator = request_id(), await market.house.operator()
    published = json.loads(await keys_of(market))["keys"]
    before = await market.issue(buyer, deal, request_id=id, ttl_seconds=DAY)
    request = pb.RotateSigningKeyRequest(request_id=request_id())
    replies = [await market.broker.RotateSigningKey(request, metadata=operator.metadata) for _ in range(2)]
    assert replies[0] == replies[1]
    after = await market.issue(buyer, deal)
    again = await market.issue(buyer, deal, request_id=id, ttl_seconds=DAY)
    assert (again.token_id, again.expire_time) == (before.token_id, before.expire_time)
    key_id = json.loads(jwt_header(after.token))["kid"]
    # The key that signs now was published before it signed anything: a gateway knows it already.
    assert key_id == published[1]["kid"] != json.loads(jwt_header(before.token))["kid"]
    keys = KeySet.from_jwks(await keys_of(market))
    for issued in (before, after, again):
        assert verify_token(issued.token, keys, rules_for(site), time.time())["jti"] == issued.token_id
    async with refused("ROLE_MISSING"):
        await market.broker.RotateSigningKey(request, metadata=buyer.metadata)


def jwt_header(token: str) -> bytes:

    head = token.split(".")[0]
    return base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))


COLUMNS = ["age", "region", "visits", "cost"]


def held(*columns: str, **changes: Any) -> HeldGrant:
    part = scope_pb2.DatasetScope(dataset="cooperatives/x/datasets/a", first_version=2, last_version=5)
    part.columns.extend(columns or COLUMNS)
    scope = scope_pb2.SharingScope(
        categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC],
        purposes=["AcademicResearch"],
        actions=[scope_pb2.USE_ACTION_ANALYZE],
        max_mode=scope_pb2.ACCESS_MODE_STREAM,
        floor_price=money_pb2.Money(currency="EUR"),
        territories=["WORLD"],
        max_duration_seconds=1,
    )
    scope.datasets.append(part)
    for name, value in changes.items():
        setattr(scope, name, value)
    license = f"licenses/{new_id('lic')}"
    return HeldGrant(new_id("gra"), license, "x", "acme", scope, now(), "0" * 64)


@given(
    dataset=st.sampled_from(["", "cooperatives/x/datasets/a", "cooperatives/x/datasets/b"]),
    version=st.integers(0, 7),
    columns=st.lists(st.sampled_from([*COLUMNS, "name", ""]), unique=True),
    mode=st.integers(0, 8),
)
def test_narrowing_gives_exactly_what_was_asked_or_refuses(
    dataset: str, version: int, columns: list[str], mode: int
) -> None:
    grant = held()
    request = pb.IssueTokenRequest(dataset=dataset, version=version, columns=columns, mode=mode)  # type: ignore[arg-type]
    inside = (
        not dataset.endswith("/b")
        and (version == 0 or 2 <= version <= 5)
        and set(columns) <= set(COLUMNS)
        and mode <= scope_pb2.ACCESS_MODE_STREAM
    )
    if not inside:
        with pytest.raises(Refusal) as caught:
            tokens.narrow(grant, request)
        assert caught.value.reason == "TOKEN_OUTSIDE_GRANT" and caught.value.facts["escapes"]
        return
    scope = tokens.narrow(grant, request)
    assert escapes(grant.scope, scope) == []
    (part,) = scope.datasets
    assert (part.first_version, part.last_version) == ((version, version) if version else (2, 5))
    assert list(part.columns) == (columns or COLUMNS)
    assert scope.max_mode == (mode or scope_pb2.ACCESS_MODE_STREAM)


@given(columns=st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=200), more=st.booleans())
def test_whatever_the_columns_a_token_fits_or_is_refused(columns: list[str], more: bool) -> None:
    grant = held(*columns, *(["and another"] if more else []))
    request = pb.IssueTokenRequest(columns=columns)
    if "and another" in columns:
        return
    try:
        scope = tokens.narrow(grant, request)
    except Refusal as refusal:
        assert refusal.reason == "TOKEN_TOO_LARGE" and more
        return
    require_readable(grant, scope)


def test_the_longest_names_of_everything_still_fit() -> None:
    """The bound on lists is what the longest of everything else leaves."""
    size = (tokens.MAX_LIST_BYTES - len('["AcademicResearch"]')) // len('"cccc",')
    columns = [f"{number:04d}" for number in range(size)]
    grant = held(*columns, "one more")
    object.__setattr__(grant, "cooperative", "c" * 40)
    object.__setattr__(grant, "holder", "h" * 40)
    grant.scope.datasets[0].dataset = f"cooperatives/{'c' * 40}/datasets/{'d' * 62}"
    grant.scope.datasets[0].last_version = 2**31 - 1
    grant.scope.actions[:] = [action for action in scope_pb2.UseAction.values() if action]
    grant.scope.not_before.seconds, grant.scope.not_after.seconds = 1, 253402300799
    scope = tokens.narrow(grant, pb.IssueTokenRequest(columns=columns))
    require_readable(grant, scope)
    with pytest.raises(Refusal, match="room for 2300 bytes"):
        more = [*columns, "one more"]
        tokens.narrow(held(*more, "and another"), pb.IssueTokenRequest(columns=more))
    # All of the grant's, however many, are meant by leaving them out.
    everything = tokens.narrow(grant, pb.IssueTokenRequest(columns=[*columns, "one more"]))
    assert tokens.listed_columns(grant, everything) is None


def require_readable(grant: HeldGrant, scope: scope_pb2.SharingScope) -> None:
    at = now().replace(microsecond=0)
    key, client = SigningKey.generate(), f"organizations/{grant.holder}/apiKeys/{new_id('key')}"
    issuance = Issuance(new_id("tok"), grant.holder, "r", b"", grant.id, client, at, at.replace(year=at.year + 1))
    claims = tokens.claims(grant, issuance, scope, "http://" + "u" * 493)
    token = key.sign_token(tokens.TOKEN_TYPE, claims)
    assert len(token) <= MAX_TOKEN_BYTES
    keys = KeySet.from_jwks(json.dumps({"keys": [key.public_jwk()]}))
    rules = TokenRules("at+jwt", tokens.ISSUER, f"gateways/{grant.cooperative}", 400 * DAY)
    assert verify_token(token, keys, rules, at.timestamp()) == claims
