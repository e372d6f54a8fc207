"""The catalog's RPCs, each told as load, decide, save, announce, reply. Rules are in domain, queries in store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from catalog import domain, store
from catalog.closing import close
from catalog.search import Cursor, Facet, Filters, Order, SearchIndex, SearchPage, SearchQuery, TooDeep, WrongCursor
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.catalog.v1 import catalog_pb2_grpc, events_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit import paging
from rochdale_kit.chain import hash_of_offering
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import PUBLIC, caller, roles
from rochdale_kit.money import require_currency
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["CatalogService"]
STEWARD = roles(identity_pb2.ROLE_STEWARD)
ACCESS = {
    "CreateDataset": STEWARD,
    "GetDataset": PUBLIC,
    "ListDatasets": PUBLIC,
    "GetVersion": PUBLIC,
    "ListVersions": PUBLIC,
    "PublishOffering": STEWARD,
    "CloseOffering": STEWARD,
    "GetOffering": PUBLIC,
    "ListOfferings": PUBLIC,
    "SearchOfferings": PUBLIC,
}
DEFAULT_HITS = 20
# gRPC clients take 4 MiB unless told otherwise, and one offering may be a quarter of one.
REPLY_BYTES = 2 * 1024 * 1024
# tantivy lets go of Python's lock; more threads than this only wait for the same cores.
SEARCH_THREADS = 4

_ORDERS = {
    pb.SEARCH_ORDER_UNSPECIFIED: None,
    pb.SEARCH_ORDER_RELEVANCE: Order.RELEVANCE,
    pb.SEARCH_ORDER_NEWEST: Order.NEWEST,
    pb.SEARCH_ORDER_PRICE: Order.PRICE,
}
_FACETS = {
    "modality": Facet.MODALITY,
    "language": Facet.LANGUAGE,
    "license_terms": Facet.LICENSE_TAG,
    "cooperative": Facet.COOPERATIVE,
    "mode": Facet.ACCESS_MODE,
    "price": Facet.PRICE,
}

Context = Any  # grpc.aio.ServicerContext, which no RPC of ours looks at


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Datasets, versions, offerings, search."""

    def __init__(self, database: Database, index: SearchIndex, changed: Callable[[], None]) -> None:
        self._database = database
        self._index = index
        self._changed = changed
        self._threads = ThreadPoolExecutor(SEARCH_THREADS, thread_name_prefix="search")

    async def close(self) -> None:
        """Ends the threads that search."""
        self._threads.shutdown(wait=False)

    async def CreateDataset(self, request: pb.CreateDatasetRequest, context: Context) -> pb.Dataset:
        cooperative = _mine(request.parent)
        name = f"{request.parent}/datasets/{request.dataset_id}"
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, cooperative, request, pb.Dataset):
                return earlier
            dataset = await store.insert_dataset(connection, name, cooperative, request, now())
            if dataset is None:
                raise Refusal("DATASET_EXISTS", f"{name} exists already.", Kind.EXISTS, dataset=name)
            return await remember(connection, cooperative, request, dataset)

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        async with self._database.read() as connection:
            dataset = await store.dataset(connection, request.name)
        if dataset is None:
            raise not_found(request.name)
        return dataset

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        list_name, size = f"{request.parent}/datasets", paging.size(request.page_size)
        position = paging.decode(list_name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.datasets(connection, _id(request.parent), str(position[0]) if position else "", size + 1)
        shown, token = paging.page(list_name, rows, _fitting(rows, size), lambda row: (row.name,))
        return pb.ListDatasetsResponse(datasets=shown, next_page_token=token)

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.Version:
        dataset, _, number = request.name.partition("/versions/")
        async with self._database.read() as connection:
            version = await store.version(connection, dataset, int(number))
        if version is None:
            raise not_found(request.name)
        return version

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        list_name, size = f"{request.parent}/versions", paging.size(request.page_size)
        position = paging.decode(list_name, request.page_token, int)
        before = position[0] if position else None
        assert before is None or isinstance(before, int), "decode lets nothing else through"
        async with self._database.read() as connection:
            rows = await store.versions(connection, request.parent, before, size + 1)
        for version in rows:
            del version.files[:]
        shown, token = paging.page(list_name, rows, _fitting(rows, size), lambda row: (row.number,))
        return pb.ListVersionsResponse(versions=shown, next_page_token=token)

    async def PublishOffering(self, request: pb.PublishOfferingRequest, context: Context) -> pb.Offering:
        cooperative = _mine(request.parent)
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, cooperative, request, pb.Offering):
                return earlier
            # Held, so that a rule heard at this moment comes wholly before or wholly after this offering.
            await store.hold_rules(connection, cooperative)
            rules = await store.rules(connection, cooperative, now())
            unheard = await store.unheard_rules(connection, [tier.sharing_rule for tier in request.tiers])
            versions = await store.versions_of(connection, [dataset.dataset for dataset in request.scope.datasets])

            scope = domain.offering_scope(request.scope, request.tiers)
            domain.check_plans(scope, request.tiers)
            domain.check_datasets(cooperative, scope, versions)
            domain.check_heard(rules.keys, unheard)
            cited = domain.check_tiers(cooperative, scope, request.tiers, rules)

            offering = pb.Offering(
                name=f"{request.parent}/offerings/{request.offering_id}",
                title=request.title,
                description=request.description,
                scope=scope,
                tiers=request.tiers,
                rule_revisions=[rule.revision for rule in cited],
                rule_hashes=[rule.rule_hash for rule in cited],
                state=pb.OFFERING_STATE_OPEN,
                publish_time=to_timestamp(now()),
                signature=request.signature,
                mandate_request=request.mandate_request,
            )
            offering.offering_hash = hash_of_offering(offering)
            domain.check_signature(offering, rules.keys)
            if not await store.insert_offering(connection, request.offering_id, cooperative, offering):
                raise Refusal(
                    "OFFERING_EXISTS", f"{offering.name} exists already.", Kind.EXISTS, offering=offering.name
                )
            await announce(connection, events_pb2.OfferingPublished(offering=offering))
            await remember(connection, cooperative, request, offering)
        self._changed()
        return offering

    async def CloseOffering(self, request: pb.CloseOfferingRequest, context: Context) -> pb.Offering:
        cooperative, id = _mine(request.name.partition("/offerings/")[0], request.name), _id(request.name)
        async with self._database.begin() as connection:
            offering = await store.offering(connection, cooperative, id, lock=True)
            if offering is None:
                raise not_found(request.name)
            if offering.state == pb.OFFERING_STATE_OPEN:
                await close(connection, id, offering, "CLOSED_BY_STEWARD", now())
        self._changed()
        return offering

    async def GetOffering(self, request: pb.GetOfferingRequest, context: Context) -> pb.Offering:
        cooperative = _id(request.name.partition("/offerings/")[0])
        async with self._database.read() as connection:
            offering = await store.offering(connection, cooperative, _id(request.name))
        if offering is None:
            raise not_found(request.name)
        return offering

    async def ListOfferings(self, request: pb.ListOfferingsRequest, context: Context) -> pb.ListOfferingsResponse:
        list_name, size = f"{request.parent}/offerings", paging.size(request.page_size)
        position = paging.decode(list_name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.offerings(
                connection, _id(request.parent), str(position[0]) if position else None, size + 1
            )
        shown, token = paging.page(list_name, rows, _fitting(rows, size), lambda row: (_id(row.name),))
        return pb.ListOfferingsResponse(offerings=shown, next_page_token=token)

    async def SearchOfferings(self, request: pb.SearchOfferingsRequest, context: Context) -> pb.SearchOfferingsResponse:
        if request.HasField("max_price"):
            require_currency(request.max_price.currency)
        list_name = search_name(request)
        query = _query(request, list_name)
        while True:
            found = await self._search(query)
            async with self._database.read() as connection:
                offerings = await store.offerings_by_id(connection, [hit.offering_id for hit in found.hits])
                datasets = await store.datasets_named(
                    connection, (offering.scope.datasets[0].dataset for offering in offerings.values())
                )
                names = await store.cooperative_names(connection, {_cooperative(o.name) for o in offerings.values()})
            fitting = _fitting(list(offerings.values()), len(found.hits))
            if fitting == len(found.hits):
                break
            # Asked again for fewer rather than cut here: only the index knows where the next page begins.
            query = replace(query, page_size=fitting)
        hits = []
        for hit in found.hits:
            # One closed a moment ago may still be in the index; it is not shown.
            if (offering := offerings.get(hit.offering_id)) is not None:
                dataset = datasets[offering.scope.datasets[0].dataset]
                cooperative = _cooperative(offering.name)
                hits.append(
                    pb.SearchHit(
                        offering=offering,
                        dataset_title=dataset.title,
                        cooperative=names.get(cooperative, cooperative),
                        modality=dataset.modality,
                    )
                )
        token = ""
        if found.next is not None:
            token = paging.encode(list_name, found.next.order.value, found.next.key, found.next.offering_id)
        return pb.SearchOfferingsResponse(
            hits=hits,
            total_count=found.total,
            facets=[
                pb.Facet(
                    name=name,
                    counts=[pb.FacetCount(value=c.value, count=c.listings) for c in found.facets[_FACETS[name]]],
                )
                for name in request.facets
            ],
            next_page_token=token,
        )

    async def _search(self, query: SearchQuery) -> SearchPage:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._index.search, query)
        except TooDeep as error:
            raise Refusal(
                "SEARCH_TOO_DEEP",
                f"The best {error.deepest_hit} results end here; narrow the search, or order it by NEWEST or PRICE.",
                deepest_hit=error.deepest_hit,
            ) from None
        except WrongCursor:
            raise paging.invalid() from None


def _query(request: pb.SearchOfferingsRequest, list_name: str) -> SearchQuery:
    position = paging.decode(list_name, request.page_token, str, int, str)
    after = None
    if position is not None:
        order, key, offering_id = position
        try:
            after = Cursor.from_json({"order": order, "key": key, "offering_id": offering_id})
        except WrongCursor:
            raise paging.invalid() from None
    return SearchQuery(
        text=request.query,
        filters=Filters(
            modalities=frozenset(pb.Modality.Name(modality) for modality in request.modalities),
            languages=frozenset(request.languages),
            license_tags=frozenset(request.license_terms),
            cooperative_ids=frozenset(request.cooperatives),
            access_modes=frozenset(scope_pb2.AccessMode.Name(mode) for mode in request.modes),
            category=scope_pb2.BuyerCategory.Name(request.category) if request.category else None,
            currency=request.max_price.currency if request.HasField("max_price") else None,
            max_price_amount_minor=request.max_price.amount_minor if request.HasField("max_price") else None,
            free_only=request.free_only,
        ),
        facets=frozenset(_FACETS[name] for name in request.facets),
        page_size=request.page_size or DEFAULT_HITS,
        after=after,
        order=_ORDERS[request.order],
    )


def search_name(request: pb.SearchOfferingsRequest) -> str:
    """What a page token is bound to: everything asked but the page itself."""
    asked = pb.SearchOfferingsRequest()
    asked.CopyFrom(request)
    asked.ClearField("page_token")
    asked.ClearField("page_size")
    asked.ClearField("facets")
    return "search?" + hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()


def _fitting(rows: Sequence[Message], size: int) -> int:
    """How many rows of a page fit into one reply, at least one: a page may always be shorter than asked."""
    total = 0
    for number, row in enumerate(rows[:size]):
        total += row.ByteSize()
        if total > REPLY_BYTES and number:
            return number
    return size


def _id(name: str) -> str:
    return name.rsplit("/", 1)[1]


def _cooperative(name: str) -> str:
    return name.split("/")[1]


def _mine(cooperative: str, asked: str = "") -> str:
    """The bare id of the caller's own cooperative; another's, and what is in it, answers as if it did not exist."""
    if caller().organization != _id(cooperative):
        raise not_found(asked or cooperative)
    return _id(cooperative)
