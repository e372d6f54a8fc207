"""Billing's engine in one process, made to be stopped anywhere: a clock that stands still, ids from a seed, a line to the
Stripe simulator that is cut where asked, and transactions that end before or after their commit.

Every part is the product's own; only gRPC, NATS and the waiting between rounds are left out.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import httpx
import sqlalchemy as sa
import stripe
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from billing import dividend_events, renewing
from billing.attempts import Attempts
from billing.clearing import Clearing
from billing.config import Config, days_of
from billing.connect import Connect
from billing.disputing import Disputing
from billing.domain.subscriptions import Dunning
from billing.events import LicensingEvents
from billing.gateway_events import of_gateways
from billing.hints import Hints
from billing.keeper import Keeper
from billing.methods import Methods
from billing.paying_out import PayingOut
from billing.rail import Rail
from billing.reconciling import Reconciling
from billing.refunding import Refunding
from billing.releasing import Releasing
from billing.returning import Returning
from billing.returns import Returns
from billing.saving import Saving
from billing.service.billing import BillingService
from billing.service.dividends import DividendService
from billing.service.treasury import TreasuryService
from billing.settlement import Settlement
from billing.tax import adapter
from billing.unclaimed import Unclaimed
from billing.webhooks import Inbox
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit import clock, identity, inbox
from rochdale_kit.database import Database, inbox_table
from rochdale_kit.inbox import Subscription, on
from rochdale_kit.telemetry import Telemetry
from stripe_simulator import StripeSimulator

STRIPE_URL = "http://stripe.simulated"
BEGINNING = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
# Where a process can die, and what can happen on the line without anybody dying.
BEFORE_COMMIT, AFTER_COMMIT, BEFORE_RAIL, AFTER_RAIL = "before commit", "after commit", "before Stripe", "after Stripe"
LOST_ANSWER, LOST_REQUEST = "answer lost", "request lost"
DEATHS = (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_RAIL, AFTER_RAIL)
T = TypeVar("T")


class Died(BaseException):
    """The process ended here. No `except Exception` of the engine survives it."""


class Chaos:
    """What goes wrong next: one thing, the n-th time it can. When relentless, whatever is done is done again and again,
    and each time the process dies at another place, until it died at each and is through."""

    def __init__(self) -> None:
        self.kind = ""
        self.left = 0
        self.relentless = False
        self.been: set[tuple[str, str, str]] = set()
        self.asked: Counter[str] = Counter()
        # In which stretch of which work a process died: (work, where).
        self.deaths: Counter[tuple[str, str]] = Counter()
        self.work = ""

    def arm(self, kind: str, nth: int) -> None:
        self.kind, self.left = kind, nth

    def disarm(self) -> None:
        self.kind = ""

    def hits(self, *kinds: str) -> str:
        """The kind that happens here, or nothing."""
        if self.kind not in kinds:
            return ""
        self.left -= 1
        if self.left > 0:
            return ""
        kind, self.kind = self.kind, ""
        return kind

    def die(self, where: str) -> None:
        here = (self.work, where, _place()) if self.relentless else None
        if here is not None and where == BEFORE_RAIL:
            # Every other time, because what died before it asked may be asked again by other work.
            self.asked[self.work] += 1
            here = here if self.asked[self.work] % 2 == 0 else None
        if (here is not None and here not in self.been) or self.hits(where):
            if here is not None:
                self.been.add(here)
            self.deaths[self.work, where] += 1
            raise Died(where)


def _place() -> str:
    """Which line of the engine is being done."""
    frame = sys._getframe(2)
    while frame.f_back is not None and "/billing/billing/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Line(httpx.AsyncBaseTransport):
    """From the engine to the simulator, without a socket. Only what changes something at Stripe is disturbed."""

    def __init__(self) -> None:
        self.app: httpx.ASGITransport
        self.chaos = Chaos()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.chaos.die(BEFORE_RAIL)
            if self.chaos.hits(LOST_REQUEST):
                raise httpx.ConnectError("the line is cut")
        response = await self.app.handle_async_request(request)
        if request.method == "POST":
            if self.chaos.kind in (AFTER_RAIL, LOST_ANSWER):
                await response.aread()
            self.chaos.die(AFTER_RAIL)
            if self.chaos.hits(LOST_ANSWER):
                raise httpx.ReadTimeout("the answer is lost")
        return response


class MortalDatabase(Database):
    """A database whose client may die just before a commit, which undoes it, or just after."""

    chaos = Chaos()

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with super().begin() as connection:
            yield connection
            self.chaos.die(BEFORE_COMMIT)
        self.chaos.die(AFTER_COMMIT)


class Watch:
    """The process's time and ids, from a seed: the same history reads the same times."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._time = BEGINNING
        self._moved = dt.timedelta()

    @contextlib.contextmanager
    def worn(self) -> Iterator[None]:
        stand_in = SimpleNamespace(datetime=SimpleNamespace(now=self._now), timedelta=dt.timedelta)
        ids = SimpleNamespace(from_datetime=self._ulid)
        with patch.object(clock, "dt", stand_in), patch.object(clock, "ULID", ids):
            try:
                yield
            finally:
                clock.move(-self._moved)

    def _now(self, _: object = None) -> dt.datetime:
        self._time += dt.timedelta(microseconds=50)
        return self._time

    def _ulid(self, moment: dt.datetime) -> ULID:
        milliseconds = int(moment.timestamp() * 1000)
        return ULID.from_bytes(milliseconds.to_bytes(6, "big") + self._random.randbytes(10))

    def seconds(self) -> float:
        """For the simulator, which adds by itself what it is advanced by."""
        return self._now().timestamp()

    def move(self, by: dt.timedelta) -> None:
        self._moved += by
        clock.move(by)

    def simulator_id(self, prefix: str) -> str:
        return f"{prefix}_{self._random.randbytes(9).hex()}"


class Workshop:
    """What is made once for a process and used by one history after the other."""

    def __init__(self, url: str, tax_table: str) -> None:
        self.database = MortalDatabase(url, pool_size=2)
        # The server lives as long as we do; asking it each time whether it does is a tenth of the whole time.
        self.database.engine.pool._pre_ping = False
        self.telemetry = Telemetry("billing")
        self.line = Line()
        self.rail = Rail("sk_test_simulation", STRIPE_URL, self.telemetry)
        self.rail._http._client_async = httpx.AsyncClient(transport=self.line)
        # Without the library's own repetition and its waiting: what is lost stays lost until the engine asks again.
        self.rail.api = stripe.StripeClient(
            "sk_test_simulation",
            base_addresses={"api": STRIPE_URL},
            http_client=self.rail._http,
            max_network_retries=0,
        ).v1
        self.config = Config(
            database_url=url,
            nats_url="nats://127.0.0.1:1",
            identity_address="127.0.0.1:1",
            stripe_api_key="sk_test_simulation",
            stripe_webhook_secret="whsec_of_the_simulation",
            public_url="https://pay.example",
            tax_table=tax_table,
            payout_minimum_minor=100,
            unclaimed_seconds=40 * 86_400,
            payer_holder="Rochdale",
            payer_iban="NL91ABNA0417164300",
        )

    async def close(self) -> None:
        await self.rail.close()
        await self.database.close()


def principal(organization: str, role: int, kind: int, key: str = "", member: str = "") -> identity.Principal:
    return identity.Principal(
        organization, kind, key or f"organizations/{organization}/keys/1", frozenset({role}), True, member
    )


OPERATOR = principal("market", identity_pb2.ROLE_OPERATOR, identity_pb2.ORGANIZATION_KIND_OPERATOR)


class Engine:
    """One life of the process: every part, as main.py builds it. After a death another is made."""

    def __init__(self, workshop: Workshop) -> None:
        database, rail, config = workshop.database, workshop.rail, workshop.config
        self.database = database
        settlement = Settlement(database, workshop.telemetry, config.platform_fee_bps, config.hold_seconds)
        self.attempts = Attempts(database, rail, settlement)
        self.keeper = Keeper(database, self.attempts, config)
        self.refunding = Refunding(database, self.attempts, Returns(rail))
        self.disputing = Disputing(database, self.refunding)
        self.saving = Saving(database, Methods(rail), config.sweep_seconds, config.sweep_age_seconds)
        rules = Dunning(days_of(config.retry_days), config.grace_days, config.terminate_days)
        use_wait = dt.timedelta(seconds=config.use_wait_seconds)
        tax = adapter(config.tax_table)
        self.renewing = renewing.Renewing(database, self.attempts, tax, rules, use_wait, True, config.round_seconds)
        self.inbox = Inbox(
            database, self.attempts, settlement, self.refunding, self.disputing, self.saving, workshop.telemetry
        )
        licensing = LicensingEvents(config.order_ttl_seconds, tax, config.day_seconds, use_wait)
        self.billing: Any = BillingService(
            database,
            self.attempts,
            settlement,
            self.refunding,
            self.disputing,
            self.saving,
            rules,
            config.public_url,
            cards=True,
        )
        self.dividends: Any = DividendService(database, config)
        connect = Connect(rail)
        self.paying_out = PayingOut(database, connect, config)
        self.hints = Hints(database, connect, self.paying_out)
        self.releasing = Releasing(database, config)
        self.reconciling = Reconciling(database, connect, self.hints, config)
        self.treasury: Any = TreasuryService(database, connect, self.paying_out, self.reconciling, config)
        self.clearing = Clearing(database, config.round_seconds)
        self.returning = Returning(database, self.refunding, self.disputing, config)
        heard = [
            on(licensing_events.LicenseAgreed, licensing.license_agreed),
            on(licensing_events.LicenseTerminated, licensing.license_terminated),
            *of_gateways(),
            *dividend_events.of_governance(),
        ]
        self._handlers: dict[type[Message], Subscription] = {one.message: one for one in heard}
        self.steps: dict[str, Callable[[], Awaitable[None]]] = {
            "lost answers": self.keeper._recover,
            "closing": self.keeper._close,
            "unexpected money back": self.keeper._refund,
            "sweep": self.keeper._look,
            "clearing": self.clearing.step,
            "refunds asked again": self.returning.recover,
            "disputes looked at": self.returning.sweep,
            "disputes answered": self.returning.answer,
            "releasing": self.releasing.release,
            "reserves": self.releasing.end_reserves,
            "accounts": self.paying_out.check_accounts,
            "payouts begun": self.paying_out.start,
            "payouts sent": self.paying_out.send,
            "asked back": self.paying_out.recover,
            "renewing": self.renewing.step,
            "saving": self.saving.look,
            "unclaimed": Unclaimed(database, config.unclaimed_seconds, 1).set_apart,
            "webhooks": self.webhooks,
        }

    async def webhooks(self) -> None:
        """Looks into every hint that is due."""
        while await self.inbox._next():
            pass

    async def ask(self, who: identity.Principal, service: str, rpc: str, request: Message) -> Any:
        """An RPC, as the boundary lets it in."""
        token = identity._principal.set(who)
        try:
            return await getattr(getattr(self, service), rpc)(request, None)
        finally:
            identity._principal.reset(token)

    async def hear(self, event: Message, id: str, consumer: str = "simulation") -> None:
        """An event as the consumer handles it: once, with its effect; a consumer that was made anew hears it again.
        Raises what the handler raises."""
        async with self.database.begin() as connection:
            kept = insert(inbox_table).values(consumer=consumer, event_id=id).on_conflict_do_nothing()
            if (await connection.execute(kept.returning(inbox_table.c.event_id))).first() is None:
                return
            token = inbox._heard_id.set(id)
            try:
                await self._handlers[type(event)].handle(connection, event)
            finally:
                inbox._heard_id.reset(token)


class Bench:
    """A workshop with one simulator on its line, for one history."""

    def __init__(self, workshop: Workshop, watch: Watch, chaos: Chaos) -> None:
        self.workshop, self.watch, self.chaos = workshop, watch, chaos
        self.simulator = StripeSimulator(
            clock=watch.seconds, new_id=watch.simulator_id, public_url=STRIPE_URL, processing_seconds=3600
        )
        transport = httpx.ASGITransport(app=self.simulator.app)
        workshop.line.app, workshop.line.chaos, workshop.database.chaos = transport, chaos, chaos
        # The buyers' browsers, and everybody else who is not the engine: their lines hold.
        self.world = httpx.AsyncClient(transport=transport, base_url=STRIPE_URL, auth=("sk_test_simulation", ""))
        self.engine = Engine(workshop)

    def restart(self) -> None:
        self.engine = Engine(self.workshop)

    def advance(self, by: dt.timedelta) -> None:
        self.watch.move(by)
        self.simulator.advance(int(by.total_seconds()))

    async def close(self) -> None:
        await self.world.aclose()


async def empty(database: Database) -> None:
    """Forgets the last history, guarded rows too: the next begins on the same tables without making a database."""
    async with database.engine.begin() as connection:
        await connection.execute(sa.text("SELECT set_config('session_replication_role', 'replica', true)"))
        await connection.execute(_EMPTY)


_EMPTY = sa.text("""
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    END $$
""")


def request_id(random: random.Random) -> str:
    return uuid.UUID(bytes=random.randbytes(16)).hex
