"""A simulator per test, beside the world around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from stripe_world import SECRET, OpenWorld, Receiver, World

from stripe_simulator import StripeSimulator


@pytest.fixture
async def open_world() -> AsyncIterator[OpenWorld]:
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> World:
            receiver = Receiver()
            server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            given = {"retry_seconds": 0.02, "processing_seconds": 0.05, **settings}
            simulator = StripeSimulator(
                webhook_url=f"http://127.0.0.1:{port}/hook",
                webhook_secret=SECRET,
                **given,
            )
            url = await simulator.start()
            stack.push_async_callback(simulator.stop)
            world = World(simulator, url, receiver)
            stack.push_async_callback(world.browser.aclose)
            stack.push_async_callback(world.raw.aclose)
            stack.push_async_callback(world.stripe._requestor._client.close_async)
            return world

        yield opened


@pytest.fixture
async def world(open_world: OpenWorld) -> World:
    return await open_world()
