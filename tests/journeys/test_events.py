"""Every event is protobuf in CloudEvents binary mode: anybody with the contracts, and nothing else of ours, reads it."""

import importlib
import re
from pathlib import Path

import nats
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import Default
from house import request_id
from nats.js.api import DeliverPolicy
from walk import COMPANY, MarketPeople, NotYet, Purchase, Shelf, eventually

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing

ROOT = Path(__file__).resolve().parents[2]
STREAMS = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "data_gateway"]
# In the contracts, and not told yet: nothing suspends a license before disputes and emergency narrowings exist.
NOT_TOLD_YET = {"rochdale.licensing.v1.LicenseSuspended"}
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
    await market.stub("governance").NarrowSharingRule(
        governance.NarrowSharingRuleRequest(request_id=request_id(), name=doomed.tiers[0].sharing_rule, revision=1),
        metadata=shelf.steward.metadata,
    )

    async def closed() -> None:
        found = await market.stub("catalog").GetOffering(catalog.GetOfferingRequest(name=doomed.name))
        if found.state != catalog.OFFERING_STATE_CLOSED:
            raise NotYet("closed")

    await eventually(closed)


async def test_each_event_is_read_with_nothing_but_the_contracts(market: MarketPeople, shelf: Shelf) -> None:
    await provoke(market, shelf)
    wanted = contracts() - NOT_TOLD_YET - HEARTBEATS
    assert len(wanted) >= 16
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
