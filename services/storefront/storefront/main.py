"""Builds the storefront: every part, in order, by name. A part not built here does not exist."""

from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry
from storefront.app import build_app
from storefront.config import Config
from storefront.desk import Desk
from storefront.market import Market
from storefront.pages import Pages
from storefront.till import Till
from storefront.visitors import Visitors

MIGRATIONS = None


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("storefront", config.otlp_endpoint, config.trace_ratio)
    market = Market(config.catalog_address, config.governance_address)

    pages = Pages(market, accounts=bool(config.billing_address))

    service = Service("storefront", telemetry)
    desk = None
    if config.billing_address:
        keys = KeySource(config.identity_address)
        till = Till(config.identity_address, config.billing_address, config.licensing_address)
        visitors = Visitors(Sessions(keys), config.public_url)
        desk = Desk(till, visitors, pages, telemetry, config.public_url)
        # No check of health: while identity or billing is away, what is on offer can be seen all the same.
        service.loop("identity keys", keys.run)
        service.close(till.close)
    service.serve_http(config.http_address, build_app(pages, market, telemetry, desk))
    service.check("catalog", market.check)
    service.close(market.close)
    return service
