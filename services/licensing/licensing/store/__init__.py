"""Licensing's tables and the only queries on them, one file a noun."""

from licensing.store import cooperatives, licensees, licenses, mandates, negotiations, offerings, quotes, rules

__all__ = ["cooperatives", "licensees", "licenses", "mandates", "negotiations", "offerings", "quotes", "rules"]
