"""Builds licensing: every part, in order, by name. A part not built here does not exist."""

import datetime as dt
from pathlib import Path

from licensing import events
from licensing.config import Config
from licensing.expiry import Expiry
from licensing.lives import Lives
from licensing.platforms import read_platforms
from licensing.registers import Ask, Registers
from licensing.service import ACCESS, DESCRIPTOR, LicensingService
from rochdale.licensing.v1 import licensing_pb2_grpc
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.inbox import Consumer
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

# Licenses live long, and are checked as long as they live and after: no key that signed one is ever forgotten.
VERIFY_RETIRED_FOR = dt.timedelta(days=36_500)
MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("licensing", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "licensing")
    identity_keys = KeySource(config.identity_address)
    keys = LiveKeyring(database, read_sealing_key(config.sealing_key_file), VERIFY_RETIRED_FOR)
    await keys.refresh()
    lives = Lives(
        negotiation=dt.timedelta(seconds=config.negotiation_ttl_seconds),
        payment=dt.timedelta(seconds=config.payment_ttl_seconds),
    )

    ask = Ask()
    registers = Registers(ask, config.ror_url, config.gleif_url, config.charity_url, config.charity_api_key)
    platforms = read_platforms(config.large_platforms_file)

    licensing = LicensingService(database, keys, lives, registers, platforms)
    service = Service("licensing", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(identity_keys), telemetry),
        lambda server: licensing_pb2_grpc.add_LicensingServiceServicer_to_server(licensing, server),
        config.reflection,
    )
    service.loop("identity keys", identity_keys.run)
    service.loop("keys", keys.run)
    heard = {
        "governance": events.of_governance(),
        "catalog": events.of_catalog(keys, lives),
        "billing": events.of_billing(),
    }
    for publisher, subscriptions in heard.items():
        service.hear(Consumer("licensing", publisher, subscriptions, database, nats, telemetry))
    service.loop("outbox", Publisher("licensing", database, nats, telemetry).run)
    service.loop("expiry", Expiry(database).run)
    service.check("database", database.check)
    service.check_nats(nats)
    service.check("identity keys", identity_keys.check)
    service.close(ask.close)
    service.close(database.close)
    service.close(nats.close)
    return service
