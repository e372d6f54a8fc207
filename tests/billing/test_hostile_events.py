"""What another party's gateway says, and page tokens that were made up: neither reaches what is not theirs."""

from __future__ import annotations

import grpc
from billing_desk import Desk, until
from house import refused
from treasury_desk import deliver, paid_order

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.billing.v1 import treasury_pb2_grpc
from rochdale_kit import paging


async def test_another_cooperatives_gateway_delivers_nothing_of_ours(desk: Desk) -> None:
    order = await paid_order(desk, 10_000)
    await deliver(desk, order, version="cooperatives/other-health/datasets/visits/versions/1")
    await until(lambda: desk.rows("SELECT reason FROM parked_event WHERE reason = 'EVENT_ILL_FORMED'"), bool)
    assert not await desk.rows("SELECT 1 FROM share WHERE deliver_time IS NOT NULL")
    assert not await desk.rows("SELECT 1 FROM access_day") and not await desk.rows("SELECT 1 FROM delivery")
    await deliver(desk, order)
    await until(lambda: desk.rows("SELECT 1 FROM share WHERE deliver_time IS NOT NULL"), bool)


async def test_a_page_token_of_an_export_that_nobody_gave_out_is_refused(desk: Desk) -> None:
    await paid_order(desk, 10_000)
    async with grpc.aio.insecure_channel(desk.service.grpc_address) as channel:
        treasury = treasury_pb2_grpc.TreasuryServiceStub(channel)
        for until_id, before in ((0, 1_000), (1, 1 << 62)):
            token = paging.encode("export?platform", until_id, before)
            async with refused("PAGE_TOKEN_INVALID"):
                await treasury.ExportBook(pb.ExportBookRequest(page_token=token), metadata=desk.operator.metadata)
