"""Builds billing: every part, in order, by name. A part not built here does not exist."""

import datetime as dt
from pathlib import Path

import grpc

from billing import dividend_events
from billing.attempts import Attempts
from billing.clearing import Clearing
from billing.config import Config, days_of, split_secrets
from billing.connect import Connect
from billing.disputing import Disputing
from billing.domain.subscriptions import Dunning
from billing.door import door
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
from billing.renewing import Renewing
from billing.returning import Returning
from billing.returns import Returns
from billing.saving import Saving
from billing.service import dividends, treasury
from billing.service.billing import ACCESS, DESCRIPTOR, BillingService
from billing.service.dividends import DividendService
from billing.service.treasury import TreasuryService
from billing.settlement import Settlement
from billing.tax import adapter
from billing.treasurer import Treasurer
from billing.unclaimed import Unclaimed
from billing.webhooks import Inbox
from rochdale.billing.v1 import billing_pb2_grpc, dividends_pb2_grpc, treasury_pb2_grpc
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

# Each spends its time waiting for Stripe; one purchase makes three or four webhooks at once.
WEBHOOK_WORKERS = 4
MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("billing", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "billing")
    identity_keys = KeySource(config.identity_address)
    rail = Rail(config.stripe_api_key, config.stripe_api_base, telemetry) if config.stripe_api_key else None
    settlement = Settlement(database, telemetry, config.platform_fee_bps, config.hold_seconds)
    attempts = Attempts(database, rail, settlement)
    tax = adapter(config.tax_table)
    keeper = Keeper(database, attempts, config)
    refunding = Refunding(database, attempts, Returns(rail) if rail is not None else None)
    disputing = Disputing(database, refunding)
    saving = Saving(
        database, Methods(rail) if rail is not None else None, config.sweep_seconds, config.sweep_age_seconds
    )
    rules = Dunning(days_of(config.retry_days), config.grace_days, config.terminate_days)
    use_wait = dt.timedelta(seconds=config.use_wait_seconds)
    renewing = Renewing(database, attempts, tax, rules, use_wait, rail is not None, config.round_seconds)
    inbox = Inbox(database, attempts, settlement, refunding, disputing, saving, telemetry)
    events = LicensingEvents(config.order_ttl_seconds, tax, config.day_seconds, use_wait)
    billing = BillingService(
        database, attempts, settlement, refunding, disputing, saving, rules, config.public_url, cards=rail is not None
    )

    dividing = DividendService(database, config)
    connect = Connect(rail) if rail is not None else None
    paying_out = PayingOut(database, connect, config)
    hints = Hints(database, connect, paying_out) if connect is not None else None
    reconciling = Reconciling(database, connect, hints, config)
    treasurer = Treasurer(Releasing(database, config), paying_out, reconciling, config)
    treasuring = TreasuryService(database, connect, paying_out, reconciling, config)

    def register(server: grpc.aio.Server) -> None:
        billing_pb2_grpc.add_BillingServiceServicer_to_server(billing, server)
        dividends_pb2_grpc.add_DividendServiceServicer_to_server(dividing, server)
        treasury_pb2_grpc.add_TreasuryServiceServicer_to_server(treasuring, server)

    service = Service("billing", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary(
            {
                DESCRIPTOR: ACCESS,
                dividends.DESCRIPTOR: dividends.ACCESS,
                treasury.DESCRIPTOR: treasury.ACCESS,
            },
            Sessions(identity_keys),
            telemetry,
        ),
        register,
        config.reflection,
    )
    secrets = split_secrets(config.stripe_webhook_secret) if rail is not None else None
    connect_secrets = split_secrets(config.stripe_connect_webhook_secret)
    live = rail is not None and rail.live
    service.serve_http(config.http_address, door(inbox, secrets, live, hints, connect_secrets))
    heard = {
        "licensing": [
            on(licensing_events.LicenseAgreed, events.license_agreed),
            on(licensing_events.LicenseTerminated, events.license_terminated),
            on(licensing_events.LicenseResumed, events.license_resumed),
        ],
        "governance": dividend_events.of_governance(),
        "data_gateway": of_gateways(),
    }
    service.loop("identity keys", identity_keys.run)
    service.loop("outbox", Publisher("billing", database, nats, telemetry).run)
    for publisher, subscriptions in heard.items():
        service.hear(Consumer("billing", publisher, subscriptions, database, nats, telemetry))
    service.loop("keeper", keeper.keep)
    service.loop("treasurer", treasurer.pay)
    service.loop("reconciliation", treasurer.reconcile)
    service.loop("renewing", renewing.run)
    service.loop("unclaimed", Unclaimed(database, config.unclaimed_seconds, config.unclaimed_round_seconds).run)
    service.loop("clearing", Clearing(database, config.round_seconds).run)
    if rail is not None:
        for number in range(WEBHOOK_WORKERS):
            service.loop(f"webhooks {number}", inbox.run)
        service.loop("sweep", keeper.sweep)
        service.loop("saving", saving.run)
        service.loop("returns", Returning(database, refunding, disputing, config).run)
        service.close(rail.close)
    # Stripe is no part of health: while it is away, orders are made and bank transfers confirmed.
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    return service
