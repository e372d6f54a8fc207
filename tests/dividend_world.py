"""A cooperative with members, policies, rows and released shares, at a real billing: what dividends are tested in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import nats
import sqlalchemy as sa
from billing_desk import until
from google.protobuf.message import Message
from house import House, Person, new_secret, request_id
from ulid import ULID

from billing import dividing, store
from billing.config import Config
from billing.domain import postings
from billing.domain.dividend_runs import Month
from billing.domain.ledger import book_of
from billing.domain.payout_accounts import PayoutAccount
from billing.domain.shares import Share, ShareState
from billing.main import build
from billing.store import ledger, shares
from billing.store.invariants import flaws
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import dividends_pb2_grpc, treasury_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.governance.v1 import governance_pb2, membership_pb2
from rochdale.type.v1 import dividend_policy_pb2
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.database import Database
from rochdale_kit.outbox import ensure_stream, subject_of
from rochdale_kit.server import Service
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX, SigningKey, sign_hash
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

EUR = "EUR"
LONG_AGO = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
# Iban.com's example accounts, and more of the same bank with right check digits.
IBANS = ("DE89370400440532013000", "NL91ABNA0417164300", "FR1420041010050500013M02606", "AT611904300234573201")
RECORDS = dividend_policy_pb2.CONTRIBUTION_BASIS_RECORDS


class Market:
    """Billing for a module of tests; may be started twice on one database."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.url = ""
        self.database: Database
        self.services: list[Service] = []
        self.channels: list[grpc.aio.Channel] = []

    async def start(self, **settings: Any) -> Any:
        """A billing; its stub."""
        if not self.url:
            self.house.tag = secrets.token_hex(4)
            self.url = await self.house.database_url("billing")
            self.database = Database(self.url, pool_size=4)
        given: dict[str, Any] = {
            "database_url": self.url,
            "nats_url": self.house.nats.url(),
            "identity_address": self.house.services["identity"].grpc_address,
            "unclaimed_round_seconds": 0.2,
        } | settings
        service = await build(Config(**given))
        await service.start()
        await service.healthy.wait()
        self.services.append(service)
        channel = grpc.aio.insecure_channel(service.grpc_address)
        self.channels.append(channel)
        return dividends_pb2_grpc.DividendServiceStub(channel)

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close()
        for service in self.services:
            await service.stop()
        await self.database.close()

    async def tell(self, *events: Message) -> None:
        """Says what governance and gateways say, as they say it."""
        client = await nats.connect(self.house.nats.url())
        for event in events:
            message_type, id = event.DESCRIPTOR.full_name, f"evt_{ULID()}"
            stream = message_type.split(".")[1]
            await ensure_stream(client, stream)
            headers = {"ce-id": id, "ce-type": message_type, "Nats-Msg-Id": id}
            await client.jetstream().publish(
                subject_of(message_type), event.SerializeToString(), stream=stream, headers=headers
            )
        await client.close()

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(sa.text(statement), values))

    async def cooperative(self, stub: Any) -> Cooperative:
        """A new one with a key, and two stewards who are two people."""
        one = Cooperative(self, stub, f"coop-{secrets.token_hex(4)}")
        one.steward = await self.house.steward(one.id)
        one.key = SigningKey.generate()
        told = governance_pb2.Cooperative(name=one.name, signing_keys=[introduce(one.name, one.key, LONG_AGO)])
        await self.tell(governance.CooperativeCreated(cooperative=told))
        [other] = await one.join(1)
        one.second = await one.person(other, steward=True)
        return one


@contextlib.asynccontextmanager
async def open_market(postgres: Postgres, new_folder: Callable[[str], Path]) -> AsyncIterator[Market]:
    """Identity and a nats-server of its own: another House's billing would share our durable consumers and take our
    events. Billing is not started yet."""
    server = NatsServer(new_folder("nats"), durable=False)
    await server.start()
    house = House(postgres, server, new_folder("house"))
    await house.start("identity")
    market = Market(house)
    yield market
    await market.stop()
    await house.stop()
    await server.stop()


class Cooperative:
    """One cooperative, and everything that is said about it."""

    steward: Person
    second: Person
    key: SigningKey

    def __init__(self, market: Market, stub: Any, id: str) -> None:
        self.market, self.stub, self.id = market, stub, id
        self.name = f"cooperatives/{id}"
        self.policies = 0

    # What others say

    async def join(self, count: int, at: dt.datetime = LONG_AGO) -> list[str]:
        """Names of new members, once they were heard of."""
        names = [f"{self.name}/members/{new_id('mem')}" for _ in range(count)]
        await self.market.tell(
            *(
                governance.MemberJoined(members=names[first : first + 1000], join_time=to_timestamp(at))
                for first in range(0, count, 1000)
            )
        )
        await self.heard("SELECT id FROM member WHERE id = :id", id=bare(names[-1]))
        return names

    async def heard(self, statement: str, **values: Any) -> None:
        await until(lambda: self.market.rows(statement, **values), bool)

    async def person(self, member: str, steward: bool = False) -> Person:
        """A member with a key of their own."""
        secret = new_secret()
        hashed = hashlib.sha256(secret.encode()).digest()
        await self.market.tell(governance.MemberKeyAuthorized(member=member, key_hash=hashed, steward=steward))

        async def try_it() -> Person | None:
            try:
                return await self.market.house.session(self.id, secret)
            except grpc.aio.AioRpcError:
                return None

        found = await until(try_it, bool)
        assert found is not None
        return found

    def policy(self, **fields: Any) -> DividendPolicy:
        given: dict[str, Any] = {"basis": RECORDS, "min_payout": Money(amount_minor=1000, currency=EUR)}
        return DividendPolicy(**(given | fields))

    async def enact(self, policy: DividendPolicy, at: dt.datetime = LONG_AGO, **other: Any) -> None:
        """Members decided a policy, and the cooperative signed it."""
        self.policies += 1
        fields: dict[str, Any] = {
            "cooperative": self.name,
            "version": self.policies,
            "policy": policy,
            "proposal": f"{self.name}/proposals/{new_id('prp')}",
            "effective_time": to_timestamp(at),
        }
        hashed = hash_of_dividend_policy(governance.DividendPolicyEnacted(**fields))
        fields |= {"policy_hash": hashed, "signature": sign_hash(self.key, DIVIDEND_POLICY_PREFIX, hashed)}
        await self.market.tell(governance.DividendPolicyEnacted(**(fields | other)))
        if not other:
            await self.heard(
                "SELECT 1 FROM dividend_policy WHERE cooperative = :id AND version = :version",
                id=self.id,
                version=self.policies,
            )

    def version(self, number: int = 1, dataset: str = "randhie") -> str:
        return f"{self.name}/datasets/{dataset}/versions/{number}"

    async def contribute(self, version: str, rows: Mapping[str, int]) -> None:
        told = [gateway.MemberContribution(member=member, row_count=count) for member, count in rows.items()]
        await self.market.tell(
            *(
                gateway.ContributionsRecorded(version=version, contributions=told[first : first + 1000])
                for first in range(0, len(told), 1000)
            )
        )
        await self.heard(
            "SELECT 1 FROM contribution WHERE version = :version AND member_id = :id",
            version=version,
            id=bare(told[-1].member),
        )

    async def consent(
        self, member: str, dataset: str, since: dt.datetime, until_time: dt.datetime | None = None
    ) -> None:
        consent = membership_pb2.Consent(
            name=f"{member}/consents/{new_id('con')}",
            dataset=f"{self.name}/datasets/{dataset}",
            purposes=["ResearchAndDevelopment"],
            give_time=to_timestamp(since),
        )
        item = membership_pb2.ConsentItem(member=member, consent=consent)
        await self.market.tell(governance.ConsentRecorded(items=[item]))
        if until_time is not None:
            consent.end_time.CopyFrom(to_timestamp(until_time))
            await self.market.tell(
                governance.ConsentWithdrawn(items=[membership_pb2.ConsentItem(member=member, consent=consent)])
            )
        await self.heard(
            f"SELECT 1 FROM consent WHERE id = :id AND end_time IS {'NOT ' if until_time else ''}NULL", id=consent.name
        )

    async def earn(
        self, amount_minor: int, month: str, *versions: str, currency: str = EUR, in_bank: bool = True
    ) -> Share:
        """A paid order whose share was released in a month, and what its license delivered in it."""
        at = Month(month).begin_time + dt.timedelta(days=10)
        order_id, share_id, license = new_id("ord"), new_id("shr"), f"licenses/{new_id('lic')}"
        sale = postings.Sale(order_id, self.id, currency, amount_minor, 0, 0)
        share = Share(
            id=share_id,
            order_id=order_id,
            cooperative=self.id,
            net_minor=amount_minor,
            tax_minor=0,
            fee_minor=0,
            currency=currency,
            rail=postings.BANK,
            charge_id="",
            create_time=at,
            hold_time=at,
            state=ShareState.RELEASED,
            deliver_time=at,
            release_time=at,
        )
        journals = [
            *postings.bank_payment(sale, f"bank {order_id}", at),
            *postings.release(share_id, self.id, currency, amount_minor, 0, 0, at),
        ]
        if in_bank:
            journals += [
                *postings.payout_started(share_id, self.id, currency, amount_minor, at),
                *postings.payout_done(share_id, self.id, currency, amount_minor, postings.BANK, f"out {share_id}", at),
            ]
        async with self.market.database.begin() as connection:
            await connection.execute(
                sa.text(
                    'INSERT INTO "order" (id, license, buyer, seller, amount_minor, net_minor, currency, terms_hash,'
                    " payment_reference, create_time, due_time, state, closing, kind, billed, quote_hash,"
                    " refunded_minor, disputed, invoice_number, pay_time) VALUES (:id, :license, 'acme', :seller, :amount,"
                    " :amount, :currency, '', :id, :at, :at, :paid, '', 1, '', '', 0, false, '', :at)"
                ),
                {
                    "id": order_id,
                    "license": license,
                    "seller": self.id,
                    "amount": amount_minor,
                    "currency": currency,
                    "at": at,
                    "paid": 2,
                },
            )
            await shares.insert(connection, share)
            for version in versions:
                await connection.execute(
                    sa.text("INSERT INTO delivery (license, version, first_time) VALUES (:license, :version, :at)"),
                    {"license": license, "version": version, "at": at},
                )
            await ledger.post(connection, journals)
        return share

    async def refund(self, share: Share, amount_minor: int, at: dt.datetime, receivable_minor: int = 0) -> None:
        """What a refund after the release does to the books."""
        sale = share.sale()
        parts = postings.Parts(0, 0, amount_minor)
        taken = postings.Sources(available_minor=amount_minor - receivable_minor, receivable_minor=receivable_minor)
        async with self.market.database.begin() as connection:
            await ledger.post(connection, postings.refund_owed(new_id("ref"), "acme", sale, parts, taken, at))
            await connection.execute(
                sa.text("UPDATE share SET refunded_minor = refunded_minor + :back WHERE id = :id"),
                {"back": amount_minor, "id": share.id},
            )

    async def spend(self, amount_minor: int, at: dt.datetime) -> None:
        async with self.market.database.begin() as connection:
            await ledger.post(connection, postings.cost(new_id("cos"), self.id, EUR, amount_minor, at))

    async def has_bank_account(self) -> None:
        """The cooperative is paid to a bank account that two stewards named long ago."""
        account = PayoutAccount(
            cooperative=self.id,
            rail=treasury_pb2.PAYOUT_RAIL_BANK,
            create_time=LONG_AGO,
            bank_account_id=new_id("bnk"),
            iban_end=IBANS[3][-4:],
            holder="Valley Health",
            approved_by="another steward",
            usable_time=LONG_AGO,
        )
        async with self.market.database.begin() as connection:
            await store.payout_accounts.add_bank(connection, account.bank_account_id, account.holder, IBANS[3])
            await store.payout_accounts.save(connection, account)

    # What is asked

    async def ask(self, method: str, request: Message, person: Person | None = None) -> Any:
        return await getattr(self.stub, method)(request, metadata=(person or self.steward).metadata)

    async def create(self, month: str, currency: str = EUR) -> pb.DividendRun:
        request = pb.CreateDividendRunRequest(request_id=request_id(), parent=self.name, month=month, currency=currency)
        return await self.ask("CreateDividendRun", request)  # type: ignore[no-any-return]

    async def compute(self, month: str, currency: str = EUR) -> pb.DividendRun:
        run = await self.create(month, currency)
        return await self.ask("ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))  # type: ignore[no-any-return]

    async def approve(self, run: pb.DividendRun) -> pb.DividendRun:
        """Past the objection window, by two people."""
        await self.ask("OpenObjections", pb.OpenObjectionsRequest(name=run.name))
        for person in (self.steward, self.second):
            request = pb.ApproveDividendRunRequest(request_id=request_id(), name=run.name, inputs_hash=run.inputs_hash)
            run = await self.ask("ApproveDividendRun", request, person)
        return run

    async def post(self, run: pb.DividendRun) -> pb.DividendRun:
        while run.state in (pb.RUN_STATE_APPROVED, pb.RUN_STATE_POSTING):
            run = await self.ask("PostDividendRun", pb.PostDividendRunRequest(name=run.name))
        return run

    async def divide(self, month: str, currency: str = EUR) -> pb.DividendRun:
        """From nothing to POSTED."""
        return await self.post(await self.approve(await self.compute(month, currency)))

    async def pay(self, run: pb.DividendRun) -> pb.DividendRun:
        return await self.ask("PayDividendRun", pb.PayDividendRunRequest(name=run.name))  # type: ignore[no-any-return]

    async def settle(self, run: pb.DividendRun, *returned: str) -> pb.DividendRun:
        request = pb.SettleDividendPaymentsRequest(
            request_id=request_id(), name=run.name, bank_reference="B-1", returned_members=returned
        )
        return await self.ask("SettleDividendPayments", request)  # type: ignore[no-any-return]

    async def name_account(self, person: Person, member: str, iban: str = IBANS[0], holder: str = "Ada") -> pb.Payee:
        request = pb.SetPayeeRequest(request_id=request_id(), parent=member, iban=iban, holder=holder)
        return await self.ask("SetPayee", request, person)  # type: ignore[no-any-return]

    async def statement(self, run: pb.DividendRun, member: str, person: Person | None = None) -> pb.Statement:
        request = pb.GetStatementRequest(name=f"{member}/statements/{run.name.rsplit('/', 1)[1]}")
        return await self.ask("GetStatement", request, person)  # type: ignore[no-any-return]

    async def balance(self, code: str, currency: str = EUR) -> int:
        async with self.market.database.read() as connection:
            return await ledger.balance(connection, book_of(self.id), code, currency)

    async def payable(self, member: str) -> int:
        return await self.balance(f"member:{bare(member)}:payable")

    async def told(self, kind: str) -> list[Any]:
        """Events of a kind about this cooperative, in their order."""
        from rochdale.billing.v1 import events_pb2

        message = getattr(events_pb2, kind)
        rows = await self.market.rows(
            "SELECT body FROM outbox WHERE message_type = :type ORDER BY position", type=message.DESCRIPTOR.full_name
        )
        events = [message.FromString(bytes(row.body)) for row in rows]
        return [event for event in events if event.dividend_run.startswith(f"{self.name}/")]

    async def flaws(self) -> list[str]:
        async with self.market.database.read() as connection:
            return await flaws(connection)


def post_and_die(url: str, cooperative: str, run_id: str, parts: int) -> None:
    """A process that posts some parts and is killed within the next one, after all was written and before the commit."""

    async def work() -> None:
        database = Database(url)
        for number in range(parts + 1):
            async with database.begin() as connection:
                run = await store.dividend_runs.get(connection, cooperative, run_id, lock=True)
                assert run is not None
                policy = (await store.dividend_policies.get(connection, cooperative, run.policy_version)).policy
                await dividing.post_part(connection, run, policy, now())
                if number == parts:
                    os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(work())


def bare(name: str) -> str:
    return name.rsplit("/", 1)[1]
