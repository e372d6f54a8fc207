"""Datasets and their versions, over a real catalog that hears of versions as gateways tell of them."""

from typing import Any

import grpc
import pytest
from catalog_world import Shop, dataset_request, prepared
from house import refused

from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale_kit.paging import encode


async def test_a_steward_creates_a_dataset_and_a_retry_changes_nothing(shop: Shop) -> None:
    steward = await shop.house.steward("founders")
    request = dataset_request("founders", languages=["en", "nl-BE"], citation="Newhouse 1993")
    dataset = await shop.catalog.CreateDataset(request, metadata=steward.metadata)
    assert dataset.name == "cooperatives/founders/datasets/randhie" and dataset.latest_version == 0
    assert list(dataset.languages) == ["en", "nl-BE"] and dataset.citation == "Newhouse 1993"
    assert await shop.catalog.CreateDataset(request, metadata=steward.metadata) == dataset
    assert await shop.catalog.GetDataset(pb.GetDatasetRequest(name=dataset.name)) == dataset

    request.title = "Another"
    async with refused("REQUEST_ID_REUSED"):
        await shop.catalog.CreateDataset(request, metadata=steward.metadata)
    async with refused("DATASET_EXISTS", dataset=dataset.name):
        await shop.catalog.CreateDataset(dataset_request("founders"), metadata=steward.metadata)


async def test_only_its_own_stewards_add_to_a_cooperative(shop: Shop) -> None:
    await shop.house.steward("owners")
    stranger, buyer = await shop.house.steward("strangers"), await shop.house.buyer("shoppers")
    async with refused("NOT_FOUND", name="cooperatives/owners") as there:
        await shop.catalog.CreateDataset(dataset_request("owners"), metadata=stranger.metadata)
    async with refused("NOT_FOUND", name="cooperatives/nobody") as nowhere:
        await shop.catalog.CreateDataset(dataset_request("nobody"), metadata=stranger.metadata)
    assert there[0].message.replace("owners", "nobody") == nowhere[0].message
    async with refused("ROLE_MISSING"):
        await shop.catalog.CreateDataset(dataset_request("shoppers"), metadata=buyer.metadata)
    async with refused("SESSION_MISSING"):
        await shop.catalog.CreateDataset(dataset_request("owners"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset_id": "../../etc/passwd"},
        {"title": ""},
        {"modality": 77},
        {"modality": 0},
        {"languages": ["not a language"]},
        {"title": "a\0b"},
        {"request_id": ""},
    ],
)
async def test_what_has_not_the_contracts_shape_is_not_stored(shop: Shop, wrong: dict[str, Any]) -> None:
    secret = await shop.house.steward(f"shapeless-{abs(hash(str(wrong))) % 10**8}")
    async with refused("REQUEST_INVALID"):
        await shop.catalog.CreateDataset(dataset_request(secret.organization, **wrong), metadata=secret.metadata)
    listed = await shop.catalog.ListDatasets(pb.ListDatasetsRequest(parent=f"cooperatives/{secret.organization}"))
    assert not listed.datasets


async def test_versions_are_published_in_order_whatever_order_they_are_heard_in(shop: Shop) -> None:
    steward = await shop.house.steward("orderly")
    dataset = await shop.dataset(steward, versions=0)
    await shop.tell(prepared(dataset, 2, ["second"]))
    await shop.tell(prepared(dataset, 1, ["first"]))
    await shop.published(dataset, 2)
    # Told again under another event id, with other content: what is published stays.
    await shop.tell(prepared(dataset, 1, ["forged"]))
    await shop.tell(prepared(dataset, 3, ["third"]))
    await shop.published(dataset, 3)

    for number, column in ((1, "first"), (2, "second"), (3, "third")):
        version = await shop.catalog.GetVersion(pb.GetVersionRequest(name=f"{dataset}/versions/{number}"))
        assert version.number == number and [one.name for one in version.columns] == [column]
        assert version.files and version.publish_time.seconds > 0
    told = await shop.told(f"{dataset}/versions/", 3)
    assert [event.version.number for event in told] == [1, 2, 3]


async def test_a_version_of_an_unknown_dataset_waits_for_an_operator(shop: Shop) -> None:
    await shop.tell(prepared("cooperatives/nobody/datasets/nothing", 1))
    steward = await shop.house.steward("patient")
    await shop.dataset(steward)
    parked = await shop.query("SELECT reason FROM parked_event WHERE message LIKE '%nobody%'")
    assert [row.reason for row in parked] == ["DATASET_UNKNOWN"]


async def test_what_is_not_there_is_not_found(shop: Shop) -> None:
    dataset = "cooperatives/nobody/datasets/nothing"
    async with refused("NOT_FOUND", name=dataset):
        await shop.catalog.GetDataset(pb.GetDatasetRequest(name=dataset))
    async with refused("NOT_FOUND", name=f"{dataset}/versions/999999999"):
        await shop.catalog.GetVersion(pb.GetVersionRequest(name=f"{dataset}/versions/999999999"))
    assert not (await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=dataset))).versions


async def test_lists_come_in_pages_without_holes(shop: Shop) -> None:
    steward = await shop.house.steward("paged")
    dataset = await shop.dataset(steward, versions=5)
    for number in range(4):
        await shop.catalog.CreateDataset(dataset_request("paged", f"table-{number}"), metadata=steward.metadata)

    names, token = [], ""
    while True:
        page = await shop.catalog.ListDatasets(
            pb.ListDatasetsRequest(parent="cooperatives/paged", page_size=2, page_token=token)
        )
        names += [one.name.rsplit("/", 1)[1] for one in page.datasets]
        if not (token := page.next_page_token):
            break
    assert names == ["randhie", "table-0", "table-1", "table-2", "table-3"]

    numbers, token = [], ""
    while True:
        versions = await shop.catalog.ListVersions(
            pb.ListVersionsRequest(parent=dataset, page_size=2, page_token=token)
        )
        numbers += [one.number for one in versions.versions]
        assert not any(one.files for one in versions.versions)
        if not (token := versions.next_page_token):
            break
    assert numbers == [5, 4, 3, 2, 1]


async def test_page_tokens_belong_to_one_list_and_are_not_altered(shop: Shop) -> None:
    steward = await shop.house.steward("tokens")
    dataset = await shop.dataset(steward, versions=2)
    page = await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=dataset, page_size=1))
    token = page.next_page_token
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    nested = "W1tb" * 400
    for wrong in (altered, token + "=", f"{token[:4]}!{token[4:]}", "bm90IG91cnM", nested, "é"):
        async with refused("PAGE_TOKEN_INVALID"):
            await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=dataset, page_token=wrong))
    async with refused("PAGE_TOKEN_INVALID"):
        await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=f"{dataset}x", page_token=token))
    async with refused("PAGE_TOKEN_INVALID"):
        await shop.catalog.ListDatasets(pb.ListDatasetsRequest(parent="cooperatives/tokens", page_token=token))
    # Whoever makes one by the published recipe gets a list, or a refusal, but no fault.
    forged = encode(f"{dataset}/versions", 1 << 40)
    assert (
        len((await shop.catalog.ListVersions(pb.ListVersionsRequest(parent=dataset, page_token=forged))).versions) == 2
    )
    async with refused("PAGE_TOKEN_INVALID"):
        await shop.catalog.ListVersions(
            pb.ListVersionsRequest(parent=dataset, page_token=encode(f"{dataset}/versions", 1 << 80))
        )


async def test_a_request_of_ten_megabytes_is_too_large(shop: Shop) -> None:
    steward = await shop.house.steward("wordy")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await shop.catalog.CreateDataset(
            dataset_request("wordy", description="x" * 10_000_000), metadata=steward.metadata
        )
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
