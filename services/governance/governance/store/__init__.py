"""Governance's queries, one file a noun."""

from governance.store import cooperatives, members, rules

__all__ = ["cooperatives", "members", "rules"]
