"""The simulator put together: its store, its clock, its loops, its HTTP application and its server."""

import asyncio
import contextlib
import functools
import logging
import operator
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import banks, control, objects
from .accounts import connect_state
from .api import KEY_LIFE_SECONDS, Api
from .clock import Clock, checked_advance
from .errors import Json
from .faults import Faults
from .levers import lever, not_json
from .onboarding import Onboarding
from .pages import Pages
from .store import Store
from .timers import TIMED
from .unit import NewId, Unit, random_id
from .webhooks import Webhooks

_log = logging.getLogger(__name__)

METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]
TIMER_POLL_SECONDS = 0.1
# What a buyer's bank answers after `processing_seconds`, or at once when asked to settle.
BANK_ANSWERS = ("settle_payment", "end_refund")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the process around us.
        yield


class StripeSimulator:
    """A stateful stand-in for Stripe's HTTP API.

    `state_path` names the journal that the next start resumes from; None keeps everything in memory.
    `webhook_url` with `webhook_secret` is an endpoint that hears every event of the platform, the `connect_` pair one
    that hears every event of connected accounts. `clock` gives seconds since 1970, and `on_moved` is told by how
    many seconds time was moved on from it, at the start all that was before. `new_id(prefix)` gives an id. A bank
    answers a debit, or a refund that it does not take at once, after `processing_seconds` of the clock. An undelivered
    webhook is tried again after `retry_seconds`, then after twice as long each time up to `retry_most_seconds`.
    """

    def __init__(
        self,
        *,
        state_path: Path | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        connect_webhook_url: str | None = None,
        connect_webhook_secret: str | None = None,
        clock: Callable[[], float] = time.time,
        on_moved: Callable[[int], None] = lambda seconds: None,
        new_id: NewId = random_id,
        public_url: str | None = None,
        processing_seconds: float = 3.0,
        retry_seconds: float = 0.25,
        retry_most_seconds: float = 5.0,
    ) -> None:
        self.faults = Faults()
        self._new_id = new_id
        self._public_url = public_url
        self._processing_seconds = processing_seconds
        self._store = Store(state_path)
        self._clock = Clock(clock, self._store, on_moved)
        self.webhooks = Webhooks(
            self._store, self.faults, retry_seconds=retry_seconds, retry_most_seconds=retry_most_seconds
        )
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        if webhook_url is not None:
            self.add_webhook(webhook_url, webhook_secret or "")
        if connect_webhook_url is not None:
            self.add_webhook(connect_webhook_url, connect_webhook_secret or "", connect=True)
        api = Api(self._new_unit, self.webhooks.schedule, self.webhooks.drained, self.faults, self._drop_connection)
        pages = Pages(self._new_unit, self.webhooks.schedule)
        onboarding = Onboarding(self._new_unit, self.webhooks.schedule)
        pulling = functools.partial(lever, self._new_unit, self.webhooks.schedule)
        self.app = Starlette(
            routes=[
                Route("/_simulator/faults", self._faults_asked, methods=["GET", "POST", "DELETE"]),
                Route("/_simulator/state", self._state_asked, methods=["GET"]),
                Route("/_simulator/settle", self._settle_asked, methods=["POST"]),
                Route("/_simulator/clock", self._clock_asked, methods=["GET", "POST"]),
                Route("/_simulator/accounts/{id}/{act}", pulling(control.account), methods=["POST"]),
                Route("/_simulator/disputes", pulling(banks.dispute), methods=["POST"]),
                Route("/_simulator/disputes/{id}/decide", pulling(banks.decide), methods=["POST"]),
                Route("/_simulator/refunds/{id}/fail", pulling(banks.fail_refund), methods=["POST"]),
                Route("/connect/onboarding/{id}", onboarding.answer, methods=["GET", "POST"]),
                Route("/c/pay/{id}", pages.checkout, methods=["GET", "POST"]),
                Route("/authenticate/{id}", pages.authenticate, methods=["GET", "POST"]),
                Route("/{path:path}", api.answer, methods=METHODS),
            ],
            lifespan=self._lifespan,
        )

    def add_webhook(
        self, url: str, secret: str, enabled_events: tuple[str, ...] = ("*",), *, connect: bool = False
    ) -> str:
        """Has events sent to `url`, signed with `secret`; the endpoint at the same URL is changed. Returns its id.

        With `connect` it hears what happens on connected accounts, and nothing of the platform's own.
        """
        if not secret:
            raise ValueError("A webhook needs a secret such as whsec_…; without one anybody could forge it.")
        unit = self._new_unit()
        for known in unit.rows("webhook_endpoint"):
            if known["url"] == url and known.get("_connect", False) == connect:
                unit.put("webhook_endpoint", known | {"_secret": secret, "enabled_events": list(enabled_events)})
                unit.commit()
                return str(known["id"])
        endpoint = objects.webhook_endpoint(
            unit, url, secret, {"enabled_events": list(enabled_events), "connect": connect}
        )
        unit.put("webhook_endpoint", endpoint)
        unit.commit()
        return str(endpoint["id"])

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serves in the running loop and returns the base URL; port 0 takes a free one. Raises OSError when taken."""
        listener = socket.create_server((host, port))
        address = f"http://{host}:{listener.getsockname()[1]}"
        self._public_url = self._public_url or address
        config = uvicorn.Config(
            self.app, http="h11", ws="none", log_level="warning", log_config=None, access_log=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Server(config)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise RuntimeError("The Stripe simulator's server ended before it began.")
            await asyncio.sleep(0.005)
        return address

    async def stop(self) -> None:
        """Ends serving and delivering; may be called twice."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._server = self._serving = None

    def settle(self, *, debits_at_once: bool = False) -> int:
        """Does what the clock has made due: bank debits end, open sessions expire. Returns how many it did.

        With `debits_at_once` bank debits, and refunds under way, do not wait for the clock.
        """
        done = 0
        while timer := self._next_timer(self._clock.now(), debits_at_once=debits_at_once):
            self._run_timer(timer)
            done += 1
        return done

    def advance(self, seconds: int) -> int:
        """Moves the simulator's time on and does what falls due on the way, each thing at its own time.

        Returns how many things fell due. Time moves for everything at once, and never back.
        """
        until = self._clock.now() + checked_advance(seconds)
        done = 0
        while timer := self._next_timer(until):
            self._clock.move_to(timer["due"])
            self._run_timer(timer)
            done += 1
        self._clock.move_to(until)
        self._forget_keys()
        return done

    def _forget_keys(self) -> None:
        # A key that is too old is never looked at again; without this the journal would keep every answer.
        old = self._clock.now() - KEY_LIFE_SECONDS
        spent = [row["id"] for row in self._store.rows("idempotency") if row["created"] <= old]
        self._store.commit({("idempotency", key): None for key in spent})

    def _next_timer(self, until: float, *, debits_at_once: bool = False) -> Json | None:
        due = (
            timer
            for timer in self._store.rows("timer")
            if timer["due"] <= until or (debits_at_once and timer["action"] in BANK_ANSWERS)
        )
        return min(due, key=operator.itemgetter("due"), default=None)

    def _run_timer(self, timer: Json) -> None:
        unit = self._new_unit()
        unit.account = timer.get("account")
        unit.delete("timer", timer["id"])
        TIMED[timer["action"]](unit, timer["target"])
        self.webhooks.schedule(unit.commit())

    def describe(self) -> Json:
        """How many of everything there are and how much money moved, in minor units by currency."""
        charges = list(self._store.rows("charge"))
        paid, refunded, fees = Counter[str](), Counter[str](), Counter[str]()
        for charge in charges:
            if charge["status"] == "succeeded":
                paid[charge["currency"]] += charge["amount_captured"]
        for refund in self._store.rows("refund"):
            if refund["status"] != "failed":
                refunded[refund["currency"]] += refund["amount"]
        for moved in self._store.rows("balance_transaction"):
            fees[moved["currency"]] += moved["fee"]
        return {
            "charges": Counter(charge["status"] for charge in charges),
            "payment_intents": Counter(row["status"] for row in self._store.rows("payment_intent")),
            "checkout_sessions": Counter(row["status"] for row in self._store.rows("checkout.session")),
            "setup_intents": Counter(row["status"] for row in self._store.rows("setup_intent")),
            "refunds": len(list(self._store.rows("refund"))),
            "disputes": Counter(row["status"] for row in self._store.rows("dispute")),
            "customers": len(list(self._store.rows("customer"))),
            "balance_transactions": len(list(self._store.rows("balance_transaction"))),
            "events": Counter(row["type"] for row in self._store.rows("event")),
            **connect_state(self._store),
            "webhook_endpoints": len(list(self._store.rows("webhook_endpoint"))),
            "undelivered_webhooks": len(list(self._store.rows("delivery"))),
            "paid_minor": paid,
            "refunded_minor": refunded,
            "fees_minor": fees,
            "faults": self.faults.describe(),
        }

    def _new_unit(self, request: Request | None = None, idempotency_key: str | None = None) -> Unit:
        base_url = self._public_url or ("" if request is None else str(request.base_url).rstrip("/"))
        request_id = None if request is None else self._new_id("req")
        now = int(self._clock.now())
        return Unit(self._store, now, self._new_id, base_url, self._processing_seconds, request_id, idempotency_key)

    def _drop_connection(self, request: Request) -> None:
        """Cuts the line to the caller, as a network does; without our own server it can only fail."""
        connections = self._server.server_state.connections if self._server is not None else set()
        for connection in connections:
            if getattr(connection, "client", None) == request.scope.get("client"):
                connection.transport.abort()
                return
        raise ConnectionResetError("The Stripe simulator lost this response on purpose.")

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._forget_keys()
        self.webhooks.resume()
        timers = asyncio.get_running_loop().create_task(self._run_timers())
        try:
            yield
        finally:
            timers.cancel()
            await asyncio.gather(timers, return_exceptions=True)
            await self.webhooks.stop()
            self._store.close()

    async def _run_timers(self) -> None:
        try:
            while True:
                self.settle()
                await asyncio.sleep(TIMER_POLL_SECONDS)
        except Exception as problem:
            _log.exception("The Stripe simulator's timers failed.")
            # Payments that would process for ever look like Stripe being slow; ending is honest.
            raise SystemExit(1) from problem

    async def _faults_asked(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
        elif request.method == "POST":
            if (refusal := not_json(request)) is not None:
                return refusal
            try:
                self.faults.add(**await request.json())
            except (TypeError, ValueError) as problem:
                return JSONResponse({"error": str(problem)}, 400)
        return JSONResponse({"faults": self.faults.describe()})

    async def _state_asked(self, _: Request) -> Response:
        return JSONResponse(self.describe())

    async def _clock_asked(self, request: Request) -> Response:
        done = 0
        if request.method == "POST":
            if (refusal := not_json(request)) is not None:
                return refusal
            try:
                done = self.advance((await request.json())["advance_seconds"])
            except (KeyError, TypeError, ValueError) as problem:
                return JSONResponse({"error": str(problem)}, 400)
        return JSONResponse({**self._clock.describe(), "done": done})

    async def _settle_asked(self, _: Request) -> Response:
        return JSONResponse({"settled": self.settle(debits_at_once=True)})
