"""Governance's rules, one file a noun. No clock, no ids, no connection."""

from governance.domain import cooperatives, rules

__all__ = ["cooperatives", "rules"]
