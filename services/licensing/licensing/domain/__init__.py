"""When licensing says yes and when no, one file a noun. No clock, no ids, no connection."""

from licensing.domain import categories, cooperatives, deals, licensees, licenses, mandates, negotiations, quotes, rules

__all__ = [
    "categories",
    "cooperatives",
    "deals",
    "licensees",
    "licenses",
    "mandates",
    "negotiations",
    "quotes",
    "rules",
]
