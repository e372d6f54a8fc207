"""What the liveness and readiness probes ask of a service whose database is away. No database takes part."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity.service import ACCESS, DESCRIPTOR
from rochdale_kit.boundary import Boundary
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def away() -> None:
    raise OSError("the database is away")


async def test_a_service_whose_database_is_away_is_unready_but_not_restarted() -> None:
    telemetry = Telemetry("identity", "", 1.0)
    service = Service("identity", telemetry)
    service.check("database", away)
    boundary = Boundary({DESCRIPTOR: ACCESS}, Sessions(KeySource("127.0.0.1:1")), telemetry)
    service.serve_grpc("127.0.0.1:0", boundary, lambda server: None)
    await service.start()
    try:
        async with grpc.aio.insecure_channel(service.grpc_address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            readiness = await health.Check(health_pb2.HealthCheckRequest())
            liveness = await health.Check(health_pb2.HealthCheckRequest(service="live"))
        assert (readiness.status, liveness.status) == (NOT_SERVING, SERVING)
    finally:
        await service.stop()
