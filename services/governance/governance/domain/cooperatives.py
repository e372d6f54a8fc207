"""What a cooperative is, and who may look into it."""

from __future__ import annotations

from rochdale.identity.v1 import identity_pb2
from rochdale_kit.identity import Principal
from rochdale_kit.refusals import Kind, Refusal


def cooperative_exists(id: str) -> Refusal:
    return Refusal(
        "COOPERATIVE_EXISTS", f"{id} has founded its cooperative already.", Kind.EXISTS, name=f"cooperatives/{id}"
    )


def sees_proposals(principal: Principal | None, cooperative_id: str) -> bool:
    """Whether somebody may look at rules that never were in force: the cooperative's stewards and the operator."""
    if principal is None:
        return False
    steward = principal.organization == cooperative_id and identity_pb2.ROLE_STEWARD in principal.roles
    return steward or principal.is_operator
