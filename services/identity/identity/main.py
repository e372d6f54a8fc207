"""Builds identity: every part, in order, by name. A part not built here does not exist."""

import datetime as dt
from pathlib import Path

from identity import events, store
from identity.config import Config
from identity.service import ACCESS, DESCRIPTOR, IdentityService
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.identity.v1 import identity_pb2_grpc
from rochdale_kit.boundary import Boundary
from rochdale_kit.clock import now
from rochdale_kit.database import Database
from rochdale_kit.identity import SESSION_LIFE_SECONDS, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

# A retired key verifies until the last session it signed has ended, and a minute more for clocks.
VERIFY_RETIRED_FOR = dt.timedelta(seconds=SESSION_LIFE_SECONDS + 60)
MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("identity", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "identity")
    keys = LiveKeyring(database, read_sealing_key(config.sealing_key_file), VERIFY_RETIRED_FOR)
    await keys.refresh()
    if config.operator_key_hash:
        async with database.begin() as connection:
            await store.ensure_operator(connection, bytes.fromhex(config.operator_key_hash), now())

    identity = IdentityService(database, keys)
    governance = Consumer(
        "identity",
        "governance",
        [
            on(governance_events.MemberKeyAuthorized, events.member_key_authorized),
            on(governance_events.MemberLeft, events.member_left),
            on(governance_events.MemberErased, events.member_erased),
        ],
        database,
        nats,
        telemetry,
    )
    service = Service("identity", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(keys), telemetry),
        lambda server: identity_pb2_grpc.add_IdentityServiceServicer_to_server(identity, server),
        config.reflection,
    )
    service.loop("keys", keys.run)
    service.hear(governance)
    service.loop("outbox", Publisher("identity", database, nats, telemetry).run)
    service.check("database", database.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    return service
