"""When licensing says yes and when no, one file a noun. No clock, no ids, no connection."""

from licensing.domain import cooperatives, deals, licensees, licenses, negotiations, quotes, rules

__all__ = ["cooperatives", "deals", "licensees", "licenses", "negotiations", "quotes", "rules"]
