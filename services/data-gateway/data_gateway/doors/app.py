"""Every HTTP address of the gateway, in one place."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from data_gateway.doors.answers import Handler, guarded, no_such_page
from data_gateway.doors.delta import DeltaSharing
from data_gateway.doors.files import FileDoor
from data_gateway.doors.uploads import UploadDoor
from data_gateway.doors.withdrawals import WithdrawalDoor
from rochdale_kit.server import Service
from rochdale_kit.telemetry import Telemetry

_DELTA = "/delta-sharing/shares"
_SCHEMAS = _DELTA + "/{share}/schemas"
_TABLES = _SCHEMAS + "/{schema}/tables"
_TABLE = _TABLES + "/{table}"


def build_app(
    service: Service,
    telemetry: Telemetry,
    uploads: UploadDoor,
    files: FileDoor,
    withdrawals: WithdrawalDoor,
    delta: DeltaSharing,
    withdrawal_version_seconds: int,
) -> ASGIApp:
    async def health(_request: Request) -> Response:
        serving = service.healthy.is_set()
        return JSONResponse(
            {
                "status": "SERVING" if serving else "NOT_SERVING",
                "trouble": service.trouble,
                "withdrawal_version_seconds": withdrawal_version_seconds,
            },
            200 if serving else 503,
        )

    def route(path: str, method: str, name: str, handler: Handler) -> Route:
        return Route(path, guarded(telemetry, name, handler), methods=[method])

    content = "/v1/ingestions/{ingestion}/content"
    pages = Starlette(
        routes=[
            Route("/health", health),
            route(content, "HEAD", "upload offset", uploads.head),
            route(content, "PUT", "upload", uploads.put),
            route("/v1/licenses/{license}/files", "GET", "list files", files.list_files),
            route("/v1/licenses/{license}/withdrawals", "GET", "list withdrawals", withdrawals.list_withdrawals),
            route(_DELTA, "GET", "shares", delta.shares),
            route(_DELTA + "/{share}", "GET", "share", delta.share),
            route(_SCHEMAS, "GET", "schemas", delta.schemas),
            route(_TABLES, "GET", "tables", delta.tables),
            route(_DELTA + "/{share}/all-tables", "GET", "tables", delta.tables),
            route(_TABLE + "/version", "GET", "table version", delta.table_version),
            route(_TABLE + "/metadata", "GET", "table metadata", delta.metadata),
            route(_TABLE + "/query", "POST", "query", delta.query),
            route(_TABLE + "/changes", "GET", "table changes", delta.changes),
        ],
        exception_handlers={HTTPException: no_such_page},
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Before Starlette: its middleware costs more than reading 64 KiB, and hides the connection that a revoked stream
        # must be able to break off.
        if scope["type"] == "http" and files.answers(scope):
            await files(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return app
