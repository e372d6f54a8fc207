"""What the catalog hears: rules, cooperatives and their keys from governance, versions from gateways."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from catalog import domain, store
from catalog.closing import close_fallen
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import events_pb2
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale_kit.chain import flaw_of_signed_rule
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)


class CatalogEvents:
    """Handlers. Each re-reads what it acts on; the same event twice, or late, changes nothing."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def cooperative_created(
        self, connection: AsyncConnection, event: governance_events.CooperativeCreated
    ) -> None:
        await self._meet(connection, event.cooperative)

    async def cooperative_key_added(
        self, connection: AsyncConnection, event: governance_events.CooperativeKeyAdded
    ) -> None:
        await self._meet(connection, event.cooperative)

    async def _meet(self, connection: AsyncConnection, cooperative: governance.Cooperative) -> None:
        """Keeps the cooperative's keys, and closes what a key found compromised no longer carries."""
        id = cooperative.name.rsplit("/", 1)[1]
        await store.hold_rules(connection, id, change=True)
        known = await store.signing_keys(connection, id)
        told = list(cooperative.signing_keys)
        if len(told) < len(known):
            return
        # The line goes on from the keys heard before, or it is somebody else's: parked, and a person looks at it.
        CooperativeKeys.follow(cooperative.name, told)
        if told[: len(known)] != known:
            raise Refusal(
                "COOPERATIVE_KEY_INVALID",
                f"The keys told of {cooperative.name} do not go on from those heard before.",
                cooperative=cooperative.name,
            )
        await store.save_cooperative(connection, id, cooperative.display_name, told)
        if len(told) > len(known):
            await close_fallen(connection, id, now())
            self._changed()

    async def rule_enacted(self, connection: AsyncConnection, event: governance_events.RuleEnacted) -> None:
        await self._take(connection, event.sharing_rule)

    async def rule_narrowed(self, connection: AsyncConnection, event: governance_events.RuleNarrowed) -> None:
        await self._take(connection, event.sharing_rule)

    async def _take(self, connection: AsyncConnection, rule: governance.SharingRule) -> None:
        """Keeps the rule if its cooperative signed it, and closes every offering that no longer stands."""
        cooperative = rule.name.split("/")[1]
        await store.hold_rules(connection, cooperative, change=True)
        introduced = await store.signing_keys(connection, cooperative)
        keys = CooperativeKeys.follow(f"cooperatives/{cooperative}", introduced)
        if flaw := flaw_of_signed_rule(rule, keys):
            if rule.signature.key_id and rule.signature.key_id not in {key.key_id for key in introduced}:
                # The key may be on its way. Tried again for half an hour and then parked, where it can be replayed.
                raise Refusal("COOPERATIVE_KEY_UNKNOWN", flaw.sentence, Kind.INTERNAL, sharing_rule=rule.name)
            log.error("kept out: %s %s", flaw.reason, flaw.sentence)
            return
        known, in_force = await store.rule(connection, rule.name), domain.in_force(rule, keys)
        if known is not None and not domain.replaces(rule, in_force, known):
            return
        await store.save_rule(connection, rule, in_force)
        await close_fallen(connection, cooperative, now())
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

    async def version_superseded(self, connection: AsyncConnection, event: gateway_events.VersionSuperseded) -> None:
        dataset, _, number = event.version.partition("/versions/")
        later_dataset, _, later = event.superseded_by.partition("/versions/")
        known = await store.dataset(connection, dataset, lock=True)
        if known is None or later_dataset != dataset or int(later) <= int(number):
            raise Refusal(
                "VERSION_UNKNOWN",
                f"{event.superseded_by} cannot take the place of {event.version}.",
                version=event.version,
                superseded_by=event.superseded_by,
            )
        if known.latest_version < int(later):
            raise Refusal(
                "VERSION_NOT_YET_KNOWN",
                f"{event.superseded_by} is not published yet.",
                Kind.UNAVAILABLE,
                version=event.superseded_by,
            )
        version = await store.version(connection, dataset, int(number))
        assert version is not None, "versions have no gaps"
        if version.superseded_by >= int(later):
            return
        version.superseded_by = int(later)
        # The sample may show what members have withdrawn.
        version.sample_json = ""
        await store.save_version(connection, dataset, version)
