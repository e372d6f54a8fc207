"""The balance over HTTP, the platform's or a connected account's."""

from stripe import params as shapes

from .. import balance
from ..errors import Json
from ..unit import Unit
from .table import Route, taking

PLATFORM_CURRENCY = "usd"


def retrieve(unit: Unit, _: Json, __: str) -> Json:
    """What is available and what is pending, by currency."""
    currency = PLATFORM_CURRENCY
    if unit.account is not None:
        currency = unit.need("account", unit.account)["default_currency"]
    return balance.show(unit, currency)


ROUTES = (Route("GET", "/v1/balance", shapes.BalanceRetrieveParams, taking(), retrieve, connected=True),)
