"""A market to be attacked: two cooperatives, their buyers, everybody's sessions, and one of everything to covet."""

import dataclasses
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import grpc
from house import Person, new_secret, request_id
from walk import ACADEMIC, COMPANY, MarketPeople, NotYet, Purchase, eventually

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.money_pb2 import Money

# One member's reference; it may be in no log, trace or event.
MEMBER = "zper-4711-ada"
# Where members get their mail; it may be in none of them either.
EMAIL = "ada.4711@members.example"


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
    member: str
    proposal: str
    consent: str
    deletion_notice: str
    mandate_request: str

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
    member=f"cooperatives/no-such-coop/members/mem_{NOBODYS}",
    proposal=f"cooperatives/no-such-coop/proposals/prop_{NOBODYS}",
    consent=f"cooperatives/no-such-coop/members/mem_{NOBODYS}/consents/con_{NOBODYS}",
    deletion_notice=f"deletionNotices/del_{NOBODYS}",
    mandate_request=f"mandateRequests/mreq_{NOBODYS}",
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
    # Members of the victims' cooperative, each with a key: whose things the victim's are, and one beside them.
    member: Person
    neighbor: Person
    # The victims' gateway's own session.
    gateway: Person
    code: str


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


async def gateway_channel(market: MarketPeople, cooperative: str) -> grpc.aio.Channel:
    door = await market.gateway(cooperative)
    return market.channel_at(door.control_address)


async def gateway_stub(market: MarketPeople, cooperative: str) -> Any:
    return data_gateway_pb2_grpc.DataGatewayServiceStub(await gateway_channel(market, cooperative))


async def set_stage(market: MarketPeople) -> Stage:
    """One cooperative and its buyers with one of everything, and everybody who has no business with it."""
    steward = await market.found("victims", [MEMBER, "zper-2"])
    version = await market.add_dataset(
        steward, "covetable", f"zper,visits\n{MEMBER},3\nzper-2,4\n".encode() * 30, "zper"
    )
    await market.consent(steward, "cooperatives/victims/datasets/covetable", [MEMBER, "zper-2"])
    cooperative = market.assemblies["victims"]
    offering = await market.offer(steward, version, {ACADEMIC: 0, COMPANY: 120_000})
    member, neighbor, withdrawn = await cooperative.join(MEMBER, "neighbor", "zper-2", email=EMAIL)
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
    mandate = await market.stub("licensing").RequestMandate(
        licensing.RequestMandateRequest(
            request_id=request_id(),
            offering=offering.name,
            wish=licensing.Wish(actions=[scope.USE_ACTION_FINETUNE]),
            message="We would tune.",
        ),
        metadata=payer.metadata,
    )
    proposal = await cooperative.votes_desk.CreateProposal(
        proposals.CreateProposalRequest(
            request_id=request_id(),
            parent="cooperatives/victims",
            title="Ours",
            body="Not yet.",
            delta=proposals.PolicyDelta(end_rules=[offering.tiers[0].sharing_rule]),
        ),
        metadata=steward.metadata,
    )
    consent = await cooperative.members_desk.GiveConsent(
        membership.GiveConsentRequest(
            request_id=request_id(),
            parent=member.name,
            dataset="cooperatives/victims/datasets/covetable",
            purposes=["ResearchAndDevelopment"],
            categories=[ACADEMIC],
            notice_hash="0" * 64,
            language="en",
        ),
        metadata=member.metadata,
    )
    await market.files(free, token)
    await cooperative.members_desk.WithdrawConsent(
        membership.WithdrawConsentRequest(parent=withdrawn.name), metadata=withdrawn.metadata
    )

    async def noticed() -> str:
        page = await cooperative.members_desk.ListDeletionNotices(
            membership.ListDeletionNoticesRequest(), metadata=steward.metadata
        )
        if not page.deletion_notices:
            raise NotYet("notice")
        return str(page.deletion_notices[0].name)

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
        member=member.name,
        proposal=proposal.name,
        consent=consent.name,
        deletion_notice=await eventually(noticed),
        mandate_request=mandate.name,
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
    code = secrets.token_hex(16)
    await cooperative.members_desk.InviteMembers(
        membership.InviteMembersRequest(
            request_id=request_id(),
            parent="cooperatives/victims",
            invitations=[membership.Invitation(reference="invited", code_hash=hashlib.sha256(code.encode()).digest())],
        ),
        metadata=steward.metadata,
    )
    return Stage(
        things,
        steward,
        buyer,
        offering,
        free,
        token,
        strangers,
        await market.operator(),
        member.person,
        neighbor.person,
        await market.colleague(steward, identity.ROLE_GATEWAY),
        code,
    )
