"""Builds the catalog: every part, in order, by name. A part not built here does not exist."""

import asyncio
from pathlib import Path

from catalog.closing import Expiry
from catalog.config import Config
from catalog.events import CatalogEvents
from catalog.indexer import Indexer
from catalog.search import SearchIndex
from catalog.service import ACCESS, DESCRIPTOR, CatalogService
from rochdale.catalog.v1 import catalog_pb2_grpc
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.type.v1 import scope_pb2
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("catalog", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "catalog")
    identity_keys = KeySource(config.identity_address)
    directory = Path(config.index_directory) if config.index_directory else None
    index = await asyncio.to_thread(SearchIndex, directory, price_categories=scope_pb2.BuyerCategory.keys())
    indexer = Indexer(database, index)
    events = CatalogEvents(indexer.wake)
    catalog = CatalogService(database, index, indexer.wake)

    service = Service("catalog", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, Sessions(identity_keys), telemetry),
        lambda server: catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server),
        config.reflection,
    )
    hear_governance = Consumer(
        "catalog",
        "governance",
        [
            on(governance_events.CooperativeCreated, events.cooperative_created),
            on(governance_events.CooperativeKeyAdded, events.cooperative_key_added),
            on(governance_events.RuleEnacted, events.rule_enacted),
            on(governance_events.RuleNarrowed, events.rule_narrowed),
        ],
        database,
        nats,
        telemetry,
    )
    hear_gateways = Consumer(
        "catalog",
        "data_gateway",
        [
            on(gateway_events.VersionPrepared, events.version_prepared),
            on(gateway_events.VersionSuperseded, events.version_superseded),
        ],
        database,
        nats,
        telemetry,
    )
    service.loop("identity keys", identity_keys.run)
    service.loop("outbox", Publisher("catalog", database, nats, telemetry).run)
    service.hear(hear_governance)
    service.hear(hear_gateways)
    service.loop("indexer", indexer.run)
    service.loop("expiry", Expiry(database, indexer.wake).run)
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check("search index", indexer.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    service.close(indexer.close)
    service.close(catalog.close)
    return service
