"""Builds the broker: every part, in order, by name. A part not built here does not exist."""

import datetime as dt
from pathlib import Path

from access_broker.config import Config
from access_broker.domain.tokens import MAX_TTL_SECONDS
from access_broker.events import LicensingEvents
from access_broker.heartbeat import Heartbeats
from access_broker.issuance import IssuanceWriter
from access_broker.proving import Prover
from access_broker.sealing import Sealer
from access_broker.service import ACCESS, DESCRIPTOR, AccessBrokerService
from access_broker.sources import Sources
from rochdale.access_broker.v1 import access_broker_pb2_grpc
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

# A retired key verifies until the last token it signed has ended. The margin is for another replica, which may sign with
# it until it reads the keys again, and for clocks.
VERIFY_RETIRED_FOR = dt.timedelta(seconds=MAX_TTL_SECONDS + 300)
MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("access_broker", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "access_broker")
    identity_keys = KeySource(config.identity_address)
    sealing_key = read_sealing_key(config.sealing_key_file)
    keys = LiveKeyring(database, sealing_key, VERIFY_RETIRED_FOR)
    await keys.refresh()
    sources = Sources(config.governance_address, config.catalog_address, config.licensing_address)
    sealer = Sealer(keys, sealing_key)
    prover = Prover(database, sources, sealer)
    writer = IssuanceWriter(database)

    broker = AccessBrokerService(database, keys, writer, sealer, prover)
    heard = LicensingEvents(sources, sealer)
    licensing = Consumer(
        "access_broker",
        "licensing",
        [
            on(licensing_events.LicenseActivated, heard.license_activated),
            on(licensing_events.LicenseSuspended, heard.license_suspended),
            on(licensing_events.LicenseResumed, heard.license_resumed),
            on(licensing_events.LicenseTerminated, heard.license_terminated),
        ],
        database,
        nats,
        telemetry,
    )

    service = Service("access_broker", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(identity_keys), telemetry),
        lambda server: access_broker_pb2_grpc.add_AccessBrokerServiceServicer_to_server(broker, server),
        config.reflection,
    )
    service.loop("identity keys", identity_keys.run)
    service.loop("keys", keys.run)
    service.loop("issuance", writer.run)
    service.hear(licensing)
    service.loop("outbox", Publisher("access_broker", database, nats, telemetry).run)
    service.loop("proof", lambda: prover.run(config.proof_interval_seconds))
    service.loop("heartbeats", Heartbeats(database, nats, keys).run)
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    service.close(sources.close)
    return service
