"""Governance's RPCs, each told as load, decide, save, announce, reply. Rules are in domain, queries in store."""

from __future__ import annotations

from governance import domain, store
from governance.service.base import Context, announce_enacted, last, own_cooperative, steward_person
from rochdale.governance.v1 import events_pb2, governance_pb2_grpc
from rochdale.governance.v1 import governance_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.database import Database, first_answer, remember
from rochdale_kit.identity import PUBLIC, caller, optional_caller, roles
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import not_found

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GovernanceService"]
# Identity gives the role of a steward to keys of cooperatives only, so it also says what kind of organization calls.
STEWARD = roles(identity_pb2.ROLE_STEWARD)
ACCESS = {
    "CreateCooperative": STEWARD,
    "GetCooperative": PUBLIC,
    "ListCooperatives": PUBLIC,
    "AddCooperativeKey": STEWARD,
    "GetKeySet": PUBLIC,
    "AddMembers": STEWARD,
    "ListMembers": STEWARD,
    "ProposeSharingRule": STEWARD,
    "ApproveSharingRule": STEWARD,
    "NarrowSharingRule": STEWARD,
    "GetSharingRule": PUBLIC,
    "ListSharingRules": PUBLIC,
}


class GovernanceService(governance_pb2_grpc.GovernanceServiceServicer):
    """Cooperatives, members and sharing rules."""

    def __init__(self, database: Database, keys: LiveKeyring) -> None:
        self._database = database
        self._keys = keys

    async def CreateCooperative(self, request: pb.CreateCooperativeRequest, context: Context) -> pb.Cooperative:
        id = caller().organization
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, id, request, pb.Cooperative):
                return earlier
            charter = domain.charter.complete(request.charter, f"cooperatives/{id}")
            at = now()
            keys = [request.signing_key] if request.HasField("signing_key") else []
            if keys:
                domain.keys.require_next(f"cooperatives/{id}", [], request.signing_key, at)
            cooperative = await store.cooperatives.insert_cooperative(
                connection, id, request.display_name, request.description, charter, keys, at
            )
            if cooperative is None:
                raise domain.cooperatives.cooperative_exists(id)
            await announce(connection, events_pb2.CooperativeCreated(cooperative=cooperative))
            return await remember(connection, id, request, cooperative)

    async def GetCooperative(self, request: pb.GetCooperativeRequest, context: Context) -> pb.Cooperative:
        async with self._database.read() as connection:
            cooperative = await store.cooperatives.cooperative(connection, last(request.name))
        if cooperative is None:
            raise not_found(request.name)
        return cooperative

    async def ListCooperatives(
        self, request: pb.ListCooperativesRequest, context: Context
    ) -> pb.ListCooperativesResponse:
        size = paging.size(request.page_size)
        position = paging.decode("cooperatives", request.page_token, str)
        async with self._database.read() as connection:
            rows = await store.cooperatives.cooperatives(connection, str(position[0]) if position else None, size + 1)
        shown, token = paging.page("cooperatives", rows, size, lambda row: (last(row.name),))
        return pb.ListCooperativesResponse(cooperatives=shown, next_page_token=token)

    async def AddCooperativeKey(self, request: pb.AddCooperativeKeyRequest, context: Context) -> pb.Cooperative:
        async with self._database.begin() as connection:
            cooperative = await own_cooperative(connection, request.key.cooperative)
            if any(key.key_id == request.key.key_id for key in cooperative.signing_keys):
                return cooperative
            domain.keys.require_next(cooperative.name, cooperative.signing_keys, request.key, now())
            cooperative.signing_keys.append(request.key)
            await store.cooperatives.add_key(connection, last(cooperative.name), request.key)
            await announce(connection, events_pb2.CooperativeKeyAdded(cooperative=cooperative))
            return cooperative

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Context) -> pb.KeySet:
        return pb.KeySet(jwks_json=self._keys.jwks())

    async def AddMembers(self, request: pb.AddMembersRequest, context: Context) -> pb.AddMembersResponse:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.AddMembersResponse):
                return earlier
            await own_cooperative(connection, request.parent)
            new = [(new_id("mem"), reference) for reference in request.references]
            at = now()
            added = await store.members.insert_members(connection, last(request.parent), new, at)
            if added:
                await announce(connection, events_pb2.MemberJoined(members=added, join_time=to_timestamp(at)))
            reply = pb.AddMembersResponse(
                added_count=len(added), already_member_count=len(request.references) - len(added)
            )
            return await remember(connection, caller().organization, request, reply)

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        name, size = f"{request.parent}/members", paging.size(request.page_size)
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            await own_cooperative(connection, request.parent, lock=False)
            rows = await store.members.members(
                connection, last(request.parent), str(position[0]) if position else None, size + 1
            )
        shown, token = paging.page(name, rows, size, lambda row: (row.reference,))
        return pb.ListMembersResponse(members=shown, next_page_token=token)

    async def ProposeSharingRule(self, request: pb.ProposeSharingRuleRequest, context: Context) -> pb.SharingRule:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.SharingRule):
                return earlier
            cooperative = await own_cooperative(connection, request.parent)
            if request.effect != pb.RULE_EFFECT_DENY:
                raise domain.rules.members_decide(request.parent)
            domain.rules.check_scope(request.scope, last(request.parent))
            at = now()
            proposed = pb.SharingRule(
                name=f"{request.parent}/sharingRules/{new_id('rule')}",
                revision=1,
                effect=request.effect,
                scope=request.scope,
                rationale=request.rationale,
                state=pb.RULE_STATE_PROPOSED,
                create_time=to_timestamp(at),
                emergency=True,
            )
            rule = domain.rules.approve(proposed, steward_person(), cooperative.charter.required_approvals, at)
            assert rule is not None, "the first approval always changes a new rule"
            await store.rules.insert_rule(connection, rule)
            await announce_enacted(connection, rule)
            return await remember(connection, caller().organization, request, rule)

    async def ApproveSharingRule(self, request: pb.ApproveSharingRuleRequest, context: Context) -> pb.SharingRule:
        parent, _, id = request.name.partition("/sharingRules/")
        async with self._database.begin() as connection:
            cooperative = await own_cooperative(connection, parent, request.name)
            rule = await store.rules.rule(connection, last(parent), id)
            if rule is None:
                raise not_found(request.name)
            approved = domain.rules.approve(rule, steward_person(), cooperative.charter.required_approvals, now())
            if approved is None:
                return rule
            await store.rules.update_rule(connection, approved)
            await announce_enacted(connection, approved)
            return approved

    async def NarrowSharingRule(self, request: pb.NarrowSharingRuleRequest, context: Context) -> pb.SharingRule:
        parent, _, id = request.name.partition("/sharingRules/")
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.SharingRule):
                return earlier
            cooperative = await own_cooperative(connection, parent, request.name)
            rule = await store.rules.rule(connection, last(parent), id)
            if rule is None:
                raise not_found(request.name)
            scope = request.scope if request.HasField("scope") else None
            at = now()
            effective = domain.rules.effective_time(request.effective_time, at)
            narrowed = domain.rules.narrow(rule, request.revision, scope, steward_person(), effective, at)
            keys = CooperativeKeys.follow(cooperative.name, cooperative.signing_keys)
            domain.rules.sign_ends([narrowed.ended], [request.end_signature], keys)
            if narrowed.next is not None:
                domain.rules.sign([narrowed.next], [request.signature], keys)
            # The end first: the database lets a rule have one live revision at a time.
            await store.rules.update_rule(connection, narrowed.ended)
            if narrowed.next is not None:
                await store.rules.insert_rule(connection, narrowed.next)
            await announce(connection, events_pb2.RuleNarrowed(sharing_rule=narrowed.latest))
            if narrowed.next is None and rule.proposal:
                # Without a rule left, its decision has given way.
                await store.proposals.wake(connection, [last(rule.proposal)], at)
            return await remember(connection, caller().organization, request, narrowed.latest)

    async def GetSharingRule(self, request: pb.GetSharingRuleRequest, context: Context) -> pb.SharingRule:
        parent, _, id = request.name.partition("/sharingRules/")
        async with self._database.read() as connection:
            rule = await store.rules.rule(connection, last(parent), id, request.revision)
        hidden = rule is not None and rule.state == pb.RULE_STATE_PROPOSED
        if rule is None or (hidden and not domain.cooperatives.sees_proposals(optional_caller(), last(parent))):
            raise not_found(request.name)
        return rule

    async def ListSharingRules(
        self, request: pb.ListSharingRulesRequest, context: Context
    ) -> pb.ListSharingRulesResponse:
        id, size = last(request.parent), paging.size(request.page_size)
        proposed = domain.cooperatives.sees_proposals(optional_caller(), id)
        name = f"{request.parent}/sharingRules?{proposed}"
        position = paging.decode(name, request.page_token, str)
        async with self._database.read() as connection:
            if await store.cooperatives.cooperative(connection, id) is None:
                raise not_found(request.parent)
            rows = await store.rules.rules(connection, id, str(position[0]) if position else None, size + 1, proposed)
        shown, token = paging.page(name, rows, size, lambda row: (last(row.name),))
        return pb.ListSharingRulesResponse(sharing_rules=shown, next_page_token=token)
