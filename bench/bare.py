"""The smallest gRPC server: bytes in, the same bytes out. What a service costs is measured against it."""

import asyncio
import sys
from typing import Any

import grpc

PATH = "/bench.Echo/Say"


async def _say(request: bytes, context: object) -> bytes:
    return request


async def _serve(address: str) -> None:
    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(_say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
