"""One random history of money, from a seed: who takes part, how an act is done in spite of deaths, what is heard late,
twice or never, and how everything comes to rest. What people and banks can do is in money_acts.py and money_members.py.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message
from money_auditor import Auditor
from money_engine import (
    AFTER_RAIL,
    DEATHS,
    LOST_ANSWER,
    LOST_REQUEST,
    OPERATOR,
    Bench,
    Chaos,
    Died,
    Watch,
    Workshop,
    principal,
)
from money_reading import Said, Snapshot, Wrong

from rochdale.identity.v1 import identity_pb2
from rochdale_kit import clock
from rochdale_kit.identity import Principal
from rochdale_kit.refusals import Kind, Refusal

T = TypeVar("T")
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
NIGHTS = 20 * DAY
BUYERS = {"acme": "21", "birch": "0", "cedar": "8.1"}
# Acts in which Stripe is asked to do something: there an answer is lost more often.
AT_STRIPE = ("start", "refund", "treasurer", "renew", "sweeps", "keeper")
CURRENCIES = ("EUR", "EUR", "EUR", "EUR", "USD", "JPY")


@dataclass
class Cooperative:
    """One that sells: `rail` is how it is paid."""

    id: str
    rail: str
    members: list[str] = field(default_factory=list)
    account: str = ""

    def steward(self, number: int = 1) -> Principal:
        member = f"cooperatives/{self.id}/members/{self.id}-{number}"
        kind, role = identity_pb2.ORGANIZATION_KIND_COOPERATIVE, identity_pb2.ROLE_STEWARD
        return principal(self.id, role, kind, f"organizations/{self.id}/keys/{number}", member)

    def member(self, id: str) -> Principal:
        kind, role = identity_pb2.ORGANIZATION_KIND_COOPERATIVE, identity_pb2.ROLE_MEMBER
        return principal(self.id, role, kind, member=f"cooperatives/{self.id}/members/{id}")


@dataclass
class Attempt:
    """What a buyer holds to pay with."""

    order: str
    payment: str
    intent: str = ""
    page: str = ""


@dataclass
class License:
    """One that was agreed; `order` is the first it makes."""

    name: str
    buyer: str
    cooperative: Cooperative
    currency: str
    price: int
    monthly: bool
    order: str = ""
    attempts: list[Attempt] = field(default_factory=list)


class Troubles(logging.Handler):
    """What the engine logs as a fault of its own, which its loops survive and nobody would see."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self.found.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


class History:
    """A world, an engine in it, and an auditor who looks after every step."""

    def __init__(self, seed: int, workshop: Workshop, connection: Any) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.watch = Watch(seed)
        self.chaos = Chaos()
        self.said = Said()
        self.met: Counter[str] = Counter()
        self.log: list[str] = []
        self.steps = 0
        self._connection = connection
        self._workshop = workshop
        self.bench: Bench
        self.auditor: Auditor
        self.rows: Snapshot
        self.cooperatives = [Cooperative("meadow", "stripe"), Cooperative("orchard", "bank")]
        self.licenses: list[License] = []
        self.troubles = Troubles()
        # Events of other services on their way, and hints of Stripe's: each with what it is.
        self.events: list[tuple[str, Message]] = []
        self.hints: list[dict[str, Any]] = []
        self._heard_until: dict[str, str] = {}
        self._numbers = 0

    async def open(self) -> None:
        self.bench = Bench(self._workshop, self.watch, self.chaos)
        self.auditor = Auditor(self._connection, self.bench.world, self.said)

    async def close(self) -> None:
        await self.bench.close()

    @property
    def engine(self) -> Any:
        return self.bench.engine

    @property
    def now(self) -> dt.datetime:
        return clock.now()

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def request(self) -> str:
        return f"request-{self.seed}-{self.number()}"

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:%m-%d %H:%M} {text}")

    # Doing something

    async def step(self, name: str, act: Callable[[], Awaitable[bool]], trouble: float = 0.3) -> bool:
        """One act, perhaps with something going wrong in it, and the audit. Whether there was anything to do."""
        if self.random.random() < trouble and not self.chaos.relentless:
            asks = name in AT_STRIPE and self.random.random() < 0.6
            kind = self.random.choice((AFTER_RAIL, LOST_ANSWER) if asks else (*DEATHS, LOST_ANSWER, LOST_REQUEST))
            self.chaos.arm(kind, 1 if asks else self.random.choice((1, 1, 1, 2, 2, 3, 4)))
        done = await act()
        self.chaos.disarm()
        if done:
            self.steps += 1
            await self.audit()
        return done

    async def audit(self) -> None:
        self.rows = await self.auditor.audit()
        if self.troubles.found:
            raise Wrong(f"the engine had a fault of its own: {self.troubles.found}")

    async def perform(self, what: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """Work of the engine, done again by whoever asked when the process died in it. None when it is refused."""
        self.note(what)
        try:
            return await self._through(what.split(" ")[0] if what.startswith("webhook ") else what, work)
        except Refusal as refused:
            self.note(f"  refused: {refused.reason}")
            if refused.kind is not Kind.UNAVAILABLE or self.random.random() < 0.5:
                return None
        self.chaos.disarm()
        return await self.perform(what, work)

    async def _through(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Done, however often the process dies in it."""
        self.chaos.been.clear()
        while True:
            self.chaos.work = what
            try:
                return await work()
            except Died as death:
                self.note(f"  died {death}")
                self.bench.restart()
                await self.audit()

    async def ask(self, who: Principal, service: str, rpc: str, request: Message) -> Any:
        return await self.perform(rpc, lambda: self.engine.ask(who, service, rpc, request))

    async def operator(self, service: str, rpc: str, request: Message) -> Any:
        return await self.ask(OPERATOR, service, rpc, request)

    async def run(self, *steps: str) -> bool:
        """Rounds of the engine's own loops."""
        for name in steps:
            await self.perform(name, lambda name=name: self.engine.steps[name]())  # type: ignore[misc]
        return True

    # What is heard, and when

    def tell(self, event: Message) -> None:
        """Something another service says; it arrives when `hear` comes to it, once or more often."""
        self.events.append((f"evt_{self.number()}", event))

    async def hear(self, everything: bool = False) -> bool:
        """Events arrive: in order or not, some again."""
        if not self.events:
            return False
        again: list[tuple[str, Message]] = []
        if not everything:
            self.random.shuffle(self.events)
        for id, event in self.events:
            name = event.DESCRIPTOR.name
            if not await self._handle(id, event, name):
                again.append((id, event))
            elif self.random.random() < 0.1:
                # By the same consumer, or by one that was made anew and remembers nothing.
                await self._handle(id, event, f"{name} again", self.random.choice(("simulation", "anew")))
        self.events = again
        return True

    async def _handle(self, id: str, event: Message, name: str, consumer: str = "simulation") -> bool:
        self.note(f"heard {name}")
        try:
            await self._through(event.DESCRIPTOR.name, lambda: self.engine.hear(event, id, consumer))
        except Refusal as refused:
            # Something it needs was not heard yet.
            if refused.kind is not Kind.UNAVAILABLE:
                raise
            return False
        return True

    async def fetch(self) -> None:
        """What Stripe has to tell since we last looked; whether and when it arrives is decided elsewhere."""
        accounts = ["", *(one.account for one in self.cooperatives if one.account)]
        for account in accounts:
            query = {"limit": 100} | (
                {"ending_before": self._heard_until[account]} if account in self._heard_until else {}
            )
            headers = {"Stripe-Account": account} if account else {}
            answer = await self.bench.world.get("/v1/events", params=query, headers=headers)
            found = answer.json()["data"]
            if found:
                self._heard_until[account] = found[0]["id"]
                self.hints += [{**one, "account": account} for one in reversed(found)]

    async def deliver(self, everything: bool = False) -> bool:
        """Webhooks: some now, in any order, some twice, some later, some never."""
        await self.fetch()
        if not self.hints:
            return False
        waiting, self.hints = self.hints, []
        if not everything:
            self.random.shuffle(waiting)
        for hint in waiting:
            luck = 0.5 if everything else self.random.random()
            if luck < 0.12:
                self.met["webhook dropped"] += 1
                continue
            if luck < 0.3:
                self.hints.append(hint)
                continue
            times = 2 if luck > 0.9 else 1
            for _ in range(times):
                await self.perform(f"webhook {hint['type']}", lambda hint=hint: self._webhook(hint))  # type: ignore[misc]
            if times == 2:
                self.met["webhook twice"] += 1
            self._count_late(hint)
        return await self.run("webhooks")

    def _count_late(self, hint: dict[str, Any]) -> None:
        payment_id = (hint["data"]["object"].get("metadata") or {}).get("payment")
        mine = [one for one in self.rows.payments if one["id"] == payment_id]
        if mine and any(one["order_id"] == mine[0]["order_id"] and one["create_time"] > mine[0]["create_time"]
                        for one in self.rows.payments):  # fmt: skip
            self.met["late webhook on a superseded attempt"] += 1

    async def _webhook(self, hint: dict[str, Any]) -> None:
        object_id = str(hint["data"]["object"].get("id", ""))
        if hint["account"]:
            await self.engine.hints.receive(hint["type"], hint["account"], object_id)
        else:
            await self.engine.inbox.receive(hint["id"], hint["type"], object_id)

    # Time

    async def pass_time(self, by: dt.timedelta) -> bool:
        self.note(f"time passes: {by}")
        while by > NIGHTS:
            # Reconciliation runs each night. What Stripe told is listed for thirty days, so no more may pass without it.
            self.bench.advance(NIGHTS)
            by -= NIGHTS
            await self.run_reconciliation()
            await self.run("webhooks")
        self.bench.advance(by)
        return True

    async def settle(self) -> None:
        """Everything that is under way comes to an end: what was lost is found, what waits is done."""
        self.chaos.disarm()
        self.chaos.relentless = False
        self.note("settling")
        for _ in range(2):
            await self.hear(everything=True)
            await self.deliver(everything=True)
            # Far enough for what is asked again, not so far that keys are forgotten.
            await self.pass_time(2 * HOUR)
            await self.run(*self.engine.steps)
            await self.audit()
        # What was dropped is found here, and what fell due on the way is heard, with no time passing any more.
        await self.run_reconciliation()
        await self.pass_time(2 * HOUR)
        await self.run(*self.engine.steps)
        await self.deliver(everything=True)
        await self.run_reconciliation()
        for _ in range(2):
            await self.run(*self.engine.steps)

    async def run_reconciliation(self) -> Any:
        return await self.perform("reconciling", lambda: self.engine.reconciling.run())

    async def finish(self) -> None:
        """At rest, and everything still true; and what the engine itself finds is nothing."""
        await self.settle()
        await self.auditor.final()
        found = await self.run_reconciliation()
        rows = await self._connection.fetch('SELECT * FROM "break" WHERE close_time IS NULL')
        listed = {row["subject"] for row in rows}
        if found is None or listed != self.auditor.expected_breaks():
            raise Wrong(f"reconciliation finds {[(row['check'], row['subject'], row['detail']) for row in rows]}")
