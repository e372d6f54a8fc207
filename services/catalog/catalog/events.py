"""What the catalog hears: rules and cooperatives from governance, versions from gateways."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import domain, store
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import events_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal


class CatalogEvents:
    """Handlers. Each re-reads what it acts on; the same event twice, or late, changes nothing."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def cooperative_created(
        self, connection: AsyncConnection, event: governance_events.CooperativeCreated
    ) -> None:
        cooperative = event.cooperative
        await store.save_cooperative(connection, cooperative.name.rsplit("/", 1)[1], cooperative.display_name)

    async def rule_enacted(self, connection: AsyncConnection, event: governance_events.RuleEnacted) -> None:
        await self._take(connection, event.sharing_rule)

    async def rule_narrowed(self, connection: AsyncConnection, event: governance_events.RuleNarrowed) -> None:
        await self._take(connection, event.sharing_rule)

    async def _take(self, connection: AsyncConnection, rule: governance.SharingRule) -> None:
        """Keeps the rule and closes every offering that no longer stands."""
        cooperative = rule.name.split("/")[1]
        await store.hold_rules(connection, cooperative, change=True)
        await store.save_rule(connection, rule)
        rules = await store.rules_in_force(connection, cooperative)
        for id, offering in await store.open_offerings(connection, cooperative):
            if reason := domain.close_reason(offering, rules):
                offering.state = pb.OFFERING_STATE_CLOSED
                offering.close_reason = reason
                offering.close_time.CopyFrom(to_timestamp(now()))
                await store.save_offering(connection, id, cooperative, offering)
                await announce(connection, events_pb2.OfferingClosed(offering=offering))
        self._changed()

    async def version_prepared(self, connection: AsyncConnection, event: gateway_events.VersionPrepared) -> None:
        dataset = await store.dataset(connection, event.dataset, lock=True)
        number = event.version.number
        if dataset is None:
            raise Refusal("DATASET_UNKNOWN", f"{event.dataset} is not in the catalog.", dataset=event.dataset)
        if number <= dataset.latest_version:
            return
        if number > dataset.latest_version + 1:
            raise Refusal(
                "VERSION_OUT_OF_ORDER",
                f"Version {number} of {event.dataset} came before version {dataset.latest_version + 1}.",
                Kind.UNAVAILABLE,
                dataset=event.dataset,
                version=number,
            )
        version = pb.Version()
        version.CopyFrom(event.version)
        version.name = f"{event.dataset}/versions/{number}"
        version.publish_time.CopyFrom(to_timestamp(now()))
        await store.insert_version(connection, event.dataset, version)
        await announce(connection, events_pb2.VersionPublished(version=version))
