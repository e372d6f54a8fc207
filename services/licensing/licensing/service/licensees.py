"""The RPCs of licensees."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from licensing import domain, store
from licensing.service.base import Calls, Context
from licensing.store.tables import bare
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import Kind, Refusal, not_found


class LicenseeCalls(Calls):
    """A buyer claims a category and shows evidence; what it is, is computed."""

    async def RegisterLicensee(self, request: pb.RegisterLicenseeRequest, context: Context) -> pb.Licensee:
        id = caller().organization
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, id, request, pb.Licensee):
                return earlier
            domain.licensees.require_territory(request.territory)
            licensee = await store.licensees.licensee(connection, id)
            if licensee is None or not domain.licensees.same_claim(licensee, request):
                at = now()
                await store.licensees.claim(connection, id, request, at)
                licensee = await self._assess(connection, id, at)
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
            waiting_at = now() if request.unattested_only else None
            rows = await store.licensees.licensees(connection, after, size + 1, waiting_at)
        shown, token = paging.page(
            name, rows, size, lambda row: (from_timestamp(row.create_time).isoformat(), bare(row.name))
        )
        return pb.ListLicenseesResponse(licensees=shown, next_page_token=token)

    async def AttestCategory(self, request: pb.AttestCategoryRequest, context: Context) -> pb.Licensee:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Licensee):
                return earlier
            id, at = bare(request.name), now()
            known = await store.licensees.known(connection, id)
            if known is None:
                raise not_found(request.name)
            approvals = domain.categories.approved(known, request.category, caller().key, at)
            await store.licensees.approve(connection, id, request.category, approvals)
            licensee = await self._assess(connection, id, at)
            return await remember(connection, caller().organization, request, licensee)

    async def ClaimRegisterEntry(self, request: pb.ClaimRegisterEntryRequest, context: Context) -> pb.Licensee:
        id = caller().organization
        if (earlier := await self._claimed(id, request)) is not None:
            return earlier
        # Outside of any transaction: a slow register holds no connection that others need.
        found = await self._registers.look_up(request.register, request.identifier, now())
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, id, request, pb.Licensee):
                return earlier
            at = now()
            # The licensee first: the claim's foreign key would share it, and two who share it cannot both change it.
            await store.licensees.known(connection, id)
            await store.licensees.keep_claim(connection, id, found.claim, found.raw)
            licensee = await self._assess(connection, id, at)
            return await remember(connection, id, request, licensee)

    async def _claimed(self, id: str, request: pb.ClaimRegisterEntryRequest) -> pb.Licensee | None:
        """The first answer, if there was one already: a retry asks no register again."""
        async with self._database.begin() as connection:
            earlier = await first_answer(connection, id, request, pb.Licensee)
            if earlier is None:
                if await store.licensees.licensee(connection, id) is None:
                    raise Refusal(
                        "LICENSEE_NOT_REGISTERED", f"{id} is no licensee yet; register as one first.", Kind.STATE
                    )
                # The id is claimed again with the answer; until then it is nobody's.
                await connection.rollback()
            return earlier

    async def _assess(self, connection: AsyncConnection, id: str, at: dt.datetime) -> pb.Licensee:
        """The category computed anew from all that is known."""
        known = await store.licensees.known(connection, id)
        assert known is not None, "the caller has just found or made it"
        assessment = domain.categories.category_of(known, self._platforms, at)
        return await store.licensees.assessed(connection, id, assessment, at)
