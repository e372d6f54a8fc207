"""Every event is protobuf in CloudEvents binary mode: anybody with the contracts, and nothing else of ours, reads it."""

import importlib
import re
from pathlib import Path

import httpx
import nats
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import Default
from house import Person, request_id
from insider import Insider
from nats.js.api import DeliverPolicy
from walk import COMPANY, MarketPeople, NotYet, Purchase, Shelf, eventually

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1.dividend_policy_pb2 import CONTRIBUTION_BASIS_RECORDS, DividendPolicy
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import now
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.signing import SigningKey

ROOT = Path(__file__).resolve().parents[2]
STREAMS = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "data_gateway"]
# Told when a version without withdrawn rows is ready, after three days; when a share was held for its week; when a period or
# a month is over, and what follows from it. tests/data_gateway and tests/billing hear them with their own clocks.
TOLD_LATER = {
    "rochdale.data_gateway.v1.VersionSuperseded",
    *(f"rochdale.billing.v1.{name}" for name in ("RevenueReleased", "UsageWarned", "PaymentReminded")),
    *(f"rochdale.billing.v1.{name}" for name in ("DividendPosted", "DividendPaid")),
}
# Parts of other messages.
PARTS = {"rochdale.data_gateway.v1.MemberContribution", "rochdale.billing.v1.MemberDividend"}
# Not kept in a stream: it says "nothing was missed", and only now.
HEARTBEATS = {"rochdale.access_broker.v1.Heartbeat", "rochdale.access_broker.v1.SignedHeartbeat"}


def contracts() -> set[str]:
    """Every event message the contracts name."""
    names = set()
    for path in (ROOT / "proto" / "rochdale").glob("*/v1/events.proto"):
        module = importlib.import_module(f"rochdale.{path.parts[-3]}.v1.events_pb2")
        names |= {message.full_name for message in module.DESCRIPTOR.message_types_by_name.values()}
    return names


async def provoke(market: MarketPeople, shelf: Shelf) -> None:
    """Makes the market tell everything it can tell, beyond what opening the shelf has told."""
    buyer = await market.licensee("listener", COMPANY)
    keys = await market.identity.ListApiKeys(
        identity.ListApiKeysRequest(parent="organizations/listener"), metadata=buyer.metadata
    )
    purchase = Purchase(buyer, shelf.offering.name)
    token = await market.buy(purchase)
    await market.files(purchase, token)
    await provoke_money(market, purchase, shelf.steward)
    await market.stub("licensing").TerminateLicense(
        licensing.TerminateLicenseRequest(request_id=request_id(), name=purchase.license, reason="Heard enough."),
        metadata=buyer.metadata,
    )
    unpaid = Purchase(buyer, shelf.offering.name)
    await market.agree(unpaid)
    await market.order(unpaid)
    await market.stub("licensing").TerminateLicense(
        licensing.TerminateLicenseRequest(request_id=request_id(), name=unpaid.license, reason="Never mind."),
        metadata=buyer.metadata,
    )

    async def canceled() -> None:
        if (await market.order(unpaid)).state != billing.ORDER_STATE_CANCELED:
            raise NotYet("canceled")

    await eventually(canceled)
    await market.identity.RevokeApiKey(
        identity.RevokeApiKeyRequest(name=keys.api_keys[0].name), metadata=buyer.metadata
    )
    doomed = await market.offer(shelf.steward, shelf.version, {COMPANY: 9_900})
    rule = await market.stub("governance").GetSharingRule(
        governance.GetSharingRuleRequest(name=doomed.tiers[0].sharing_rule)
    )
    await market.assemblies[shelf.steward.organization].narrow(rule, None)

    async def closed() -> None:
        found = await market.stub("catalog").GetOffering(catalog.GetOfferingRequest(name=doomed.name))
        if found.state != catalog.OFFERING_STATE_CLOSED:
            raise NotYet("closed")

    await eventually(closed)
    await provoke_members(market)


async def provoke_money(market: MarketPeople, purchase: Purchase, seller: Person) -> None:
    """Part of a payment goes back, and the buyer's bank takes the rest, and gives it back."""
    order = await market.order(purchase)
    await market.stub("billing").RefundOrder(
        billing.RefundOrderRequest(
            request_id=request_id(), order=order.name, amount=Money(amount_minor=100, currency="EUR"), reason="Late."
        ),
        metadata=seller.metadata,
    )

    async def standing(state: licensing.LicenseState.ValueType) -> None:
        found = await market.stub("licensing").GetLicense(
            licensing.GetLicenseRequest(name=purchase.license), metadata=purchase.metadata
        )
        if found.state != state:
            raise NotYet("standing")

    stripe = httpx.AsyncClient(base_url=market.market.plan.stripe_url, auth=("sk_test_simulator", ""))
    async with stripe:
        id = order.name.removeprefix("orders/")
        intents = (await stripe.get("/v1/payment_intents", params={"limit": 100})).json()["data"]
        charge = next(
            one["latest_charge"] for one in intents if one["metadata"].get("order") == id and one["latest_charge"]
        )
        opened = (await stripe.post("/_simulator/disputes", json={"charge": charge})).json()
        await eventually(lambda: standing(licensing.LICENSE_STATE_SUSPENDED))
        await stripe.post(f"/_simulator/disputes/{opened['id']}/decide", json={"outcome": "won"})
        await eventually(lambda: standing(licensing.LICENSE_STATE_ACTIVE))


async def provoke_members(market: MarketPeople) -> None:
    """In a cooperative of its own: people come and go, consent and withdraw, ask and forbid."""
    steward = await market.found("chatty", ["m-1"])
    cooperative, dataset = market.assemblies["chatty"], "cooperatives/chatty/datasets/diary"
    version = await market.add_dataset(steward, "diary", b"who,pages\n" + b"m-1,1\nm-2,2\n" * 30, "who")
    leaver, withdrawer = await cooperative.join("m-1", "m-2")
    await market.consent(steward, dataset, ["m-1", "m-2"])
    policy = DividendPolicy(
        reserve_bps=1000, basis=CONTRIBUTION_BASIS_RECORDS, min_payout=Money(amount_minor=500, currency="EUR")
    )
    await cooperative.pass_through(await cooperative.draft(delta=proposals.PolicyDelta(dividend_policy=policy)))
    offering = await market.offer(steward, version, {COMPANY: 0})
    purchase = Purchase(await market.licensee("diarist", COMPANY), offering.name)
    token = await market.buy(purchase)
    await market.files(purchase, token)

    async def used() -> None:
        page = await cooperative.members_desk.ListUses(
            membership.ListUsesRequest(parent=withdrawer.name), metadata=withdrawer.metadata
        )
        if not page.uses:
            raise NotYet("use")

    await eventually(used)
    await cooperative.members_desk.WithdrawConsent(
        membership.WithdrawConsentRequest(parent=withdrawer.name), metadata=withdrawer.metadata
    )

    async def noticed() -> str:
        page = await cooperative.members_desk.ListDeletionNotices(
            membership.ListDeletionNoticesRequest(), metadata=purchase.metadata
        )
        if not page.deletion_notices:
            raise NotYet("notice")
        return str(page.deletion_notices[0].name)

    await cooperative.members_desk.AttestDeletion(
        membership.AttestDeletionRequest(
            request_id=request_id(), name=await eventually(noticed), attestation="Two pages torn out."
        ),
        metadata=purchase.metadata,
    )
    await cooperative.members_desk.LeaveCooperative(
        membership.LeaveCooperativeRequest(name=leaver.name), metadata=leaver.metadata
    )
    await cooperative.members_desk.EraseMember(
        membership.EraseMemberRequest(name=withdrawer.name, confirm_name=withdrawer.name), metadata=withdrawer.metadata
    )

    wish = licensing.RequestMandateRequest(
        request_id=request_id(),
        offering=offering.name,
        wish=licensing.Wish(actions=[scope.USE_ACTION_FINETUNE]),
        message="May we?",
    )
    asked = await market.stub("licensing").RequestMandate(wish, metadata=purchase.metadata)
    await market.stub("licensing").WithdrawMandateRequest(
        licensing.WithdrawMandateRequestRequest(name=asked.name), metadata=purchase.metadata
    )
    # The broker's row of the grant, edited by hand, is found by the proof.
    await Insider(market).run(
        "access_broker",
        "UPDATE access_grant SET end_time = end_time + interval '1 day' WHERE license = $1",
        purchase.license,
    )
    other = Purchase(await market.licensee("second-diarist", COMPANY), offering.name)
    await market.buy(other)
    operator = await market.operator()
    report = await market.stub("access_broker").ProveGrants(broker.ProveGrantsRequest(), metadata=operator.metadata)
    assert [one.license for one in report.failures] == [purchase.license]
    await market.stub("governance").ProposeSharingRule(
        governance.ProposeSharingRuleRequest(
            request_id=request_id(),
            parent="cooperatives/chatty",
            effect=governance.RULE_EFFECT_DENY,
            scope=offering.scope,
            rationale="Somebody reads along.",
        ),
        metadata=steward.metadata,
    )
    before = cooperative.authority.key
    after = SigningKey.generate()
    await market.stub("governance").AddCooperativeKey(
        governance.AddCooperativeKeyRequest(key=introduce("cooperatives/chatty", after, now(), before)),
        metadata=steward.metadata,
    )


async def test_each_event_is_read_with_nothing_but_the_contracts(market: MarketPeople, shelf: Shelf) -> None:
    await provoke(market, shelf)
    wanted = contracts() - TOLD_LATER - HEARTBEATS - PARTS
    assert len(wanted) >= 30
    client = await nats.connect(market.market.nats.url())

    async def read_all() -> None:
        read = set()
        for stream in STREAMS:
            subscription = await client.jetstream().subscribe(
                f"rochdale.{stream}.v1.*", stream=stream, ordered_consumer=True, deliver_policy=DeliverPolicy.ALL
            )
            for _ in range((await client.jetstream().stream_info(stream)).state.messages):
                message = await subscription.next_msg(timeout=5)
                headers = message.headers or {}
                assert headers["ce-specversion"] == "1.0" and headers["content-type"] == "application/protobuf"
                assert headers["Nats-Msg-Id"] == headers["ce-id"] and re.fullmatch(
                    r"evt_[0-9A-Z]{26}", headers["ce-id"]
                )
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", headers["ce-time"])
                assert headers["ce-source"] == f"rochdale/{stream}"
                snake = re.sub(r"(?<!^)(?=[A-Z])", "_", headers["ce-type"].rsplit(".", 1)[1]).lower()
                assert message.subject == f"rochdale.{stream}.v1.{snake}"
                descriptor = Default().FindMessageTypeByName(headers["ce-type"])
                event = message_factory.GetMessageClass(descriptor).FromString(message.data)
                # Whatever this version of the contracts does not know would be kept as unknown fields, silently.
                assert event.SerializeToString(deterministic=True) and event.ByteSize() == len(message.data)
                assert event.ListFields()
                read.add(headers["ce-type"])
            await subscription.unsubscribe()
        if missing := wanted - read:
            raise NotYet(sorted(missing))
        assert read <= contracts()

    try:
        await eventually(read_all, 30)
    finally:
        await client.close()
