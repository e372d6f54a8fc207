"""Who may bring data in."""

from rochdale.identity.v1 import identity_pb2
from rochdale_kit.identity import Principal


def is_steward(principal: Principal, cooperative: str) -> bool:
    """Whether the caller is a steward of this very cooperative; an operator of the market is not."""
    return principal.organization == cooperative and identity_pb2.ROLE_STEWARD in principal.roles
