"""Builds the storefront: every part, in order, by name. A part not built here does not exist."""

from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry
from storefront.app import build_app
from storefront.config import Config
from storefront.market import Market
from storefront.pages import Pages

MIGRATIONS = None


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("storefront", config.otlp_endpoint, config.trace_ratio)
    market = Market(config.catalog_address, config.governance_address)

    service = Service("storefront", telemetry)
    service.serve_http(config.http_address, build_app(Pages(market), market, telemetry))
    service.check("catalog", market.check)
    service.close(market.close)
    return service
