"""The RPCs of membership itself: inviting, joining, applying, leaving, erasing, and who acts as a steward."""

from __future__ import annotations

import datetime as dt
import hashlib

import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.service.base import Context, acts_as_steward, last, own_cooperative
from governance.withdrawing import withdraw
from rochdale.governance.v1 import events_pb2
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal, not_found

ACTIVE = governance.MEMBER_STATE_ACTIVE


class Members:
    """Who belongs."""

    def __init__(self, database: Database, keys: LiveKeyring) -> None:
        self._database = database
        self._keys = keys

    async def InviteMembers(self, request: pb.InviteMembersRequest, context: Context) -> pb.InviteMembersResponse:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.InviteMembersResponse):
                return earlier
            await own_cooperative(connection, request.parent)
            domain.members.require_once(request.invitations)
            for one in request.invitations:
                domain.members.require_email(one.email)
            expire = domain.members.invitation_expires(now(), request.life_seconds)
            if not await store.invitations.save(connection, last(request.parent), request.invitations, expire):
                raise domain.members.code_taken()
            reply = pb.InviteMembersResponse(invited_count=len(request.invitations))
            return await remember(connection, caller().organization, request, reply)

    async def AcceptInvitation(self, request: pb.AcceptInvitationRequest, context: Context) -> governance.Member:
        cooperative_id, at = last(request.parent), now()
        code_hash = hashlib.sha256(request.code.encode()).digest()
        try:
            async with self._database.begin() as connection:
                invited = await store.invitations.lock(connection, cooperative_id, code_hash)
                if invited is None:
                    raise domain.members.invitation_invalid()
                if invited.used_by_key is not None:
                    member = await store.members.by_key(connection, request.key_hash)
                    if invited.used_by_key != request.key_hash or member is None:
                        raise domain.members.invitation_invalid()
                    return member
                if invited.expire_time <= at:
                    raise domain.members.invitation_invalid()
                member = await self._admit(connection, cooperative_id, invited, request.key_hash, at)
                await store.invitations.use(connection, cooperative_id, invited.reference, request.key_hash)
                await announce(
                    connection,
                    events_pb2.MemberKeyAuthorized(
                        member=member.name, key_hash=request.key_hash, steward=member.steward
                    ),
                )
                return member
        except sqlalchemy.exc.IntegrityError:
            raise domain.members.key_exists() from None

    async def _admit(
        self,
        connection: AsyncConnection,
        cooperative_id: str,
        invited: store.invitations.Invited,
        key_hash: bytes,
        at: dt.datetime,
    ) -> governance.Member:
        """A new member, or one known by reference who gets a key, perhaps in place of a lost one."""
        known = await store.members.by_reference(connection, cooperative_id, invited.reference, lock=True)
        if known is None:
            member = await store.members.insert_one(
                connection,
                cooperative_id,
                new_id("mem"),
                invited.reference,
                at,
                state=ACTIVE,
                email=invited.email,
                key_hash=key_hash,
                last_active_time=at,
            )
        elif known.state == ACTIVE:
            # A key before this one may be lost or in other hands; identity ends it when it hears of the new one. Stewards
            # can invite anybody again, so the member hears of it where they heard of everything before.
            if await store.members.key_hash(connection, known.name) is not None:
                await store.notices.tell_one(
                    connection,
                    known.name,
                    pb.NOTICE_KIND_MEMBERSHIP,
                    "Your key was replaced",
                    "A new invitation was accepted in your name, and your key before it stopped working. If that was not "
                    "you, tell your cooperative at once: whoever has the new key can vote and consent as you.",
                    known.name,
                    at,
                )
            return await store.members.update(
                connection,
                known.name,
                key_hash=key_hash,
                email=known.email or invited.email,
                last_active_time=at,
            )
        elif known.state == governance.MEMBER_STATE_ERASED:
            raise domain.members.invitation_invalid()
        else:
            # Who left comes back; and whoever applied as this person before, or was turned down, was not the one invited.
            if await store.members.key_hash(connection, known.name) == key_hash:
                # Its key has ended at identity, and an ended key never works again.
                raise domain.members.key_exists()
            returned = known.state == governance.MEMBER_STATE_LEFT
            member = await store.members.update(
                connection,
                known.name,
                state=ACTIVE,
                key_hash=key_hash,
                join_time=at,
                leave_time=None,
                last_active_time=at,
                email=(known.email if returned else "") or invited.email,
                statement="",
            )
        await store.members.count(connection, cooperative_id, 1)
        await announce(connection, events_pb2.MemberJoined(members=[member.name], join_time=to_timestamp(at)))
        return member

    async def ApplyForMembership(self, request: pb.ApplyForMembershipRequest, context: Context) -> governance.Member:
        cooperative_id, at = last(request.parent), now()
        domain.members.require_email(request.email)
        try:
            async with self._database.begin() as connection:
                if await store.cooperatives.cooperative(connection, cooperative_id) is None:
                    raise not_found(request.parent)
                known = await store.members.by_reference(connection, cooperative_id, request.reference)
                if known is not None:
                    if await store.members.key_hash(connection, known.name) == request.key_hash:
                        return known
                    raise Refusal(
                        "MEMBER_EXISTS",
                        f"{request.parent} knows {request.reference} already; ask its stewards for an invitation.",
                        Kind.EXISTS,
                        reference=request.reference,
                    )
                return await store.members.insert_one(
                    connection,
                    cooperative_id,
                    new_id("mem"),
                    request.reference,
                    at,
                    state=governance.MEMBER_STATE_APPLIED,
                    email=request.email,
                    statement=request.statement,
                    key_hash=request.key_hash,
                )
        except sqlalchemy.exc.IntegrityError:
            raise domain.members.key_exists() from None

    async def AnswerApplication(self, request: pb.AnswerApplicationRequest, context: Context) -> governance.Member:
        async with self._database.begin() as connection:
            member = await self._of_steward(connection, request.name)
            if not domain.members.require_application(member, request.approved):
                return member
            at = now()
            if not request.approved:
                return await store.members.update(
                    connection, member.name, state=governance.MEMBER_STATE_REJECTED, key_hash=None
                )
            member = await store.members.update(
                connection, member.name, state=ACTIVE, join_time=at, last_active_time=at
            )
            await store.members.count(connection, member.name.split("/")[1], 1)
            await announce(connection, events_pb2.MemberJoined(members=[member.name], join_time=to_timestamp(at)))
            await self._authorize(connection, member)
            return member

    async def GetMember(self, request: pb.GetMemberRequest, context: Context) -> governance.Member:
        async with self._database.read() as connection:
            return await self._own_or_of_steward(connection, request.name)

    async def UpdateMember(self, request: pb.UpdateMemberRequest, context: Context) -> governance.Member:
        domain.members.require_email(request.email)
        async with self._database.begin() as connection:
            member = await self._own(connection, request.name)
            return await store.members.update(
                connection,
                member.name,
                email=request.email,
                affiliations=list(request.affiliations),
                last_active_time=now(),
            )

    async def LeaveCooperative(self, request: pb.LeaveCooperativeRequest, context: Context) -> governance.Member:
        async with self._database.begin() as connection:
            member = await self._own(connection, request.name, left_too=True)
            return await self._leave(connection, member, now())

    async def _leave(
        self, connection: AsyncConnection, member: governance.Member, at: dt.datetime
    ) -> governance.Member:
        if member.state != ACTIVE:
            return member
        left = await store.members.update(
            connection, member.name, state=governance.MEMBER_STATE_LEFT, leave_time=at, steward=False
        )
        await store.members.count(connection, member.name.split("/")[1], -1)
        await announce(connection, events_pb2.MemberLeft(member=member.name, leave_time=to_timestamp(at)))
        return left

    async def EraseMember(self, request: pb.EraseMemberRequest, context: Context) -> governance.Member:
        if request.confirm_name != request.name:
            raise Refusal(
                "CONFIRMATION_MISSING",
                f"Erasing cannot be undone; say {request.name} again as confirm_name.",
                Kind.INVALID,
                name=request.name,
            )
        async with self._database.begin() as connection:
            member = await self._own_or_of_steward(connection, request.name, lock=True)
            if member.state == governance.MEMBER_STATE_ERASED:
                return member
            at = now()
            await self._leave(connection, member, at)
            # Before what points at the person is gone: the gateway has to learn whose rows they are.
            await withdraw(connection, member, "", pb.DELETION_GROUND_ERASURE, at, self._keys.current)
            _, cooperative_id, _, id = member.name.split("/")
            await store.invitations.forget(connection, cooperative_id, member.reference)
            await store.notices.forget(connection, member.name)
            erased = await store.members.update(
                connection,
                member.name,
                state=governance.MEMBER_STATE_ERASED,
                reference=f"erased-{id}",
                email="",
                affiliations=[],
                statement="",
                key_hash=None,
            )
            await announce(connection, events_pb2.MemberErased(member=member.name, erase_time=to_timestamp(at)))
            return erased

    async def SetSteward(self, request: pb.SetStewardRequest, context: Context) -> governance.Member:
        async with self._database.begin() as connection:
            member = await self._of_steward(connection, request.name)
            if member.state != ACTIVE or not member.has_key:
                raise Refusal("KEY_MISSING", f"{member.name} has no key to act with.", Kind.STATE, name=member.name)
            if member.steward == request.steward:
                return member
            member = await store.members.update(connection, member.name, steward=request.steward)
            await self._authorize(connection, member)
            return member

    @staticmethod
    async def _authorize(connection: AsyncConnection, member: governance.Member) -> None:
        key_hash = await store.members.key_hash(connection, member.name)
        if key_hash is not None:
            await announce(
                connection,
                events_pb2.MemberKeyAuthorized(member=member.name, key_hash=key_hash, steward=member.steward),
            )

    async def _own(self, connection: AsyncConnection, name: str, left_too: bool = False) -> governance.Member:
        """The caller's own membership, locked; another's answers as if it did not exist."""
        member = await store.members.member(connection, name, lock=True) if caller().member == name else None
        # A session may outlive the membership by a quarter of an hour.
        if member is None or (member.state != ACTIVE and not left_too):
            raise not_found(name)
        return member

    async def _of_steward(self, connection: AsyncConnection, name: str) -> governance.Member:
        """A member, locked, of the cooperative the caller is a steward of."""
        member = None
        if await acts_as_steward(connection, name.split("/")[1]):
            member = await store.members.member(connection, name, lock=True)
        if member is None:
            raise not_found(name)
        return member

    async def _own_or_of_steward(self, connection: AsyncConnection, name: str, lock: bool = False) -> governance.Member:
        member = None
        if caller().member == name or await acts_as_steward(connection, name.split("/")[1]):
            member = await store.members.member(connection, name, lock)
        if member is None:
            raise not_found(name)
        return member
