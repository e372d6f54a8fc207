"""What a licensee has to delete: rows it was delivered whose members withdrew since or were erased."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from data_gateway.domain.withdrawals import received
from data_gateway.enforcement import Enforcement, Pass
from data_gateway.store import contributions, deliveries, members, versions
from data_gateway.store.contributions import Contribution
from data_gateway.store.deliveries import Delivery
from data_gateway.store.members import Gone
from rochdale_kit.clock import to_timestamp
from rochdale_kit.database import Database
from rochdale_kit.refusals import not_found

Line = dict[str, Any]


class WithdrawalDoor:
    def __init__(self, enforcement: Enforcement, database: Database) -> None:
        self._enforcement = enforcement
        self._database = database

    async def list_withdrawals(self, request: Request) -> Response:
        """`GET /v1/licenses/{license}/withdrawals`: by version and member, with each delivered file that has the rows."""
        holder = await self._enforcement.admit(request.headers.getlist("authorization"))
        license = f"licenses/{request.path_params['license']}"
        if license != holder.license:
            raise not_found(license)
        found: dict[tuple[str, str], Line] = {}
        async with self._database.read() as connection:
            for delivery in await deliveries.of_license(connection, license):
                await _add(connection, holder, delivery, found)
        return JSONResponse(
            {"license": license, "withdrawals": list(found.values())}, headers={"cache-control": "private, no-store"}
        )


async def _add(
    connection: AsyncConnection, holder: Pass, delivery: Delivery, found: dict[tuple[str, str], Line]
) -> None:
    dataset, number, delivered = delivery.dataset, delivery.number, delivery.delivered
    gone = {one.pseudonym: one for one in await members.gone(connection, dataset)}
    sent = [name for name in gone if name not in delivered.excluded]
    rows = await contributions.of(connection, dataset, number, sent)
    version = await versions.get(connection, dataset, number)
    if not rows or version is None:
        return
    absent = await contributions.of(connection, dataset, number, delivered.excluded)
    left_out = [one.positions for one in absent.values()]
    shown = version.member_column in {column for part in holder.leave.grant.scope.datasets for column in part.columns}
    hashes = {file.path: file.sha256 for file in delivered.files}
    for name, one in rows.items():
        line = found.setdefault((version.name, name), _line(version.name, one, gone[name], shown))
        known = {row["sha256"] for row in line["rows"]}
        line["rows"] += [
            {"path": path, "sha256": hashes[path], "positions": positions}
            for path, positions in received(one.positions, left_out).items()
            if path in hashes and hashes[path] not in known
        ]


def _line(version: str, one: Contribution, gone: Gone, shown: bool) -> Line:
    return {
        "version": version,
        "rows_hash": one.rows_hash,
        "row_count": one.row_count,
        **({"pseudonym": one.pseudonym} if shown else {}),
        "rows": [],
        "withdraw_time": to_timestamp(gone.since).ToJsonString(),
    }
