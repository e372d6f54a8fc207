"""The RPCs of licenses. They begin in service/signature and become active in events."""

from __future__ import annotations

from licensing import domain, store
from licensing.ending import end_early
from licensing.service.base import Calls, Context, party, sight
from licensing.store.tables import bare
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import not_found


class LicenseCalls(Calls):
    """Looked at by both sides, and ended early by either."""

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Context) -> pb.KeySet:
        return pb.KeySet(jwks_json=self._keys.jwks())

    async def GetLicense(self, request: pb.GetLicenseRequest, context: Context) -> pb.License:
        async with self._database.read() as connection:
            license = await store.licenses.license(connection, bare(request.name), sight())
        if license is None:
            raise not_found(request.name)
        return license

    async def ListLicenses(self, request: pb.ListLicensesRequest, context: Context) -> pb.ListLicensesResponse:
        name, size = f"licenses?{sight()}&{request.state}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        before = str(position[0]) if position else None
        async with self._database.read() as connection:
            rows = await store.licenses.licenses(connection, sight(), request.state, before, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (bare(row.name),))
        return pb.ListLicensesResponse(licenses=shown, next_page_token=token)

    async def TerminateLicense(self, request: pb.TerminateLicenseRequest, context: Context) -> pb.License:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.License):
                return earlier
            before = await store.licenses.license(connection, bare(request.name), sight(), lock=True)
            if before is None:
                raise not_found(request.name)
            at = now()
            domain.licenses.require_live(before, at)
            after = await end_early(connection, before, party(), request.reason, at)
            return await remember(connection, caller().organization, request, after)
