"""The RPCs of consent: giving, recording, withdrawing, and what a member keeps to show for it."""

from __future__ import annotations

import hashlib

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.service.base import Context, last, own_cooperative
from governance.service.members import Members
from governance.withdrawing import withdraw
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.type.v1 import signature_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found
from rochdale_kit.signing import DOCUMENT_PREFIX, sign_hash

LIVE_PAGE = 1000


class Consents(Members):
    """What members agreed to."""

    async def GiveConsent(self, request: pb.GiveConsentRequest, context: Context) -> pb.Consent:
        async with self._database.begin() as connection:
            # Under the member's own name: two members may well think of the same request id.
            member = await self._own(connection, request.parent)
            if earlier := await first_answer(connection, member.name, request, pb.Consent):
                return earlier
            domain.consents.check(
                member.name.split("/")[1], request.dataset, request.purposes, list(request.categories)
            )
            at = now()
            if not request.purposes:
                # Who refuses takes back what was given before, with all that follows from it.
                ground = pb.DELETION_GROUND_WITHDRAWAL
                await withdraw(connection, member, request.dataset, ground, at, self._keys.current)
            await store.consents.end_live(connection, [member.name], request.dataset, pb.CONSENT_STATUS_SUPERSEDED, at)
            consent = pb.Consent(
                name=f"{member.name}/consents/{new_id('con')}",
                dataset=request.dataset,
                purposes=request.purposes,
                categories=request.categories,
                status=domain.consents.status_of(request.purposes),
                method=pb.CONSENT_METHOD_MEMBER,
                notice_hash=request.notice_hash,
                language=request.language,
                give_time=to_timestamp(at),
            )
            await store.consents.insert(connection, member.name, consent)
            await store.members.touch(connection, member.name, at)
            await self._tell(connection, [(member, consent)])
            return await remember(connection, member.name, request, consent)

    async def RecordConsents(self, request: pb.RecordConsentsRequest, context: Context) -> pb.RecordConsentsResponse:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.RecordConsentsResponse):
                return earlier
            # The members are locked, so that none decides between our look and our record; the cooperative is not, because
            # who leaves locks themselves first and the cooperative then.
            await own_cooperative(connection, request.parent, lock=False)
            domain.consents.check(last(request.parent), request.dataset, request.purposes, list(request.categories))
            members = await store.members.by_references(connection, last(request.parent), request.references)
            if missing := [one for one in request.references if one not in members]:
                raise Refusal(
                    "MEMBER_UNKNOWN",
                    f"{request.parent} has no member of reference {missing[0]}.",
                    Kind.INVALID,
                    reference=missing[0],
                    missing_count=len(missing),
                )
            at = now()
            names = [member.name for member in members.values()]
            kept = await store.consents.decided_themselves(connection, names, request.dataset)
            recorded = [member for member in members.values() if member.name not in kept]
            await store.consents.end_live(
                connection,
                [member.name for member in recorded],
                request.dataset,
                pb.CONSENT_STATUS_SUPERSEDED,
                at,
            )
            records = [
                (
                    member,
                    pb.Consent(
                        name=f"{member.name}/consents/{new_id('con')}",
                        dataset=request.dataset,
                        purposes=request.purposes,
                        categories=request.categories,
                        status=pb.CONSENT_STATUS_GIVEN,
                        method=pb.CONSENT_METHOD_RECORDED,
                        evidence=request.evidence,
                        notice_hash=request.notice_hash,
                        language=request.language,
                        give_time=to_timestamp(at),
                    ),
                )
                for member in recorded
            ]
            await store.consents.insert_many(connection, [(member.name, consent) for member, consent in records])
            await self._tell(connection, records)
            reply = pb.RecordConsentsResponse(recorded_count=len(records), kept_count=len(kept))
            return await remember(connection, caller().organization, request, reply)

    @staticmethod
    async def _tell(connection: AsyncConnection, records: list[tuple[governance.Member, pb.Consent]]) -> None:
        for start in range(0, len(records), domain.consents.ITEMS_PER_EVENT):
            items = [
                pb.ConsentItem(
                    member=member.name, reference=member.reference, consent=domain.consents.for_gateway(consent)
                )
                for member, consent in records[start : start + domain.consents.ITEMS_PER_EVENT]
            ]
            await announce(connection, events_pb2.ConsentRecorded(items=items))

    async def WithdrawConsent(self, request: pb.WithdrawConsentRequest, context: Context) -> pb.WithdrawConsentResponse:
        async with self._database.begin() as connection:
            # Also for somebody who left: consent outlives the membership, and so does its end. Their session does for a
            # quarter of an hour; afterwards a steward erases.
            member = await self._own(connection, request.parent, left_too=True)
            at = now()
            ended = await withdraw(
                connection, member, request.dataset, pb.DELETION_GROUND_WITHDRAWAL, at, self._keys.current
            )
            reply = pb.WithdrawConsentResponse(consents=ended, blocked_by_time=to_timestamp(at))
            reply.blocked_by_time.seconds += domain.consents.BLOCKED_WITHIN_SECONDS
            return reply

    async def ListConsents(self, request: pb.ListConsentsRequest, context: Context) -> pb.ListConsentsResponse:
        name, size = f"{request.parent}/consents", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        require_self(request.parent)
        async with self._database.read() as connection:
            rows = await store.consents.consents(
                connection, request.parent, str(position[0]) if position else None, size + 1
            )
        shown, token = paging.page(name, rows, size, lambda row: (last(row.name),))
        return pb.ListConsentsResponse(consents=shown, next_page_token=token)

    async def GetConsentReceipt(
        self, request: pb.GetConsentReceiptRequest, context: Context
    ) -> signature_pb2.SignedDocument:
        member = request.name.partition("/consents/")[0]
        if caller().member != member:
            raise not_found(request.name)
        async with self._database.read() as connection:
            consent = await store.consents.consent(connection, request.name)
            cooperative = await store.cooperatives.cooperative(connection, member.split("/")[1])
            if consent is None or cooperative is None:
                raise not_found(request.name)
            member_id = last(member)
            history = (await store.consents.history(connection, [member_id], [consent.dataset])).get(member_id, [])
            delivered = await store.uses.delivered_of(connection, member_id, [consent.dataset])
        recipients = sorted({one.recipient for one in delivered if domain.deletions.reached(one, history)})
        content = domain.receipts.receipt(consent, cooperative, recipients, to_timestamp(now()))
        hashed = hashlib.sha256(content.encode()).hexdigest()
        return signature_pb2.SignedDocument(
            content_json=content, signature=sign_hash(self._keys.current, DOCUMENT_PREFIX, hashed)
        )

    async def ListLiveConsents(
        self, request: pb.ListLiveConsentsRequest, context: Context
    ) -> pb.ListLiveConsentsResponse:
        id, size = caller().organization, request.page_size or LIVE_PAGE
        name = f"cooperatives/{id}/liveConsents"
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.consents.live_items(connection, id, str(position[0]) if position else None, size + 1)
        shown, token = paging.page(name, rows, size, lambda row: (last(row.consent.name),))
        for item in shown:
            item.consent.CopyFrom(domain.consents.for_gateway(item.consent))
        return pb.ListLiveConsentsResponse(items=shown, next_page_token=token)

    async def ListContributions(
        self, request: pb.ListContributionsRequest, context: Context
    ) -> pb.ListContributionsResponse:
        name, size = f"{request.parent}/contributions", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str, int)
        require_self(request.parent)
        before = (str(position[0]), int(str(position[1]))) if position else None
        async with self._database.read() as connection:
            rows = await store.contributions.contributions(connection, request.parent, before, size + 1)
        shown, token = paging.page(
            name, rows, size, lambda row: (row.version.partition("/versions/")[0], int(last(row.version)))
        )
        return pb.ListContributionsResponse(contributions=shown, next_page_token=token)


def require_self(member: str) -> None:
    """What is a member's own is nobody else's, a steward's neither."""
    if caller().member != member:
        raise not_found(member)
