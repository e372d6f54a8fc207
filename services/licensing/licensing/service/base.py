"""What all of licensing's RPCs share: who may call which, what they are built with, and how far a caller sees."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.domain.categories import Platforms
from licensing.lives import Lives
from licensing.registers import Registers
from licensing.store.tables import bare
from rochdale.catalog.v1 import catalog_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.licensing.v1 import licensing_pb2_grpc
from rochdale_kit.database import Database
from rochdale_kit.identity import PUBLIC, caller, roles
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.refusals import not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["LicensingService"]

_BUYER, _STEWARD, _OPERATOR = identity_pb2.ROLE_BUYER, identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR
_EITHER_SIDE = roles(_BUYER, _STEWARD)
_EITHER_SIDE_MAY_LOOK = roles(_BUYER, _STEWARD, _OPERATOR, verified=False)

ACCESS = {
    "RegisterLicensee": roles(_BUYER),
    "GetLicensee": _EITHER_SIDE_MAY_LOOK,
    "ListLicensees": roles(_OPERATOR),
    "AttestCategory": roles(_OPERATOR),
    "ClaimRegisterEntry": roles(_BUYER),
    "RequestMandate": roles(_BUYER),
    "GetMandateRequest": _EITHER_SIDE_MAY_LOOK,
    "ListMandateRequests": _EITHER_SIDE_MAY_LOOK,
    "WithdrawMandateRequest": roles(_BUYER),
    "RequestQuote": roles(_BUYER),
    "RequestLicense": roles(_BUYER),
    "Counter": _EITHER_SIDE,
    "AcceptNegotiation": _EITHER_SIDE,
    "TerminateNegotiation": _EITHER_SIDE,
    "GetNegotiation": _EITHER_SIDE_MAY_LOOK,
    "ListNegotiations": _EITHER_SIDE_MAY_LOOK,
    "GetLicense": _EITHER_SIDE_MAY_LOOK,
    "ListLicenses": _EITHER_SIDE_MAY_LOOK,
    "GetKeySet": PUBLIC,
    "TerminateLicense": roles(_BUYER, _STEWARD, _OPERATOR),
}

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class Calls(licensing_pb2_grpc.LicensingServiceServicer):
    """What the calls of every noun are built with."""

    def __init__(
        self, database: Database, keys: LiveKeyring, lives: Lives, registers: Registers, platforms: Platforms
    ) -> None:
        self._database = database
        self._keys = keys
        self._lives = lives
        self._registers = registers
        self._platforms = platforms


def sight() -> str | None:
    """The organization whose things the caller may see; None for an operator, who sees all."""
    return None if caller().is_operator else caller().organization


def party() -> pb.Party.ValueType:
    """The side a caller is on. An organization is a buyer, a cooperative or the market's operator, never two of them."""
    if caller().is_operator:
        return pb.PARTY_MARKET
    return pb.PARTY_COOPERATIVE if _STEWARD in caller().roles else pb.PARTY_BUYER


async def offering_for(
    connection: AsyncConnection, name: str, buyer: str, *, lock: bool = False
) -> catalog_pb2.Offering:
    """An offering the buyer may ask for. Refuses with NOT_FOUND, and with CATEGORY_NOT_OFFERED for one that answers
    another buyer's request."""
    offering = await store.offerings.offering(connection, name, lock=lock)
    if offering is None:
        raise not_found(name)
    if offering.mandate_request:
        request = await store.mandates.mandate_request(connection, bare(offering.mandate_request), buyer)
        domain.mandates.require_open_to(offering, request, buyer)
    return offering
