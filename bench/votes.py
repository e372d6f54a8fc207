"""10,000 members vote, each with a session of their own, against bare transactions of two inserts into the same server."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import asyncpg
import grpc

from bench.rows import Line, Reading, Row, Turns, side
from bench.stage import REPETITIONS, Servers, Stage, servers
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import governance_pb2_grpc, proposals_pb2_grpc
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.database import Database
from rochdale_kit.identity import SESSION_RULES, Principal, claims_of
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.signing import SigningKey

IN_FLIGHT = 64
CONNECTIONS = 8
NAME = "cooperatives/valley-health"


async def run(stage: Stage) -> list[Line]:
    voters = stage.size(10_000, 60)
    async with servers(stage.home("votes")) as running:
        rooms = running.rooms()
        for package in ("identity", "governance"):
            await running.prepare(rooms[package])
            await running.runner.start(rooms[package])
        hall = await _Hall.open(running, voters)
        bare = await _Bare.open(running)
        try:
            taken = await Turns(REPETITIONS, stage.say).take(
                {"votes": hall.everybody_votes, "inserts": lambda: bare.inserts(voters)}
            )
        finally:
            await hall.close()
            await bare.close()
    return [
        Row(
            "–",
            f"{voters:,} members vote through the RPCs / bare transactions of two inserts",
            side("ballots, each by a session of its own", "/s", taken["votes"]),
            side(f"bare transactions, {CONNECTIONS} connections", "/s", taken["inserts"]),
            None,
            note=f"secret ballots on one chained board, {IN_FLIGHT} in flight, a Python client beside governance",
        )
    ]


class _Hall:
    """A cooperative whose members all vote, over gRPC to a governance process."""

    def __init__(self, channel: grpc.aio.Channel, key: SigningKey) -> None:
        self._channel = channel
        self._key = key
        self._proposals = proposals_pb2_grpc.ProposalServiceStub(channel)
        self._sessions: list[tuple[tuple[str, str], ...]] = []
        self._steward: tuple[tuple[str, str], ...] = ()

    @classmethod
    async def open(cls, running: Servers, voters: int) -> _Hall:
        settings = running.rooms()["identity"].settings
        database = Database(settings["database_url"])
        ring = LiveKeyring(database, read_sealing_key(settings["sealing_key_file"]), dt.timedelta(hours=1))
        await ring.refresh()
        await database.close()
        hall = cls(grpc.aio.insecure_channel(running.plan.address("governance")), ring.current)
        # Sessions are made here as identity would make them: signing in is not what is measured.
        hall._steward = hall._session(identity_pb2.ROLE_STEWARD)
        await hall._found(voters)
        return hall

    def _session(self, role: int, member: str = "") -> tuple[tuple[str, str], ...]:
        principal = Principal(
            "valley-health", identity_pb2.ORGANIZATION_KIND_COOPERATIVE, "key", frozenset({role}), True, member
        )
        claims = claims_of(principal, new_id("ses"), int(time.time()))
        return (("authorization", f"Bearer {self._key.sign_token(SESSION_RULES.token_type, claims)}"),)

    async def _found(self, voters: int) -> None:
        desk = governance_pb2_grpc.GovernanceServiceStub(self._channel)
        rule = decisions.DecisionRule(
            decision_class=decisions.DECISION_CLASS_ROUTINE,
            quorum=decisions.Ratio(numerator=1, denominator=10),
            quorum_base=decisions.QUORUM_BASE_ROLL,
            threshold=decisions.Ratio(numerator=1, denominator=2),
            min_yes=1,
            voting_seconds=3600,
            secrecy=decisions.SECRECY_OPERATOR_TRUSTED,
            sponsor_min=1,
        )
        await desk.CreateCooperative(
            governance.CreateCooperativeRequest(
                request_id=new_id("req"),
                display_name="Valley Health",
                charter=governance.Charter(required_approvals=1, decision_rules=[rule]),
                signing_key=introduce(NAME, SigningKey.generate(), now()),
            ),
            metadata=self._steward,
        )
        for start in range(0, voters, 1_000):
            references = [str(number) for number in range(start, min(start + 1_000, voters))]
            await desk.AddMembers(
                governance.AddMembersRequest(request_id=new_id("req"), parent=NAME, references=references),
                metadata=self._steward,
            )
        names, token = [], ""
        while True:
            page = await desk.ListMembers(
                governance.ListMembersRequest(parent=NAME, page_size=1_000, page_token=token), metadata=self._steward
            )
            names += [member.name for member in page.members]
            if not (token := page.next_page_token):
                break
        self._sessions = [self._session(identity_pb2.ROLE_MEMBER, name) for name in names]

    async def everybody_votes(self) -> Reading:
        """A new proposal, voted on by everybody; ballots a second."""
        scope = scope_pb2.SharingScope(
            datasets=[scope_pb2.DatasetScope(dataset=f"{NAME}/datasets/wool", first_version=1, columns=["weight"])],
            categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC],
            purposes=["AcademicResearch"],
            actions=[scope_pb2.USE_ACTION_ANALYZE],
            max_mode=scope_pb2.ACCESS_MODE_STREAM,
            floor_price=Money(amount_minor=0, currency="EUR"),
            territories=["WORLD"],
            max_duration_seconds=86_400,
        )
        draft = proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=scope)
        drafted = await self._proposals.CreateProposal(
            proposals.CreateProposalRequest(
                request_id=new_id("req"), parent=NAME, title="t", body="b", delta=proposals.PolicyDelta(rules=[draft])
            ),
            metadata=self._steward,
        )
        await self._proposals.SubmitProposal(
            proposals.SubmitProposalRequest(name=drafted.name, revision=1), metadata=self._steward
        )
        frozen = await self._proposals.FreezeProposal(
            proposals.FreezeProposalRequest(name=drafted.name, revision=1), metadata=self._steward
        )
        ballot = proposals.CastBallotRequest(
            name=frozen.name, frozen_hash=frozen.frozen_hash, choice=proposals.BALLOT_CHOICE_YES
        )
        failed, waiting = 0, iter(self._sessions)

        async def voter() -> None:
            nonlocal failed
            for session in waiting:
                try:
                    await self._proposals.CastBallot(ballot, metadata=session)
                except grpc.aio.AioRpcError:
                    failed += 1

        started = time.perf_counter()
        await asyncio.gather(*(voter() for _ in range(IN_FLIGHT)))
        seconds = time.perf_counter() - started
        shown = await self._proposals.GetProposal(proposals.GetProposalRequest(name=frozen.name))
        assert shown.turnout_count == len(self._sessions) - failed, "ballots are missing"
        return Reading(len(self._sessions) / seconds, failed)

    async def close(self) -> None:
        await self._channel.close()


class _Bare:
    """Transactions of two inserts, without any of what a vote is."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, running: Servers) -> _Bare:
        await running.postgres.ensure_database("bare", "bare", "bench")
        dsn = running.postgres.dsn("bare", "bare", "bench").replace("postgresql+asyncpg", "postgresql")
        pool = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
        await pool.execute("CREATE TABLE a (id bigserial PRIMARY KEY, what text)")
        await pool.execute("CREATE TABLE b (id bigserial PRIMARY KEY, what text)")
        return cls(pool)

    async def inserts(self, count: int) -> Reading:
        waiting = iter(range(count))

        async def insert() -> None:
            for _ in waiting:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute("INSERT INTO a (what) VALUES ('a ballot')")
                    await connection.execute("INSERT INTO b (what) VALUES ('a mark')")

        started = time.perf_counter()
        await asyncio.gather(*(insert() for _ in range(CONNECTIONS)))
        return Reading(count / (time.perf_counter() - started))

    async def close(self) -> None:
        await self._pool.close()
