"""Licensing's tables and the only queries on them, one file a noun."""

from licensing.store import licensees, licenses, negotiations, offerings, quotes, rules

__all__ = ["licensees", "licenses", "negotiations", "offerings", "quotes", "rules"]
