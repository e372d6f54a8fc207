"""A market to be attacked: two cooperatives, their buyers, everybody's sessions, and one of everything to covet."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from house import Person, new_secret, request_id
from walk import ACADEMIC, COMPANY, MarketPeople, Purchase

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1.money_pb2 import Money

# One member's reference; it may be in no log, trace or event.
MEMBER = "zper-4711-ada"


@dataclass(frozen=True)
class Things:
    """The names of one of everything that belongs to somebody."""

    cooperative: str
    buyer: str
    key: str
    dataset: str
    rule: str
    offering: str
    negotiation: str
    etag: str
    quote: str
    license: str
    order: str
    payment: str
    grant: str
    token: str
    ingestion: str

    def names(self) -> list[str]:
        """The longest first, so that one inside another is replaced last."""
        return sorted(dataclasses.astuple(self), key=len, reverse=True)


NOBODYS = "0" * 25 + "Z"
ABSENT = Things(
    cooperative="no-such-coop",
    buyer="no-such-buyer",
    key=f"organizations/no-such-coop/apiKeys/key_{NOBODYS}",
    dataset="cooperatives/no-such-coop/datasets/nothing",
    rule=f"cooperatives/no-such-coop/sharingRules/rule_{NOBODYS}",
    offering=f"cooperatives/no-such-coop/offerings/off_{NOBODYS}",
    negotiation=f"negotiations/neg_{NOBODYS}",
    etag="some-etag",
    quote=f"quotes/quo_{NOBODYS}",
    license=f"licenses/lic_{NOBODYS}",
    order=f"orders/ord_{NOBODYS}",
    payment=f"orders/ord_{NOBODYS}/payments/pay_{NOBODYS}",
    grant=f"grants/gra_{NOBODYS}",
    token=f"tok_{NOBODYS}",
    ingestion=f"ingestions/ing_{NOBODYS}",
)


@dataclass(frozen=True)
class Stage:
    """Whose things there are, and who else is there."""

    victim: Things
    steward: Person
    buyer: Person
    offering: catalog.Offering
    purchase: Purchase
    token: broker.IssuedToken
    strangers: dict[str, Person]
    operator: Person


async def unverified(market: MarketPeople, id: str, kind: identity.OrganizationKind.ValueType) -> Person:
    secret = new_secret()
    await market.identity.RegisterOrganization(
        identity.RegisterOrganizationRequest(
            request_id=request_id(),
            organization_id=id,
            kind=kind,
            display_name=id,
            contact_email=f"desk@{id}.example",
            key_hash=hashlib.sha256(secret.encode()).digest(),
        )
    )
    return await market.session(id, secret)


async def gateway_stub(market: MarketPeople, cooperative: str) -> Any:
    door = await market.gateway(cooperative)
    return data_gateway_pb2_grpc.DataGatewayServiceStub(market.channel_at(door.control_address))


async def set_stage(market: MarketPeople) -> Stage:
    """One cooperative and its buyers with one of everything, and everybody who has no business with it."""
    steward = await market.found("victims", [MEMBER, "zper-2"])
    version = await market.add_dataset(
        steward, "covetable", f"zper,visits\n{MEMBER},3\nzper-2,4\n".encode() * 30, "zper"
    )
    offering = await market.offer(steward, version, {ACADEMIC: 0, COMPANY: 120_000})
    buyer = await market.licensee("honest", ACADEMIC)
    free = Purchase(buyer, offering.name)
    token = await market.buy(free)

    payer = await market.licensee("payer", COMPANY)
    paid = Purchase(payer, offering.name)
    await market.agree(paid)
    await market.order(paid)
    payment = await market.stub("billing").StartPayment(
        billing.StartPaymentRequest(request_id=request_id(), order=paid.order, method=billing.PAYMENT_METHOD_CHECKOUT),
        metadata=payer.metadata,
    )
    negotiation = await market.stub("licensing").RequestLicense(
        licensing.RequestLicenseRequest(
            request_id=request_id(),
            offering=offering.name,
            wish=licensing.Wish(price=Money(amount_minor=130_000, currency="EUR")),
        ),
        metadata=payer.metadata,
    )
    assert not negotiation.license, "another price is for the steward to agree to"
    quote = await market.stub("licensing").RequestQuote(
        licensing.RequestQuoteRequest(request_id=request_id(), offering=offering.name), metadata=payer.metadata
    )
    grants = await market.stub("access_broker").ListGrants(
        broker.ListGrantsRequest(license=free.license), metadata=buyer.metadata
    )
    keys = await market.identity.ListApiKeys(
        identity.ListApiKeysRequest(parent="organizations/victims"), metadata=steward.metadata
    )
    stub = await gateway_stub(market, "victims")
    ingestion = await stub.StartIngestion(
        gateway.StartIngestionRequest(
            request_id=request_id(), dataset="cooperatives/victims/datasets/covetable", size_bytes=10
        ),
        metadata=steward.metadata,
    )
    things = Things(
        cooperative="victims",
        buyer="payer",
        key=keys.api_keys[-1].name,
        dataset="cooperatives/victims/datasets/covetable",
        rule=offering.tiers[0].sharing_rule,
        offering=offering.name,
        negotiation=negotiation.name,
        etag=negotiation.etag,
        quote=quote.name,
        license=paid.license,
        order=paid.order,
        payment=payment.name,
        grant=grants.grants[0].name,
        token=token.token_id,
        ingestion=ingestion.name,
    )

    rival = await market.found("rivals")
    strangers = {
        "nobody": Person("", "", ()),
        "steward": rival,
        "member": await market.colleague(rival, identity.ROLE_MEMBER),
        "gateway": await market.colleague(rival, identity.ROLE_GATEWAY),
        "buyer": await market.licensee("envious", COMPANY),
        "unverified cooperative": await unverified(market, "unknown-coop", identity.ORGANIZATION_KIND_COOPERATIVE),
        "unverified buyer": await unverified(market, "unknown-buyer", identity.ORGANIZATION_KIND_BUYER),
    }
    return Stage(things, steward, buyer, offering, free, token, strangers, await market.operator())
