"""The RPCs of what became of members' data: uses, deletion notices, and the inbox."""

from __future__ import annotations

from governance import domain, store
from governance.service.base import Context, last
from governance.service.consents import Consents, require_self
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found


class Records(Consents):
    """Who received what, who was asked to delete it, and what members were told."""

    async def ListUses(self, request: pb.ListUsesRequest, context: Context) -> pb.ListUsesResponse:
        name, size = f"{request.parent}/uses", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, int)
        require_self(request.parent)
        id, start = last(request.parent), int(str(position[0])) if position else 0
        async with self._database.read() as connection:
            found = await store.uses.uses(connection, id)
            datasets = {one.delivered.dataset for one in found}
            history = (await store.consents.history(connection, [id], datasets)).get(id, [])
        # One member's uses fit a page or two; which of them are theirs is decided on their whole history.
        theirs = [one for one in found if domain.deletions.reached(one.delivered, history)]
        shown = theirs[start : start + size]
        token = paging.encode(name, start + size) if len(theirs) > start + size else ""
        return pb.ListUsesResponse(uses=[_use(one) for one in shown], next_page_token=token)

    async def GetDeletionNotice(self, request: pb.GetDeletionNoticeRequest, context: Context) -> pb.DeletionNotice:
        async with self._database.read() as connection:
            notice = await store.deletions.notice(connection, last(request.name), _sight())
        if notice is None:
            raise not_found(request.name)
        return notice

    async def ListDeletionNotices(
        self, request: pb.ListDeletionNoticesRequest, context: Context
    ) -> pb.ListDeletionNoticesResponse:
        name, size = f"deletionNotices?{_sight()}&{request.open_only}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.deletions.notices(
                connection, _sight(), request.open_only, str(position[0]) if position else None, size + 1
            )
        shown, token = paging.page(name, rows, size, lambda row: (last(row.name),))
        return pb.ListDeletionNoticesResponse(deletion_notices=shown, next_page_token=token)

    async def AttestDeletion(self, request: pb.AttestDeletionRequest, context: Context) -> pb.DeletionNotice:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.DeletionNotice):
                return earlier
            notice = await store.deletions.notice(connection, last(request.name), caller().organization, lock=True)
            if notice is None or notice.recipient != f"organizations/{caller().organization}":
                raise not_found(request.name)
            if notice.HasField("attest_time"):
                raise Refusal(
                    "DELETION_ATTESTED",
                    f"The deletion {notice.name} asks for was attested at {notice.attest_time.ToJsonString()}.",
                    Kind.STATE,
                    name=notice.name,
                )
            at = now()
            members = await store.deletions.attest(connection, last(notice.name), request.attestation, caller().key, at)
            notice.attest_time.CopyFrom(to_timestamp(at))
            notice.attestation, notice.attested_by = request.attestation, caller().key
            await announce(connection, events_pb2.DeletionAttested(deletion_notice=notice), at)
            await store.notices.tell_some(
                connection,
                list(members),
                pb.NOTICE_KIND_USE,
                f"{last(notice.recipient)} attested that your rows are deleted",
                f"{notice.recipient} wrote: {request.attestation}",
                notice.name,
                at,
            )
            return await remember(connection, caller().organization, request, notice)

    async def ListNotices(self, request: pb.ListNoticesRequest, context: Context) -> pb.ListNoticesResponse:
        name, size = f"{request.parent}/notices?{request.unread_only}", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        require_self(request.parent)
        async with self._database.read() as connection:
            rows = await store.notices.notices(
                connection, request.parent, request.unread_only, str(position[0]) if position else None, size + 1
            )
        shown, token = paging.page(name, rows, size, lambda row: (last(row.name),))
        return pb.ListNoticesResponse(notices=shown, next_page_token=token)

    async def ReadNotices(self, request: pb.ReadNoticesRequest, context: Context) -> pb.ReadNoticesResponse:
        require_self(request.parent)
        async with self._database.begin() as connection:
            return pb.ReadNoticesResponse(read_count=await store.notices.read_all(connection, request.parent, now()))


def _sight() -> str | None:
    """Whose deletion notices the caller may see; None for an operator, who sees all."""
    return None if caller().is_operator else caller().organization


def _use(one: store.uses.Used) -> pb.Use:
    delivered = one.delivered
    return pb.Use(
        license=delivered.license,
        recipient=delivered.recipient,
        version=delivered.version,
        row_count=delivered.row_count,
        sharing_rule=one.sharing_rule,
        proposal=one.proposal,
        purposes=delivered.purposes,
        price=one.price,
        first_time=to_timestamp(delivered.first_time),
        last_time=to_timestamp(delivered.last_time),
        deletion_notice=f"deletionNotices/{one.deletion_notice}" if one.deletion_notice else "",
        attest_time=to_timestamp(one.attest_time),
    )
