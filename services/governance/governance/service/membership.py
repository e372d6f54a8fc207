"""MembershipService as a whole, and who may call which of its RPCs."""

from __future__ import annotations

from governance.service.records import Records
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.governance.v1 import membership_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.identity import PUBLIC, roles

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["MembershipService"]
_MEMBER = roles(identity_pb2.ROLE_MEMBER)
_STEWARD = roles(identity_pb2.ROLE_STEWARD)
_EITHER = roles(identity_pb2.ROLE_MEMBER, identity_pb2.ROLE_STEWARD)
_NOTICED = roles(identity_pb2.ROLE_BUYER, identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR)
ACCESS = {
    "InviteMembers": _STEWARD,
    # The code is what lets somebody in.
    "AcceptInvitation": PUBLIC,
    "ApplyForMembership": PUBLIC,
    "AnswerApplication": _STEWARD,
    "GetMember": _EITHER,
    "UpdateMember": _MEMBER,
    "LeaveCooperative": _MEMBER,
    "EraseMember": _EITHER,
    "SetSteward": _STEWARD,
    "GiveConsent": _MEMBER,
    "RecordConsents": _STEWARD,
    "WithdrawConsent": _MEMBER,
    "ListConsents": _MEMBER,
    "GetConsentReceipt": _MEMBER,
    "ListLiveConsents": roles(identity_pb2.ROLE_GATEWAY),
    "ListContributions": _MEMBER,
    "ListUses": _MEMBER,
    "GetDeletionNotice": _NOTICED,
    "ListDeletionNotices": _NOTICED,
    "AttestDeletion": roles(identity_pb2.ROLE_BUYER),
    "ListNotices": _MEMBER,
    "ReadNotices": _MEMBER,
}


class MembershipService(Records, membership_pb2_grpc.MembershipServiceServicer):
    """Members and what is theirs."""
