"""Joining, leaving, erasing and who acts as a steward: four acts with separate effects, each by the person it is about."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Any

import grpc
import pytest
from assembly import Assembly, asked, found, quick_charter
from house import House, new_secret, refused, request_id

from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.refusals import refusal_of


async def invite(assembly: Assembly, reference: str, **more: Any) -> str:
    code = secrets.token_hex(16)
    invitation = pb.Invitation(reference=reference, code_hash=hashlib.sha256(code.encode()).digest())
    await assembly.members_desk.InviteMembers(
        pb.InviteMembersRequest(request_id=request_id(), parent=assembly.name, invitations=[invitation], **more),
        metadata=assembly.steward.metadata,
    )
    return code


def accept(assembly: Assembly, code: str, secret: str) -> Any:
    return assembly.members_desk.AcceptInvitation(
        pb.AcceptInvitationRequest(parent=assembly.name, code=code, key_hash=hashlib.sha256(secret.encode()).digest())
    )


async def test_a_code_works_once_and_again_for_the_same_key(house: House) -> None:
    assembly = await found(house, "joiners", voters=0)
    code, secret = await invite(assembly, "1001"), new_secret()
    member = await accept(assembly, code, secret)
    assert member.state == governance.MEMBER_STATE_ACTIVE and member.has_key and member.reference == "1001"
    assert await accept(assembly, code, secret) == member
    async with refused("INVITATION_INVALID"):
        await accept(assembly, code, new_secret())
    async with refused("INVITATION_INVALID"):
        await accept(assembly, "A" * 32, new_secret())
    other = await invite(assembly, "1002")
    async with refused("KEY_EXISTS"):
        await accept(assembly, other, secret)
    # Refused, so not used up.
    await accept(assembly, other, new_secret())
    cooperative = await assembly.cooperatives_desk.GetCooperative(governance.GetCooperativeRequest(name=assembly.name))
    assert cooperative.member_count == 2


async def test_one_code_lets_one_in_however_many_try(house: House) -> None:
    assembly = await found(house, "racers", voters=0)
    code = await invite(assembly, "1001")

    async def attempt() -> str:
        try:
            return str((await accept(assembly, code, new_secret())).name)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason

    answers = await asyncio.gather(*(attempt() for _ in range(20)))
    assert answers.count("INVITATION_INVALID") == 19


async def test_a_replaced_code_and_an_expired_one_let_nobody_in(house: House) -> None:
    assembly = await found(house, "stale", voters=0)
    first = await invite(assembly, "1001")
    second = await invite(assembly, "1001", life_seconds=1)
    async with refused("INVITATION_INVALID"):
        await accept(assembly, first, new_secret())
    await asyncio.sleep(1.1)
    async with refused("INVITATION_INVALID"):
        await accept(assembly, second, new_secret())


async def test_a_lost_key_is_replaced_by_a_new_invitation(house: House) -> None:
    assembly = await found(house, "losers", voters=0)
    (member,) = await assembly.join("1001")
    secret = new_secret()
    again = await accept(assembly, await invite(assembly, "1001"), secret)
    assert again.name == member.name
    await assembly.sign_in(secret)
    async with refused("KEY_INVALID"):
        await house.session("losers", member.person.secret)


async def test_applying_is_answered_by_a_steward(house: House) -> None:
    assembly = await found(house, "gate", voters=0)
    secret = new_secret()
    request = pb.ApplyForMembershipRequest(
        parent=assembly.name, reference="7", statement="I was there.", key_hash=hashlib.sha256(secret.encode()).digest()
    )
    applied = await assembly.members_desk.ApplyForMembership(request)
    assert applied.state == governance.MEMBER_STATE_APPLIED
    assert await assembly.members_desk.ApplyForMembership(request) == applied
    async with refused("KEY_INVALID"):
        await house.session("gate", secret)
    answer = pb.AnswerApplicationRequest(name=applied.name, approved=True)
    await assembly.members_desk.AnswerApplication(answer, metadata=assembly.steward.metadata)
    await assembly.sign_in(secret)
    async with refused("APPLICATION_ANSWERED"):
        await assembly.members_desk.AnswerApplication(
            pb.AnswerApplicationRequest(name=applied.name, approved=False), metadata=assembly.steward.metadata
        )


async def test_who_leaves_keeps_the_vote_that_is_open_and_has_none_later(house: House) -> None:
    assembly = await found(house, "leavers", quick_charter(voting_seconds=60, close_when_all_voted=False), voters=3)
    leaver = assembly.voters[0]
    draft = proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked("leavers"))
    frozen = await assembly.freeze(await assembly.draft([draft]))
    left = await assembly.members_desk.LeaveCooperative(
        pb.LeaveCooperativeRequest(name=leaver.name), metadata=leaver.metadata
    )
    assert left.state == governance.MEMBER_STATE_LEFT
    assert (await assembly.show(frozen.name)).roll.eligible_count == 3
    later = await assembly.freeze(await assembly.draft([draft]))
    assert later.roll.eligible_count == 2
    async with refused("NOT_ON_ROLL"):
        await assembly.vote(later, by=[leaver])

    async def key_ended() -> bool:
        try:
            await house.session("leavers", leaver.person.secret)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason == "KEY_INVALID"
        return False

    while not await key_ended():
        await asyncio.sleep(0.02)


async def test_erasing_leaves_nothing_that_points_at_the_person(house: House) -> None:
    assembly = await found(house, "forget", voters=0)
    (member,) = await assembly.join("patient-4711", email="rosa@valley.example")
    await assembly.members_desk.UpdateMember(
        pb.UpdateMemberRequest(name=member.name, email="rosa@valley.example", affiliations=["valley.example"]),
        metadata=member.metadata,
    )
    async with refused("CONFIRMATION_MISSING"):
        await assembly.members_desk.EraseMember(
            pb.EraseMemberRequest(name=member.name, confirm_name="yes"), metadata=member.metadata
        )
    erased = await assembly.members_desk.EraseMember(
        pb.EraseMemberRequest(name=member.name, confirm_name=member.name), metadata=member.metadata
    )
    assert erased.state == governance.MEMBER_STATE_ERASED
    page = await assembly.cooperatives_desk.ListMembers(
        governance.ListMembersRequest(parent=assembly.name), metadata=assembly.steward.metadata
    )
    assert "4711" not in str(page) and "rosa" not in str(page) and "valley.example" not in str(page)


async def test_a_steward_is_a_member_with_an_office(house: House) -> None:
    assembly = await found(house, "office", voters=1)
    member = assembly.voters[0]
    set_ = pb.SetStewardRequest(name=member.name, steward=True)
    async with refused("ROLE_MISSING"):
        await assembly.members_desk.SetSteward(set_, metadata=member.metadata)
    assert (await assembly.members_desk.SetSteward(set_, metadata=assembly.steward.metadata)).steward
    while True:
        session = await house.identity.IssueSession(identity_pb2.IssueSessionRequest(secret=member.person.secret))
        if identity_pb2.ROLE_STEWARD in session.roles:
            break
        await asyncio.sleep(0.02)
    assert session.member == member.name


async def test_a_dismissed_steward_is_none_at_once_whatever_the_session_says(house: House) -> None:
    assembly = await found(house, "dismissed", voters=2)
    steward = await assembly.appoint(assembly.voters[0])
    other = assembly.voters[1]
    await assembly.members_desk.SetSteward(
        pb.SetStewardRequest(name=steward.name, steward=False), metadata=assembly.steward.metadata
    )
    for name, request in (
        ("SetSteward", pb.SetStewardRequest(name=steward.name, steward=True)),
        ("EraseMember", pb.EraseMemberRequest(name=other.name, confirm_name=other.name)),
        ("GetMember", pb.GetMemberRequest(name=other.name)),
        (
            "InviteMembers",
            pb.InviteMembersRequest(
                request_id=request_id(),
                parent=assembly.name,
                invitations=[pb.Invitation(reference="mine", code_hash=secrets.token_bytes(32))],
            ),
        ),
    ):
        async with refused("NOT_FOUND"):
            await getattr(assembly.members_desk, name)(request, metadata=steward.metadata)


async def test_nobody_blocks_a_reference_and_an_ended_key_never_works_again(house: House) -> None:
    assembly = await found(house, "squat", voters=0)
    await assembly.members_desk.ApplyForMembership(
        pb.ApplyForMembershipRequest(
            parent=assembly.name, reference="1", email="squatter@x.example", statement="me", key_hash=bytes(32)
        )
    )
    secret = new_secret()
    member = await accept(assembly, await invite(assembly, "1"), secret)
    assert member.state == governance.MEMBER_STATE_ACTIVE and not member.email and not member.statement
    session = await assembly.sign_in(secret)
    await assembly.members_desk.LeaveCooperative(
        pb.LeaveCooperativeRequest(name=member.name), metadata=session.metadata
    )
    again = await invite(assembly, "1")
    async with refused("KEY_EXISTS"):
        await accept(assembly, again, secret)
    await assembly.sign_in(await _joined(assembly, again))
    taken = secrets.token_hex(16)
    for reference, reason in (("2", ""), ("3", "REFERENCE_REPEATED")):
        request = pb.InviteMembersRequest(
            request_id=request_id(),
            parent=assembly.name,
            invitations=[pb.Invitation(reference=reference, code_hash=hashlib.sha256(taken.encode()).digest())],
        )
        if not reason:
            await assembly.members_desk.InviteMembers(request, metadata=assembly.steward.metadata)
            continue
        async with refused(reason):
            await assembly.members_desk.InviteMembers(request, metadata=assembly.steward.metadata)


async def _joined(assembly: Assembly, code: str) -> str:
    secret = new_secret()
    await accept(assembly, code, secret)
    return secret


async def test_two_keys_of_one_person_are_one_approval(house: House) -> None:
    """Where two stewards have to agree, two keys nobody stands behind are one person."""
    charter = quick_charter()
    charter.required_approvals = 2
    assembly = await found(house, "pair", charter, voters=0)
    twin = await house.colleague(assembly.steward)
    rule = await assembly.cooperatives_desk.ProposeSharingRule(
        governance.ProposeSharingRuleRequest(
            request_id=request_id(),
            parent=assembly.name,
            effect=governance.RULE_EFFECT_DENY,
            scope=asked("pair"),
            rationale="Stop.",
        ),
        metadata=assembly.steward.metadata,
    )
    approve = governance.ApproveSharingRuleRequest(name=rule.name)
    again = await assembly.cooperatives_desk.ApproveSharingRule(approve, metadata=twin.metadata)
    assert again.state == governance.RULE_STATE_PROPOSED and len(again.approvals) == 1


@pytest.mark.parametrize(
    "email", ["a@b\r\nBcc: all@b.example", "no at", "two@@at.example", "a b@c.example", "x@", "a\x9f@b.example"]
)
async def test_no_address_becomes_a_header(house: House, email: str) -> None:
    assembly = await found(house, f"mail-{hashlib.sha256(email.encode()).hexdigest()[:8]}", voters=1)
    member = assembly.voters[0]
    async with refused("EMAIL_INVALID"):
        await assembly.members_desk.UpdateMember(
            pb.UpdateMemberRequest(name=member.name, email=email), metadata=member.metadata
        )


async def test_a_member_sees_nothing_of_another(house: House) -> None:
    assembly = await found(house, "walls", voters=2)
    rosa, tom = assembly.voters
    theirs = await found(house, "others", voters=1)
    calls = [
        ("GetMember", pb.GetMemberRequest(name=tom.name)),
        ("UpdateMember", pb.UpdateMemberRequest(name=tom.name)),
        ("LeaveCooperative", pb.LeaveCooperativeRequest(name=tom.name)),
        ("EraseMember", pb.EraseMemberRequest(name=tom.name, confirm_name=tom.name)),
        ("ListConsents", pb.ListConsentsRequest(parent=tom.name)),
        ("WithdrawConsent", pb.WithdrawConsentRequest(parent=tom.name)),
        ("ListContributions", pb.ListContributionsRequest(parent=tom.name)),
        ("ListUses", pb.ListUsesRequest(parent=tom.name)),
        ("ListNotices", pb.ListNoticesRequest(parent=tom.name)),
        ("ReadNotices", pb.ReadNoticesRequest(parent=tom.name)),
    ]
    for name, request in calls:
        for stranger in (rosa.metadata, theirs.voters[0].metadata):
            async with refused("NOT_FOUND"):
                await getattr(assembly.members_desk, name)(request, metadata=stranger)
    # What is a member's own is no steward's either.
    for name, request in calls[4:]:
        async with refused("ROLE_MISSING"):
            await getattr(assembly.members_desk, name)(request, metadata=assembly.steward.metadata)
