"""Builds governance: every part, in order, by name. A part not built here does not exist."""

from pathlib import Path

from governance.config import Config
from governance.service.cooperatives import ACCESS, DESCRIPTOR, GovernanceService
from rochdale.governance.v1 import governance_pb2_grpc
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("governance", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "governance")
    keys = KeySource(config.identity_address)

    governance = GovernanceService(database)
    service = Service("governance", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(keys), telemetry),
        lambda server: governance_pb2_grpc.add_GovernanceServiceServicer_to_server(governance, server),
        config.reflection,
    )
    service.loop("identity keys", keys.run)
    service.loop("outbox", Publisher("governance", database, nats, telemetry).run)
    service.check("database", database.check)
    service.check("identity keys", keys.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    return service
