"""The RPCs of licensees."""

from __future__ import annotations

from licensing import domain, store
from licensing.service.base import Calls, Context
from licensing.store.tables import bare
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import not_found


class LicenseeCalls(Calls):
    """A buyer claims a category, an operator attests one."""

    async def RegisterLicensee(self, request: pb.RegisterLicenseeRequest, context: Context) -> pb.Licensee:
        id = caller().organization
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, id, request, pb.Licensee):
                return earlier
            domain.licensees.require_territory(request.territory)
            licensee = await store.licensees.licensee(connection, id)
            if licensee is None or not domain.licensees.same_claim(licensee, request):
                licensee = await store.licensees.claim(connection, id, request, now())
            return await remember(connection, id, request, licensee)

    async def GetLicensee(self, request: pb.GetLicenseeRequest, context: Context) -> pb.Licensee:
        id = bare(request.name)
        async with self._database.read() as connection:
            if caller().is_operator:
                licensee = await store.licensees.licensee(connection, id)
            else:
                licensee = await store.licensees.licensee_seen_by(connection, id, caller().organization)
        if licensee is None:
            raise not_found(request.name)
        return licensee

    async def ListLicensees(self, request: pb.ListLicenseesRequest, context: Context) -> pb.ListLicenseesResponse:
        name, size = f"licensees?{request.unattested_only}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str, str)
        after = (paging.time_of(position[0]), str(position[1])) if position else None
        async with self._database.read() as connection:
            rows = await store.licensees.licensees(connection, after, size + 1, request.unattested_only)
        shown, token = paging.page(
            name, rows, size, lambda row: (from_timestamp(row.create_time).isoformat(), bare(row.name))
        )
        return pb.ListLicenseesResponse(licensees=shown, next_page_token=token)

    async def AttestCategory(self, request: pb.AttestCategoryRequest, context: Context) -> pb.Licensee:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Licensee):
                return earlier
            licensee = await store.licensees.attest(connection, bare(request.name), request.category, now())
            if licensee is None:
                raise not_found(request.name)
            return await remember(connection, caller().organization, request, licensee)
