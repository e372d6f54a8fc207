"""The door of every service, over real gRPC: who is let in, what a refusal carries, and what our faults tell nobody."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from house import refused
from kit_world import World, heard_table, until

from rochdale.governance.v1 import governance_pb2, membership_pb2, membership_pb2_grpc
from rochdale.identity.v1 import identity_pb2 as pb
from rochdale.identity.v1 import identity_pb2_grpc
from rochdale_kit.boundary import Boundary, check_access_table, validate
from rochdale_kit.identity import PUBLIC, SESSION_LIFE_SECONDS, KeySource, Principal, Sessions, caller, claims_of, roles
from rochdale_kit.refusals import Kind, Refusal, not_found, refusal_of
from rochdale_kit.server import Service
from rochdale_kit.signing import KeySet, SigningKey
from rochdale_kit.telemetry import Telemetry, _JsonLines

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["IdentityService"]
MEMBERSHIP = membership_pb2.DESCRIPTOR.services_by_name["MembershipService"]
ACCESS = {method.name: roles(pb.ROLE_STEWARD) for method in DESCRIPTOR.methods} | {"GetKeySet": PUBLIC}
MEMBERS = {method.name: roles(pb.ROLE_MEMBER) for method in MEMBERSHIP.methods}
KEY = SigningKey.generate()
STEWARD = Principal(
    "acme", pb.ORGANIZATION_KIND_COOPERATIVE, "organizations/acme/k", frozenset({pb.ROLE_STEWARD}), True
)

MEMBER = Principal(
    "acme",
    pb.ORGANIZATION_KIND_COOPERATIVE,
    "organizations/acme/apiKeys/m",
    frozenset({pb.ROLE_MEMBER}),
    True,
    f"cooperatives/acme/members/mem_{'0' * 26}",
)


def session(principal: Principal = STEWARD, key: SigningKey = KEY) -> tuple[tuple[str, str], ...]:
    token = key.sign_token("session+jwt", claims_of(principal, "ses_1", int(time.time())))
    return (("authorization", f"Bearer {token}"),)


class Ring:
    """Keys of which a test decides."""

    def __init__(self, *keys: SigningKey) -> None:
        self.held = list(keys)
        self.later: list[SigningKey] = []
        self.asked = 0

    @property
    def keys(self) -> KeySet:
        documents = ",".join(str(key.public_jwk()).replace("'", '"') for key in self.held)
        return KeySet.from_jwks(f'{{"keys":[{documents}]}}')

    async def refresh(self) -> None:
        self.asked += 1
        await asyncio.sleep(0.05)
        self.held += self.later


class Desk(identity_pb2_grpc.IdentityServiceServicer):
    """Answers GetOrganization with whatever a test wants to happen."""

    act: Callable[[], Awaitable[None]]

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Any) -> pb.Organization:
        await self.act()
        return pb.Organization(name=request.name, display_name=caller().organization)

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Any) -> pb.KeySet:
        await self.act()
        return pb.KeySet(jwks_json="{}")


class Counter(membership_pb2_grpc.MembershipServiceServicer):
    """A second service of the same process: answers GetMember with who asks."""

    async def GetMember(self, request: membership_pb2.GetMemberRequest, context: Any) -> governance_pb2.Member:
        return governance_pb2.Member(name=caller().member, statement=caller().key)


class Door:
    def __init__(self) -> None:
        self.ring = Ring(KEY)
        self.desk = Desk()  # type: ignore[abstract] # the other calls are nobody's here
        self.stub: Any = None
        self.members: Any = None
        self.address = ""

    async def get(self, metadata: Any = None, name: str = "organizations/acme", timeout: float = 10) -> Any:
        return await self.stub.GetOrganization(
            pb.GetOrganizationRequest(name=name), metadata=metadata or session(), timeout=timeout
        )

    def does(self, error: Exception) -> None:
        async def act() -> None:
            raise error

        self.desk.act = act


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    door, telemetry = Door(), Telemetry("kit")

    async def nothing() -> None:
        pass

    def add(server: grpc.aio.Server) -> None:
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(door.desk, server)
        counter = Counter()  # type: ignore[abstract] # the other calls are nobody's here
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(counter, server)

    door.desk.act = nothing
    service = Service("kit", telemetry)
    service.serve_grpc(
        "127.0.0.1:0",
        Boundary({DESCRIPTOR: ACCESS, MEMBERSHIP: MEMBERS}, Sessions(door.ring), telemetry),
        add,
    )
    async with service.running(), grpc.aio.insecure_channel(service.grpc_address) as channel:
        door.address = service.grpc_address
        door.stub = identity_pb2_grpc.IdentityServiceStub(channel)
        door.members = membership_pb2_grpc.MembershipServiceStub(channel)
        yield door


def test_an_rpc_without_an_access_rule_stops_the_start() -> None:
    table = dict(ACCESS)
    del table["IssueSession"]
    with pytest.raises(SystemExit, match="no access rule for IssueSession"):
        check_access_table(DESCRIPTOR, table)
    with pytest.raises(SystemExit, match="names Forgotten"):
        check_access_table(DESCRIPTOR, ACCESS | {"Forgotten": PUBLIC})


async def test_who_is_let_in_and_who_is_not(door: Door) -> None:
    assert (await door.get()).display_name == "acme"
    buyer = Principal("acme", 1, "k", frozenset({pb.ROLE_BUYER}), True)
    newcomer = Principal("acme", 1, "k", frozenset({pb.ROLE_STEWARD}), False)
    async with refused("SESSION_MISSING"):
        await door.stub.GetOrganization(pb.GetOrganizationRequest(name="organizations/acme"))
    async with refused("ROLE_MISSING", method="GetOrganization"):
        await door.get(session(buyer))
    async with refused("ORGANIZATION_NOT_VERIFIED", organization="acme"):
        await door.get(session(newcomer))
    async with refused("SESSION_INVALID"):
        await door.get(session() + session())
    async with refused("SESSION_INVALID"):
        await door.get((("authorization", "Basic abc"),))
    async with refused("REQUEST_INVALID", field="name"):
        await door.get(name="../../etc/passwd")


def test_every_service_of_a_process_has_its_own_table() -> None:
    telemetry = Telemetry("kit")
    boundary = Boundary({DESCRIPTOR: ACCESS, MEMBERSHIP: MEMBERS}, Sessions(Ring(KEY)), telemetry)
    assert boundary.services == [DESCRIPTOR.full_name, MEMBERSHIP.full_name]
    short = {name: rule for name, rule in MEMBERS.items() if name != "EraseMember"}
    with pytest.raises(SystemExit, match="MembershipService has no access rule for EraseMember"):
        Boundary({DESCRIPTOR: ACCESS, MEMBERSHIP: short}, Sessions(Ring(KEY)), telemetry)
    with pytest.raises(SystemExit, match="MembershipService names IssueSession"):
        Boundary({DESCRIPTOR: ACCESS, MEMBERSHIP: MEMBERS | {"IssueSession": PUBLIC}}, Sessions(Ring(KEY)), telemetry)


async def test_two_services_answer_at_one_door_each_to_its_own_callers(door: Door) -> None:
    request = membership_pb2.GetMemberRequest(name=MEMBER.member)
    answer = await door.members.GetMember(request, metadata=session(MEMBER))
    assert (answer.name, answer.statement) == (MEMBER.member, MEMBER.key)
    assert (await door.get()).display_name == "acme"
    async with refused("ROLE_MISSING", method="GetMember"):
        await door.members.GetMember(request, metadata=session())
    async with refused("ROLE_MISSING", method="GetOrganization"):
        await door.get(session(MEMBER))
    async with refused("SESSION_MISSING"):
        await door.members.GetMember(request)
    async with refused("REQUEST_INVALID", field="name"):
        await door.members.GetMember(membership_pb2.GetMemberRequest(name="mem_1"), metadata=session(MEMBER))


async def test_a_service_that_is_not_in_the_table_is_no_call(door: Door) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        call: Any = channel.unary_unary("/rochdale.governance.v1.ProposalService/CastBallot")
        async with refused("CALL_UNKNOWN"):
            await call(b"", metadata=session(MEMBER))


@pytest.mark.parametrize("member", ["", MEMBER.member])
async def test_who_the_member_is_travels_with_the_session(member: str) -> None:
    principal = dataclasses.replace(MEMBER, member=member)
    claims = claims_of(principal, "ses_1", int(time.time()))
    assert ("member" in claims) == bool(member), "a key of the organization says nothing of members"
    token = KEY.sign_token("session+jwt", claims)
    assert await Sessions(Ring(KEY)).principal(token) == principal


@pytest.mark.parametrize("claim", [None, 7, [MEMBER.member], {"name": MEMBER.member}, True])
async def test_a_member_that_is_no_text_is_no_session(claim: object) -> None:
    token = KEY.sign_token("session+jwt", claims_of(STEWARD, "ses_1", int(time.time())) | {"member": claim})
    with pytest.raises(Refusal) as caught:
        await Sessions(Ring(KEY)).principal(token)
    assert caught.value.reason == "SESSION_INVALID"


async def test_a_flood_of_made_up_keys_asks_for_new_ones_once(door: Door) -> None:
    stranger = session(key=SigningKey.generate())

    async def knock() -> None:
        async with refused("SESSION_INVALID"):
            await door.get(stranger)

    await asyncio.gather(*(knock() for _ in range(50)))
    assert door.ring.asked == 1


async def test_after_a_rotation_everybody_who_waits_is_let_in(door: Door) -> None:
    rotated = SigningKey.generate()
    door.ring.later = [rotated]
    await asyncio.gather(*(door.get(session(key=rotated)) for _ in range(10)))
    assert door.ring.asked == 1


async def test_a_session_that_is_remembered_ends_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, token = Sessions(Ring(KEY)), session()[0][1].removeprefix("Bearer ")
    assert await sessions.principal(token) == await sessions.principal(token) == STEWARD
    later = time.time() + SESSION_LIFE_SECONDS + 1
    monkeypatch.setattr("rochdale_kit.identity.time.time", lambda: later)
    with pytest.raises(Refusal) as caught:
        await sessions.principal(token)
    assert caught.value.reason == "SESSION_INVALID"


async def test_identity_is_away_at_the_start_and_comes() -> None:
    source = KeySource("127.0.0.1:1")
    with pytest.raises(Refusal, match="Identity cannot be reached"):
        await source.check()
    with pytest.raises(Refusal) as caught:
        await Sessions(source).principal(session()[0][1].removeprefix("Bearer "))
    assert caught.value.kind is Kind.UNAVAILABLE
    running = asyncio.create_task(source.run())
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()


async def test_a_fault_of_ours_tells_the_caller_a_number_and_the_log_everything(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.does(KeyError("planted-detail"))
    with caplog.at_level(logging.ERROR):
        async with refused("INTERNAL") as caught:
            await door.get()
    [refusal] = caught
    assert "planted-detail" not in str(refusal) + str(refusal.facts)
    lines = [_JsonLines(None).format(record) for record in caplog.records]
    assert any(refusal.facts["trace_id"] in line and "planted-detail" in line for line in lines)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), TimeoutError()], ids=repr)
async def test_a_lost_connection_is_unavailable(door: Door, error: Exception) -> None:
    door.does(error)
    async with refused("SERVICE_UNAVAILABLE"):
        await door.get()


async def test_a_missing_file_of_ours_is_not_called_a_lost_database(door: Door) -> None:
    door.does(FileNotFoundError(2, "no such file", "/etc/nothing"))
    async with refused("INTERNAL"):
        await door.get()


async def test_a_refusal_fits_through_the_door_whatever_it_names(door: Door) -> None:
    door.does(not_found("organizations/" + "\N{BUG}" * 50_000))
    async with refused("NOT_FOUND") as caught:
        await door.get()
    assert caught[0].facts["name"].startswith("organizations/")
    many = {f"fact_{number}": "x" * 400 for number in range(30)}
    door.does(Refusal("MANY", "Many facts.", Kind.STATE, **many))
    async with refused("MANY", fact_0="x" * 400):
        await door.get()


async def test_a_request_over_the_limit_is_too_large_and_not_a_fault(door: Door) -> None:
    async with refused("REQUEST_TOO_LARGE"):
        await door.get(name="x" * 10_000_000)


async def test_another_services_refusal_passes_through_with_its_facts(door: Door) -> None:
    door.does(Refusal("OFFERING_CLOSED", "offerings/x is closed.", Kind.STATE, name="offerings/x"))
    with pytest.raises(grpc.aio.AioRpcError) as first:
        await door.get()
    door.does(first.value)
    async with refused("OFFERING_CLOSED", name="offerings/x") as caught:
        await door.get()
    assert caught[0].message == "offerings/x is closed."
    assert refusal_of(first.value).kind is not Kind.INTERNAL


async def test_a_deadline_cancels_the_handler_and_nothing_of_it_stays(door: Door, world: World) -> None:
    ended = asyncio.Event()

    async def act() -> None:
        try:
            async with world.database.begin() as connection:
                await connection.execute(heard_table.insert().values(label="half done"))
                await asyncio.sleep(60)
        finally:
            ended.set()

    door.desk.act = act
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await door.get(timeout=0.5)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await ended.wait()
    assert await world.heard() == []

    async def nobody_locks() -> bool:
        idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        return bool((await world.query(idle))[0][0] == 0)

    await until(nobody_locks)


async def test_what_nobody_may_call_looks_like_what_does_not_exist(door: Door) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        for path in ("/rochdale.identity.v1.IdentityService/Nothing", "/rochdale.nothing.v1.Nothing/Nothing"):
            async with refused("CALL_UNKNOWN"):
                call: Any = channel.unary_unary(path)
                await call(b"")


async def test_bytes_that_are_no_request_are_refused_and_not_logged(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        call: Any = channel.unary_unary(f"/{DESCRIPTOR.full_name}/GetOrganization")
        async with refused("REQUEST_INVALID"):
            await call(b"\xff" * 100, metadata=session())
        async with refused("SESSION_MISSING"):
            await call(b"\xff" * 100)
    assert not caplog.records


@pytest.mark.parametrize("seconds, nanos", [(2**62, 0), (-(2**63), 0), (1, -5), (253402300800, 0)])
def test_a_time_outside_of_the_calendar_is_no_time(seconds: int, nanos: int) -> None:
    request = pb.CreateApiKeyRequest(expire_time=Timestamp(seconds=seconds, nanos=nanos))
    with pytest.raises(Refusal) as error:
        validate(request)
    assert error.value.reason == "REQUEST_INVALID" and error.value.facts["field"] == "expire_time"


def test_a_time_is_found_wherever_it_is() -> None:
    request = governance_pb2.NarrowSharingRuleRequest()
    request.scope.not_after.seconds = 2**62
    with pytest.raises(Refusal, match=r"scope\.not_after: is no time"):
        validate(request)
