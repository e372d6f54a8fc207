"""Who a member is, what an address may look like, and when an invitation works."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale_kit.refusals import Kind, Refusal

INVITATION_SECONDS = 30 * 86_400
# Not a grammar of mail: one @, something on both sides, and nothing that has a meaning of its own in a header.
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f-\x9f<>,;:\"\\()\[\]]{1,64}@[^@\s\x00-\x1f\x7f-\x9f<>,;:\"\\()\[\]]{1,255}")


def require_email(email: str) -> None:
    """Refuses with EMAIL_INVALID; empty is no address, which is fine."""
    if email and not _EMAIL.fullmatch(email):
        raise Refusal("EMAIL_INVALID", "The address is none that mail could be sent to.", Kind.INVALID)


def require_once(invitations: Sequence[pb.Invitation]) -> None:
    """Refuses an invitation that names a reference, or shows a code, twice with REFERENCE_REPEATED."""
    for what in ("reference", "code_hash"):
        seen = [getattr(one, what) for one in invitations]
        if len(set(seen)) != len(seen):
            twice = next(one for one in invitations if seen.count(getattr(one, what)) > 1)
            raise Refusal(
                "REFERENCE_REPEATED",
                f"{twice.reference} is invited twice, or shares a code.",
                Kind.INVALID,
                reference=twice.reference,
            )


def code_taken() -> Refusal:
    return Refusal(
        "REFERENCE_REPEATED", "Somebody else was invited with one of these codes; make new ones.", Kind.INVALID
    )


def invitation_expires(now: dt.datetime, life_seconds: int) -> dt.datetime:
    return now + dt.timedelta(seconds=life_seconds or INVITATION_SECONDS)


def invitation_invalid() -> Refusal:
    """Unknown, used and expired alike: a guess learns nothing."""
    return Refusal("INVITATION_INVALID", "The code is not one that works here.", Kind.FORBIDDEN)


def key_exists() -> Refusal:
    return Refusal("KEY_EXISTS", "This key is somebody's already; make a new one.", Kind.EXISTS)


def require_application(member: governance.Member, approved: bool) -> bool:
    """Whether there is something to answer. Refuses the other answer to one answered already with APPLICATION_ANSWERED."""
    if member.state == governance.MEMBER_STATE_APPLIED:
        return True
    rejected = member.state == governance.MEMBER_STATE_REJECTED
    if approved != rejected:
        return False
    raise Refusal(
        "APPLICATION_ANSWERED",
        f"The application of {member.name} has been answered.",
        Kind.STATE,
        name=member.name,
        state=governance.MemberState.Name(member.state),
    )
