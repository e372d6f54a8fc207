"""Governance's queries, one file a noun."""

from governance.store import consents, contributions, cooperatives, members, notices, proposals, rules, votes

__all__ = ["consents", "contributions", "cooperatives", "members", "notices", "proposals", "rules", "votes"]
