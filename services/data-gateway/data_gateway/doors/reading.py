"""Which version a token's holder reads: the one asked for, or the latest its token opens."""

from __future__ import annotations

from data_gateway.enforcement import Enforcement, Pass
from data_gateway.shelf import Shelf
from data_gateway.store.versions import Version
from rochdale_kit.refusals import not_found


class Reading:
    def __init__(self, enforcement: Enforcement, shelf: Shelf) -> None:
        self.enforcement = enforcement
        self.shelf = shelf

    async def version(self, holder: Pass, number: int | None, mode: int) -> Version:
        """Refuses with REQUEST_OUTSIDE_TOKEN before it says whether a version exists, and with NOT_FOUND."""
        part = holder.scope.datasets[0]
        if number is None:
            number = await self.shelf.latest(holder.dataset, part.first_version, part.last_version)
        self.enforcement.require_request(holder, number or part.first_version, holder.columns, mode)
        version = await self.shelf.version(holder.dataset, number) if number is not None else None
        name = f"{holder.dataset}/versions/{number or part.first_version}"
        if version is None or not self.columns(holder, version):
            raise not_found(name)
        return version

    def columns(self, holder: Pass, version: Version) -> frozenset[str]:
        """Those of the version that the token opens; a later version may lack some."""
        return holder.columns & {column.name for column in version.document.columns}
