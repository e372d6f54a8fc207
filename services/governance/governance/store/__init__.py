"""Governance's queries, one file a noun."""

from governance.store import (
    consents,
    contributions,
    cooperatives,
    deletions,
    dividend_policies,
    invitations,
    members,
    notices,
    proposals,
    rules,
    uses,
    votes,
)

__all__ = [
    "consents",
    "contributions",
    "cooperatives",
    "deletions",
    "dividend_policies",
    "invitations",
    "members",
    "notices",
    "proposals",
    "rules",
    "uses",
    "votes",
]
