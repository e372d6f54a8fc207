"""Builds billing: every part, in order, by name. A part not built here does not exist."""

from pathlib import Path

from billing import dividend_events
from billing.attempts import Attempts
from billing.clearing import Clearing
from billing.config import Config, split_secrets
from billing.disputing import Disputing
from billing.door import door
from billing.events import LicensingEvents
from billing.gateway_events import of_gateways
from billing.keeper import Keeper
from billing.rail import Rail
from billing.refunding import Refunding
from billing.returning import Returning
from billing.returns import Returns
from billing.service.billing import ACCESS, DESCRIPTOR, BillingService
from billing.settlement import Settlement
from billing.tax import adapter
from billing.webhooks import Inbox
from rochdale.billing.v1 import billing_pb2_grpc
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
    inbox = Inbox(database, attempts, settlement, refunding, disputing, telemetry)
    events = LicensingEvents(config.order_ttl_seconds, tax)
    billing = BillingService(  # type: ignore[abstract] # until every part is there
        database, attempts, settlement, refunding, disputing, config.public_url, cards=rail is not None
    )

    service = Service("billing", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(identity_keys), telemetry),
        lambda server: billing_pb2_grpc.add_BillingServiceServicer_to_server(billing, server),
        config.reflection,
    )
    secrets = split_secrets(config.stripe_webhook_secret) if rail is not None else None
    service.serve_http(config.http_address, door(inbox, secrets, live=rail is not None and rail.live))
    heard = {
        "licensing": [
            on(licensing_events.LicenseAgreed, events.license_agreed),
            on(licensing_events.LicenseTerminated, events.license_terminated),
        ],
        "governance": dividend_events.of_governance(),
        "data_gateway": of_gateways(),
    }
    service.loop("identity keys", identity_keys.run)
    service.loop("outbox", Publisher("billing", database, nats, telemetry).run)
    for publisher, subscriptions in heard.items():
        service.hear(Consumer("billing", publisher, subscriptions, database, nats, telemetry))
    service.loop("keeper", keeper.keep)
    service.loop("clearing", Clearing(database, config.round_seconds).run)
    if rail is not None:
        for number in range(WEBHOOK_WORKERS):
            service.loop(f"webhooks {number}", inbox.run)
        service.loop("sweep", keeper.sweep)
        service.loop("returns", Returning(database, refunding, disputing, config).run)
        service.close(rail.close)
    # Stripe is no part of health: while it is away, orders are made and bank transfers confirmed.
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    return service
